"""Arrays by name as one Orbax checkpoint, with a seal beside it: what the arrays are, and a hash of each of its files.

The checkpoint appears under its name all at once (Orbax renames it when it is finished), and its seal after it: what has
no seal was not finished.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.seal import digests, files_below, read_seal, write_seal

Leaves = dict[str, Shaped[np.ndarray, "models ..."]]
"""Arrays with a row a model, by name: "params.head.kernel"."""


def seal_of(path: Path) -> Path:
    """Where the seal of a checkpoint lies."""
    return path.with_name(f"{path.name}.json")


def save(path: Path, leaves: Leaves, about: Mapping[str, Any]) -> None:
    """Write the checkpoint and its seal, with JSON values of the caller's, in place of anything that is there."""
    import orbax.checkpoint as ocp  # takes half a second, and few runs need it

    remove(path)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), leaves)
    arrays = {name: {"shape": list(values.shape), "dtype": str(values.dtype)} for name, values in leaves.items()}
    content = {"about": dict(about), "arrays": arrays, "files": digests(path, files_below(path))}
    write_seal(seal_of(path), content)


def remove(path: Path) -> None:
    """Remove a checkpoint, its seal, and what Orbax leaves of one that it could not finish."""
    seal_of(path).unlink(missing_ok=True)
    for stale in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def about(path: Path) -> dict[str, Any]:
    """The caller's JSON values.

    Raises:
      RunDirectoryError: the seal is missing or damaged.
    """
    values: dict[str, Any] = read_seal(seal_of(path))["about"]
    return values


def restore(path: Path) -> Leaves:
    """The arrays.

    Raises:
      RunDirectoryError: the checkpoint or its seal is missing or damaged.
    """
    import orbax.checkpoint as ocp

    arrays = read_seal(seal_of(path))["arrays"]
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is missing.")
    template = {name: np.empty(each["shape"], jnp.dtype(each["dtype"])) for name, each in arrays.items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(path.absolute(), template)
    except Exception as error:  # Orbax and TensorStore raise many types on damaged files
        raise RunDirectoryError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    return {name: np.asarray(values) for name, values in restored.items()}


def damage(path: Path) -> dict[Path, str]:
    """Files that are not what was written, and how: "damaged", "missing" or "foreign"."""
    try:
        recorded: dict[str, str] = read_seal(seal_of(path))["files"]
    except RunDirectoryError:
        return {seal_of(path): "damaged" if seal_of(path).exists() else "missing"}
    found = digests(path, files_below(path)) if path.is_dir() else {}
    wrong = {path / name: "foreign" for name in found.keys() - recorded.keys()}
    wrong |= {path / name: "missing" for name in recorded.keys() - found.keys()}
    return wrong | {path / name: "damaged" for name in recorded.keys() & found.keys() if recorded[name] != found[name]}


__all__ = ["Leaves", "about", "damage", "remove", "restore", "save", "seal_of"]
