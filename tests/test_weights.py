"""Final weights kept, read again, and started from."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import Ensemble, RunDirectoryError, predict, train_ensemble
from jaxinfl.models import Model, Variables
from tests.compile_whole import compile_whole
from tests.small_ensembles import RECIPE, TINY_CNN, stop_after_one_shard

MASKS = np.stack([np.random.default_rng(row).permutation(40) < 30 for row in range(5)])
KEYS = jax.random.split(jax.random.key(0), 5)


# The variables of its model have numbers among their names, and batch norm's statistics.
def train(data, rows=slice(None), **options):
    options = {"model": TINY_CNN, "recipe": RECIPE, "progress": False, "shard_size": 2} | options
    return train_ensemble(MASKS[rows], KEYS[rows], data=data, **options)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """Five models, two a shard, with their weights."""
    return train(toy, keep_weights=True, run_dir=tmp_path_factory.mktemp("weights") / "run")


def test_weights_are_those_that_predicted(toy, finished):
    """Applied by hand, row by row, they give the run's margins."""
    weights = finished.weights()
    assert jax.tree.structure(weights) == jax.tree.structure(jax.eval_shape(TINY_CNN.init, jax.random.key(0)))
    apply = compile_whole(lambda own, images: TINY_CNN.apply(own, images, train=False)[0])
    for row in range(5):
        own = jax.tree.map(lambda w, row=row: jnp.asarray(w[row]), weights)
        pixels = toy.train_inputs[MASKS[row]] / 255
        logits = apply(own, jnp.asarray((toy.test_inputs / 255 - pixels.mean()) / pixels.std(), jnp.float32))
        np.testing.assert_array_equal(jnp.argmax(logits, axis=-1), finished.test_prediction[row])


def test_keeping_weights_changes_no_bit(toy, finished):
    plain = train(toy)
    np.testing.assert_array_equal(plain.test_margin, finished.test_margin)
    with pytest.raises(
        RunDirectoryError, match=r"the run in memory keeps no weights\. Train it with keep_weights=True"
    ):
        plain.weights()


def test_memory_and_directory_keep_the_same(toy, finished):
    assert_equal(train(toy, keep_weights=True).weights(), finished.weights())
    again = Ensemble.open(finished._store.path)
    assert_equal(again.weights(), finished.weights())
    assert_equal(again.weights([4, 1]), jax.tree.map(lambda w: w[[4, 1]], finished.weights()))
    assert_equal(again.weights(3), jax.tree.map(lambda w: w[[3]], finished.weights()))
    with pytest.raises(IndexError):
        again.weights([5])


def test_no_epoch_from_given_weights_predicts_the_same(toy, finished):
    """Fine-tuning for 0 epochs, to the bit; the keys do not matter then."""
    still = dataclasses.replace(RECIPE, epochs=0)
    other_keys = jax.random.split(jax.random.key(9), 5)
    runs = train_ensemble(
        MASKS, other_keys, data=toy, model=TINY_CNN, recipe=still, initial=finished.weights(), progress=False
    )
    np.testing.assert_array_equal(runs.test_margin, finished.test_margin)
    np.testing.assert_array_equal(runs.train_prediction, finished.train_prediction)


def test_fine_tuning_starts_where_training_ended(toy, finished):
    """A tiny learning rate moves the weights by no more than it can, and each model from its own."""
    slow = dataclasses.replace(RECIPE, epochs=1, learning_rate=1e-6)
    weights = finished.weights()
    tuned = train(toy, recipe=slow, initial=weights, keep_weights=True).weights()
    for new, old in zip(jax.tree.leaves(tuned.params), jax.tree.leaves(weights.params), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-4)
    assert any((new != old).any() for new, old in zip(jax.tree.leaves(tuned), jax.tree.leaves(weights), strict=True))
    # Rule 3: rows of others' weights do not matter.
    rows = slice(1, 3)
    alone = train(toy, rows, recipe=slow, initial=jax.tree.map(lambda w: w[rows], weights), keep_weights=True).weights()
    assert_equal(alone, jax.tree.map(lambda w: w[rows], tuned))


