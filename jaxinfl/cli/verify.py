"""`jaxinfl verify`: whether a run directory holds what was written; `python -m jaxinfl.verify` does the same."""

import dataclasses
from dataclasses import dataclass

from jaxinfl import verify
from jaxinfl.arguments import expand_home
from jaxinfl.cli.answer import Answer

DAMAGED = 1
"""Exit status where some file is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Options(verify.Options):
    """Check that a run directory holds what was written, and recompute just what is damaged.

    The exit status is 1 where some file is not what was written, and 0 where every file is or was repaired.

    For example:

        jaxinfl verify runs/a --repair
    """

    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Read every byte of a run again, and repair what is damaged where `--repair` says so.

    Raises:
      ValueError: the run directory is a URL or cannot be a folder.
      RunDirectoryError: there is no run; what is damaged cannot be replaced.
    """
    options = dataclasses.replace(options, run_dir=expand_home(options.run_dir, "RUN"))
    found = verify.find_or_repair(options)
    files = [{"file": path / damage.file, "what": damage.what, "models": list(damage.models)} for path, damage in found]
    values = {
        "run_dir": options.run_dir,
        "repaired": options.repair and bool(found),
        "damaged_models": verify.count_damaged_models(found),
        "absent_models": verify.count_absent_models(options.run_dir),
        "files": files,
    }
    damaged = bool(found) and not options.repair
    return Answer(verify.describe(options, found), values, DAMAGED if damaged else 0)
