"""Kept weights evaluated again: the run's own numbers to the bit, and several views of each image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Recipe, predict, train_ensemble
from jaxinfl.training.inputs import mean_logits, view_padding, view_windows
from tests.compile_whole import compile_whole
from tests.conftest import make_data
from tests.small_ensembles import RECIPE, TINY_CNN

MASKS = np.stack([np.random.default_rng(row).permutation(40) < 20 + row for row in range(5)])
KEYS = jax.random.split(jax.random.key(3), 5)


@pytest.fixture(scope="module")
def runs(toy):
    return train_ensemble(MASKS, KEYS, data=toy, model=TINY_CNN, recipe=RECIPE, keep_weights=True, progress=False)


@pytest.mark.parametrize("name", ["train_prediction", "test_prediction", "train_margin", "test_margin"])
def test_one_view_gives_what_the_run_recorded(toy, runs, name):
    """The numbers are equal to the bit, with normalization by each model's own subset, for all or some of the models."""
    again = predict(runs.weights(), MASKS, data=toy, model=TINY_CNN, recipe=RECIPE)
    np.testing.assert_array_equal(getattr(again, name), getattr(runs, name))
    some = predict(runs.weights([3, 1]), MASKS[[3, 1]], data=toy, model=TINY_CNN, recipe=RECIPE)
    np.testing.assert_array_equal(getattr(some, name), getattr(runs, name)[[3, 1]])
    assert not again.diverged.any()


def test_digits_at_full_size(digits):
    """More models than fit one call, images in more than one batch, the registered network."""
    masks = jaxinfl.draw_subsets(6, digits.num_train, 0.5, seed=1)
    recipe = Recipe(epochs=2)  # as in the tiny presets of the experiments
    keys = jax.random.split(jax.random.key(0), 6)
    made = train_ensemble(masks, keys, data=digits, model="small_mlp", recipe=recipe, keep_weights=True, progress=False)
    again = predict(made.weights(), masks, data=digits, model="small_mlp", recipe=recipe)
    np.testing.assert_array_equal(again.test_margin, made.test_margin)
    np.testing.assert_array_equal(again.train_margin, made.train_margin)


def numpy_views(image, views):
    """The views of one image [h, w, c], written as slices."""
    height, width = image.shape[:2]
    m = max(1, min(height, width) // 16)
    padded = np.zeros((height + 2 * m, width + 2 * m, image.shape[2]), image.dtype)
    padded[m : m + height, m : m + width] = image
    crops = [
        padded[:height, :width],
        padded[:height, 2 * m :],
        padded[2 * m :, 2 * m :],
        padded[2 * m :, :width],
        image,
    ]
    return crops + [crop[:, ::-1] for crop in crops] * (views == "ten")


@pytest.mark.parametrize("views", ["five", "ten"])
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3)])
def test_mean_logits_against_numpy(views, side, channels):
    rng = np.random.default_rng(side)
    images = rng.integers(0, 256, (3, side, side, channels), dtype=np.uint8)
    weights = rng.normal(size=(side * side * channels, 4)).astype(np.float32) / 255

    def apply(batch):
        # Not linear in the image: a mean of images would not do.
        return jnp.tanh(batch.reshape(len(batch), -1).astype(jnp.float32) @ weights)

    seen = [np.stack(numpy_views(image, views)).reshape(5 if views == "five" else 10, -1) for image in images]
    expected = np.stack([np.tanh(each.astype(np.float64) @ weights).mean(axis=0) for each in seen])
    batch = jnp.asarray(images)
    np.testing.assert_allclose(mean_logits(apply, batch, RECIPE, views), expected, atol=2e-5)
    np.testing.assert_array_equal(mean_logits(apply, batch, RECIPE, "one"), apply(batch))


def test_stored_images_are_cropped_at_their_own_corners():
    """The views of `resized_crop` are slices of the stored image, without padding."""
    recipe = Recipe(resized_crop=8)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 11, 12, 3), dtype=np.uint8))
    weights = np.random.default_rng(1).normal(size=(8 * 8 * 3, 4)).astype(np.float32) / 255

    def apply(batch):
        return jnp.tanh(batch.reshape(len(batch), -1).astype(jnp.float32) @ weights)

    slices = [(0, 0), (0, 4), (3, 4), (3, 0), (2, 2)]
    crops = [images[:, top : top + 8, left : left + 8] for top, left in slices]
    crops += [crop[:, :, ::-1] for crop in crops]
    expected = np.mean([apply(crop) for crop in crops], axis=0)
    np.testing.assert_allclose(mean_logits(apply, images, recipe, "ten"), expected, atol=1e-6)
    np.testing.assert_array_equal(mean_logits(apply, images, recipe, "one"), apply(crops[4]))


