"""Final weights of the models of a run, in one file for each shard; each row is checked against a checksum.

A file appears under its name all at once, and before its shard, so a complete shard has its weights. Their checksums are
rows of the run like any other, so damaged weights and weights of other models are found when they are read.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree, UInt32

from jaxinfl.models import Variables
from jaxinfl.store import array_file
from jaxinfl.store.array_file import Leaves
from jaxinfl.store.errors import RunDirectoryError, damage_error, format_models
from jaxinfl.store.layout import digest

CHECKSUM = "weights_checksum"
"""Name of the row array with a checksum of each model's weights."""


def describe(variables: Variables) -> list[dict[str, Any]]:
    """Describe the structure of one model's variables by JSON values, from which `unflatten` makes it again.

    Raises:
      TypeError: `variables` are other than nested dictionaries of arrays with names, numbers or tuples of these as keys.
    """
    found = []
    for (part, *inner), leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
        if not all(isinstance(step, jax.tree_util.DictKey) and _is_key(step.key) for step in inner):
            raise TypeError(
                f"the model's variables hold {jax.tree_util.keystr((part, *inner))}, but weights are kept of nested dictionaries "
                "whose keys are names, numbers or tuples of these. Rename the key in the module, or leave out keep_weights."
            )
        found.append(
            {"path": [part.name, *(step.key for step in inner)], "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        )
    return found


def _is_key(key: Any) -> bool:
    """Whether JSON can hold a key; tuples, which `nnx.SpectralNorm` has, become lists."""
    return isinstance(key, (str, int)) or (isinstance(key, tuple) and all(map(_is_key, key)))


def flatten(variables: PyTree) -> Leaves:
    """Turn variables into a dictionary of arrays by name."""
    flat = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in flat}


def weights_digest(variables: Variables) -> str:
    """SHA-256 of the weights of many models, over the names and values of the arrays."""
    content = hashlib.sha256()
    for name, values in sorted(flatten(variables).items()):
        content.update(f"{name} {digest(values)}\n".encode())
    return content.hexdigest()


def empty_leaves(description: Sequence[Mapping[str, Any]], models: int) -> Leaves:
    """Allocate the arrays of so many models, with arbitrary values."""
    return {
        _name(_keys(leaf["path"])): np.empty((models, *leaf["shape"]), jnp.dtype(leaf["dtype"])) for leaf in description
    }


def unflatten(leaves: Mapping[str, np.ndarray], description: Sequence[Mapping[str, Any]]) -> Variables:
    """Make the variables from which `flatten` made `leaves`."""
    trees: dict[str, PyTree] = {part: {} for part in Variables._fields}
    for leaf in description:
        path = _keys(leaf["path"])
        branch = trees
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaves[_name(path)]
    return Variables(**trees)


def _keys(path: Sequence[Any]) -> tuple[Any, ...]:
    """The keys of a path that came from JSON, with lists turned back into tuples."""
    return tuple(_keys(key) if isinstance(key, (list, tuple)) else key for key in path)


def _name(path: Sequence[Any]) -> str:
    return ".".join(map(str, path))


def _checksums(leaves: Leaves) -> UInt32[np.ndarray, " models"]:
    """CRC-32 of each model's arrays, taken one after another in the order of their names."""
    names = sorted(leaves)
    result = np.zeros(len(leaves[names[0]]), np.uint32)
    for name in names:
        for row, values in enumerate(np.ascontiguousarray(leaves[name])):
            result[row] = zlib.crc32(values.tobytes(), int(result[row]))
    return result


class WeightFiles:
    """The weights of one run by shard, in a folder, or in memory where the folder is None."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._kept: dict[int, Leaves] = {}

    def write(self, first: int, leaves: Leaves) -> UInt32[np.ndarray, " models"]:
        """Write the weights of the shard whose first model is `first`, over any that are there; return their checksums."""
        if self._folder is None:
            self._kept[first] = leaves
        else:
            self._folder.mkdir(exist_ok=True)
            array_file.save(self.path(first), leaves, {})
        return _checksums(leaves)

    def remove(self, first: int) -> None:
        """Remove the weights of the shard whose first model is `first`."""
        self._kept.pop(first, None)
        if self._folder is not None:
            array_file.remove(self.path(first))

    def read(self, shard: slice, models: Int[np.ndarray, " rows"], recorded: UInt32[np.ndarray, " rows"]) -> Leaves:
        """Read the weights of some models of one shard, and check them against their recorded checksums.

        Raises:
          RunDirectoryError: the weights are missing, cannot be read, or are not those that were written.
        """
        try:
            whole = self._kept[shard.start] if self._folder is None else array_file.restore(self.path(shard.start))
        except RunDirectoryError as error:
            raise damage_error(
                f"the weights of models {shard.start} to {shard.stop - 1} cannot be read: {error}", self._run
            ) from error
        leaves = {name: values[models - shard.start] for name, values in whole.items()}
        damaged = models[_checksums(leaves) != recorded]
        if damaged.size:
            raise damage_error(
                f"the weights in {self.path(shard.start)} are damaged for models {format_models(damaged)}.", self._run
            )
        return leaves

    @property
    def _run(self) -> Path | None:
        return None if self._folder is None else self._folder.parent

    def path(self, first: int) -> Path:
        """Path of the file of the shard whose first model is `first`."""
        return (self._folder or Path()) / f"{first:08d}.npz"


__all__ = ["CHECKSUM", "Leaves", "WeightFiles", "describe", "empty_leaves", "flatten", "unflatten", "weights_digest"]
