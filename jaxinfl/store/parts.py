"""Runs whose models lie in several run directories, which are read as one.

Parts divide a run between processes: every part is laid out for the whole run and holds the rows of its own models. An
extension adds models to an existing run: it is laid out for the new models alone, in a folder of its own. So nothing of the
old models is touched, and a process that is killed leaves them as they were.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jaxinfl.store.array_file import Leaves
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers
from jaxinfl.store.identity import check_same_run
from jaxinfl.store.run import ABSENT, RunStore, is_run
from jaxinfl.store.weights import empty_leaves

_NAME = re.compile(r"part-(\d+)-of-(\d+)")
_EXTENSION = re.compile(r"rows-(\d+)-to-(\d+)")
_OF_EXAMPLES = ("train_targets", "test_targets")
"""Inputs that have no row for each model, which every run directory of a run repeats."""


def part_path(path: Path, part: tuple[int, int]) -> Path:
    """Path of the directory of part `part[0]` of `part[1]`, counted from 1."""
    return path / f"part-{part[0]}-of-{part[1]}"


def part_models(num_models: int, part: tuple[int, int]) -> tuple[int, int]:
    """Number of a part's first model, and of the model behind its last one."""
    number, parts = part
    return num_models * (number - 1) // parts, num_models * number // parts


def parts_in(path: Path) -> list[tuple[int, int]]:
    """List the parts of a run that are there, as (number, parts)."""
    if not path.is_dir():
        return []
    found = [match for match in map(_NAME.fullmatch, (each.name for each in path.iterdir())) if match]
    return sorted((int(match[1]), int(match[2])) for match in found if is_run(path / match[0]))


def extension_path(path: Path, rows: tuple[int, int]) -> Path:
    """Path of the directory of the models `rows[0]` to `rows[1] - 1`, by which a run was extended."""
    return path / f"rows-{rows[0]}-to-{rows[1]}"


def extensions_in(path: Path) -> list[tuple[int, int]]:
    """List the rows of the extensions that are there, in rising order."""
    if not path.is_dir():
        return []
    found = [match for match in map(_EXTENSION.fullmatch, (each.name for each in path.iterdir())) if match]
    return sorted((int(match[1]), int(match[2])) for match in found if is_run(path / match[0]))


def is_extension(name: str) -> bool:
    """Whether a file name is that of an extension."""
    return _EXTENSION.fullmatch(name) is not None


class Parts:
    """A run in several directories, which is read like a `RunStore`."""

    def __init__(self, path: Path, stores: Sequence[RunStore], extensions: Sequence[RunStore] = ()):
        """Join `stores`, which are the whole run or at least one of its parts, and the `extensions` that follow them.

        Raises:
          RunDirectoryError: they belong to different runs or to different divisions of one, or rows between them are missing.
        """
        self.path: Path | None = path
        self._stores, self._extensions = stores, extensions
        self.attributes = stores[0].attributes
        divisions = {store.attributes.get("part", (1, 1))[1] for store in stores}
        if len(divisions) > 1:
            raise RunDirectoryError(
                f"{path} holds parts of a run that was divided into {' and into '.join(map(str, sorted(divisions)))}; it takes "
                "the parts of one division. Move the others out."
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
                    f"{path} lacks the folder of models {self.num_models} to {first - 1}. Bring it back."
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
        """List each store that holds some of `models`, with their positions in `models` and their rows in the store."""
        places = [(store, store.own_models.start, store.own_models.stop, 0) for store in self._stores]
        places += [(store, *store.attributes["rows"], store.attributes["rows"][0]) for store in self._extensions]
        shares = []
        for store, first, stop, offset in places:
            wanted = np.flatnonzero((models >= first) & (models < stop))
            if wanted.size:
                shares.append((store, wanted, models[wanted] - offset))
        return shares


def _apart_from_rows(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a run without the fields that have a value for each model."""
    identity = {name: value for name, value in attributes["identity"].items() if name in ("data", "model", "recipe")}
    return identity | {"overrides": sorted(attributes["identity"].get("overrides", {}))}


Rows = RunStore | Parts | FilesOfOthers
"""Type of everything that is read as one run."""


def open_rows(path: Path) -> Rows:
    """Open the run in a directory, whole or in parts, with its extensions.

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
