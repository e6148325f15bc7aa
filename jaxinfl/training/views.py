"""Test-time augmentation: one model's logits averaged over several views of an image (Appendix B)."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

Views = Literal["one", "five", "ten"]
"""The image itself; five crops of it; these and their mirror images."""


def view_margin(height: int, width: int) -> int:
    """By how many pixels a corner crop is shifted: 1/16 of the shorter side, at least 1 (2 for 32 pixels)."""
    return max(1, min(height, width) // 16)


def view_windows(
    height: int, width: int, views: Views
) -> tuple[Int[np.ndarray, "views 2"], Bool[np.ndarray, " views"]]:
    """Top and left corner of each view in the image padded by `view_margin`, and whether it is mirrored.

    All crops, then all mirrored; of the crops top left, top right, bottom right, bottom left, center.
    """
    reach = 2 * view_margin(height, width)
    crops = np.array([(0, 0), (0, reach), (reach, reach), (reach, 0), (reach // 2, reach // 2)], np.int32)
    if views == "five":
        return crops, np.zeros(5, bool)
    return np.tile(crops, (2, 1)), np.arange(10) >= 5


def mean_logits(
    apply: Callable[[UInt8[Array, "batch h w c"]], Float[Array, "batch classes"]],
    images: UInt8[Array, "batch h w c"],
    views: Views,
) -> Float[Array, "batch classes"]:
    """The logits of `apply` averaged over the views of each image.

    The five crops have the size of the image and lie in the center and the corners of the image padded with black
    by `view_margin`: the networks take images of one size only, TTAch's smaller crops would have to be padded or
    resized, and these are crops that the augmentation of training shows a network too. The center is the image itself.

    Source: Appendix B of the paper; TTAch (https://github.com/qubvel/ttach), its `ten_crop_transform` merged by the mean.
    """
    if views == "one":
        return apply(images)
    height, width = images.shape[1:3]
    margin = view_margin(height, width)
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    corners, mirrored = view_windows(height, width, views)

    def add(total: Array, view: tuple[Array, Array]) -> tuple[Array, None]:
        (top, left), flip = view
        window = lax.dynamic_slice(padded, (0, top, left, 0), images.shape)
        return total + apply(jnp.where(flip, window[:, :, ::-1], window)), None

    # One after another: side by side they would take ten times the memory.
    shape = jax.eval_shape(apply, images)
    total, _ = lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (jnp.asarray(corners), jnp.asarray(mirrored)))
    return total / len(corners)


__all__ = ["Views", "mean_logits", "view_margin", "view_windows"]
