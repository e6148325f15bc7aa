"""Batches taken in parts, and crops that change the size: the step's result, the rules, whole ensembles."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Recipe, train_ensemble
from jaxinfl.models import SmallCNN, Variables, build_model
from jaxinfl.training import step
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.loop import make_segment
from tests.compile_whole import compile_whole
from tests.conftest import make_data
from tests.test_step import KEYS

NORMED = build_model(
    lambda rngs: SmallCNN((8, 8, 1), 3, widths=(4,), strides=(1,), rngs=rngs), inputs=(8, 8, 1), outputs=3
)
PLAIN = build_model(
    lambda rngs: SmallCNN((8, 8, 1), 3, widths=(4,), strides=(1,), batch_norm=False, rngs=rngs),
    inputs=(8, 8, 1),
    outputs=3,
)


def device_data(data):
    images = np.concatenate([data.train_inputs, data.test_inputs])
    labels = np.concatenate([data.train_targets, data.test_targets])
    statistics = jnp.zeros((2, data.num_train, images.shape[-1]))
    return DeviceData(jnp.asarray(images), jnp.asarray(labels), *statistics)


@partial(compile_whole, static_argnums=(0, 1))
def untrained(model, recipe, data):
    return step.start(step.Training(model, recipe), data, jnp.ones(len(data.pixel_mean), bool), KEYS)


@partial(compile_whole, static_argnums=(0, 1))
def one_step(model, recipe, data, before, size):
    """State after a step on `size` examples, and which they are."""
    index = jnp.where(jnp.arange(recipe.batch_size) < size, jnp.arange(recipe.batch_size) * 2, 0)
    key = jax.random.key(4)
    return step._update(
        step.Training(model, recipe), data, before, index, jnp.int32(size), key, jnp.float32(0.1)
    ), index


@pytest.mark.parametrize("size", [16, 13, 8, 3, 1])
def test_the_sum_over_parts_is_the_whole_batchs_gradient(toy, size):
    """The network has no batch norm; the parts are full, or partly or wholly padding, and views are random."""
    whole = Recipe(batch_size=16, crop_padding=1, flip=True, normalization="none", label_smoothing=0.1, momentum=0.0)
    data = device_data(toy)
    before = untrained(PLAIN, whole, data)
    expected, _ = one_step(PLAIN, whole, data, before, size)
    for microbatch in (1, 4, 16):
        got, _ = one_step(PLAIN, dataclasses.replace(whole, microbatch=microbatch), data, before, size)
        for a, b in zip(jax.tree.leaves(got.variables), jax.tree.leaves(expected.variables), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-5)


def test_batch_norm_averages_over_each_part(toy):
    """The parts are computed by hand as in PyTorch: gradients add up with the whole batch's count, statistics in turn."""
    recipe = Recipe(batch_size=12, microbatch=4, normalization="none", momentum=0.0, weight_decay=0.0)
    before = untrained(NORMED, recipe, device_data(toy))
    after, index = one_step(NORMED, recipe, device_data(toy), before, 10)
    index, images, labels = np.asarray(index), toy.train_inputs.astype(np.float32) / np.float32(255), toy.train_targets

    @partial(compile_whole, static_argnums=2)
    @partial(jax.grad, has_aux=True)
    def gradient_of_loss(params, stats, part):
        logits, new = NORMED.apply(Variables(params, stats), jnp.asarray(images[list(part)]), train=True)
        return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(len(part)), labels[list(part)]]) / 10, new

    stats, total = before.variables.stats, jax.tree.map(np.zeros_like, before.variables.params)
    for part in (index[0:4], index[4:8], index[8:10]):  # the last part has 2 examples
        gradient, stats = gradient_of_loss(before.variables.params, stats, tuple(part.tolist()))
        total = jax.tree.map(np.add, total, gradient)
    expected = jax.tree.map(lambda p, g: p - np.float32(0.1) * g, before.variables.params, total)
    for a, b in zip(jax.tree.leaves(after.variables.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(after.variables.stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 29, 30])
def test_every_included_example_is_seen_exactly_once_an_epoch(size, monkeypatch):
    """Rule 2 in parts of 4 of batches of 8; an excluded example is never read (rule 1)."""
    mask = np.random.default_rng(size).permutation(30) < size

    def count(training, data, state, batch, *_):
        tally = {
            "counted": state.variables.stats["counted"].at[batch.examples].add(batch.counted.astype(jnp.int32)),
            "read": state.variables.stats["read"].at[batch.examples].add(1),
        }
        return step.Gradient(state.variables.params, jnp.float32(0), tally)

    monkeypatch.setattr(step, "_gradient", count)
    data = DeviceData(jnp.zeros((30, 1, 1, 1), jnp.uint8), jnp.zeros(30, jnp.int32), *jnp.zeros((2, 30, 1)))
    zeros = {name: jnp.zeros(30, jnp.int32) for name in ("counted", "read")}
    recipe = Recipe(batch_size=8, microbatch=4, momentum=0.0, weight_decay=0.0)
    params = {"w": jnp.zeros(1)}
    optimizer = step.make_optimizer(recipe).init(params)
    state = step.State(Variables(params, zeros), optimizer, jnp.zeros(1), jnp.ones(1), jnp.float32(0))
    state = step.advance(step.Training(PLAIN, recipe), data, state, jnp.asarray(mask), KEYS, make_segment(0, 3))
    np.testing.assert_array_equal(state.variables.stats["counted"], 3 * mask)
    assert not np.asarray(state.variables.stats["read"])[~mask].any()
    # Parts that hold only padding are not run.
    assert state.variables.stats["read"].sum() == 3 * 4 * -(-size // 4)


# --- whole ensembles -------------------------------------------------------------------------------------------------

CROPPED = Recipe(epochs=2, batch_size=8, microbatch=4, resized_crop=8, flip=True, learning_rate=0.05)
SIZES = (5, 17, 31, 40)
MASKS = np.stack([np.random.default_rng(size).permutation(40) < size for size in SIZES])
MODEL_KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.fixture(scope="module")
def larger():
    """Stored at 11 pixels a side, trained and evaluated at 8."""
    return make_data(side=11)


def train(data, masks=MASKS, keys=MODEL_KEYS, **options):
    options = {"model": NORMED, "recipe": CROPPED, "progress": False} | options
    return train_ensemble(masks, keys, data=data, **options)


@pytest.fixture(scope="module")
def cropped(larger):
    return train(larger)


@pytest.mark.usefixtures("compiled_quickly")
def test_the_models_input_is_the_crop(larger):
    """A registered model is built for the crop, learns from crops and is evaluated on the center."""
    recipe = Recipe(epochs=15, batch_size=8, resized_crop=8, normalization="none")
    runs = train(larger, np.ones((2, 40), bool), MODEL_KEYS[:2], model="small_mlp", recipe=recipe, keep_weights=True)
    assert runs.test_correct.mean() > 0.8
    weights = runs.weights([0])
    assert 64 in {leaf.shape[1] for leaf in jax.tree.leaves(weights.params)}
    model = build_model("small_mlp", inputs=(8, 8, 1), outputs=3)
    center = jnp.asarray(larger.test_inputs[:, 2:10, 2:10], jnp.float32) / 255
    logits, _ = model.apply(jax.tree.map(lambda w: jnp.asarray(w[0]), weights), center, train=False)
    np.testing.assert_array_equal(jnp.argmax(logits, axis=-1), runs.test_prediction[0])


def test_excluded_examples_have_no_effect(larger, cropped):
    """Rule 1 in parts and crops, to the bit; with numbers for the whole data set too, as long as they stay."""
    masks = MASKS[:2]
    excluded = ~masks.any(axis=0)
    images, labels = larger.train_inputs.copy(), larger.train_targets.copy()
    images[excluded], labels[excluded] = 255 - images[excluded] // 2, (labels[excluded] + 1) % 3
    changed = dataclasses.replace(larger, train_inputs=images, train_targets=labels)
    np.testing.assert_array_equal(train(changed, masks, MODEL_KEYS[:2]).test_margin, cropped.test_margin[:2])
    fixed = dataclasses.replace(CROPPED, normalization=jaxinfl.channel_statistics(larger))
    one, other = (train(data, masks, MODEL_KEYS[:2], recipe=fixed) for data in (larger, changed))
    np.testing.assert_array_equal(one.test_margin, other.test_margin)
    assert (one.test_margin != cropped.test_margin[:2]).any()


def test_neighbours_do_not_matter(larger, cropped):
    """Rule 3 to the bit."""
    backwards = train(larger, MASKS[::-1], MODEL_KEYS[::-1])
    np.testing.assert_array_equal(backwards.test_margin[::-1], cropped.test_margin)


@pytest.mark.slow
def test_vmap_agrees(larger, cropped, compiled_quickly):
    """Under vmap models with other numbers of parts keep their padding out of batch norm."""
    costs = []
    together = train(larger, width=4, on_cost=costs.append)
    assert "batch 8 in parts of 4, sgd" in costs[0].describe()
    assert not together.diverged.any()
    np.testing.assert_allclose(together.test_margin, cropped.test_margin, atol=5e-3)
