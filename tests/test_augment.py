"""Crops and flips against a plain NumPy version, and their distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxinfl import Recipe
from jaxinfl.training.inputs import (
    DrawnViews,
    central_view,
    draw_resized_crops,
    draw_views,
    resize_windows,
    take_views,
)
from tests import reference
from tests.compile_whole import compile_whole

IMAGES = np.random.default_rng(0).integers(1, 256, (7, 5, 6, 2)).astype(np.uint8)

resize = compile_whole(resize_windows, static_argnums=2)
draw_crops = compile_whole(draw_resized_crops, static_argnums=(1, 2, 3))
draw = compile_whole(draw_views, static_argnums=(1, 2, 3))
take = compile_whole(take_views, static_argnums=3)


def take_batch(images, index, key, recipe):
    """Take the views of a batch as a training step does."""
    return take(images, index, draw(key, len(index), images.shape[1:], recipe), recipe)


def every_view(image, padding, flip):
    """All crops of the padded image, plain and mirrored, as bytes -> (row shift, column shift, mirrored)."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    views = {}
    for y in range(2 * padding + 1):
        for x in range(2 * padding + 1):
            crop = padded[y : y + height, x : x + width]
            for mirrored in (False, True) if flip else (False,):
                # A mirrored image padded and cropped is a crop mirrored: the same set of views.
                views[(crop[:, ::-1] if mirrored else crop).tobytes()] = (y, x, mirrored)
    return views


def test_no_augmentation_is_a_gather():
    index = jnp.array([3, 3, 0])
    np.testing.assert_array_equal(
        take_batch(jnp.asarray(IMAGES), index, jax.random.key(0), Recipe()), IMAGES[[3, 3, 0]]
    )


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True)])
def test_views_are_those_of_numpy_and_equally_frequent(padding, flip):
    draws, example = 6000, 4
    recipe = Recipe(crop_padding=padding, flip=flip)
    batch = take_batch(jnp.asarray(IMAGES), jnp.full(draws, example), jax.random.key(1), recipe)
    views = every_view(IMAGES[example], padding, flip)
    drawn = [views[np.asarray(image).tobytes()] for image in batch]  # KeyError: a view that NumPy does not know
    counts = np.array([drawn.count(view) for view in views.values()])
    share = 1 / len(views)
    assert np.abs(counts / draws - share).max() < 5 * np.sqrt(share * (1 - share) / draws)


def test_examples_of_a_batch_are_augmented_independently():
    recipe = Recipe(crop_padding=2, flip=True)
    batch = take_batch(jnp.asarray(IMAGES), jnp.zeros(64, int), jax.random.key(2), recipe)
    assert len({np.asarray(image).tobytes() for image in batch}) > 20


def test_the_parts_of_a_batch_are_the_batch():
    """Views are drawn for a batch as a whole, so that gradient accumulation sees the same images."""
    recipe, index = Recipe(crop_padding=1, flip=True), jnp.arange(6)
    views = draw(jax.random.key(0), 6, (5, 6, 2), recipe)
    whole = take(jnp.asarray(IMAGES), index, views, recipe)
    for part in (slice(0, 2), slice(2, 6)):
        own = jax.tree.map(lambda drawn, part=part: drawn[part], views)
        np.testing.assert_array_equal(take(jnp.asarray(IMAGES), index[part], own, recipe), whole[part])


# --- RandomResizedCrop -----------------------------------------------------------------------------------------------


