"""Arrays by name in one .npz file, with a manifest beside it, which says what the arrays are, and a hash of the file.

The file appears under its name all at once, and its manifest after it: what has no manifest was not finished. NumPy writes and reads
it, without pickles; types that it does not know, bfloat16 for instance, lie in it as unsigned integers of their size.
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
"""Arrays with a row a model, by name: "params.head.kernel"."""


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
"""What NumPy and Python's reader of zip files raise on damaged ones."""


def manifest_of(path: Path) -> Path:
    """Where the manifest of a file lies."""
    return path.with_suffix(".json")


def save(path: Path, leaves: Leaves, about: Mapping[str, Any]) -> None:
    """Write the file and its manifest, with JSON values of the caller's, in place of anything that is there."""
    remove(path)
    arrays = {name: {"shape": list(values.shape), "dtype": str(values.dtype)} for name, values in leaves.items()}
    # By the position of their names in the alphabet: a zip file has its own ideas of what a name may hold.
    numbered: dict[str, Any] = {str(i): _plain(leaves[name]) for i, name in enumerate(sorted(leaves))}
    with replace_atomically(path) as draft:
        with draft.open("wb") as file:
            np.savez(file, **numbered)
        digest = file_digest(draft)
    write_manifest(manifest_of(path), {"about": dict(about), "arrays": arrays, "sha256": digest})


def _plain(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.isbuiltin == 1 else np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def remove(path: Path) -> None:
    """Remove a file and its manifest."""
    for file in (manifest_of(path), path):
        file.unlink(missing_ok=True)


def about(path: Path) -> dict[str, Any]:
    """The caller's JSON values.

    Raises:
      RunDirectoryError: the manifest is missing or damaged.
    """
    values: dict[str, Any] = read_manifest(manifest_of(path))["about"]
    return values


def restore(path: Path) -> Leaves:
    """The arrays.

    Raises:
      RunDirectoryError: the file or its seal is missing or damaged.
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
    """Files that are not what was written, and how: "damaged" or "missing"."""
    try:
        recorded: str = read_manifest(manifest_of(path))["sha256"]
    except RunDirectoryError:
        return {manifest_of(path): "damaged" if manifest_of(path).exists() else "missing"}
    if not path.is_file():
        return {path: "missing"}
    return {} if file_digest(path) == recorded else {path: "damaged"}


__all__ = ["Leaves", "about", "damage", "remove", "restore", "save", "manifest_of"]
