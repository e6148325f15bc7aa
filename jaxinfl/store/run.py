"""A run directory: one Zarr v3 group with one row for each model, complete or absent.

A shard of models is written in three steps: its arrays, a checksum of every row of every array, and last its status.
Each file is replaced atomically, so a run killed at any moment holds shards that are complete and shards that are not
there. Every chunk also carries Zarr's CRC-32C. The row checksums find what that cannot: a chunk that is missing, which Zarr
would read as fill values, or that belongs to another row or run.

`manifest.json` repeats the descriptions of the group and its arrays. A file `UNFINISHED` lies beside them until a new run is
laid out: until then the directory holds nothing that could be lost.
"""

import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, Int, UInt8
from zarr.storage import LocalStore, MemoryStore

from jaxinfl.arguments import MOST_BYTES
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.store.errors import RunDirectoryError, damage_error, format_models
from jaxinfl.store.failures import check_still_there, write_failures
from jaxinfl.store.layout import LOST, Layout, RowArray, attributes_digest, digest, lay_out, row_checksums
from jaxinfl.store.lock import HOLDER, LOCK
from jaxinfl.store.manifest import read_manifest, write_manifest
from jaxinfl.store.weights import CHECKSUM, Leaves, WeightFiles, empty_leaves

FORMAT = 4
"""Version of the format, which is raised when an older jaxinfl could not read what this one writes."""
MANIFEST, UNFINISHED = "manifest.json", "UNFINISHED"

ABSENT, COMPLETE, DIVERGED = 0, 1, 2
"""Status of a model: not trained yet, trained, or trained with a loss or logit that was not finite."""


