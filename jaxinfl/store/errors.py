"""The errors of everything that is wrong with a run directory."""

import json
import shlex
from pathlib import Path

import numpy as np

TRAINED_ELSEWHERE = "elsewhere"
"""What a run says of itself under "trained" where its models were given by their scores."""


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
    command = f"python -m jaxinfl.verify {shlex.quote(str(path))}"
    if _says_trained_elsewhere(path):
        return DamagedRun(
            f"{what} `{command}` names every damaged file. The models were trained elsewhere, so nothing here computes their scores "
            "again."
        )
    return DamagedRun(f"{what} `{command} --repair` recomputes just what is damaged.")


def _says_trained_elsewhere(path: Path) -> bool:
    """Whether a run says so, as far as its description can be read."""
    try:
        return bool(json.loads((path / "zarr.json").read_text())["attributes"]["trained"] == TRAINED_ELSEWHERE)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def format_models(models: np.ndarray) -> str:
    """The first few numbers, for a message."""
    more = f" and {models.size - 5} more" if models.size > 5 else ""
    return ", ".join(map(str, models[:5])) + more


__all__ = ["TRAINED_ELSEWHERE", "DamagedRun", "RunDirectoryError", "VanishedRun", "damage_error", "format_models"]
