"""Any pytree of arrays as nested dictionaries, which is how the variables of models are kept in files, and back again."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey
from jaxtyping import Array, PyTree

from jaxinfl.arguments import quote


class Shape(NamedTuple):
    """The structure of a pytree, without its arrays."""

    structure: Any
    """JAX's description of the tree."""
    paths: tuple[tuple[Any, ...], ...]
    """The keys that lead to each array, in the order of the tree."""

    def rebuild(self, nested: Any) -> PyTree[Array]:
        """Make the tree again from nested dictionaries."""
        return jax.tree.unflatten(self.structure, [_follow(nested, path) for path in self.paths])


def nest(tree: PyTree[Any], name: str, part: str) -> tuple[Any, Shape]:
    """Turn a tree into nested dictionaries of arrays, and the structure from which `rebuild` makes it again.

    Args:
      tree: a pytree of arrays, of any classes that JAX knows.
      name: the model's name, for errors.
      part: "params", whose arrays are floats because they are trained, or "stats", which may hold any numbers.

    Raises:
      TypeError: a leaf is no array, or cannot be trained.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = tuple(tuple(map(_plain, path)) for path, _ in flat)
    nested: Any = {}
    for path, (_, leaf) in zip(paths, flat, strict=True):
        array = _check_leaf(leaf, name, f"{part}{''.join(f'.{key}' for key in path)}", trained=part == "params")
        if not path:
            return array, Shape(structure, paths)
        branch = nested
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = array
    return nested, Shape(structure, paths)


def _plain(step: Any) -> Any:
    """The name or number of one step of a path."""
    if isinstance(step, (DictKey, FlattenedIndexKey)):
        return step.key
    if isinstance(step, SequenceKey):
        return step.idx
    return step.name if isinstance(step, GetAttrKey) else str(step)


def _follow(nested: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        nested = nested[key]
    return nested


def _check_leaf(leaf: Any, name: str, variable: str, *, trained: bool) -> Array:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        raise TypeError(
            f"model {name}: {variable} is {quote(leaf)}; variables are arrays. Make it one with jnp.asarray, or let the functions "
            "close over it."
        )
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"model {name}: {variable} is a random key, which can be kept neither in a checkpoint nor with the weights. Draw from "
            "the key that each step is given."
        )
    if trained and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"model {name}: {variable} has dtype {dtype}; what is trained is floats. Return "
            "jaxinfl.models.Variables(params, stats) with it in stats, or let the functions close over it."
        )
    return jnp.asarray(leaf)


__all__ = ["Shape", "nest"]
