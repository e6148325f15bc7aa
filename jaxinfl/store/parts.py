"""A run whose models are shared out: each process writes a run directory of its own, and all are read as one.

Every part is laid out for the whole run and holds the rows of its own models, so that a row has one number everywhere.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.identity import check_same_run
from jaxinfl.store.run import ABSENT, RunStore, is_run
from jaxinfl.store.saved import Leaves
from jaxinfl.store.weights import empty_leaves

_NAME = re.compile(r"part-(\d+)-of-(\d+)")


def part_path(path: Path, part: tuple[int, int]) -> Path:
    """The directory of part `part[0]` of `part[1]`, counted from 1."""
    return path / f"part-{part[0]}-of-{part[1]}"


def part_models(num_models: int, part: tuple[int, int]) -> tuple[int, int]:
    """First model of a part, and the one behind its last."""
    number, parts = part
    return num_models * (number - 1) // parts, num_models * number // parts


def parts_in(path: Path) -> list[tuple[int, int]]:
    """The parts that are there."""
    if not path.is_dir():
        return []
    found = [match for match in map(_NAME.fullmatch, (each.name for each in path.iterdir())) if match]
    return sorted((int(match[1]), int(match[2])) for match in found if is_run(path / match[0]))


class Parts:
    """The parts of a run, as one."""

    def __init__(self, path: Path, stores: Sequence[RunStore]):
        """Of parts that belong together, one at least.

        Raises:
          RunDirectoryError: they are parts of different runs, or of different divisions of one.
        """
        self.path: Path | None = path
        self._stores = stores
        self.attributes = stores[0].attributes
        divisions = {store.attributes["part"][1] for store in stores}
        if len(divisions) > 1:
            raise RunDirectoryError(
                f"{path} holds parts of different divisions: into {' and '.join(map(str, sorted(divisions)))}. Keep those of one."
            )
        self.num_parts = divisions.pop()
        for store in stores[1:]:
            check_same_run(self.attributes["identity"], store.attributes["identity"], store.path)
        present = {store.attributes["part"][0] for store in stores}
        self.missing = tuple(number for number in range(1, self.num_parts + 1) if number not in present)
        """Numbers of the parts that are not there, counted from 1."""

    @property
    def num_models(self) -> int:
        return self._stores[0].num_models

    def status(self) -> UInt8[np.ndarray, " models"]:
        whole: UInt8[np.ndarray, " models"] = np.full(self.num_models, ABSENT, np.uint8)
        for store in self._stores:
            whole[store.own_models.start : store.own_models.stop] = store.own_status()
        return whole

    def read_input(self, name: str) -> np.ndarray:
        return self._stores[0].read_input(name)

    def read_rows(self, name: str, models: Int[np.ndarray, " rows"]) -> np.ndarray:
        spec = self._stores[0].row_arrays[name]
        result = np.empty((len(models), *spec.shape), spec.dtype)
        for store, wanted in self._shares(models):
            result[wanted] = store.read_rows(name, models[wanted])
        return result

    def read_weights(self, models: Int[np.ndarray, " rows"]) -> Leaves:
        if "weights" not in self.attributes:
            return self._stores[0].read_weights(models)  # which says what is wrong
        result = empty_leaves(self.attributes["weights"], len(models))
        for store, wanted in self._shares(models):
            for name, values in store.read_weights(models[wanted]).items():
                result[name][wanted] = values
        return result

    def _shares(self, models: Int[np.ndarray, " rows"]) -> list[tuple[RunStore, np.ndarray]]:
        """Each part that has some of the models, and where these are among them."""
        shares = []
        for store in self._stores:
            own = store.own_models
            wanted = np.flatnonzero((models >= own.start) & (models < own.stop))
            if wanted.size:
                shares.append((store, wanted))
        return shares


Rows = RunStore | Parts
"""What can be read as one run."""


def open_rows(path: Path) -> Rows:
    """The run in a directory, whole or in parts.

    Raises:
      RunDirectoryError: see `RunStore.open` and `Parts`.
    """
    parts = [] if is_run(path) else parts_in(path)
    if not parts:
        return RunStore.open(path, writable=False)
    return Parts(path, [RunStore.open(part_path(path, part), writable=False) for part in parts])


__all__ = ["Parts", "Rows", "open_rows", "part_models", "part_path", "parts_in"]
