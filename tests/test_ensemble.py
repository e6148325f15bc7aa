"""The rules that must hold exactly, on whole trainings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import ModelKeys, Recipe, train_ensemble
from jaxinfl.models import build_model
from jaxinfl.training.run import TooManyDiverged
from tests.small_ensembles import RECIPE, assert_same, keys_of, subsets, tiny_cnn, train


def test_callables_are_taken(toy, base):
    assert_same(train(subsets(), keys_of(6), toy, model=tiny_cnn), base)


def test_it_learns_and_says_so(toy):
    runs = train(np.ones((2, 40), bool), keys_of(2), toy, recipe=Recipe(epochs=12, batch_size=8))
    assert runs.test_correct.mean() > 0.9
    np.testing.assert_array_equal(runs.test_correct, runs.test_prediction == toy.test_targets)
    # The most likely class is the true one exactly where p_y beats every other; p_y > 1/2 suffices.
    assert runs.test_correct[runs.test_probability > 0.5].all()
    np.testing.assert_allclose(runs.test_probability, 1 / (1 + np.exp(-runs.test_margin.astype(float))), rtol=1e-5)
    assert not runs.diverged.any() and runs.complete and len(runs) == 2


@pytest.mark.parametrize("normalization", ["subset", "none", ((0.4, 0.25),)])
def test_excluded_examples_have_no_effect(toy, normalization):
    """Rule 1: other pixels and labels of excluded examples, the same bits; every subset has a partial batch."""
    recipe = dataclasses.replace(RECIPE, normalization=normalization)
    masks = subsets()[:4]
    excluded = ~masks.any(axis=0)
    assert excluded.any()
    images, labels = toy.train_inputs.copy(), toy.train_targets.copy()
    images[excluded] = 255 - images[excluded] // 2
    labels[excluded] = (labels[excluded] + 1) % 3
    changed = jaxinfl.Dataset(
        train_inputs=images, train_targets=labels, test_inputs=toy.test_inputs, test_targets=toy.test_targets
    )
    one, other = (train(masks, keys_of(4), data, recipe=recipe) for data in (toy, changed))
    for name in ("test_prediction", "test_margin"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.train_margin[:, ~excluded], other.train_margin[:, ~excluded])
    # And an included one has: the test above could not fail otherwise.
    images[masks.any(axis=0).argmax()] //= 2
    touched = jaxinfl.Dataset(
        train_inputs=images, train_targets=labels, test_inputs=toy.test_inputs, test_targets=toy.test_targets
    )
    assert (train(masks, keys_of(4), touched, recipe=recipe).test_margin != one.test_margin).any()


def test_neighbours_position_and_shards_do_not_matter(toy, base):
    """Rule 3, to the bit."""
    masks, keys = subsets(), keys_of(6)
    for row in (0, 3, 5):
        assert_same(train(masks[row : row + 1], keys[row : row + 1], toy), base, other_rows=slice(row, row + 1))
    backwards = train(masks[::-1], keys[::-1], toy, shard_size=1)
    assert_same(backwards, base, rows=slice(None, None, -1))
    crowd = train(np.concatenate([~subsets(5, seed=1) | masks[:1], masks]), jnp.concatenate([keys_of(5, 1), keys]), toy)
    assert_same(crowd, base, rows=slice(5, None))


def test_same_arguments_same_bits(toy, base):
    assert_same(train(subsets(), keys_of(6), toy), base)
    assert (train(subsets(), keys_of(6, seed=9), toy).test_margin != base.test_margin).any()


@pytest.mark.slow
def test_vmapped_equals_one_by_one(toy, base, compiled_quickly):
    """Compare two widths, at which sums may round otherwise, after so few epochs that this is amplified little."""
    np.testing.assert_allclose(train(subsets(), keys_of(6), toy, width=4).test_margin, base.test_margin, atol=2e-3)


@pytest.mark.slow
def test_gemm_kernels_equal_xlas(toy, base, compiled_quickly):
    np.testing.assert_allclose(
        train(subsets(), keys_of(6), toy, kernels="xla").test_margin, base.test_margin, atol=2e-3
    )


def test_each_source_of_randomness_can_be_held(toy):
    """Appendix C: the same keys everywhere give the same model, one source freed gives others."""
    masks = np.tile(subsets()[3], (3, 1))
    one = jax.random.key(5)
    held = {name: jnp.stack([one] * 3) for name in ("init", "order", "augment")}
    same = train(masks, ModelKeys(**held), toy)
    assert (same.test_margin == same.test_margin[:1]).all()
    for source in held:
        freed = train(masks, ModelKeys(**held | {source: keys_of(3)}), toy)
        assert len(np.unique(freed.test_margin, axis=0)) == 3, source


def test_one_key_a_model_is_split_into_three(toy, base):
    split = ModelKeys.split(keys_of(6))
    assert_same(train(subsets(), split, toy), base)
    assert len(np.unique(split.data().reshape(18, -1), axis=0)) == 18


class SometimesNaN(nnx.Module):
    """Diverges where its key says so."""

    def __init__(self, rngs: nnx.Rngs):
        self.head = nnx.Linear(64, 3, rngs=rngs)
        self.scale = nnx.Param(jnp.where(jax.random.bernoulli(rngs.params()), jnp.nan, 1.0))

    def __call__(self, x):
        return self.head(x.reshape(len(x), -1)) * self.scale[...]


SOMETIMES_NAN = {
    "model": build_model(SometimesNaN, inputs=(8, 8, 1), outputs=3),
    "recipe": Recipe(epochs=2, batch_size=8),
}


@pytest.mark.parametrize("width", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_diverging_model_is_marked_and_harms_no_other(toy, width):
    masks, keys = np.tile(subsets()[4], (8, 1)), keys_of(8)
    with pytest.warns(RuntimeWarning, match=r"of 8 models diverged and are left out of the ensemble in memory"):
        without = train(masks, keys, toy, width=width, max_diverged=1.0, **SOMETIMES_NAN)
    runs = without.with_diverged()
    assert 0 < runs.diverged.sum() < 8 and without.num_diverged == runs.diverged.sum()
    assert "models diverged, left out" in repr(without) and not without.diverged.any()
    assert_same(without, runs, other_rows=~runs.diverged)
    np.testing.assert_array_equal(without.model_index, np.flatnonzero(~runs.diverged))
    assert (runs.test_prediction[runs.diverged] == -1).all() and np.isnan(runs.test_margin[runs.diverged]).all()
    assert not runs.test_correct[runs.diverged].any() and "models diverged" in repr(runs)
    healthy = ~runs.diverged
    assert np.isfinite(runs.test_margin[healthy]).all()
    alone = train(masks[healthy], keys[healthy], toy, width=width, **SOMETIMES_NAN)
    assert_same(alone, runs, other_rows=healthy)


def test_many_diverging_models_end_the_run(toy, tmp_path):
    masks, keys = np.tile(subsets()[4], (8, 1)), keys_of(8)
    options = SOMETIMES_NAN | {"run_dir": tmp_path / "run"}
    advice = r"diverged \(a loss or logit was not finite\), more than 5% of the 8 models .* Lower learning_rate \(it is 0.1\)"
    for _ in range(2):  # while it trains, and when it is asked for again
        with pytest.raises(TooManyDiverged, match=advice):
            train(masks, keys, toy, shard_size=8, **options)
    with pytest.warns(RuntimeWarning, match="left out"):
        assert train(masks, keys, toy, max_diverged=1.0, **options).complete


def test_nothing_is_traced_again_between_shards(toy):
    traces = []

    class Counting(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x):
            traces.append(x.shape)
            return self.head(x.reshape(len(x), -1))

    model = build_model(Counting, inputs=(8, 8, 1), outputs=3)
    recipe = Recipe(epochs=3, batch_size=8, learning_rate=0.05)  # that of the linear models in tests/test_overrides.py
    when_compiled = []

    def note(plan):
        when_compiled.append(len(traces))

    train(subsets(40), keys_of(40), toy, model=model, recipe=recipe, shard_size=4, on_cost=note)
    assert when_compiled == [len(traces)] and len(traces) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_bfloat16_trains(toy):
    runs = train(
        np.ones((2, 40), bool), keys_of(2), toy, recipe=Recipe(epochs=12, batch_size=8, compute_dtype="bfloat16")
    )
    assert runs.test_correct.mean() > 0.8 and runs.test_margin.dtype == np.float32


def test_zero_epochs_keep_the_initial_model(toy):
    runs = train(subsets(), keys_of(6), toy, recipe=dataclasses.replace(RECIPE, epochs=0))
    assert np.isfinite(runs.test_margin).all()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_with_64_bits(toy):
    with jax.enable_x64(True):
        runs = train(subsets(), keys_of(6), toy)
    assert np.isfinite(runs.test_margin).all() and runs.test_margin.dtype == np.float32


@pytest.mark.slow
def test_with_low_precision_parameters(toy):
    def half(rngs):
        return nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 3, param_dtype=jnp.bfloat16, rngs=rngs))

    with jax.numpy_dtype_promotion("standard"):  # inside Flax and Optax, bfloat16 meets float32
        assert np.isfinite(train(subsets(), keys_of(6), toy, model=half).test_margin).all()


def test_raw_keys_are_taken(toy, base):
    raw = jax.random.key_data(keys_of(6))
    assert_same(train(subsets(), raw, toy), base)


@pytest.mark.slow
def test_digits_reach_their_accuracy(digits):
    """The demo's recipe."""
    from experiments.cifar100_subsets import PRESETS

    masks = jaxinfl.draw_subsets(4, digits.num_train)
    runs = train_ensemble(masks, keys_of(4), data=digits, recipe=PRESETS["digits"].recipe, progress=False)
    assert runs.test_correct.mean(axis=1).min() > 0.95
    assert runs.train_correct[masks].mean() > 0.99
