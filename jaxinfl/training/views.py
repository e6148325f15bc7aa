"""Test-time augmentation: one model's logits averaged over several views of an image (Appendix B)."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxinfl.training.augment import central_view
from jaxinfl.training.recipe import Recipe

Views = Literal["one", "five", "ten"]
"""The image as it is evaluated; five crops of it; these and their mirror images."""


def view_padding(height: int, width: int) -> int:
    """Pixels of black on each side of an image for its corner crops: 1/16 of the shorter side, at least 1 (2 for 32 pixels)."""
    return max(1, min(height, width) // 16)


def view_windows(down: int, right: int, views: Views) -> tuple[Int[np.ndarray, "views 2"], Bool[np.ndarray, " views"]]:
    """Top and left corner of each view, and whether it is mirrored, in an image larger by `down` and `right` pixels.

    All crops, then all mirrored; of the crops top left, top right, bottom right, bottom left, center.
    """
    # Rounded half to even, as `central_view`.
    center = (round(down / 2), round(right / 2))
    crops = np.array([(0, 0), (0, right), (down, right), (down, 0), center], np.int32)
    if views == "five":
        return crops, np.zeros(5, bool)
    return np.tile(crops, (2, 1)), np.arange(10) >= 5


def mean_logits(
    apply: Callable[[UInt8[Array, "batch height width c"]], Float[Array, "batch classes"]],
    images: UInt8[Array, "batch h w c"],
    recipe: Recipe,
    views: Views,
) -> Float[Array, "batch classes"]:
    """The logits of `apply` averaged over the views of each image.

    Five crops, the center and the corners, all of the size that the network takes. Where it takes the central part of a
    larger image (`Recipe.resized_crop`), corners are the image's own. Elsewhere they are those of the image padded
    with black by `view_padding` pixels, and the center is the image itself: TTAch's crops, smaller than the image, would have to be
    padded or resized for a network that takes one size, and crops of a padded image are what training with
    `Recipe.crop_padding` shows it too.

    Source: Appendix B of the paper; TTAch (https://github.com/qubvel/ttach), its `ten_crop_transform` merged by the mean.
    """
    center = central_view(images, recipe)
    if views == "one":
        return apply(center)
    source = images
    if recipe.resized_crop is None:
        padding = view_padding(images.shape[1], images.shape[2])
        source = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    down, right = (source.shape[axis] - center.shape[axis] for axis in (1, 2))
    corners, mirrored = view_windows(down, right, views)

    def add(total: Array, view: tuple[Array, Array]) -> tuple[Array, None]:
        (top, left), flip = view
        window = lax.dynamic_slice(source, (0, top, left, 0), center.shape)
        return total + apply(jnp.where(flip, window[:, :, ::-1], window)), None

    # One after another: side by side they would take ten times the memory.
    shape = jax.eval_shape(apply, center)
    total, _ = lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (jnp.asarray(corners), jnp.asarray(mirrored)))
    return total / len(corners)


__all__ = ["Views", "mean_logits", "view_padding", "view_windows"]
