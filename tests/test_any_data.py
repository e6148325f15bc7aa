"""The rules that must hold exactly, on every kind of data and task."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Dataset, Recipe
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.training import loop
from tests.example_tables import TABLE, table_arrays
from tests.kinds_of_data import KINDS, TRAIN, linear
from tests.small_ensembles import stop_after_one_shard

MASKS = np.stack([np.random.default_rng(row).permutation(TRAIN) < size for row, size in enumerate((7, 16, 21, 25))])
KEYS = jax.random.split(jax.random.key(0), len(MASKS))


def train(kind, data=None, rows=slice(None), **options):
    options = {"model": kind.model, "recipe": kind.recipe, "progress": False, "tune": False} | options
    return jaxinfl.train_ensemble(MASKS[rows], KEYS[rows], data=data or kind.data, **options)


FAST = ("dict", "tokens", "functions", "own task")
"""Kinds of data that `make test` tries; the others differ from these in their task or in how the model is written."""


@pytest.fixture(
    scope="module", params=[name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]
)
def trained(request):
    kind = KINDS[request.param]
    return kind, train(kind)


def assert_same(one, other, rows=slice(None)):
    for name in one.scores:
        np.testing.assert_array_equal(one.test_score(name), other.test_score(name)[rows], err_msg=name)
        np.testing.assert_array_equal(one.train_score(name), other.train_score(name)[rows], err_msg=name)


def change(data, excluded, number=1e6):
    """Other contents of some training examples, what is declared being equal."""

    def changed(values):
        values = values.copy()
        values[excluded] = values[~excluded][: excluded.sum()] if values.dtype.kind != "f" else number
        return values

    inputs = data.train_inputs
    inputs = {name: changed(each) for name, each in inputs.items()} if isinstance(inputs, dict) else changed(inputs)
    single = not isinstance(inputs, dict)
    return Dataset(
        train_inputs=inputs,
        train_targets=changed(data.train_targets),
        test_inputs=data.test_inputs,
        test_targets=data.test_targets,
        task=data.task,
        class_names=data.class_names or None,
        categories=(data.categories.get("") if single else data.categories) if data.categories else None,
    )


def test_excluded_examples_have_no_effect(trained):
    """Rule 1, to the bit: through the loss, the standardization or padding."""
    kind, runs = trained
    excluded = ~MASKS[:2].any(axis=0)
    assert excluded.any()
    other = train(kind, change(kind.data, excluded), slice(0, 2))
    for name in runs.scores:
        np.testing.assert_array_equal(other.test_score(name), runs.test_score(name)[:2])
        seen = MASKS[:2].any(axis=0)
        np.testing.assert_array_equal(other.train_score(name)[:, seen], runs.train_score(name)[:2, seen])
    # An included example has an effect, or the test could not fail.
    touched = train(kind, change(kind.data, np.arange(TRAIN) == np.flatnonzero(MASKS[0])[0], 2.0), slice(0, 1))
    assert (touched.test_score(kind.score) != runs.test_score(kind.score)[:1]).any()


def test_neighbours_and_shards_do_not_matter(trained):
    kind, runs = trained
    assert_same(train(kind, rows=slice(2, 3)), runs, slice(2, 3))
    assert_same(train(kind, rows=slice(None, None, -1), shard_size=1), runs, slice(None, None, -1))


def test_killed_and_resumed_in_parts_and_extended(trained, tmp_path):
    kind, runs = trained
    with stop_after_one_shard():
        train(kind, run_dir=tmp_path / "run", shard_size=1)
    assert_same(train(kind, run_dir=tmp_path / "run"), runs)
    for part in ((1, 2), (2, 2)):
        train(kind, run_dir=tmp_path / "parts", part=part)
    assert_same(jaxinfl.Ensemble.open(tmp_path / "parts"), runs)
    train(kind, rows=slice(0, 2), run_dir=tmp_path / "more")
    assert_same(train(kind, run_dir=tmp_path / "more"), runs)
    np.testing.assert_array_equal(runs.test_targets, kind.data.test_targets)


def test_killed_between_two_checkpoints(trained, tmp_path, monkeypatch):
    """The run is killed in the middle of an epoch, and the run goes on from the last checkpoint to the same bits."""
    kind, runs = trained
    monkeypatch.setattr(loop, "CALL_SECONDS", 1e-9)
    monkeypatch.setattr("jaxinfl.training.machine._CPU_CHUNK", 1)  # a checkpoint after each step
    written = []

    def dying(self, about, leaves, write=CheckpointFile.write):
        write(self, about, leaves)
        written.append(about)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            train(kind, run_dir=tmp_path / "run", checkpoint_every=1e-9)
    assert jaxinfl.Ensemble.open(tmp_path / "run").num_models == 0 and written[-1]["in_training"] > 0
    assert_same(train(kind, run_dir=tmp_path / "run", checkpoint_every=1e-9), runs)


def test_kept_weights_say_the_same(trained):
    kind, runs = trained
    kept = train(kind, keep_weights=True)
    again = kept.predict(data=kind.data, model=kind.model)
    np.testing.assert_array_equal(again.test_score(kind.score), runs.test_score(kind.score))
    other = kept.predict(kind.data.test_inputs, kind.data.test_targets, data=kind.data, model=kind.model)
    np.testing.assert_array_equal(other.test_score(kind.score), runs.test_score(kind.score))


def test_everything_takes_any_score_by_name(trained):
    kind, runs = trained
    assert kind.score in runs.scores and "loss" in runs.scores
    influence = jaxinfl.influence(runs, kind.score)
    expected = runs.test_score(kind.score)[MASKS[:, 0]].mean(0) - runs.test_score(kind.score)[~MASKS[:, 0]].mean(0)
    if 0 < MASKS[:, 0].sum() < len(MASKS):
        np.testing.assert_allclose(influence[0], expected, rtol=1e-4, atol=1e-6)
    assert influence.shape == (TRAIN, len(runs.test_targets))


def test_the_loss_of_a_run_is_that_of_its_task(trained):
    """Classes give -log of the probability, and numbers the squared error."""
    kind, runs = trained
    if "probability" in runs.scores:
        np.testing.assert_allclose(
            runs.test_score("loss"), -np.log(runs.test_score("probability")), rtol=1e-3, atol=1e-6
        )
    if kind.data.task.name == "regression" and "residual" in runs.scores:
        np.testing.assert_allclose(runs.test_score("loss"), np.square(runs.test_score("residual")), rtol=1e-5)
        np.testing.assert_allclose(
            runs.test_score("residual"), runs.test_targets[None] - runs.test_score("prediction"), atol=1e-5
        )


def test_standardized_features_are_those_of_the_subset():
    """A constant feature, and a huge one, are no matter to a model that sees them standardized."""
    kind = KINDS["regression"]
    table = kind.data.train_inputs
    scale, shift = np.array([1, 1024, 1, 1], np.float32), np.array([0, 0, 256, 0], np.float32)
    other = Dataset(
        train_inputs=table * scale + shift,
        train_targets=kind.data.train_targets,
        test_inputs=kind.data.test_inputs * scale + shift,
        test_targets=kind.data.test_targets,
        task="regression",
    )
    np.testing.assert_allclose(
        train(kind, other).test_score("prediction"), train(kind).test_score("prediction"), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", ["huber", "several numbers"])
def test_standardized_targets_suit_any_unit(name):
    """Targets in another unit give the same predictions in that unit; unless standardized they would not even be finite."""
    kind = KINDS[name]
    data, unit, origin = kind.data, np.float32(1024), np.float32(4096)
    task = jaxinfl.tasks.huber(0.5 * 1024) if name == "huber" else "regression"
    other = Dataset(
        train_inputs=data.train_inputs,
        train_targets=data.train_targets * unit + origin,
        test_inputs=data.test_inputs,
        test_targets=data.test_targets * unit + origin,
        task=task,
    )
    score = "prediction" if name == "huber" else "prediction_0"
    one, two = train(kind).test_score(score), train(kind, other).test_score(score)
    np.testing.assert_allclose((two - origin) / unit, one, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(
        train(kind, other).test_score("loss"), train(kind).test_score("loss") * unit**2, rtol=5e-2, atol=1
    )


def test_standardized_targets_are_those_of_regression():
    with pytest.raises(ValueError, match="standardize_targets is True, which is without effect for the task 'classif"):
        train(KINDS["table"], recipe=Recipe(standardize_targets=True))


def test_a_declared_vocabulary_holds_the_targets_too():
    tokens = np.arange(12).reshape(6, 2) % 4
    given = table_arrays(
        train_inputs=tokens, test_inputs=tokens, train_targets=tokens + 2, test_targets=tokens, task="next_token"
    )
    data = Dataset(**given)
    assert data.categories == {"": 6} and data.num_outputs == 6
    assert Dataset(**given, categories=9).num_outputs == 9
    with pytest.raises(ValueError, match="train_targets holds 5, but categories declares 5 tokens"):
        Dataset(**given, categories=5)
    with pytest.raises(ValueError, match="train_inputs hold no integers; the task 'next_token' takes tokens"):
        Dataset(**given | {"train_inputs": TABLE, "test_inputs": TABLE})


def test_padding_of_sequences_counts_nowhere():
    data = KINDS["tokens"].data
    targets = data.train_targets.copy()
    outputs = np.random.default_rng(0).normal(size=(*targets.shape, 6)).astype(np.float32)
    task = data.task
    before = np.asarray(task.loss(outputs, targets))
    outputs[:, 4] = 100.0  # the last target is padding
    np.testing.assert_array_equal(np.asarray(task.loss(outputs, targets)), before)
    log = outputs - np.log(np.exp(outputs.astype(np.float64)).sum(-1, keepdims=True))
    own = np.take_along_axis(log, np.maximum(targets, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(before, -own[:, :4].mean(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train_inputs": np.where(TABLE == 3, np.nan, TABLE)}, ValueError, "train_inputs contains NaN"),
        ({"test_inputs": np.where(TABLE == 3, np.inf, TABLE)}, ValueError, "test_inputs is inf at example 3, column 0"),
        ({"train_inputs": TABLE.astype(object)}, TypeError, "train_inputs has dtype object; it takes arrays of bool"),
        (
            {"train_inputs": TABLE[:, :1]},
            ValueError,
            r"train_inputs is float32 \(1,\) an example and test_inputs float32 \(2,\)",
        ),
        ({"train_inputs": {"x": TABLE}}, TypeError, "train_inputs is a dict of arrays and test_inputs is not"),
        (
            {"train_inputs": {"x": TABLE, "y": TABLE[:3]}, "test_inputs": {"x": TABLE, "y": TABLE}},
            ValueError,
            "lengths",
        ),
        ({"train_inputs": {"x": TABLE}, "test_inputs": {"y": TABLE}}, ValueError, "both take the same names"),
        ({"train_inputs": TABLE[:5]}, ValueError, "train_inputs holds 5 examples and train_targets 6"),
        (
            {"train_inputs": -TABLE.astype(int), "test_inputs": TABLE.astype(int)},
            ValueError,
            "holds -5; integers are categories",
        ),
        (
            {"train_inputs": TABLE.astype(int), "test_inputs": TABLE.astype(int), "categories": 3},
            ValueError,
            "categories is 3, but",
        ),
        ({"categories": {"x": 3}}, ValueError, "categories names 'x', which is no array of integers"),
        ({"task": "ranking"}, ValueError, "task is 'ranking'; it takes one of 'classification'"),
        ({"task": 3}, TypeError, r"task is 3 \(int\)"),
        ({"task": "binary", "train_targets": np.arange(6)}, ValueError, "'binary' takes 0 and 1.*'classification'"),
        ({"task": "next_token"}, TypeError, "'next_token' takes integers"),
        (
            {"task": "regression", "class_names": ["a", "b"]},
            ValueError,
            "class_names is given, which the task 'regression'",
        ),
        ({"train_targets": TABLE[:, 0] + 0.5}, TypeError, "train_targets has dtype float32"),
    ],
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=message):
        Dataset(**table_arrays(**changes))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"flip": True}, "flip is True, which is without effect for arrays; it takes images"),
        ({"crop_padding": 2}, "crop_padding is 2, which is without effect"),
    ],
)
def test_recipes_for_images_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        jaxinfl.train_ensemble(
            np.ones((1, 6), bool), KEYS[:1], data=Dataset(**table_arrays()), model="mlp", recipe=Recipe(**recipe)
        )


def test_networks_for_images_are_refused():
    with pytest.raises(ValueError, match="'small_cnn' takes images"):
        jaxinfl.train_ensemble(np.ones((1, 6), bool), KEYS[:1], data=Dataset(**table_arrays()), model="small_cnn")
    with pytest.raises(ValueError, match="the task takes outputs of the shape"):
        jaxinfl.train_ensemble(MASKS[:1], KEYS[:1], data=KINDS["several numbers"].data, model=linear)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"loss": lambda o, t: (o[:, 0] - t).sum()}, r"loss gives float32 \(\).*one float an example"),
        ({"loss": lambda o, t: o[:, 0] - o.mean()}, "loss of one example depends on another"),
        ({"loss": lambda o, t: jnp.log(-jnp.abs(o[:, 0]))}, "loss is not finite"),
        ({"loss": lambda o, t: o[:, 7, 3]}, "loss fails on outputs"),
        ({"loss": lambda o, t: o[:, 0], "scores": {"s": lambda o, t: t[None]}}, "score 's' gives"),
    ],
)
def test_tasks_of_a_users_own_are_checked(task, message):
    kind = KINDS["own task"]
    data = kind.data
    given = Dataset(
        train_inputs=data.train_inputs,
        train_targets=data.train_targets,
        test_inputs=data.test_inputs,
        test_targets=data.test_targets,
        task=jaxinfl.Task("mine", **task),
    )
    with pytest.raises(ValueError, match=message):
        train(kind, given)


def test_what_looks_like_an_image_can_be_told_not_to_be_one():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 3)).astype(np.uint8)
    assert Dataset(**table_arrays(train_inputs=pixels, test_inputs=pixels)).are_images
    other = Dataset(**table_arrays(train_inputs=pixels, test_inputs=pixels), categories=256)
    assert not other.are_images and other.categories == {"": 256}


@pytest.mark.parametrize("kind", ["npy", "memmap"])
@pytest.mark.parametrize(
    ("dtype", "shape"), [("float32", (600,)), ("uint8", (20, 30, 1)), ("uint8", (600,)), ("int64", (600,))]
)
def test_memory_mapped_arrays_stay_so(tmp_path, monkeypatch, kind, dtype, shape):
    """Nothing is copied, and checks and the fingerprint look at some rows at a time."""
    values = (np.arange(4000 * 600) % 7).astype(dtype).reshape(4000, *shape)
    labels = np.arange(4000) % 2
    plain = Dataset(train_inputs=values, train_targets=labels, test_inputs=values, test_targets=labels)
    np.save(tmp_path / "x.npy", values)
    if kind == "npy":
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    else:
        values.tofile(tmp_path / "x.bin")
        mapped = np.memmap(tmp_path / "x.bin", dtype, "r", shape=values.shape)
    for name in ("arrays._AT_ONCE", "dataset._HASHED_AT_ONCE"):
        monkeypatch.setattr(f"jaxinfl.datasets.{name}", 2**16)
    tracemalloc.start()
    data = Dataset(train_inputs=mapped, train_targets=labels, test_inputs=mapped, test_targets=labels)
    fingerprint = data.fingerprint
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.shares_memory(data.train_inputs, mapped) and np.shares_memory(data.test_inputs, mapped)
    assert fingerprint == plain.fingerprint and peak < values.nbytes / 4


@pytest.mark.parametrize(("name", "sizes"), [("breast_cancer", (456, 113)), ("iris", (120, 30)), ("wine", (143, 35))])
def test_tables_of_classes(name, sizes):
    data = jaxinfl.load_dataset(name)
    assert (data.num_train, data.num_test) == sizes and data.task.name == "classification"
    shares = [np.bincount(targets) / len(targets) for targets in (data.train_targets, data.test_targets)]
    np.testing.assert_allclose(*shares, atol=0.02)
    assert data.fingerprint == jaxinfl.load_dataset(name).fingerprint


def test_a_table_of_numbers():
    data = jaxinfl.load_dataset("diabetes")
    assert (data.num_train, data.num_test, data.num_outputs) == (354, 88, 1) and data.task.name == "regression"
    with pytest.raises(ValueError, match="diabetes holds no images"):
        jaxinfl.load_dataset("diabetes", image_size=8)
