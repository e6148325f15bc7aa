"""Errors about run directories."""

import json
import shlex
from pathlib import Path

import numpy as np

TRAINED_ELSEWHERE = "elsewhere"
"""What a run says of itself under "trained" where its models were given by their scores."""


class RunDirectoryError(RuntimeError):
    """The run directory is damaged, is no run, or belongs to another run."""


class DamagedRun(RunDirectoryError):
    """Some bytes of the run directory are not those that were written."""


class VanishedRun(RunDirectoryError):
    """The run directory was there and is not any more."""


def damage_error(what: str, path: Path | None) -> RunDirectoryError:
    """Make the error for bytes of a run that are not those that were written, with the remedy.

    Where the whole folder or its drive is gone, its files look damaged too. There is nothing to repair then, and the error
    says that the folder is gone.
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
    """Format the first five numbers for a message, with the number of the others."""
    more = f" and {models.size - 5} more" if models.size > 5 else ""
    return ", ".join(map(str, models[:5])) + more


__all__ = ["TRAINED_ELSEWHERE", "DamagedRun", "RunDirectoryError", "VanishedRun", "damage_error", "format_models"]
