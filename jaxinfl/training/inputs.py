"""What a network sees of an example: a view of an image, and numbers scaled by the statistics of the model's own subset.

Views are random in training, cut from the data set on the device, and fixed in evaluation. The random numbers are drawn for a
whole batch at once; the views are then taken in one part or several.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, UInt8

from jaxinfl.training.recipe import Recipe

CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
CROP_TRIES = 10
"""Constants of torchvision's RandomResizedCrop: share of the image's area, width over height, and number of draws."""


class DrawnViews(NamedTuple):
    """The random view of each image of a batch; None where nothing is drawn.

    It is a window `height` x `width` whose first pixel is (top, left) of the image, mirrored where `flipped`.
    """

    top: Int[Array, " batch"] | None = None
    left: Int[Array, " batch"] | None = None
    height: Int[Array, " batch"] | None = None
    width: Int[Array, " batch"] | None = None
    flipped: Bool[Array, " batch"] | None = None


def draw_views(key: PRNGKeyArray, batch: int, image_shape: tuple[int, int, int], recipe: Recipe) -> DrawnViews:
    """Draw views for `batch` images, independent of each other."""
    if not recipe.crop_padding and not recipe.flip and recipe.resized_crop is None:
        return DrawnViews()
    window_key, flip_key = jax.random.split(key)
    flipped = jax.random.bernoulli(flip_key, 0.5, (batch, 1))[:, 0] & recipe.flip
    if recipe.resized_crop is not None:
        return DrawnViews(*draw_resized_crops(window_key, batch, *image_shape[:2]), flipped)
    shifts = jax.random.randint(window_key, (2, batch, 1), -recipe.crop_padding, recipe.crop_padding + 1)
    return DrawnViews(shifts[0, :, 0], shifts[1, :, 0], flipped=flipped)


def draw_resized_crops(
    key: PRNGKeyArray, batch: int, height: int, width: int
) -> tuple[Int[Array, " batch"], Int[Array, " batch"], Int[Array, " batch"], Int[Array, " batch"]]:
    """Draw top, left, height and width of windows, distributed like those of torchvision's `RandomResizedCrop.get_params`.

    Of 10 windows of random area and ratio, all drawn at once, the first that fits is put anywhere in the image. Where none
    fits, the largest central window whose ratio is allowed is taken.
    """
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (batch, CROP_TRIES), jnp.float32, low, high))
    area = height * width * jax.random.uniform(area_key, (batch, CROP_TRIES), jnp.float32, *CROP_AREA)
    heights = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = jnp.argmax(fits, axis=1)[:, None]
    some = fits.any(axis=1)
    central_height, central_width = _central_window(height, width)
    tall = jnp.where(some, jnp.take_along_axis(heights, first, axis=1)[:, 0], central_height)
    wide = jnp.where(some, jnp.take_along_axis(widths, first, axis=1)[:, 0], central_width)
    top = jax.random.randint(top_key, (batch,), 0, height - tall + 1)
    left = jax.random.randint(left_key, (batch,), 0, width - wide + 1)
    top = jnp.where(some, top, (height - central_height) // 2)
    return top, jnp.where(some, left, (width - central_width) // 2), tall, wide


def _central_window(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest window of an allowed ratio."""
    if width / height < CROP_RATIO[0]:
        return round(width / CROP_RATIO[0]), width
    if width / height > CROP_RATIO[1]:
        return height, round(height * CROP_RATIO[1])
    return height, width


def take_views(
    images: UInt8[Array, "examples h w c"], index: Int[Array, " batch"], views: DrawnViews, recipe: Recipe
) -> UInt8[Array, "batch height width c"]:
    """Take the views of the images at `index`.

    A crop of an image padded by p is a window shifted by -p..p; a flip reads it backwards. Both are coordinates, so
    one gather that fills with black outside the image does it all, and no padded copy exists.
    """
    if views.top is None or views.left is None or views.flipped is None:
        return images.at[index].get(mode="promise_in_bounds")
    if recipe.resized_crop is not None:
        return resize_windows(images.at[index].get(mode="promise_in_bounds"), views, recipe.resized_crop)
    height, width = images.shape[1:3]
    rows = jnp.arange(height)[None, :] + views.top[:, None]
    columns = _columns(width, views.flipped[:, None]) + views.left[:, None]
    return images.at[index[:, None, None], rows[:, :, None], columns[:, None, :]].get(
        mode="fill", fill_value=0, wrap_negative_indices=False
    )


