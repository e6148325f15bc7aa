"""The errors of everything that is wrong with a run directory."""

import shlex
from pathlib import Path

import numpy as np


class RunDirectoryError(RuntimeError):
    """A run directory that is damaged, foreign, or belongs to another run."""


class DamagedRun(RunDirectoryError):
    """A run directory of which some bytes are not those that were written."""


class VanishedRun(RunDirectoryError):
    """A run directory that was there and is not any more."""


def damage_error(what: str, path: Path | None) -> RunDirectoryError:
    """The error for bytes of a run that are not those that were written, with the remedy.

    A folder that is gone as a whole, or whose drive is, looks just so to whoever reads a file in it; there is nothing to
    repair then.
    """
    if path is None:
        return DamagedRun(what)
    if not any((path / name).exists() for name in ("zarr.json", "manifest.json")):
        return VanishedRun(
            f"the run directory {path} is gone: it was moved or deleted, or its drive is not mounted. Bring it back, or open "
            "it where it is now."
        )
    return DamagedRun(
        f"{what} `python -m jaxinfl.verify {shlex.quote(str(path))} --repair` recomputes just what is damaged."
    )


def format_models(models: np.ndarray) -> str:
    """The first few numbers, for a message."""
    more = f" and {models.size - 5} more" if models.size > 5 else ""
    return ", ".join(map(str, models[:5])) + more


__all__ = ["DamagedRun", "RunDirectoryError", "VanishedRun", "damage_error", "format_models"]
