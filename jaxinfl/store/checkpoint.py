"""Checkpoints: the scores of a shard's finished models and the state of those in training, in a file with a manifest.

At most one checkpoint is kept: the next appears beside it, and then it is removed. Where several shards are trained at the same
time, each has a folder of its own. A checkpoint only saves work. Where it is damaged or belongs to another shard, its models are
trained from the start.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from jaxinfl.store import array_file
from jaxinfl.store.array_file import Leaves
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.failures import check_still_there, write_failures

_log = logging.getLogger("jaxinfl")


class Checkpoint(Protocol):
    """A place for the checkpoint of a shard that is in training."""

    def write(self, about: Mapping[str, Any], leaves: Leaves) -> None:
        """Keep arrays and JSON values that describe them, in place of the previous checkpoint."""
        ...

    def read(self) -> tuple[dict[str, Any], Leaves] | None:
        """Return the newest usable checkpoint; None where there is none."""
        ...


class CheckpointFile:
    """The checkpoint of a run, in a folder of its own."""

    def __init__(self, folder: Path, run: Path | None = None):
        """`run` is the run directory; None where the folder lies in it."""
        self._folder, self._run = folder, run or folder.parent

    def of_shard(self, shard: slice) -> "CheckpointFile":
        """The checkpoint of one shard of several that are trained at the same time."""
        return CheckpointFile(self._folder / f"shard-{shard.start:06d}", self._run)

    def write(self, about: Mapping[str, Any], leaves: Leaves) -> None:
        """Write arrays and JSON values that describe them, in place of the previous checkpoint.

        Raises:
          WriteFailed: the file system does not take it; the previous checkpoint stays.
        """
        check_still_there(self._run)
        with write_failures(self._run):
            self._folder.mkdir(parents=True, exist_ok=True)
            before = self._all()
            new = self._path(max(before, default=0) + 1)
            array_file.save(new, leaves, about)
            for old in before:
                array_file.remove(self._path(old))

    def read(self) -> tuple[dict[str, Any], Leaves] | None:
        """Read the newest usable checkpoint; None where there is none."""
        for number in reversed(self._all()):
            path = self._path(number)
            if not array_file.manifest_of(path).exists():
                continue  # killed while it was written
            try:
                if wrong := array_file.damage(path):
                    raise RunDirectoryError(f"{next(iter(wrong))} is {next(iter(wrong.values()))}.")
                return array_file.about(path), array_file.restore(path)
            except RunDirectoryError as error:
                _log.warning("A checkpoint cannot be used, and its models start again: %s", error)
        return None

    def clear(self) -> None:
        """Remove all checkpoints, because the shard is finished or its models start again."""
        for number in self._all():
            array_file.remove(self._path(number))

    def remove(self) -> None:
        """Remove the folder, with the checkpoints of all shards."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder)

    def damage(self) -> dict[Path, str]:
        """Find the files of finished checkpoints that are not what was written, each "damaged" or "missing"."""
        wrong: dict[Path, str] = {}
        for number in self._all():
            if array_file.manifest_of(self._path(number)).exists():
                wrong |= array_file.damage(self._path(number))
        for folder in self._folder.glob("shard-*"):
            wrong |= CheckpointFile(folder, self._run).damage()
        return wrong

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def _all(self) -> list[int]:
        """Numbers of the checkpoints that are there, finished or not."""
        if not self._folder.is_dir():
            return []
        return sorted({int(found.name[:6]) for found in self._folder.iterdir() if found.name[:6].isdecimal()})


__all__ = ["Checkpoint", "CheckpointFile"]