def test_windows_stay_in_the_padded_image():
    for height, width in ((8, 8), (9, 12), (32, 32), (224, 299)):
        padding = view_padding(height, width)
        corners, mirrored = view_windows(2 * padding, 2 * padding, "ten")
        assert padding >= 1 and corners.min() == 0 and corners.max() == 2 * padding
        assert len({(*corner, flip) for corner, flip in zip(corners.tolist(), mirrored, strict=True)}) == 10
        assert [padding, padding] in corners[:5].tolist() and mirrored.sum() == 5
    assert view_windows(32, 33, "five")[0].tolist() == [[0, 0], [0, 33], [32, 33], [32, 0], [16, 16]]
    assert [view_padding(side, side) for side in (8, 31, 32, 224)] == [1, 1, 2, 14]


def test_views_of_kept_weights_are_means_of_logits(toy, runs):
    """Each model's margin from the mean of its logits over hand-made views, evaluated as data sets of their own."""
    found = predict(runs.weights(), MASKS, data=toy, model=TINY_CNN, recipe=RECIPE, views="ten")
    weights, apply = runs.weights(), compile_whole(lambda own, batch: TINY_CNN.apply(own, batch, train=False)[0])
    for row in range(len(MASKS)):
        pixels = toy.train_inputs[MASKS[row]] / 255.0
        mean, deviation = pixels.mean(), pixels.std()
        logits = []
        for image in toy.test_inputs:
            batch = (np.stack(numpy_views(image, "ten")) / 255.0 - mean) / deviation
            own = jax.tree.map(lambda w, row=row: jnp.asarray(w[row]), weights)
            logits.append(np.asarray(apply(own, jnp.asarray(batch, jnp.float32))).mean(axis=0))
        values = np.asarray(logits, np.float64)
        np.testing.assert_array_equal(found.test_prediction[row], values.argmax(axis=1))
        true = np.eye(3, dtype=bool)[toy.test_targets]
        other = np.where(true, -np.inf, values)
        margins = values[true] - np.logaddexp.reduce(other, axis=1)
        np.testing.assert_allclose(found.test_margin[row], margins, atol=1e-4)


def test_a_model_that_overflows_predicts_nothing(toy, runs):
    weights = runs.weights([0, 1])
    huge = jax.tree.map(lambda w: w.copy(), weights)
    for leaf in jax.tree.leaves(huge.params):
        leaf[1] *= 1e30
    found = predict(huge, MASKS[:2], data=toy, model=TINY_CNN, recipe=RECIPE)
    assert found.diverged.tolist() == [False, True]
    assert (found.test_prediction[1] == -1).all() and np.isnan(found.test_margin[1]).all()
    np.testing.assert_array_equal(found.test_margin[0], runs.test_margin[0])


def test_refused(toy, runs):
    weights = runs.weights()
    options = {"data": toy, "model": TINY_CNN, "recipe": RECIPE}
    with pytest.raises(ValueError, match="views is 'all'; it takes one of 'one', 'five', 'ten'"):
        predict(weights, MASKS, **options, views="all")
    with pytest.raises(ValueError, match=r"weights: .* it takes float32 \(4, "):
        predict(weights, MASKS[:4], **options)
    with pytest.raises(TypeError, match="weights is None"):
        predict(None, MASKS, **options)
    with pytest.raises(TypeError, match="weights is list"):
        predict([], MASKS, **options)
    with pytest.raises(ValueError, match=r"weights lacks \.params"):
        predict(weights, MASKS, **(options | {"model": "mlp"}))
    other = make_data(num_train=41)
    with pytest.raises(ValueError, match="masks has 40 columns"):
        predict(weights, MASKS, **(options | {"data": other}))
    broken = jax.tree.map(lambda w: w.copy(), weights)
    jax.tree.leaves(broken.params)[0][2] = np.nan
    with pytest.raises(ValueError, match=r"weights: .* is not finite for 1 models \(first: \[2\]\)"):
        predict(broken, MASKS, **options)
    with pytest.raises(ValueError, match="normalization names 3 channels"):
        predict(weights, MASKS, **(options | {"recipe": dataclasses.replace(RECIPE, normalization=((0.5, 0.2),) * 3)}))
