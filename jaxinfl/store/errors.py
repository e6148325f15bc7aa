"""The errors of everything that is wrong with a run directory."""

from pathlib import Path

import numpy as np


class RunDirectoryError(RuntimeError):
    """A run directory that is damaged, foreign, or belongs to another run."""


class DamagedRun(RunDirectoryError):
    """A run directory of which some bytes are not those that were written; says how to repair it."""

    def __init__(self, what: str, path: Path | None):
        remedy = f" `python -m jaxinfl.verify {path} --repair` recomputes just what is damaged." if path else ""
        super().__init__(what + remedy)


def listed(models: np.ndarray) -> str:
    """The first few numbers, for a message."""
    more = f" and {models.size - 5} more" if models.size > 5 else ""
    return ", ".join(map(str, models[:5])) + more


__all__ = ["DamagedRun", "RunDirectoryError", "listed"]
