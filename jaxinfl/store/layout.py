"""The layout of a run in Zarr: its arrays, their chunks and codecs, and the checksums that show damage."""

import hashlib
import json
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int, Shaped, UInt32
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec

COPIES = "copies"
"""Name of the group with a second copy of the inputs: subsets and keys cannot be recomputed from the rest of a run."""
OVERRIDE = "override_"
"""Prefix of the inputs that hold the models' own numbers in place of the recipe's."""
LOST = 255
"""Status that Zarr reads for a model whose chunk is not there: the fill value of unsigned arrays, their largest number."""


@dataclass(frozen=True)
class RowArray:
    """An array of a run with one row for each model."""

    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: str
    """Name of the NumPy dtype."""
    axes: tuple[str, ...]
    """Names of the row's dimensions, for xarray."""


@dataclass(frozen=True)
class Layout:
    """Everything that a run directory holds before the first model is trained."""

    attributes: Mapping[str, Any]
    """JSON values that describe the run."""
    inputs: Mapping[str, tuple[np.ndarray, tuple[str, ...]]]
    """Arrays that are known before training, by name, each with the names of its dimensions."""
    row_arrays: Mapping[str, RowArray]
    """Arrays that training fills, by name, with one row for each model."""
    num_models: int
    """Number of models of the run."""
    shard_size: int
    """Number of models that are written together, which are the rows of a chunk."""


def target_axes(targets: np.ndarray) -> tuple[str, ...]:
    """Names of the axes of one target."""
    return tuple(f"target_{axis}" for axis in range(targets.ndim - 1))


def lay_out(store: Store, layout: Layout, format_version: int) -> zarr.Group:
    """Make the group of a run, with its inputs written and all of its models absent."""
    record = dict(layout.attributes) | {
        "format": format_version,
        "num_models": layout.num_models,
        "shard_size": layout.shard_size,
        "inputs": {name: digest(values) for name, (values, _) in layout.inputs.items()},
        "row_arrays": {name: asdict(spec) for name, spec in layout.row_arrays.items()},
    }
    record["digest"] = attributes_digest(record)
    group = zarr.create_group(store, attributes=record)
    copies = group.create_group(COPIES)
    for name, (values, axes) in layout.inputs.items():
        per_model = axes[0] == "model"
        for place in (group, copies):
            _create(place, name, values.shape, values.dtype, axes, layout.shard_size if per_model else None)[...] = (
                values
            )
    rows = dict(layout.row_arrays)
    rows["row_checksum"] = RowArray((len(layout.row_arrays),), "uint32", ("array",))
    for name, spec in rows.items():
        shape = (layout.num_models, *spec.shape)
        _create(group, name, shape, np.dtype(spec.dtype), ("model", *spec.axes), layout.shard_size)
    # Status is written from the start, so that a missing chunk is a lost one and not one of models to be trained.
    _create(group, "status", (layout.num_models,), np.dtype("uint8"), ("model",), layout.shard_size)[...] = 0
    with warnings.catch_warnings():
        # Consolidated metadata open everything with one read, as xarray expects; Zarr warns that version 3 does not
        # specify them yet.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part", category=UserWarning)
        # Zarr warns of two files of ours: the lock of the writer, and the mark of a run that is being laid out.
        warnings.filterwarnings("ignore", message="Object at .* is not recognized", category=UserWarning)
        return zarr.consolidate_metadata(store)


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: tuple[str, ...],
    chunk_rows: int | None,
) -> zarr.Array:
    chunks = shape if chunk_rows is None else (min(chunk_rows, shape[0]), *shape[1:])
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        dimension_names=axes,
        # The checksum comes last: it covers the bytes as they lie on disk.
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value=_lost_value(dtype),
        # Without this a chunk of fill values is not written, and nobody could tell it from a lost one.
        config={"write_empty_chunks": True},
    )


def _lost_value(dtype: np.dtype[Any]) -> bool | int | float:
    """The value as which a lost chunk is read: one that nothing writes, where the type has one."""
    if dtype.kind == "b":
        return False
    if dtype.kind == "f":
        return float("nan")
    return int(np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max)


def row_checksums(
    values: Shaped[np.ndarray, "rows ..."], run: str, name: str, models: Int[np.ndarray, " rows"]
) -> UInt32[np.ndarray, " rows"]:
    """CRC-32 of each row, over the digest of the run, the name of the array, the number of the model, and the row's bytes.

    So a row that belongs to another run, array or model is not taken for this one.
    """
    start = zlib.crc32(f"{run} {name} ".encode())
    contiguous = np.ascontiguousarray(values)
    numbered = zip(models, contiguous, strict=True)
    return np.array([zlib.crc32(row.tobytes(), zlib.crc32(b"%d" % model, start)) for model, row in numbered], np.uint32)


def digest(values: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and bytes."""
    content = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    content.update(np.ascontiguousarray(values).tobytes())
    return content.hexdigest()


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values without the key "digest"; the order of the keys does not matter."""
    content = {name: value for name, value in attributes.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
