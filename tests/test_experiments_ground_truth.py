"""Attributions against retraining, end to end, and the baselines by gradients by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinfl
from experiments import gradient_attribution
from experiments.command_line import Mistake
from experiments.gradient_attribution import Checkpoints, _kernel, gradient_similarity, trak
from experiments.ground_truth import EXPERIMENT, PRESETS, check, choose_tests, names
from jaxinfl.tasks import margin
from tests.small_experiments import check_end_to_end

TINY = PRESETS["tiny"]


def test_end_to_end(tmp_path, monkeypatch, capsys):
    runs = {"models", "truth", "checkpoints", "without"}
    results = check_end_to_end(
        EXPERIMENT.main, TINY, tmp_path, monkeypatch, capsys, figures={"lds", "flips"}, runs=runs
    )
    assert list(results["lds"]) == names(TINY) and list(results["flips"]["share"]) == [*names(TINY), "random"]
    opened = {name: jaxinfl.Ensemble.open(tmp_path / "results" / name) for name in runs}
    first = jaxinfl.influence(opened["models"][:20], "margin").astype(np.float64)
    expected = jaxinfl.lds(np.nan_to_num(first), opened["truth"], "margin")
    assert results["lds"]["margins, 20 models"]["mean"] == expected.mean
    without = opened["without"]
    tests = choose_tests(TINY, opened["models"])
    # The second removal of the first attribution for the first test example, after the full set and two random removals.
    row = without.masks[2 * (1 + 2 + 1)]
    values = np.nan_to_num(jaxinfl.influence(opened["models"][:10], "correct").astype(np.float64))[:, tests[0]]
    assert set(np.flatnonzero(~row)) == set(np.argsort(-values, kind="stable")[:10])


@pytest.fixture(scope="module")
def checkpoints():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (52, 8, 8, 1), np.uint8), np.arange(52) % 3
    data = jaxinfl.Dataset(
        train_inputs=images[:40], train_targets=labels[:40], test_inputs=images[40:], test_targets=labels[40:]
    )
    runs = jaxinfl.train_ensemble(
        np.ones((2, 40), bool),
        jax.random.split(jax.random.key(0), 2),
        data=data,
        model="small_mlp",
        recipe=jaxinfl.Recipe(epochs=2, batch_size=8),
        keep_weights=True,
        progress=False,
    )
    return Checkpoints(runs, data, "small_mlp"), runs, data


def test_the_checkpoints_say_what_the_run_says(checkpoints):
    made, runs, _ = checkpoints
    for split, recorded in (("train", runs.train_probability), ("test", runs.test_probability)):
        np.testing.assert_allclose(made.gradients(1, split)[1], recorded[1], rtol=1e-3, atol=1e-5)


def test_gradients_of_the_loss_by_hand(checkpoints):
    made, runs, _ = checkpoints
    variables = jax.tree.map(lambda leaf: leaf[0], runs.weights([0]))

    def loss(params, split, index):
        logits = made.model.apply(
            variables._replace(params=params), jnp.asarray(made.inputs[split][index : index + 1]), train=False
        )[0]
        return jax.nn.softplus(-margin(logits, made.labels[split][index : index + 1]))[0]

    one, other = (jax.grad(loss)(variables.params, split, 3) for split in ("train", "test"))
    by_hand = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert gradient_similarity(made)[3, 3] == pytest.approx(float(by_hand), rel=1e-3)


def test_the_kernel_by_hand():
    """The kernel of rows with themselves is the hat matrix, which gives every row its own value back."""
    rows = np.random.default_rng(0).normal(size=(9, 4))
    hat = rows @ np.linalg.inv(rows.T @ rows) @ rows.T
    np.testing.assert_allclose(_kernel(rows, rows), hat, atol=1e-6)
    assert (np.diag(_kernel(rows, rows)) > 0).all()


def test_trak_is_random_by_its_projections_alone(checkpoints):
    made, _, data = checkpoints
    scores = trak(made, seed=0)
    assert scores.shape == (data.num_train, data.num_test) and np.isfinite(scores).all()
    assert np.abs(scores - trak(made, seed=1)).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (20, 10)}, "--sizes is 20 10; it takes rising numbers"),
        ({"removals": ()}, "--removals is empty"),
        ({"subsets": 10}, "--subsets is 10; it takes a whole number from 30 up"),
        ({"tests": 0}, "--tests is 0"),
    ],
)
def test_mistakes_are_told(changes, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(TINY, **changes))


def test_a_network_that_is_too_large_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(gradient_attribution, "_MOST_NUMBERS", 10**7)
    with pytest.raises(
        Mistake, match="small_mlp has 9,610 parameters, too many to hold the gradients of 1797 examples"
    ):
        EXPERIMENT.requests(PRESETS["digits"], jaxinfl.load_dataset("digits"))


def test_data_without_images_are_refused():
    with pytest.raises(Mistake, match="holds no images with class labels"):
        EXPERIMENT.takes(jaxinfl.load_dataset("breast_cancer"))