def resize_windows(
    images: UInt8[Array, "batch h w c"], views: DrawnViews, side: int
) -> UInt8[Array, "batch side side c"]:
    """Resize each image's window to `side` x `side` pixels, as Pillow's `crop` and `resize` do.

    The filter is bilinear with antialiasing: where the window is larger than the result, each result averages over as many
    pixels as it stands for. It is within one grey level of Pillow, which rounds between rows and columns.

    It is two products with a matrix of weights for each image, zero outside the window. So windows of all sizes have one
    shape, the antialiasing filter costs nothing more, and accelerators run it on their matrix units. An image of 256 pixels
    a side brought to 224 takes about 0.2 GFLOP; ResNet-18's step takes 11.
    """
    height, width = images.shape[1:3]
    window: Any = views
    rows = _filter(window.top, window.height, height, side)
    columns = _filter(window.left, window.width, width, side)
    columns = jnp.where(window.flipped[:, None, None], columns[:, ::-1], columns)
    pixels = images.astype(jnp.float32)
    # HIGHEST: rounded to TF32, weights would be off by up to an eighth of a grey level.
    pixels = jnp.einsum("bsh,bhwc->bswc", rows, pixels, precision=jax.lax.Precision.HIGHEST)
    pixels = jnp.einsum("btw,bswc->bstc", columns, pixels, precision=jax.lax.Precision.HIGHEST)
    return jnp.clip(jnp.round(pixels), 0, 255).astype(jnp.uint8)


def _filter(
    start: Int[Array, " batch"], length: Int[Array, " batch"], source: int, side: int
) -> Float[Array, "batch side source"]:
    """Weight of each of the `source` pixels of a line in each of `side` results, which cover the window from `start` on."""
    scale = length.astype(jnp.float32) / side
    center = (jnp.arange(side, dtype=jnp.float32) + 0.5)[None, :] * scale[:, None]
    position = jnp.arange(source, dtype=jnp.int32)[None, :] - start[:, None]
    inside = (position >= 0) & (position < length[:, None])
    distance = jnp.abs(position.astype(jnp.float32)[:, None, :] + 0.5 - center[:, :, None])
    weights = jnp.maximum(1 - distance / jnp.maximum(scale, 1)[:, None, None], 0)
    weights = jnp.where(inside[:, None, :], weights, 0)
    return weights / weights.sum(axis=-1, keepdims=True)


