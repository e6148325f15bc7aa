"""Arrays by name in one .npz file, with a manifest beside it that lists the arrays and holds a hash of the file.

The file appears under its name all at once, and its manifest after it: a file without a manifest was not finished. NumPy
writes and reads it, without pickles. Types that NumPy does not know, bfloat16 for instance, are stored as unsigned
integers of their size.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxinfl.files import replace_atomically
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.manifest import file_digest, read_manifest, write_manifest

Leaves = dict[str, Shaped[np.ndarray, "models ..."]]
"""Arrays with one row for each model, by name, such as "params.head.kernel"."""


_READ_ERRORS = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that NumPy and Python's reader of zip files raise on damaged files."""


def manifest_of(path: Path) -> Path:
    """Path of the manifest of a file."""
    return path.with_suffix(".json")


def save(path: Path, leaves: Leaves, about: Mapping[str, Any]) -> None:
    """Write the file and its manifest, which holds the caller's JSON values, in place of anything that is there."""
    remove(path)
    arrays = {name: {"shape": list(values.shape), "dtype": str(values.dtype)} for name, values in leaves.items()}
    # Arrays are stored by the position of their names in the alphabet: a zip file does not take every name.
    numbered: dict[str, Any] = {str(i): _as_builtin(leaves[name]) for i, name in enumerate(sorted(leaves))}
    with replace_atomically(path) as draft:
        with draft.open("wb") as file:
            np.savez(file, **numbered)
        digest = file_digest(draft)
    write_manifest(manifest_of(path), {"about": dict(about), "arrays": arrays, "sha256": digest})


def _as_builtin(values: np.ndarray) -> np.ndarray:
    """View an array in a type that NumPy knows."""
    return values if values.dtype.isbuiltin == 1 else np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def remove(path: Path) -> None:
    """Remove a file and its manifest."""
    for file in (manifest_of(path), path):
        file.unlink(missing_ok=True)


def about(path: Path) -> dict[str, Any]:
    """Read the caller's JSON values.

    Raises:
      RunDirectoryError: the manifest is missing or damaged.
    """
    values: dict[str, Any] = read_manifest(manifest_of(path))["about"]
    return values


def restore(path: Path) -> Leaves:
    """Read the arrays.

    Raises:
      RunDirectoryError: the file or its manifest is missing or damaged.
    """
    arrays: dict[str, Any] = read_manifest(manifest_of(path))["arrays"]
    if not path.is_file():
        raise RunDirectoryError(f"{path} is missing.")
    found: Leaves = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for i, name in enumerate(sorted(arrays)):
                values, dtype, shape = file[str(i)], arrays[name]["dtype"], arrays[name]["shape"]
                found[name] = values if str(values.dtype) == dtype else values.view(jnp.dtype(dtype))
                if list(found[name].shape) != shape:
                    raise ValueError(f"{name} has shape {found[name].shape} in place of {shape}")
    except _READ_ERRORS as error:
        raise RunDirectoryError(f"{path} is damaged: {error}.") from error
    return found


def damage(path: Path) -> dict[Path, str]:
    """Find which of the file and its manifest are not what was written, each "damaged" or "missing"."""
    try:
        recorded: str = read_manifest(manifest_of(path))["sha256"]
    except RunDirectoryError:
        return {manifest_of(path): "damaged" if manifest_of(path).exists() else "missing"}
    if not path.is_file():
        return {path: "missing"}
    return {} if file_digest(path) == recorded else {path: "damaged"}


__all__ = ["Leaves", "about", "damage", "remove", "restore", "save", "manifest_of"]
