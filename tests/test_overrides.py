"""A value of the recipe for each model: one ensemble, one compilation, and no effect on neighbours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import Ensemble, Recipe, RunDirectoryError, train_ensemble
from jaxinfl.models import build_model
from jaxinfl.training.optimizer import learning_rate, make_optimizer
from jaxinfl.training.per_model import OVERRIDABLE, with_overrides
from tests.small_ensembles import LINEAR, stop_after_one_shard

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)
MASKS = np.stack([np.random.default_rng(row).permutation(40) < 30 for row in range(4)])
KEYS = jax.random.split(jax.random.key(0), 4)
RATES, DECAYS = [0.3, 0.1, 0.01, 0.001], [0.0, 1e-3, 0.1, 0.0]


def train(data, overrides, rows=slice(None), **options):
    options = {"model": LINEAR, "recipe": RECIPE, "progress": False} | options
    return train_ensemble(MASKS[rows], KEYS[rows], data=data, overrides=overrides, **options)


@pytest.mark.parametrize(
    ("recipe", "overrides", "width"),
    [
        pytest.param(RECIPE, {"learning_rate": RATES, "weight_decay": DECAYS}, 4, marks=pytest.mark.slow),
        (dataclasses.replace(RECIPE, momentum=0.0), {"momentum": [0.9, 0, 0, 0.1], "label_smoothing": DECAYS}, 1),
        (
            dataclasses.replace(RECIPE, optimizer="adamw", schedule="step", milestones=(1, 2), warmup_epochs=0.5),
            {"learning_rate": RATES, "weight_decay": DECAYS},
            1,
        ),
    ],
)
@pytest.mark.usefixtures("compiled_quickly")
def test_each_model_is_trained_with_its_own_numbers(toy, recipe, overrides, width):
    """Against an ensemble of one of them, whose program has its numbers as constants: equal but for rounding."""
    with jax.numpy_dtype_promotion("standard"):  # optax's bias correction mixes an integer count with floats
        swept = train(toy, overrides, recipe=recipe, width=width)
        own = dataclasses.replace(recipe, **{name: values[2] for name, values in overrides.items()})
        alone = train(toy, None, slice(2, 3), recipe=own, width=width)
        np.testing.assert_allclose(swept.test_margin[2], alone.test_margin[0], rtol=1e-3, atol=1e-3)
    assert np.ptp(swept.test_margin, axis=0).max() > 0.1


def test_neighbours_values_do_not_matter(toy):
    """Rule 3 for overrides, to the bit: alone, among others, and through another recipe's unused number."""
    overrides = {"learning_rate": RATES, "weight_decay": DECAYS}
    swept = train(toy, overrides)
    for row in (0, 3):
        own = {name: values[row : row + 1] for name, values in overrides.items()}
        alone = train(toy, own, slice(row, row + 1), recipe=dataclasses.replace(RECIPE, learning_rate=7.0))
        np.testing.assert_array_equal(alone.test_margin[0], swept.test_margin[row])
    backwards = train(toy, {name: values[::-1] for name, values in overrides.items()}, slice(None, None, -1))
    np.testing.assert_array_equal(backwards.test_margin[::-1], swept.test_margin)


def test_one_compilation_for_all_values(toy):
    traces = []

    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x):
            traces.append(x.shape)
            return self.head(x.reshape(len(x), -1))

    model = build_model(Counting, inputs=(8, 8, 1), outputs=3)
    train(toy, {"learning_rate": RATES}, model=model, shard_size=2)
    once = traces.count((8, 8, 8, 1))  # of a training batch
    train(toy, {"learning_rate": RATES[::-1]}, model=model, shard_size=2)
    assert traces.count((8, 8, 8, 1)) == once > 0


def test_without_overrides_the_program_is_the_same(toy):
    """None and no fields at all: bit for bit the ensemble without the argument."""
    plain = train_ensemble(MASKS, KEYS, data=toy, model=LINEAR, recipe=RECIPE, progress=False)
    for nothing in (None, {}):
        np.testing.assert_array_equal(train(toy, nothing).test_margin, plain.test_margin)
    assert with_overrides(RECIPE, None) is RECIPE and plain.overrides == {}


def test_a_model_that_diverges_harms_no_neighbour(toy):
    overrides = {"learning_rate": [1e6, 0.1, 1e6, 0.1], "weight_decay": [1e6, 0.0, 1e6, 0.0]}
    with pytest.warns(RuntimeWarning, match="2 of 4 models diverged and are left out"):
        runs = train(toy, overrides, max_diverged=1.0).with_diverged()
    assert list(runs.diverged) == [True, False, True, False]
    alone = train(toy, {"learning_rate": [0.1], "weight_decay": [0.0]}, slice(1, 2))
    np.testing.assert_array_equal(runs.test_margin[1], alone.test_margin[0])


@pytest.mark.slow
def test_low_precision_parameters_keep_their_type(toy):
    def half(rngs):
        return nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 3, param_dtype=jnp.bfloat16, rngs=rngs))

    with jax.numpy_dtype_promotion("standard"):  # inside Flax, bfloat16 meets float32
        runs = train(toy, {"momentum": [0.9, 0.5, 0.0, 0.1], "weight_decay": DECAYS}, model=half)
    assert np.isfinite(runs.test_margin).all()