class RunStore:
    """The arrays of a run on disk, or in memory where no directory is given."""

    def __init__(self, group: zarr.Group, path: Path | None):
        self.group = group
        self.path = path
        self.attributes: dict[str, Any] = _read_attributes(group, path)
        self.weights = WeightFiles(None if path is None else path / "weights")
        self.checkpoint = None if path is None else CheckpointFile(path / "checkpoint")
        self.row_arrays = {
            name: RowArray(tuple(spec["shape"]), spec["dtype"], tuple(spec["axes"]))
            for name, spec in self.attributes["row_arrays"].items()
        }

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, layout: Layout) -> "RunStore":
        """Make a new run in a directory that is new or empty, or in memory where `path` is None.

        Raises:
          RunDirectoryError: the directory holds something else.
          WriteFailed: the file system does not take it; the next call begins again.
        """
        if path is None:
            return cls(lay_out(MemoryStore(), layout, FORMAT), None)
        path = Path(path).absolute()
        check_free(path)
        with write_failures(path):
            path.mkdir(parents=True, exist_ok=True)
            (path / UNFINISHED).touch()
            for leftover in path.iterdir():
                if leftover.name not in (LOCK, HOLDER, UNFINISHED):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            lay_out(LocalStore(path), layout, FORMAT)
            write_descriptions(path)
            (path / UNFINISHED).unlink()
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, writable: bool = True, checked: bool = True) -> "RunStore":
        """Open the run in an existing directory; its description is compared with the manifest if `checked`.

        Raises:
          RunDirectoryError: there is no run, its description is damaged, or a newer jaxinfl made it.
        """
        check_zarr()
        path = Path(path).absolute()
        if not is_run(path):
            if (path / MANIFEST).exists() and not (path / UNFINISHED).exists():
                raise damage_error(f"the description of the run in {path} (zarr.json) is missing.", path)
            what = "it has no zarr.json" if path.is_dir() else "there is no such folder"
            raise RunDirectoryError(
                f"{path} is no run directory: {what}. `train_ensemble(..., run_dir=...)` makes one."
            )
        try:
            group = zarr.open_group(path, mode="r+" if writable else "r")
        except (ValueError, KeyError, TypeError, zarr.errors.BaseZarrError) as error:
            raise damage_error(f"{path / 'zarr.json'} cannot be read as a Zarr group: {error}.", path) from error
        store = cls(group, path)
        if checked and (path / "zarr.json").read_bytes() != descriptions(path)["zarr.json"].encode():
            raise damage_error(f"the description of the run in {path} (zarr.json) is damaged or was edited.", path)
        return store

    @property
    def num_models(self) -> int:
        return int(self.attributes["num_models"])

    @property
    def shard_size(self) -> int:
        return int(self.attributes["shard_size"])

    @property
    def own_models(self) -> range:
        """Numbers of the models that are trained in this directory: all, or those of a part."""
        return range(*self.attributes.get("own_models", (0, self.num_models)))

    def status(self) -> UInt8[np.ndarray, " models"]:
        """Read the status of every model: ABSENT, COMPLETE or DIVERGED.

        Raises:
          RunDirectoryError: the status of some model is damaged or lost.
        """
        status: UInt8[np.ndarray, " models"] = self._read("status", slice(None))
        unknown = np.flatnonzero(status > DIVERGED)
        if unknown.size:
            what = "missing" if (status[unknown] == LOST).all() else "damaged"
            raise damage_error(f"{self._where('status')} is {what} for models {format_models(unknown)}.", self.path)
        return status

    def own_status(self) -> UInt8[np.ndarray, " own"]:
        """Read the status of the models that are trained in this directory."""
        return self.status()[slice(self.own_models.start, self.own_models.stop)]

    def shards(self) -> list[slice]:
        """Rows of each shard that is trained in this directory, in order."""
        own = self.own_models
        starts = range(own.start - own.start % self.shard_size, own.stop, self.shard_size)
        return [slice(max(a, own.start), min(a + self.shard_size, own.stop)) for a in starts]

    def write(self, shard: slice, rows: Mapping[str, np.ndarray], diverged: Bool[np.ndarray, " rows"]) -> None:
        """Write one whole shard; it counts as complete only when everything is on disk.

        Raises:
          WriteFailed: the file system does not take it, or the run directory is gone; the shard is absent then.
        """
        if set(rows) != set(self.row_arrays):
            raise ValueError(f"rows holds {sorted(rows)}; it takes {sorted(self.row_arrays)}.")
        models = np.arange(shard.start, shard.stop)
        checksums = np.empty((len(models), len(self.row_arrays)), np.uint32)
        arrays = {}
        for column, (name, spec) in enumerate(self.row_arrays.items()):
            values = np.ascontiguousarray(rows[name], dtype=spec.dtype)
            if values.shape != (len(checksums), *spec.shape):
                raise ValueError(f"{name} has shape {values.shape}; the shard takes {(len(checksums), *spec.shape)}.")
            checksums[:, column] = row_checksums(values, self.attributes["digest"], name, models)
            arrays[name] = values
        arrays["row_checksum"] = checksums
        arrays["status"] = np.where(diverged, DIVERGED, COMPLETE).astype(np.uint8)
        for name, values in arrays.items():
            self._write(name, shard, values)

    def tidy(self) -> None:
        """Remove the unfinished files that a killed writer left."""
        if self.path is not None:
            for leftover in self.path.rglob("*.partial"):
                leftover.unlink()

    def write_weights(self, shard: slice, leaves: Leaves) -> np.ndarray:
        """Write the weights of a shard, before the shard itself is written, and return its `CHECKSUM` rows."""
        if self.path is None:
            return self.weights.write(shard.start, leaves)
        check_still_there(self.path)
        with write_failures(self.path):
            return self.weights.write(shard.start, leaves)

    def read_input(self, name: str) -> np.ndarray:
        """Read an array that was known before training, and check it against its recorded hash."""
        values = self._read(name, slice(None))
        if digest(values) != self.attributes["inputs"][name.rpartition("/")[2]]:
            raise damage_error(
                f"{self._where(name)} is damaged: it differs from what the run was started with.", self.path
            )
        return values

    def input_axes(self, name: str) -> tuple[str, ...]:
        """Names of the dimensions of an array that was known beforehand."""
        names = self._array(name).metadata.to_dict()["dimension_names"]
        return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()

    def read_rows(self, name: str, models: Int[np.ndarray, " rows"]) -> np.ndarray:
        """Read rows of one array, and check each against its checksum.

        Raises:
          RunDirectoryError: rows are damaged or missing; the message names them.
        """
        whole = np.array_equal(models, np.arange(self.num_models))
        values = self._read(name, slice(None) if whole else models)
        column = list(self.row_arrays).index(name)
        recorded = self._read("row_checksum", slice(None) if whole else models)[:, column]
        damaged = models[row_checksums(values, self.attributes["digest"], name, models) != recorded]
        if damaged.size:
            raise damage_error(
                f"{self._where(name)} is damaged or missing for models {format_models(damaged)}.", self.path
            )
        return values

    def read_weights(self, models: Int[np.ndarray, " rows"]) -> Leaves:
        """Read the weights of some models, and check each model's against its checksum.

        Raises:
          RunDirectoryError: the run keeps no weights, or they are damaged or missing.
        """
        description: Sequence[Mapping[str, Any]] | None = self.attributes.get("weights")
        if description is None:
            raise RunDirectoryError(
                f"the run in {self.path or 'memory'} keeps no weights. Train it with keep_weights=True, in another run_dir."
            )
        recorded = self.read_rows(CHECKSUM, models)
        result = empty_leaves(description, len(models))
        for shard in self.shards():
            wanted = np.flatnonzero((models >= shard.start) & (models < shard.stop))
            if wanted.size:
                read = self.weights.read(shard, models[wanted], recorded[wanted])
                for name, values in read.items():
                    result[name][wanted] = values
        return result

    def _array(self, name: str) -> zarr.Array:
        try:
            array = self.group[name]
        except (KeyError, ValueError, TypeError) as error:
            raise damage_error(f"{self._where(name)} is missing or its description is damaged.", self.path) from error
        if not isinstance(array, zarr.Array):
            raise damage_error(f"{self._where(name)} is not an array.", self.path)
        return array

    def _write(self, name: str, rows: slice, values: np.ndarray) -> None:
        if self.path is None:
            self._array(name)[rows] = values
            return
        check_still_there(self.path)
        # A chunk of zeros is written too, so that a missing file is always a loss. The array's description cannot ask for it.
        with write_failures(self.path), zarr.config.set({"array.write_empty_chunks": True}):
            self._array(name)[rows] = values

    def _read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        array = self._array(name)
        size = array.nbytes if isinstance(rows, slice) else array.nbytes // max(array.shape[0], 1) * len(rows)
        if size > MOST_BYTES:
            raise RunDirectoryError(
                f"{self._where(name)} says that it has {size / 1e9:,.0f} GB; at most {MOST_BYTES / 1e9:,.0f} GB are taken at "
                "once. Read fewer models, or do not trust this directory."
            )
        try:
            return np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
        except (ValueError, RuntimeError, OSError) as error:
            damaged = self._damaged_shards(array)
            named = ", ".join(f"{shard.start} to {shard.stop - 1}" for shard in damaged[:5])
            what = f"{self._where(name)} is damaged for models {named or '?'}: {error}."
            raise damage_error(what, self.path) from error

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