def smooth_image(height, width, seed=0):
    """Random colours with structure at all scales."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(image + rng.integers(-40, 41, image.shape), 0, 255).astype(np.uint8)


WINDOWS = [
    (0, 0, 40, 36, False),  # everything
    (3, 5, 30, 20, True),
    (10, 2, 7, 9, False),  # enlarged
    (39, 35, 1, 1, True),
    (0, 12, 40, 24, False),
    (17, 0, 23, 36, True),
]


@pytest.mark.parametrize("side", [5, 16, 24])
def test_windows_are_resized_as_pillow_does(side):
    """Pillow rounds once more, between columns and rows: a grey level apart at most, in about one of six values."""
    image = smooth_image(40, 36)
    columns = [jnp.array(column) for column in zip(*WINDOWS, strict=True)]
    got = resize(jnp.asarray(np.stack([image] * len(WINDOWS))), DrawnViews(*columns), side)
    for result, (top, left, height, width, flipped) in zip(np.asarray(got).astype(int), WINDOWS, strict=True):
        window = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.asarray(window.resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        expected = expected[:, ::-1] if flipped else expected
        assert np.abs(result - expected).max() <= 1
        assert np.abs(result - expected).mean() < 0.25


@pytest.mark.parametrize("side", [5, 24])
def test_windows_are_resized_by_definition(side):
    """Loops in float64 give the same wherever the value is not within rounding of a half."""
    image = smooth_image(40, 36, seed=1)
    columns = [jnp.array(column) for column in zip(*WINDOWS, strict=True)]
    got = np.asarray(resize(jnp.asarray(np.stack([image] * len(WINDOWS))), DrawnViews(*columns), side))
    for result, (top, left, height, width, flipped) in zip(got, WINDOWS, strict=True):
        exact = reference.resize(image[top : top + height, left : left + width], side)
        exact = exact[:, ::-1] if flipped else exact
        assert np.abs(result - exact).max() <= 0.5 + 1e-3


def test_pixels_outside_the_window_do_not_matter():
    image = smooth_image(40, 36)
    other = 255 - image
    top, left, height, width, flipped = WINDOWS[1]
    other[top : top + height, left : left + width] = image[top : top + height, left : left + width]
    views = DrawnViews(*(jnp.array([value] * 2) for value in (top, left, height, width, flipped)))
    one, same = np.asarray(resize(jnp.asarray(np.stack([image, other])), views, 12))
    np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (64, 48), (12, 200), (150, 40)])
def test_windows_are_distributed_as_torchvision_draws_them(height, width):
    """Areas, ratios and positions by their quantiles, against loops over NumPy's own draws.

    12 x 200 and 150 x 40 are so long that many tries do not fit, and the central window is taken now and then.
    """
    draws = 20_000
    got = np.stack(draw_crops(jax.random.key(0), draws, height, width)).astype(float)
    rng = np.random.default_rng(0)
    expected = np.array([reference.random_resized_crop(rng, height, width) for _ in range(draws)], float).T
    top, left, tall, wide = got
    assert (top >= 0).all() and (left >= 0).all() and (tall >= 1).all() and (wide >= 1).all()
    assert (top + tall <= height).all() and (left + wide <= width).all()

    def features(windows):
        top, left, tall, wide = windows
        # Where a side is full there is one position; the middle of the rest tells nothing of the others.
        places = [(place + 0.5) / (room + 1) for place, room in ((top, height - tall), (left, width - wide))]
        return {
            "area": tall * wide,
            "ratio": wide / tall,
            "height": tall,
            "width": wide,
            "y": places[0],
            "x": places[1],
        }

    ours, theirs = features(got), features(expected)
    # Kolmogorov and Smirnov: two samples of n differ by more than 1.95 sqrt(2 / n) in one of a thousand cases.
    limit = 1.95 * math.sqrt(2 / draws)
    for name in ours:
        grid = np.unique(np.concatenate([ours[name], theirs[name]]))
        ranks = [np.searchsorted(np.sort(values[name]), grid, side="right") / draws for values in (ours, theirs)]
        assert np.abs(ranks[0] - ranks[1]).max() < limit, name


def test_a_window_that_never_fits_is_the_central_one():
    """An image of 2 x 400 pixels: no window of 8% of it fits, and the largest of ratio 4:3 has 2 x 3."""
    top, left, tall, wide = draw_crops(jax.random.key(0), 50, 2, 400)
    central = (np.asarray(tall) == 2) & (np.asarray(wide) == 3)
    assert central.all() and (np.asarray(top) == 0).all() and (np.asarray(left) == 198).all()


def test_resized_crops_flip_half_of_the_time_and_draw_for_each_example():
    recipe = Recipe(resized_crop=4, flip=True)
    views = draw(jax.random.key(3), 4000, (5, 6, 2), recipe)
    assert abs(float(jnp.mean(views.flipped.astype(jnp.float32))) - 0.5) < 5 * 0.5 / math.sqrt(4000)
    assert not draw(jax.random.key(3), 50, (5, 6, 2), Recipe(resized_crop=4)).flipped.any()
    batch = take_batch(jnp.asarray(IMAGES), jnp.zeros(64, int), jax.random.key(2), recipe)
    assert batch.shape == (64, 4, 4, 2) and batch.dtype == jnp.uint8
    assert len({np.asarray(image).tobytes() for image in batch}) > 20


@pytest.mark.parametrize(("side", "top", "left"), [(4, 0, 1), (3, 1, 2), (5, 0, 0), (2, 2, 2)])
def test_evaluation_sees_the_center(side, top, left):
    """torchvision's CenterCrop: int(round((h - side) / 2)), half to even."""
    view = central_view(jnp.asarray(IMAGES), Recipe(resized_crop=side))
    np.testing.assert_array_equal(view, IMAGES[:, top : top + side, left : left + side])
    np.testing.assert_array_equal(central_view(jnp.asarray(IMAGES), Recipe(crop_padding=1)), IMAGES)