def test_one_model_as_the_start_of_many(toy, finished):
    """Section 4.2: one model trained on everything, then fine-tuned without one example each."""
    start = jax.tree.map(lambda w: np.broadcast_to(w, (5, *w.shape[1:])), finished.weights(2))
    runs = train(toy, recipe=dataclasses.replace(RECIPE, epochs=0), initial=start)
    np.testing.assert_array_equal(runs.test_margin[2], finished.test_margin[2])
    # The others have its weights, too, and normalize by their own subsets.
    evaluated = predict(start, MASKS, data=toy, model=TINY_CNN, recipe=RECIPE)
    np.testing.assert_array_equal(runs.test_margin, evaluated.test_margin)


@pytest.mark.slow
def test_low_precision_weights_come_back(toy, tmp_path):
    def half(rngs):
        return nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 3, param_dtype=jnp.bfloat16, rngs=rngs))

    with jax.numpy_dtype_promotion("standard"):  # inside Flax, bfloat16 meets float32
        runs = train(toy, model=half, keep_weights=True, run_dir=tmp_path / "run")
        kept = train(toy, model=half, keep_weights=True)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(runs.weights())} == {"bfloat16"}
    assert_equal(runs.weights(), kept.weights())


# --- run directories -------------------------------------------------------------------------------------------------


def test_initial_weights_are_part_of_the_run(toy, finished, tmp_path):
    weights = finished.weights()
    train(toy, initial=weights, run_dir=tmp_path / "run")
    train(toy, initial=finished.weights(), run_dir=tmp_path / "run")
    other = jax.tree.map(np.array, weights)
    jax.tree.leaves(other)[0].reshape(-1)[0] += 1
    for changed in (other, None):
        with pytest.raises(RunDirectoryError, match=r"differs in initial\. Use another run_dir"):
            train(toy, initial=changed, run_dir=tmp_path / "run")


def test_a_run_goes_on_keeping_weights_as_it_was_started(toy, finished, tmp_path):
    """Killed between the weights and the shard's rows: the models are absent, and done again with the same bits."""
    with stop_after_one_shard():
        train(toy, keep_weights=True, run_dir=tmp_path / "run")
    partial = Ensemble.open(tmp_path / "run")
    assert list(partial.model_index) == [0, 1] and (tmp_path / "run" / "weights" / "00000002.npz").is_file()
    assert_equal(partial.weights(), jax.tree.map(lambda w: w[:2], finished.weights()))
    # What is left of a file that was not finished.
    (tmp_path / "run" / "weights" / "00000004.npz.1234.partial").touch()
    runs = train(toy, run_dir=tmp_path / "run")
    assert_equal(runs.weights(), finished.weights())
    assert sorted(path.name for path in (tmp_path / "run" / "weights").iterdir()) == [
        name for first in ("00000000", "00000002", "00000004") for name in (f"{first}.json", f"{first}.npz")
    ]

    train(toy, run_dir=tmp_path / "plain")
    with pytest.raises(
        RunDirectoryError, match="plain keeps no weights, because it was started without keep_weights=True"
    ):
        train(toy, keep_weights=True, run_dir=tmp_path / "plain")


