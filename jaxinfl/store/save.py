"""Models of a run written as a run directory of their own."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxinfl.files import replace_atomically
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.failures import WriteFailed, retell, write_failures
from jaxinfl.store.layout import OVERRIDE, Layout, RowArray, digest
from jaxinfl.store.parts import Rows
from jaxinfl.store.run import DIVERGED, RunStore
from jaxinfl.store.weights import CHECKSUM

_OF_THE_LAYOUT = ("format", "num_models", "shard_size", "inputs", "row_arrays", "digest", "part", "own_models", "rows")
"""Attributes that say how a run lies in its directory, and nothing of its models."""


def save_models(source: Rows, models: Int[np.ndarray, " models"], path: Path) -> None:
    """Write finished models of a run, with their weights where they are kept, as a complete run directory.

    It appears under its name all at once.

    Args:
      source: the run.
      models: numbers in the run of the models, at least one.
      path: a directory that does not exist.

    Raises:
      RunDirectoryError: something is there already; what is read of the run is damaged.
      WriteFailed: the file system does not take it; nothing is left of it.
    """
    if path.exists() or path.is_symlink():
        raise RunDirectoryError(f"{path} exists already; save makes a new directory. Use another path.")
    layout = _layout(source, models)
    try:
        with write_failures(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as draft:
                _write(RunStore.create(draft, layout), source, models)
    except WriteFailed as error:
        raise retell(error, path, "and save again: nothing is left of it") from error


def _write(target: RunStore, source: Rows, models: Int[np.ndarray, " models"]) -> None:
    """Copy finished models of a run into a new one, a shard at a time."""
    status = source.status()[models]
    for shard in target.shards():
        wanted = models[shard]
        rows = {name: source.read_rows(name, wanted) for name in target.row_arrays if name != CHECKSUM}
        if CHECKSUM in target.row_arrays:
            rows[CHECKSUM] = target.write_weights(shard, source.read_weights(wanted))
        target.write(shard, rows, status[shard] == DIVERGED)


def _layout(source: Rows, models: Int[np.ndarray, " models"]) -> Layout:
    about = source.attributes
    inputs = {}
    for name in about["inputs"]:
        values, axes = source.read_input(name), source.input_axes(name)
        inputs[name] = (values[models] if axes[0] == "model" else values, axes)
    attributes = {name: value for name, value in about.items() if name not in _OF_THE_LAYOUT}
    whole = np.array_equal(models, np.arange(source.num_models))
    attributes["identity"] = _identity(
        about["identity"], {name: values for name, (values, _) in inputs.items()}, None if whole else digest(models)
    )
    return Layout(
        attributes=attributes,
        inputs=inputs,
        row_arrays={
            name: RowArray(tuple(spec["shape"]), spec["dtype"], tuple(spec["axes"]))
            for name, spec in about["row_arrays"].items()
        },
        num_models=len(models),
        shard_size=int(about["shard_size"]),
    )


def _identity(recorded: Mapping[str, Any], inputs: Mapping[str, np.ndarray], rows: str | None) -> dict[str, Any]:
    """The identity of the job of some models of a run; `rows` is the digest of their numbers, None for all of them."""
    identity = dict(recorded) | {"masks": digest(inputs["masks"])}
    if "keys" in recorded:
        identity["keys"] = digest(inputs["key_data"])
    if "overrides" in recorded:
        identity["overrides"] = {name: digest(inputs[OVERRIDE + name]) for name in recorded["overrides"]}
    if rows is not None:
        # Digests of arrays that are not at hand: another selection has others.
        if "initial" in recorded:
            identity["initial"] = _digest_again(recorded["initial"], rows)
        if "scores" in recorded:
            identity["scores"] = {name: _digest_again(value, rows) for name, value in recorded["scores"].items()}
    return identity


def _digest_again(value: str, rows: str) -> str:
    return hashlib.sha256(f"{value} {rows}".encode()).hexdigest()


__all__ = ["save_models"]
