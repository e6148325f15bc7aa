"""Batch norm's sums over all positions of a channel, and what its gradient needs, written by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxinfl.native.library import foreign_function


class Normalization(NamedTuple):
    """`x * factor + offset`, cut off at zero, whose `factor` and `offset` come from moments of `x`."""

    x: Float[Array, "batch *positions c"]
    counted: Bool[Array, " batch"]
    """The images in the moments."""
    factor: Float[Array, " c"]
    offset: Float[Array, " c"]
    """Infinite where nothing is cut off."""
    mean: Float[Array, " c"]


def channel_moments(
    x: Float[Array, "batch *positions c"], counted: Bool[Array, " batch"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of each channel over the images that are counted."""
    vector = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    mean, variance = foreign_function("channel_moments", (vector, vector))(x, counted)
    return mean, variance


def channel_products(
    grad: Float[Array, "batch *positions c"], norm: Normalization
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Sums of `grad` where the result was not cut off, and of that times `x - mean`."""
    vector = jax.ShapeDtypeStruct(grad.shape[-1:], jnp.float32)
    sums, products = foreign_function("channel_products", (vector, vector))(grad, *norm)
    return sums, products


__all__ = ["Normalization", "channel_moments", "channel_products"]