@pytest.mark.parametrize("nesterov", [False, True])
def test_traced_numbers_are_the_recipes(nesterov):
    """Optimizer and schedule given numbers as arrays: equal to the same numbers in the recipe."""
    recipe = Recipe(epochs=10, schedule="linear", warmup_epochs=2, nesterov=nesterov)
    own = with_overrides(recipe, {name: jnp.float32(getattr(recipe, name)) for name in OVERRIDABLE})
    params, gradient = {"w": jnp.array([2.0, -1.0])}, {"w": jnp.array([0.5, 0.25])}
    for epoch in (0.0, 1.0, 2.0, 7.5):
        assert float(learning_rate(own, jnp.float32(epoch))) == float(learning_rate(recipe, jnp.float32(epoch)))
    ours, theirs = make_optimizer(own), make_optimizer(recipe)
    state, their_state = ours.init(params), theirs.init(params)
    for _ in range(2):
        direction, state = ours.update(gradient, state, params)
        their_direction, their_state = theirs.update(gradient, their_state, params)
        np.testing.assert_array_equal(direction["w"], their_direction["w"])


# --- run directories -------------------------------------------------------------------------------------------------


def test_a_sweep_is_kept_and_goes_on_only_with_the_same_values(toy, tmp_path):
    overrides = {"weight_decay": DECAYS, "learning_rate": np.array(RATES)}
    with stop_after_one_shard():
        train(toy, overrides, run_dir=tmp_path / "run", shard_size=2)
    changes = [
        ({"weight_decay": DECAYS, "learning_rate": [0.3, 0.1, 0.01, 0.002]}, r"overrides \(learning_rate\)\. Use"),
        ({"learning_rate": RATES}, r"overrides \(weight_decay\)\. Use"),
        (overrides | {"momentum": [0.9] * 4}, r"overrides \(momentum\)\. Use"),
        (None, r"overrides \(learning_rate\)\. Use"),
    ]
    for other, message in changes:
        with pytest.raises(RunDirectoryError, match="belongs to another run: it differs in " + message):
            train(toy, other, run_dir=tmp_path / "run")
    runs = train(toy, overrides, run_dir=tmp_path / "run")
    np.testing.assert_array_equal(runs.test_margin, train(toy, overrides).test_margin)
    again = Ensemble.open(tmp_path / "run")
    assert sorted(again.overrides) == ["learning_rate", "weight_decay"]
    np.testing.assert_array_equal(again.overrides["learning_rate"], np.float32(RATES))
    np.testing.assert_array_equal(again.overrides["weight_decay"], np.float32(DECAYS))
    assert "a value for each model: learning_rate, weight_decay" in repr(again)


def test_a_run_without_overrides_takes_none(toy, tmp_path):
    train(toy, None, run_dir=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"differs in overrides \(learning_rate\)\. Use"):
        train(toy, {"learning_rate": RATES}, run_dir=tmp_path / "run")


def test_the_plan_names_them(toy):
    costs = []
    train(toy, {"learning_rate": RATES, "weight_decay": DECAYS}, on_cost=costs.append)
    assert "learning rate cosine; a value for each model: learning rate, weight decay" in costs[0].describe()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ([0.1] * 4, TypeError, "overrides is list; it takes a mapping"),
        ({"epochs": [1] * 4}, ValueError, "'epochs' cannot differ from model to model; learning_rate, weight_decay"),
        ({3: [1] * 4}, ValueError, "3 cannot differ"),
        ({"learning_rate": RATES[:3]}, ValueError, r"learning_rate has shape \(3,\); it takes .* shape \(4,\)"),
        ({"learning_rate": 0.1}, ValueError, r"learning_rate has shape \(\)"),
        ({"learning_rate": [RATES]}, ValueError, r"learning_rate has shape \(1, 4\)"),
        ({"learning_rate": [[1], [1, 2]]}, TypeError, "it takes an array of numbers, one for each model"),
        ({"learning_rate": ["high"] * 4}, TypeError, "it takes an array of numbers"),
        ({"learning_rate": [True] * 4}, TypeError, "it takes an array of numbers"),
        ({"learning_rate": None}, TypeError, "learning_rate is None"),
        ({"learning_rate": [0.1, np.nan, 0.1, 0.1]}, ValueError, r"learning_rate\[1\] is nan; it takes numbers from 0"),
        ({"weight_decay": [0, 0, 0, -1]}, ValueError, r"weight_decay\[3\] is -1; it takes numbers from 0"),
        ({"momentum": [0.9, 0.9, 1.5, 0.9]}, ValueError, r"momentum\[2\] is 1.5; it takes numbers from 0.0 to 1.0"),
        ({"label_smoothing": [0.0, np.inf, 0, 0]}, ValueError, r"label_smoothing\[1\] is inf"),
    ],
)
def test_refused_before_anything_is_compiled(toy, monkeypatch, overrides, error, message):
    monkeypatch.setattr("jaxinfl.training.machine.build_programs", None)
    with pytest.raises(error, match=message):
        train(toy, overrides)


def test_momentum_that_would_do_nothing_is_refused(toy):
    momentum = {"momentum": [0.9, 0.0, 0.9, 0.9]}
    with pytest.raises(ValueError, match="momentum is without effect for adamw"):
        train(toy, momentum, recipe=Recipe(optimizer="adamw"))
    with pytest.raises(ValueError, match=r"momentum\[1\] is 0, but the recipe's nesterov"):
        train(toy, momentum, recipe=Recipe(nesterov=True))
