"""Attention of several heads, where every place of a sequence looks at the other places of the same example."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxinfl import native
from jaxinfl.models.layers.context import uses_native


def attend(
    packed: Float[Array, "places width3"], *, length: int, heads: int, causal: bool
) -> Float[Array, "places width"]:
    """Mix the values of the places of each sequence, by the softmax of the products of queries and keys.

    Args:
      packed: queries, keys and values side by side, one row for each place of each sequence, one sequence after another.
      length: places of a sequence.
      heads: number of parts of equal width that attend by themselves.
      causal: whether a place looks at itself and those before it only.

    Source: Vaswani et al. (2017), "Attention is all you need", section 3.2.
    """
    if uses_native(packed):
        return native.attention(packed, length, heads, causal)
    width = packed.shape[1] // 3
    size = width // heads
    split = packed.reshape(-1, length, 3, heads, size)
    # The axes of the batched products come first: XLA's CPU code copies anything else for each product.
    queries, keys, values = (split[:, :, part].transpose(0, 2, 1, 3) for part in range(3))
    scores = jnp.einsum("bhqd,bhkd->bhqk", queries * size**-0.5, keys)
    if causal:
        seen = np.tril(np.ones((length, length), bool))
        scores = jnp.where(seen[None, None], scores, -jnp.inf)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", _softmax(scores), values)
    return mixed.transpose(0, 2, 1, 3).reshape(-1, width)


def _softmax(scores: Float[Array, "*rows places"]) -> Float[Array, "*rows places"]:
    """Softmax over the last axis, in float32 whatever the dtype."""
    values = scores.astype(jnp.float32)
    largest = lax.stop_gradient(jnp.max(values, axis=-1, keepdims=True))
    powers = jnp.exp(values - largest)
    # Multiply by the reciprocal: XLA divides differently on several devices (see `_share` in `norm.py`).
    return (powers * (1 / jnp.sum(powers, axis=-1, keepdims=True))).astype(scores.dtype)


__all__ = ["attend"]
