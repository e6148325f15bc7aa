"""A run whose models lie in several run directories, which are read as one.

Parts share a run out between processes: every part is laid out for the whole run and holds the rows of its own models. An
extension adds models to a run that is there: it is laid out for the new models alone, in a folder of its own, so that nothing
of the old ones is touched, and a process that is killed on the way leaves them as they were.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jaxinfl.store.array_file import Leaves
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.identity import check_same_run
from jaxinfl.store.run import ABSENT, RunStore, is_run
from jaxinfl.store.weights import empty_leaves

_NAME = re.compile(r"part-(\d+)-of-(\d+)")
_EXTENSION = re.compile(r"rows-(\d+)-to-(\d+)")
_OF_EXAMPLES = ("train_labels", "test_labels")
"""Inputs without a row a model, which every run directory of a run repeats."""


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


def extension_path(path: Path, rows: tuple[int, int]) -> Path:
    """The directory of the models `rows[0]` to `rows[1] - 1` that a run was extended by."""
    return path / f"rows-{rows[0]}-to-{rows[1]}"


def extensions_in(path: Path) -> list[tuple[int, int]]:
    """The rows of the extensions that are there, in their order."""
    if not path.is_dir():
        return []
    found = [match for match in map(_EXTENSION.fullmatch, (each.name for each in path.iterdir())) if match]
    return sorted((int(match[1]), int(match[2])) for match in found if is_run(path / match[0]))


def is_extension(name: str) -> bool:
    """Whether a file name is that of an extension."""
    return _EXTENSION.fullmatch(name) is not None


class Parts:
    """The directories of a run, as one."""

    def __init__(self, path: Path, stores: Sequence[RunStore], extensions: Sequence[RunStore] = ()):
        """`stores` are the whole run or its parts, one at least; `extensions` follow it in their order.

        Raises:
          RunDirectoryError: they belong to different runs, or to different divisions of one, or rows between them are missing.
        """
        self.path: Path | None = path
        self._stores, self._extensions = stores, extensions
        self.attributes = stores[0].attributes
        divisions = {store.attributes.get("part", (1, 1))[1] for store in stores}
        if len(divisions) > 1:
            raise RunDirectoryError(
                f"{path} holds parts of different divisions: into {' and '.join(map(str, sorted(divisions)))}. Keep those of one."
            )
        self.num_parts = divisions.pop()
        for store in stores[1:]:
            check_same_run(self.attributes["identity"], store.attributes["identity"], store.path)
        present = {store.attributes.get("part", (1, 1))[0] for store in stores}
        self.missing = tuple(number for number in range(1, self.num_parts + 1) if number not in present)
        """Numbers of the parts that are not there, counted from 1."""
        self.num_models = stores[0].num_models
        for store in extensions:
            first, stop = store.attributes["rows"]
            if first != self.num_models:
                raise RunDirectoryError(
                    f"{path} lacks the models {self.num_models} to {first - 1}. Bring their folder back."
                )
            check_same_run(_apart_from_rows(self.attributes), _apart_from_rows(store.attributes), store.path)
            self.num_models = stop

    def status(self) -> UInt8[np.ndarray, " models"]:
        whole: UInt8[np.ndarray, " models"] = np.full(self.num_models, ABSENT, np.uint8)
        for store in self._stores:
            whole[store.own_models.start : store.own_models.stop] = store.own_status()
        for store in self._extensions:
            whole[slice(*store.attributes["rows"])] = store.status()
        return whole

    def read_input(self, name: str) -> np.ndarray:
        first = self._stores[0].read_input(name)
        if name in _OF_EXAMPLES or not self._extensions:
            return first
        return np.concatenate([first, *(store.read_input(name) for store in self._extensions)])

    def input_axes(self, name: str) -> tuple[str, ...]:
        return self._stores[0].input_axes(name)

    def read_rows(self, name: str, models: Int[np.ndarray, " rows"]) -> np.ndarray:
        spec = self._stores[0].row_arrays[name]
        result = np.empty((len(models), *spec.shape), spec.dtype)
        for store, wanted, rows in self._shares(models):
            result[wanted] = store.read_rows(name, rows)
        return result

    def read_weights(self, models: Int[np.ndarray, " rows"]) -> Leaves:
        if "weights" not in self.attributes:
            return self._stores[0].read_weights(models)  # which says what is wrong
        result = empty_leaves(self.attributes["weights"], len(models))
        for store, wanted, rows in self._shares(models):
            for name, values in store.read_weights(rows).items():
                result[name][wanted] = values
        return result

    def _shares(self, models: Int[np.ndarray, " rows"]) -> list[tuple[RunStore, np.ndarray, np.ndarray]]:
        """Each directory that has some of the models, where these are among them, and their rows in it."""
        places = [(store, store.own_models.start, store.own_models.stop, 0) for store in self._stores]
        places += [(store, *store.attributes["rows"], store.attributes["rows"][0]) for store in self._extensions]
        shares = []
        for store, first, stop, offset in places:
            wanted = np.flatnonzero((models >= first) & (models < stop))
            if wanted.size:
                shares.append((store, wanted, models[wanted] - offset))
        return shares


def _apart_from_rows(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a run without what has a value a model."""
    identity = {name: value for name, value in attributes["identity"].items() if name in ("data", "model", "recipe")}
    return identity | {"overrides": sorted(attributes["identity"].get("overrides", {}))}


Rows = RunStore | Parts
"""What can be read as one run."""


def open_rows(path: Path) -> Rows:
    """The run in a directory, whole or in parts, with what it was extended by.

    Raises:
      RunDirectoryError: see `RunStore.open` and `Parts`.
    """
    parts = [] if is_run(path) else parts_in(path)
    extensions = [RunStore.open(extension_path(path, rows), writable=False) for rows in extensions_in(path)]
    if not parts and not extensions:
        return RunStore.open(path, writable=False)
    paths = [part_path(path, part) for part in parts] or [path]
    return Parts(path, [RunStore.open(each, writable=False) for each in paths], extensions)


__all__ = [
    "Parts",
    "Rows",
    "extension_path",
    "extensions_in",
    "is_extension",
    "open_rows",
    "part_models",
    "part_path",
    "parts_in",
]
