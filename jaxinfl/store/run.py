"""A run directory: one Zarr v3 group, one row a model, complete or absent.

A shard of models is written in three steps: its arrays, a checksum of every row of every array, and last its status.
Each file is replaced atomically, so a run killed at any moment holds shards that are complete and shards that are not
there. Every chunk also carries Zarr's CRC-32C; the row checksums find what that cannot: a chunk that is missing (Zarr
would read it as fill values) or that belongs to another row or run.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, Int, UInt8
from zarr.storage import LocalStore, MemoryStore

from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.layout import Layout, RowArray, attributes_digest, digest, lay_out, row_checksums
from jaxinfl.store.weights import WeightFiles

FORMAT = 1
"""Raised when an older jaxinfl could not read what this one writes."""

ABSENT, COMPLETE, DIVERGED = 0, 1, 2
"""Status of a model: not trained yet; trained; trained, but a loss or logit was not finite."""


class RunStore:
    """The arrays of a run on disk, or in memory where no directory is given."""

    def __init__(self, group: zarr.Group, path: Path | None):
        self.group = group
        self.path = path
        self.attributes: dict[str, Any] = _checked_attributes(group, path)
        self.weights = WeightFiles(None if path is None else path / "weights")
        self.row_arrays = {
            name: RowArray(tuple(spec["shape"]), spec["dtype"], tuple(spec["axes"]))
            for name, spec in self.attributes["row_arrays"].items()
        }

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, layout: Layout) -> "RunStore":
        """A new run in a directory that is new or empty, or in memory where `path` is None."""
        if path is None:
            return cls(lay_out(MemoryStore(), layout, FORMAT), None)
        path = Path(path).resolve()
        check_free(path)
        # A run appears all at once: it is laid out beside its place and then moved there.
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        try:
            lay_out(LocalStore(draft), layout, FORMAT)
            if path.is_dir():
                # The directory stays the one it is (a mount point, the folder one stands in); zarr.json makes it a run.
                for part in sorted(draft.iterdir(), key=lambda part: part.name == "zarr.json"):
                    os.replace(part, path / part.name)
                draft.rmdir()
            else:
                os.replace(draft, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, writable: bool = True) -> "RunStore":
        """The run in an existing directory.

        Raises:
          RunDirectoryError: there is no run, its description is damaged, or a newer jaxinfl made it.
        """
        path = Path(path)
        if not (path / "zarr.json").is_file():
            raise RunDirectoryError(
                f"{path} is no run directory: it has no zarr.json. `train_ensemble(..., run_dir=...)` makes one."
            )
        try:
            group = zarr.open_group(path, mode="r+" if writable else "r")
        except (ValueError, KeyError, TypeError, zarr.errors.BaseZarrError) as error:
            raise RunDirectoryError(f"{path / 'zarr.json'} cannot be read as a Zarr group: {error}") from error
        return cls(group, path)

    @property
    def num_models(self) -> int:
        return int(self.attributes["num_models"])

    @property
    def shard_size(self) -> int:
        return int(self.attributes["shard_size"])

    def status(self) -> UInt8[np.ndarray, " models"]:
        """ABSENT, COMPLETE or DIVERGED for every model."""
        return self._read("status", slice(None))

    def shards(self) -> list[slice]:
        """The rows of each shard, in order."""
        starts = range(0, self.num_models, self.shard_size)
        return [slice(a, min(a + self.shard_size, self.num_models)) for a in starts]

    def write(self, shard: slice, rows: Mapping[str, np.ndarray], diverged: Bool[np.ndarray, " rows"]) -> None:
        """Write one whole shard; it counts as complete only when everything is on disk."""
        if set(rows) != set(self.row_arrays):
            raise ValueError(f"a shard holds {sorted(self.row_arrays)}; got {sorted(rows)}.")
        checksums = np.empty((shard.stop - shard.start, len(self.row_arrays)), np.uint32)
        for column, (name, spec) in enumerate(self.row_arrays.items()):
            values = np.ascontiguousarray(rows[name], dtype=spec.dtype)
            if values.shape != (len(checksums), *spec.shape):
                raise ValueError(f"{name} has shape {values.shape}; the shard takes {(len(checksums), *spec.shape)}.")
            self._array(name)[shard] = values
            checksums[:, column] = row_checksums(values)
        self._array("row_checksum")[shard] = checksums
        self._array("status")[shard] = np.where(diverged, DIVERGED, COMPLETE).astype(np.uint8)

    def read_input(self, name: str) -> np.ndarray:
        """An array that was known beforehand, checked against its recorded hash."""
        values = self._read(name, slice(None))
        if digest(values) != self.attributes["inputs"][name]:
            raise RunDirectoryError(f"{self._where(name)} is damaged: it differs from what the run was started with.")
        return values

    def read_rows(self, name: str, models: Int[np.ndarray, " rows"]) -> np.ndarray:
        """Rows of one array, each checked against its checksum.

        Raises:
          RunDirectoryError: rows that are damaged or missing, named.
        """
        whole = len(models) == self.num_models
        values = self._read(name, slice(None) if whole else models)
        column = list(self.row_arrays).index(name)
        recorded = self._read("row_checksum", slice(None) if whole else models)[:, column]
        damaged = models[row_checksums(values) != recorded]
        if damaged.size:
            raise RunDirectoryError(
                f"{self._where(name)} is damaged or missing for {damaged.size} models (first: {damaged[:5].tolist()})."
            )
        return values

    def _array(self, name: str) -> zarr.Array:
        try:
            array = self.group[name]
        except (KeyError, ValueError, TypeError) as error:
            raise RunDirectoryError(f"{self._where(name)} is missing or its description is damaged.") from error
        if not isinstance(array, zarr.Array):
            raise RunDirectoryError(f"{self._where(name)} is not an array.")
        return array

    def _read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        array = self._array(name)
        try:
            return np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
        except (ValueError, RuntimeError, OSError) as error:
            damaged = self._damaged_shards(array)
            named = ", ".join(f"{shard.start} to {shard.stop - 1}" for shard in damaged[:5])
            raise RunDirectoryError(f"{self._where(name)} is damaged for models {named or '?'}: {error}") from error

    def _damaged_shards(self, array: zarr.Array) -> list[slice]:
        damaged = []
        for shard in self.shards():
            try:
                array[shard]
            except (ValueError, RuntimeError, OSError):
                damaged.append(shard)
        return damaged

    def _where(self, name: str) -> str:
        return f"{name} in {self.path or 'memory'}"


def check_free(path: Path) -> None:
    """Raise `RunDirectoryError` unless a new run may be made at `path`."""
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file; run_dir takes a directory that is new or empty.")
    if path.is_dir() and any(path.iterdir()):
        raise RunDirectoryError(
            f"{path} is not empty and holds no jaxinfl run; run_dir takes a directory that is new, empty, "
            "or made by an earlier call."
        )


def _checked_attributes(group: zarr.Group, path: Path | None) -> dict[str, Any]:
    where = path or "memory"
    attributes: dict[str, Any] = dict(group.attrs)
    if "format" not in attributes or "digest" not in attributes:
        raise RunDirectoryError(f"{where} is a Zarr group, but no jaxinfl run.")
    if isinstance(attributes["format"], int) and attributes["format"] > FORMAT:
        raise RunDirectoryError(
            f"{where} was made by jaxinfl {attributes.get('versions', {}).get('jaxinfl', '(newer)')} in format "
            f"{attributes['format']}; this jaxinfl reads formats up to {FORMAT}. Upgrade jaxinfl to read it."
        )
    if attributes_digest(attributes) != attributes["digest"]:
        raise RunDirectoryError(f"the description of the run in {where} (zarr.json) is damaged or was edited.")
    return attributes
