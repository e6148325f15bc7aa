"""What the experiments' command lines share: presets, clear errors, a clean way out of an interrupt."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import tyro
from rich.console import Console

from experiments.compilation_cache import use_compilation_cache
from jaxinfl import DatasetUnavailable, RunDirectoryError
from jaxinfl.provenance import command

Config = TypeVar("Config")

console = Console(highlight=False, soft_wrap=True)


class Mistake(Exception):
    """Something that the user can mend; shown as one line."""


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Around calls that check what the user gave: what they refuse is a `Mistake`, not a bug with a traceback."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error


def parse(
    presets: Mapping[str, Config], argv: Sequence[str] | None, *, program: str, default: str, description: str
) -> Config:
    """The configuration of the preset named by `--preset`, changed by the other options.

    Exits with status 2 and one line where an option has a value that its dataclass refuses.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default=default)
    preset = peek.parse_known_args(arguments)[0].preset
    # An unknown preset is refused by tyro itself, with the list of those there are.
    base = presets.get(preset, presets[default])
    return tyro.cli(
        type(base),
        prog=f"python -m {program}",
        default=base,
        args=arguments,
        description=description,
        # Without it an option that takes a word or numbers becomes a subcommand.
        config=(tyro.conf.AvoidSubcommands,),
    )


def run(main: Callable[[Config], object], config: Config) -> int:
    """Run an experiment: 0 when it is done, 2 for what the user can mend, 130 for an interrupt."""
    use_compilation_cache()
    try:
        main(config)
    except (Mistake, DatasetUnavailable, RunDirectoryError, OSError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"\nTo go on: {command()}", markup=False)
        return 130
    return 0
