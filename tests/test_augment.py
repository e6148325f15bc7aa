"""Crops and flips against a plain NumPy version, and their distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl import Recipe
from jaxinfl.training.augment import take_batch

IMAGES = np.random.default_rng(0).integers(1, 256, (7, 5, 6, 2)).astype(np.uint8)


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
