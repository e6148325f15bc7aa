"""Batches cut from the data set on the device: gather, random crop and flip in one indexing operation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, UInt8

from jaxinfl.training.recipe import Recipe


def take_batch(
    images: UInt8[Array, "examples h w c"], index: Int[Array, " batch"], key: PRNGKeyArray, recipe: Recipe
) -> UInt8[Array, "batch h w c"]:
    """The images at `index`, augmented as the recipe says.

    A crop of an image padded by p is a window shifted by -p..p; a flip reads it backwards. Both are coordinates, so
    one gather that fills with black outside the image does it all, and no padded copy exists.
    """
    if not recipe.crop_padding and not recipe.flip:
        return images.at[index].get(mode="promise_in_bounds")
    batch, (height, width) = index.shape[0], images.shape[1:3]
    shift_key, flip_key = jax.random.split(key)
    shifts = jax.random.randint(shift_key, (2, batch, 1), -recipe.crop_padding, recipe.crop_padding + 1)
    flipped = jax.random.bernoulli(flip_key, 0.5, (batch, 1)) & recipe.flip
    rows = jnp.arange(height)[None, :] + shifts[0]
    columns = _columns(width, flipped) + shifts[1]
    return images.at[index[:, None, None], rows[:, :, None], columns[:, None, :]].get(
        mode="fill", fill_value=0, wrap_negative_indices=False
    )


def _columns(width: int, flipped: Bool[Array, "batch 1"]) -> Int[Array, "batch width"]:
    forward = jnp.arange(width)[None, :]
    return jnp.where(flipped, width - 1 - forward, forward)