@functools.cache
def check_zarr() -> None:
    """Raise `RunDirectoryError` where `python -O` keeps Zarr from reading what it writes.

    Zarr 3.1 to 3.4 take an entry out of a dictionary within an `assert`, which -O leaves out.
    """
    if __debug__:
        return
    store = MemoryStore()
    try:
        zarr.create_group(store).create_group("inner")
        zarr.open_group(store, mode="r")["inner"]
    except TypeError as error:
        raise RunDirectoryError(
            f"Zarr {zarr.__version__} does not work under `python -O` or PYTHONOPTIMIZE ({error}), and runs are kept by it, in "
            "memory too. Start Python without them."
        ) from error


def is_run(path: Path) -> bool:
    """Whether the directory holds a run that was laid out completely."""
    return (path / "zarr.json").is_file() and not (path / UNFINISHED).exists()


def check_free(path: Path) -> None:
    """Raise `RunDirectoryError` unless a new run may be made at `path`."""
    if path.exists() and not path.is_dir():
        raise RunDirectoryError(f"{path} is a file; run_dir takes a directory that is new or empty.")
    if not path.is_dir() or (path / UNFINISHED).exists():
        return
    if any(found.name not in (LOCK, HOLDER) for found in path.iterdir()):
        raise RunDirectoryError(
            f"{path} is not empty and holds no jaxinfl run; run_dir takes a directory that is new, empty, "
            "or made by an earlier call."
        )


def write_descriptions(path: Path) -> None:
    """Write a second copy of the descriptions of the group and its arrays, to compare with and to repair from."""
    found = sorted(path.rglob("zarr.json"))
    write_manifest(path / MANIFEST, {file.relative_to(path).as_posix(): file.read_text() for file in found})


def descriptions(path: Path) -> dict[str, str]:
    """Read the descriptions that `write_descriptions` kept, as text by file.

    Raises:
      RunDirectoryError: the manifest is missing or damaged.
    """
    try:
        found = read_manifest(path / MANIFEST)
    except RunDirectoryError as error:
        raise damage_error(str(error), path) from error
    for name in found:
        # A repair writes these files, so a manifest that somebody forged must not name any outside of the run.
        if not name.endswith("zarr.json") or {"", "..", "."} & set(name.split("/")) or "\\" in name:
            raise RunDirectoryError(
                f"{path / MANIFEST} names {name!r}, which is no file of a run. Do not trust this directory."
            )
    return found


def _read_attributes(group: zarr.Group, path: Path | None) -> dict[str, Any]:
    """Read the attributes of a run, and raise unless they are of this format and have the recorded hash."""
    where = path or "memory"
    attributes: dict[str, Any] = dict(group.attrs)
    if "format" not in attributes or "digest" not in attributes:
        raise RunDirectoryError(f"{where} is a Zarr group, but no jaxinfl run.")
    if isinstance(attributes["format"], int) and attributes["format"] != FORMAT:
        newer = attributes["format"] > FORMAT
        raise RunDirectoryError(
            f"{where} was made by jaxinfl {attributes.get('versions', {}).get('jaxinfl', '(unknown)')} in format "
            f"{attributes['format']}; this jaxinfl reads format {FORMAT}. "
            + ("Upgrade jaxinfl to read it." if newer else "Train it anew, in another run_dir.")
        )
    if attributes_digest(attributes) != attributes["digest"]:
        raise damage_error(f"the description of the run in {where} (zarr.json) is damaged or was edited.", path)
    return attributes
