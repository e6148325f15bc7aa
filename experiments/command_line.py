"""What the experiments' command lines share: presets, clear errors, a clean way out of an interrupt."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tyro
from rich.console import Console

from experiments.compilation_cache import use_compilation_cache
from jaxinfl import DatasetUnavailable, RunDirectoryError
from jaxinfl.provenance import command

Config = TypeVar("Config")

console = Console(highlight=False, soft_wrap=True)


def parse(presets: Mapping[str, Config], argv: Sequence[str] | None, *, default: str, description: str) -> Config:
    """The configuration of the preset named by `--preset`, changed by the other options."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default=default)
    preset = peek.parse_known_args(arguments)[0].preset
    # An unknown preset is refused by tyro itself, with the list of those there are.
    base = presets.get(preset, presets[default])
    return tyro.cli(type(base), default=base, args=arguments, description=description)


def run(main: Callable[[Config], object], config: Config) -> int:
    """Run an experiment: 0 when it is done, 2 for what the user can mend, 130 for an interrupt."""
    use_compilation_cache()
    try:
        main(config)
    except (DatasetUnavailable, RunDirectoryError, FileNotFoundError, ValueError, TypeError) as error:
        if isinstance(error, (ValueError, TypeError)) and not _from_library_check(error):
            raise
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. Finished models are kept; to go on: {command()}", markup=False)
        return 130
    return 0


def _from_library_check(error: BaseException) -> bool:
    """Raised by jaxinfl itself about an argument, not by something that went wrong beneath it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    # An experiment run by `python -m` is called __main__.
    return module.split(".")[0] in ("jaxinfl", "experiments", "__main__")