def test_every_damaged_or_missing_file_is_found(finished, tmp_path):
    """Each file of the checkpoints in turn: one bit flipped in its middle; truncated; lost."""
    run, damaged = finished._store.path, tmp_path / "damaged"
    expected = finished.weights()
    files = sorted(path.relative_to(run) for path in (run / "weights").glob("00000002*"))
    found = 0
    for file in files:
        for harm in (flip, truncate, type(run).unlink):
            shutil.copytree(run, damaged)
            harm(damaged / file)
            try:
                weights = Ensemble.open(damaged).weights()
            except RunDirectoryError as error:
                assert "00000002" in str(error), (file, harm)
                found += 1
            else:  # a file that a reader does not need
                assert_equal(weights, expected)
            shutil.rmtree(damaged)
    assert found == 6


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_weights_of_other_models_are_found(finished, tmp_path):
    shutil.copytree(finished._store.path, tmp_path / "run")
    weights = tmp_path / "run" / "weights"
    for kind in ("npz", "json"):
        shutil.copy(weights / f"00000002.{kind}", weights / f"00000000.{kind}")
    with pytest.raises(RunDirectoryError, match=r"00000000\.npz are damaged for models 0, 1"):
        Ensemble.open(tmp_path / "run").weights()
    (weights / "00000000.npz").unlink()
    with pytest.raises(
        RunDirectoryError, match=r"the weights of models 0 to 1 cannot be read: .*00000000\.npz is missing"
    ):
        Ensemble.open(tmp_path / "run").weights()
    assert len(jax.tree.leaves(Ensemble.open(tmp_path / "run").weights([2, 3]))[0]) == 2


def test_the_plan_counts_the_weights(toy):
    costs = []
    for keep in (False, True):
        train(toy, keep_weights=keep, on_cost=costs.append)
    variables = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(TINY_CNN.init, jax.random.key(0))))
    assert costs[1].disk_bytes - costs[0].disk_bytes == 5 * 4 * variables


# --- refusals --------------------------------------------------------------------------------------------------------


def change(weights, case):
    leaves, structure = jax.tree.flatten(weights)
    if case == "a dictionary":
        return {"params": weights.params}, TypeError, "initial is dict; it takes jaxinfl.models.Variables"
    if case == "too few":
        return (
            Variables({}, weights.stats),
            ValueError,
            r"initial lacks \.params\['convs'\]\[0\]\['kernel'\] of .*tiny_cnn",
        )
    if case == "too many":
        more = Variables(weights.params | {"extra": leaves[0]}, weights.stats)
        return more, ValueError, r"initial holds \.params\['extra'\], which is not of .*tiny_cnn"
    if case == "other models":
        return (
            jax.tree.map(lambda w: w[:3], weights),
            ValueError,
            r"it takes float32 \(5, 3, 3, 1, 4\), the weights of one",
        )
    if case == "other dtype":
        leaves[0] = leaves[0].astype(np.float64)
        return jax.tree.unflatten(structure, leaves), ValueError, r"float64 \(5, 3, 3, 1, 4\); it takes float32"
    leaves[0] = leaves[0].copy()
    leaves[0][3, 0, 0, 0, 0] = np.nan
    return jax.tree.unflatten(structure, leaves), ValueError, r"is not finite for 1 models \(first: \[3\]\)"


@pytest.mark.parametrize("case", ["a dictionary", "too few", "too many", "other models", "other dtype", "NaN"])
def test_other_weights_are_refused(toy, finished, monkeypatch, case):
    initial, error, message = change(finished.weights(), case)
    monkeypatch.setattr("jaxinfl.training.machine.build_programs", None)
    with pytest.raises(error, match=message):
        train(toy, initial=initial)


def test_variables_that_cannot_be_kept_are_refused_before_training(toy):
    pairs = Model(
        "pairs",
        lambda key: Variables((jnp.zeros((64, 3)), jnp.zeros(3)), ()),
        lambda variables, images, **_: (
            images.reshape(len(images), -1) @ variables.params[0] + variables.params[1][None],
            variables.stats,
        ),
        195,
        "0",
    )
    with pytest.raises(TypeError, match=r"hold \.params\[0\], but weights are kept of nested dictionaries"):
        train(toy, model=pairs, keep_weights=True, on_cost=lambda cost: pytest.fail("it was compiled"))
    given = Variables((np.ones((5, 64, 3), np.float32), np.zeros((5, 3), np.float32)), ())
    assert train(toy, model=pairs, initial=given).complete
