"""Sums over all positions of a channel, written by hand: for batch norm and for the gradients of biases."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxinfl.native.library import foreign_function


def channel_sums(x: Float[Array, "*positions c"]) -> Float[Array, " c"]:
    """Sum of each channel."""
    result: Array = foreign_function("channel_sums", jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32))(x)
    return result


def channel_moments(
    x: Float[Array, "batch *positions c"], counted: Bool[Array, " batch"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of each channel over the images that are counted."""
    vector = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    mean, variance = foreign_function("channel_moments", (vector, vector))(x, counted)
    return mean, variance


def channel_products(
    grad: Float[Array, "*positions c"], x: Float[Array, "*positions c"], mean: Float[Array, " c"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Sums of `grad` and of `grad * (x - mean)`."""
    vector = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    sums, products = foreign_function("channel_products", (vector, vector))(grad, x, mean)
    return sums, products


__all__ = ["channel_moments", "channel_products", "channel_sums"]
