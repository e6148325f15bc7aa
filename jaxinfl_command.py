"""The command `jaxinfl`: it finds the sub-command that is asked for, and prints help without importing JAX.

This module lies beside the package and not in it, because the import of any module of `jaxinfl` imports JAX. That takes 1.8 of the 2
seconds that `jaxinfl --help` would take (2 cores, November 2026).
"""

import importlib
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any, Union

import tyro

COMMANDS = {
    "train": "Train many models, each on its own random subset, into a run directory.",
    "influence": "Estimate the influence of every training example on every test example.",
    "pairs": "List the most influential pairs of a training and a test example, with intervals.",
    "plan": "Predict from a small run how many models a trustworthy estimate takes.",
    "verify": "Check that a run directory holds what was written, and repair it.",
    "explore": "Write one HTML file in which the examples of a run are explored.",
    "membership": "Tell which training examples the models give away as their members.",
    "read": "Read the models of another program, and keep them as a run directory.",
}
"""One line about each sub-command, whose options and function are in `jaxinfl.cli.NAME`."""

DESCRIPTION = """jaxinfl trains hundreds to thousands of models at once, each on its own random subset of the data. What they predict becomes
influence, memorization and membership scores.

Example: train 400 small networks on 8x8 digits, and list the strongest influences.

    jaxinfl train digits --models 400 --out runs/digits
    jaxinfl pairs runs/digits

`jaxinfl COMMAND --help` describes the options of a command, and `jaxinfl --version` prints the version. With `--json` every command prints one JSON document on standard output, and
messages go to standard error. `jaxinfl --tyro-print-completion bash` (or zsh, or tcsh) prints a script for completion.

The exit status is 0 when the command is done, 2 after a mistake that you can mend, and 130 after an interrupt. `jaxinfl verify` ends
with 1 where it finds damage.
"""


@dataclass(frozen=True)
class Unread:
    """Stands for the options of a sub-command that is not asked for, so that its module is not imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, that of the process by default, and return its exit status."""
    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the answer has closed the pipe, as `head` does. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _run(given: list[str]) -> int:
    if given == ["--version"]:
        print(f"jaxinfl {metadata.version('jaxinfl')}")
        return 0
    # The script for completion has the options of all.
    completion = any(argument.startswith("--tyro-") for argument in given)
    if completion or not given or given[0] not in COMMANDS:
        kinds = {name: _module(name).Options if completion else Unread for name in COMMANDS}
        _parse(_any_of(kinds), given, "jaxinfl", DESCRIPTION)  # prints what was asked for, or what is wrong, and ends
    module = _module(given[0])
    options = _parse(module.Options, given[1:], f"jaxinfl {given[0]}", inspect.cleandoc(module.Options.__doc__))
    from jaxinfl.cli.execute import execute

    return execute(module.run, options)


def _module(command: str) -> Any:
    return importlib.import_module(f"jaxinfl.cli.{command}")


def _parse(kind: Any, given: list[str], program: str, description: str) -> Any:
    """The options of a command line; ends the process where it asks for help or has a mistake."""
    return tyro.cli(
        kind,
        args=given,
        prog=program,
        description=_wrap(description),
        # Without the first an option that takes a word or numbers becomes a subcommand. With the second a switch has one name.
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )


def _wrap(text: str) -> str:
    """Prose with lines that fit the terminal, and at most 80 columns.

    tyro joins lines that begin with a letter, and breaks none. So those that follow another one begin with a space of no width.
    """
    width = min(80, shutil.get_terminal_size().columns)
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        if not paragraph.startswith(" "):
            paragraph = "\n\u200b".join(textwrap.wrap(paragraph, width, break_on_hyphens=False))
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def _any_of(options: dict[str, type]) -> Any:
    """The type of which tyro makes one sub-command for each name."""
    return Union[  # noqa: UP007 - made of a tuple, whose length nothing knows before
        tuple(
            Annotated[
                kind,
                tyro.conf.subcommand(
                    name, description=COMMANDS[name] if kind is Unread else _wrap(inspect.cleandoc(kind.__doc__ or ""))
                ),
            ]
            for name, kind in options.items()
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
