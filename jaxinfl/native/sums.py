"""Sums over all positions of a channel, written by hand: the gradients of biases."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinfl.native.library import foreign_function


def channel_sums(x: Float[Array, "*positions c"]) -> Float[Array, " c"]:
    """Sum of each channel."""
    result: Array = foreign_function("channel_sums", jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32))(x)
    return result


__all__ = ["channel_sums"]