def central_view(images: UInt8[Array, "batch h w c"], recipe: Recipe) -> UInt8[Array, "batch height width c"]:
    """The view that is evaluated: the whole image, or the central square of the side that is trained on."""
    side = recipe.resized_crop
    if side is None:
        return images
    # Half a pixel is rounded to even, as in torchvision's CenterCrop.
    top, left = (round((length - side) / 2) for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def _columns(width: int, flipped: Bool[Array, "batch 1"]) -> Int[Array, "batch width"]:
    forward = jnp.arange(width)[None, :]
    return jnp.where(flipped, width - 1 - forward, forward)


Views = Literal["one", "five", "ten"]
"""Views to evaluate: the image itself, five crops of it, or these and their mirror images."""


def view_padding(height: int, width: int) -> int:
    """Pixels by which a corner crop is shifted: 1/16 of the shorter side, at least 1 (2 for 32 pixels)."""
    return max(1, min(height, width) // 16)


def view_windows(down: int, right: int, views: Views) -> tuple[Int[np.ndarray, "views 2"], Bool[np.ndarray, " views"]]:
    """Top and left corner of each view, and whether it is mirrored, in an image larger by `down` and `right` pixels.

    The crops come first: top left, top right, bottom right, bottom left and center. Their mirror images follow.
    """
    # Half a pixel is rounded to even, as in `central_view`.
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
    """Average the logits of `apply` over the views of each image.

    The five crops are the center and the corners, all of the size that the network takes. Where it takes the central part of
    a larger image (`Recipe.resized_crop`), corners are the image's own. Elsewhere they are corners of the image padded with
    black by `view_padding`, and the center is the image itself. TTAch's crops, which are smaller than the image, would have
    to be padded or resized for a network that takes one size. Training with `Recipe.crop_padding` shows the network crops
    of a padded image, too.

    Source: Appendix B of the paper; `ten_crop_transform` of TTAch (https://github.com/qubvel/ttach), merged by the mean.
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

    # Views are evaluated one after another: side by side they would take ten times the memory.
    shape = jax.eval_shape(apply, center)
    total, _ = lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (jnp.asarray(corners), jnp.asarray(mirrored)))
    return total / len(corners)


class DeviceData(NamedTuple):
    """The data set on a device, with the training examples first."""

    inputs: PyTree[Array]
    """Inputs of all examples: uint8 images [examples, h, w, c] of 0 to 255, or arrays [examples, ...]."""
    targets: Any
    """Target of each example, [examples, ...]."""
    pixel_mean: Float[Array, "train c"] | None = None
    """Mean of pixels / 255 of each training image; None where the inputs are no images."""
    pixel_square: Float[Array, "train c"] | None = None
    """Mean of (pixels / 255)^2 of each training image; None where the inputs are no images."""

    @property
    def num_examples(self) -> int:
        return len(self.targets)


class Scaling(NamedTuple):
    """What inputs are shifted and divided by, and the unit of a regression's outputs, from the examples of one subset alone."""

    center: PyTree[Array] = None
    """What is subtracted from the inputs: from pixels / 255 by channel, from floats by feature; None where nothing is."""
    scale: PyTree[Array] = None
    """What the difference is then divided by, of pixels, or multiplied by, of floats; in the same structure."""
    target_center: Float[Array, "..."] | None = None
    """Mean of each number of a target; None where the network computes its outputs in the unit of the targets."""
    target_scale: Float[Array, ""] | None = None
    """Root of the mean variance of these numbers; 1 where they are constant."""


def measure_scaling(recipe: Recipe, data: DeviceData, mask: Bool[Array, " train"]) -> Scaling:
    """Measure the statistics of one subset that the recipe asks for."""
    center, scale = None, None
    if data.pixel_mean is not None:
        center, scale = _pixel_statistics(recipe, data, mask)
    elif recipe.standardize:
        floats = jax.tree.map(lambda each: each if jnp.issubdtype(each.dtype, jnp.floating) else None, data.inputs)
        center = jax.tree.map(lambda each: _mean_of_subset(each, mask), floats)
        deviation = jax.tree.map(lambda each, mean: jnp.sqrt(_variance_of_subset(each, mean, mask)), floats, center)
        # A constant feature has nothing to scale.
        scale = jax.tree.map(lambda each: 1 / jnp.where(each > 0, each, 1.0), deviation)
    if not recipe.standardize_targets:
        return Scaling(center, scale)
    targets = data.targets.astype(jnp.float32)
    mean = _mean_of_subset(targets, mask)
    deviation = jnp.sqrt(jnp.mean(_variance_of_subset(targets, mean, mask)))
    return Scaling(center, scale, mean, jnp.where(deviation > 0, deviation, 1.0))


def _mean_of_subset(values: Array, mask: Bool[Array, " train"]) -> Array:
    # Multiply by the share: XLA divides differently on several devices (see `_share` in `models/layers/norm.py`).
    share = 1 / jnp.maximum(jnp.sum(mask), 1).astype(jnp.float32)
    included = mask.reshape(-1, *[1] * (values.ndim - 1))
    return jnp.sum(jnp.where(included, values[: mask.shape[0]], 0) * share, axis=0)


def _variance_of_subset(values: Array, mean: Array, mask: Bool[Array, " train"]) -> Array:
    # Around the mean: the difference of two large squares would lose every digit of a small deviation.
    return _mean_of_subset(jnp.square(values - mean[None]), mask)


def _pixel_statistics(
    recipe: Recipe, data: DeviceData, mask: Bool[Array, " train"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    channels = data.inputs.shape[-1]
    if recipe.normalization == "none":
        return jnp.zeros(channels, jnp.float32), jnp.ones(channels, jnp.float32)
    if recipe.normalization != "subset":
        means, deviations = jnp.asarray(recipe.normalization, jnp.float32).T
        return means, deviations
    assert data.pixel_mean is not None and data.pixel_square is not None
    mean, square = _mean_of_subset(data.pixel_mean, mask), _mean_of_subset(data.pixel_square, mask)
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    # A constant channel has nothing to scale; 1/255 is the smallest step between two pixels.
    return mean, jnp.maximum(deviation, 1 / 255)


def scale_inputs(recipe: Recipe, scaling: Scaling, inputs: PyTree[Array]) -> PyTree[Array]:
    """The inputs as the model takes them: images and floats in the compute dtype, anything else as it is."""
    dtype = recipe.compute_dtype

    def scale_one(values: Array, center: Array | None, scale: Array | None) -> Array:
        if values.dtype == jnp.uint8 and center is not None and scale is not None:
            pixels = values.astype(jnp.float32) / 255
            return ((pixels - center[None, None, None]) / scale[None, None, None]).astype(dtype)
        if not jnp.issubdtype(values.dtype, jnp.floating):
            return values
        return (values if center is None or scale is None else (values - center[None]) * scale[None]).astype(dtype)

    if scaling.center is None:
        return jax.tree.map(lambda values: scale_one(values, None, None), inputs)
    return jax.tree.map(scale_one, inputs, scaling.center, scaling.scale, is_leaf=lambda leaf: leaf is None)


def scale_outputs(scaling: Scaling, outputs: PyTree[Array]) -> Any:
    """The outputs of a network, of one head or two, in the unit of the targets."""
    center, scale = scaling.target_center, scaling.target_scale
    if center is None or scale is None:
        return outputs

    def convert(numbers: Array) -> Array:
        # One number an example may come with an axis of its own, or without.
        return numbers.astype(jnp.float32) * scale + center.reshape(1, *numbers.shape[1:])

    return jax.tree.map(convert, outputs)


def scale_loss(scaling: Scaling, share: Float[Array, ""]) -> Float[Array, ""]:
    """The weight of a loss in a step, of which `share` is what it is in the unit of the network."""
    if scaling.target_scale is None:
        return share
    # Half of the squared error in deviations: its gradient is the error itself, which suits the usual learning rates.
    inverse = 1 / scaling.target_scale
    return share * (0.5 * inverse * inverse)


__all__ = [
    "DeviceData",
    "DrawnViews",
    "Scaling",
    "Views",
    "central_view",
    "draw_resized_crops",
    "draw_views",
    "mean_logits",
    "measure_scaling",
    "scale_inputs",
    "scale_loss",
    "scale_outputs",
    "take_views",
    "view_padding",
    "view_windows",
]
