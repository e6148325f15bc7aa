"""This command writes one HTML file in which the examples of a run are explored: memorization, influence, labels that may be wrong.

    python -m jaxinfl.explore RUN_DIR --out explorer.html      the file opens in any browser, without a server or a network
    python -m jaxinfl.explore RUN_DIR --open                   writes it and opens it

The data set is loaded as the run records it, or as --data names it. The exit status is 0 where the file was written, and 2 where the run or
the data cannot be read.
"""

import sys
import warnings
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxinfl.datasets import DatasetUnavailable
from jaxinfl.datasets.options import ReloadOptions
from jaxinfl.explore.explorer import write_explorer
from jaxinfl.privacy import Membership, membership
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.units import format_bytes


@dataclass(frozen=True)
class Options(ReloadOptions):
    """Options of `python -m jaxinfl.explore`."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The run directory, which train_ensemble(..., run_dir=...) or Ensemble.save made, whole or in parts."""
    out: Path = Path("explorer.html")
    """The HTML file to write, in place of an older one."""
    open: bool = False
    """Open the file in the browser when it is written."""
    score: str | None = None
    """Score from which memorization and influence are computed, such as correct, margin or loss; None takes correct where predictions are right or wrong."""
    risk: bool = False
    """Compute the membership risk of each training example, too, from the run's margins."""
    partners: int = 8
    """Number of partners of each sign that are kept of each example; of large data fewer are kept."""


def explore(options: Options) -> Path:
    """Do what the options say, and return the path of the file.

    Raises:
      RunDirectoryError, DatasetUnavailable, TypeError, ValueError, OSError: the run or the data cannot be read, or the file not written.
    """
    runs = Ensemble.open(options.run_dir)
    data = options.load(runs.attributes.get("data_source"))
    risk = _measure_risk(runs) if options.risk else None
    return write_explorer(runs, data, options.out, score=options.score, membership=risk, partners=options.partners)


def show(options: Options, path: Path) -> list[str]:
    """Open the file that was written in the browser, where the options say so, and return lines about it."""
    size = format_bytes(path.stat().st_size)
    lines = [f"{path} ({size}) is written. Open it in a browser; it needs no server and no network."]
    if options.open and not webbrowser.open(path.absolute().as_uri()):
        lines.append("No browser could be started here; copy the file to a machine that has one.")
    return lines


def _measure_risk(runs: Ensemble) -> Membership:
    if "margin" not in runs.scores:
        raise ValueError(
            f"--risk takes a run with margins; this one has the scores {', '.join(runs.scores)}. Leave --risk out, or call "
            "jaxinfl.write_explorer(runs, membership=jaxinfl.membership(runs, ...))."
        )
    return membership(runs, "margin", method="threshold")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = tyro.cli(
        Options, args=argv, prog="python -m jaxinfl.explore", description=(__doc__ or "").split("\n\n")[0]
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("always", RuntimeWarning)
            path = explore(options)
    except (RunDirectoryError, DatasetUnavailable, TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    written, *missing = show(options, path)
    print(written)
    for line in missing:
        print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
