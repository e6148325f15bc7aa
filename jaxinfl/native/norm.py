"""The native kernels' sums over all positions of a channel, which batch norm and its gradient need."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxinfl.native.library import foreign_function


class Normalization(NamedTuple):
    """A normalization, `x * factor + offset` cut off at zero, where `factor` and `offset` come from moments of `x`."""

    x: Float[Array, "batch *positions c"]
    """The numbers that are normalized."""
    counted: Bool[Array, " batch"]
    """The images that count in the moments."""
    factor: Float[Array, " c"]
    """The factor of each channel."""
    offset: Float[Array, " c"]
    """The offset of each channel; infinite where nothing is cut off."""
    mean: Float[Array, " c"]
    """The mean of each channel over the counted images."""


def channel_moments(
    x: Float[Array, "batch *positions c"], counted: Bool[Array, " batch"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """The mean and biased variance of each channel over the counted images."""
    vector = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    mean, variance = foreign_function("channel_moments", (vector, vector))(x, counted)
    return mean, variance


def channel_products(
    grad: Float[Array, "batch *positions c"], norm: Normalization
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """The sum of `grad` over each channel where the result was not cut off, and the sum of that times `x - mean`."""
    vector = jax.ShapeDtypeStruct(grad.shape[-1:], jnp.float32)
    sums, products = foreign_function("channel_products", (vector, vector))(grad, *norm)
    return sums, products


__all__ = ["Normalization", "channel_moments", "channel_products"]
