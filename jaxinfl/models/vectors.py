"""Trees of arrays as a few long vectors, so that what is updated alike is updated by one kernel.

A network of 20 layers has 60 parameters, most of them a few numbers for each channel. On a graphics card the update of each is a
kernel whose launch takes longer than its work.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

Vectors = dict[str, Array]
"""One vector for each dtype, by its name."""

_STORED, _KERNEL = (3, 0, 1, 2), (1, 2, 3, 0)
"""Axes of a convolution's kernel (rows, columns, inputs, outputs) in the order in which cuDNN stores them, and back again.

In another order each kernel and each gradient would be transposed by a kernel of its own: 38 a step for 19 layers."""


@dataclass(frozen=True)
class Layout:
    """The places of a tree's arrays in vectors."""

    shapes: tuple[jax.ShapeDtypeStruct, ...]
    """Shape and dtype of each array."""
    structure: Any
    """Structure of the tree."""

    @classmethod
    def of(cls, tree: PyTree[Array]) -> "Layout":
        """Lay out the arrays of a tree."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves), structure)

    def join(self, tree: PyTree[Array]) -> Vectors:
        """Join a tree of this structure and these shapes to vectors."""
        parts: dict[str, list[Array]] = {}
        for leaf in self.structure.flatten_up_to(tree):
            stored = jnp.transpose(leaf, _STORED) if leaf.ndim == 4 else leaf
            parts.setdefault(leaf.dtype.name, []).append(stored.reshape(-1))
        return {name: jnp.concatenate(vectors) for name, vectors in parts.items()}

    def split(self, vectors: Vectors) -> PyTree[Array]:
        """Split vectors to the tree that was joined."""
        begun = dict.fromkeys(vectors, 0)
        leaves = []
        for each in self.shapes:
            first, size = begun[each.dtype.name], math.prod(each.shape)
            begun[each.dtype.name] += size
            part = lax.slice(vectors[each.dtype.name], (first,), (first + size,))
            if len(each.shape) == 4:
                part = jnp.transpose(part.reshape([each.shape[axis] for axis in _STORED]), _KERNEL)
            leaves.append(part.reshape(each.shape))
        return jax.tree.unflatten(self.structure, leaves)


def is_joined(part: Any) -> bool:
    """Whether a part of an optimizer's state is joined; all else in such a state is a tuple or an array."""
    return isinstance(part, dict)


__all__ = ["Layout", "Vectors", "is_joined"]
