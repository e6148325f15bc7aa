"""Attention within sequences by the native kernels, with its gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinfl.native.library import foreign_function


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def attention(
    packed: Float[Array, "places width3"], length: int, heads: int, causal: bool
) -> Float[Array, "places width"]:
    """Mix the values of each place's sequence, for queries, keys and values side by side; see `models.layers.attend`."""
    return _forward(packed, length, heads, causal)[0]


def _forward(packed: Array, length: int, heads: int, causal: bool) -> tuple[Array, tuple[Array, Array, Array]]:
    places, width = packed.shape
    row = jax.ShapeDtypeStruct((places // length, heads, length), jnp.float32)
    shapes = (jax.ShapeDtypeStruct((places, width // 3), jnp.float32), row, row)
    out, largest, inverse = foreign_function("attention", shapes)(packed, causal=_pair(causal))
    return out, (packed, largest, inverse)


def _backward(length: int, heads: int, causal: bool, saved: tuple[Array, Array, Array], grad: Array) -> tuple[Array]:
    shape = jax.ShapeDtypeStruct(saved[0].shape, jnp.float32)
    result: Array = foreign_function("attention_grad", shape)(*saved, grad, causal=_pair(causal))
    return (result,)


def _pair(causal: bool) -> np.ndarray:
    # Attributes of a call are pairs of whole numbers (call.h).
    return np.array([causal, 0], np.int64)


attention.defvjp(_forward, _backward)

__all__ = ["attention"]
