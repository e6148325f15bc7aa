"""`jaxinfl explore`: one HTML file in which the examples of a run are explored; `python -m jaxinfl.explore` does the same."""

import dataclasses
from dataclasses import dataclass

from jaxinfl.arguments import expand_home
from jaxinfl.cli.answer import Answer
from jaxinfl.explore import __main__ as explorer


@dataclass(frozen=True, kw_only=True)
class Options(explorer.Options):
    """Write one HTML file in which the examples of a run are explored: memorization, influence, labels that may be wrong.

    The file opens in any browser, without a server or a network.

    For example:

        jaxinfl explore runs/a --out explorer.html --open
    """

    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Write the file, and open it where `--open` says so.

    Raises:
      RunDirectoryError, DatasetUnavailable, TypeError, ValueError, OSError: the run or the data cannot be read, or the file not written.
    """
    options = dataclasses.replace(
        options, run_dir=expand_home(options.run_dir, "RUN"), out=expand_home(options.out, "--out")
    )
    path = explorer.explore(options)
    values = {"run_dir": options.run_dir, "file": path, "bytes": path.stat().st_size}
    return Answer(explorer.show(options, path), values)


__all__ = ["Options", "run"]
