"""Models trained elsewhere: their scores alone give the numbers that the run itself gives; they are saved, opened and verified."""

import errno
import re
import shutil

import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.store import RunStore
from jaxinfl.verify import main
from tests.small_ensembles import LINEAR, keys_of, train
from tests.test_bad_inputs import arrays_of

SUBSETS = 52
MASKS = np.repeat(np.random.default_rng(0).random((SUBSETS, 40)) < 0.6, 2, axis=0)
NAMES = ("correct", "margin", "probability")
attribution = np.random.default_rng(1).normal(size=(40, 12))

# Every function that takes masks and scores, on an ensemble and the name of a score.
FUNCTIONS = {
    "influence": jaxinfl.influence,
    "memorization": jaxinfl.memorization,
    "top_pairs": lambda runs, name: jaxinfl.top_pairs(runs, name, k=5, min_memorization=None),
    "iou_curve": lambda runs, name: jaxinfl.iou_curve(
        runs, name, num_models=[20], repeats=2, thresholds=[0.1, 0.3], min_memorization=None
    ),
    "discoveries": lambda runs, name: jaxinfl.discoveries(runs, name, fdr=0.9),
    "estimate": lambda runs, name: jaxinfl.estimate(runs, name, "adjusted", shrink=True),
    "estimate with correct": lambda runs, name: jaxinfl.estimate(
        runs, "probability" if name == "correct" else name, correct="correct"
    ),
    "lds": lambda runs, name: jaxinfl.lds(attribution, runs, name, repeats=3),
    "variance_components": jaxinfl.variance_components,
    "datamodel_weights": jaxinfl.datamodel_weights,
    "pair_uncertainty": lambda runs, name: jaxinfl.pair_uncertainty(runs, name, np.array([0, 3]), np.array([1, 4])),
    "memorization_uncertainty": jaxinfl.memorization_uncertainty,
}


def assert_same(one, other):
    for first, second in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(first, second)


def scores_of(runs):
    return [
        {name: score(name) for name in NAMES}
        for score in (runs.with_diverged().train_score, runs.with_diverged().test_score)
    ]


@pytest.fixture(scope="module")
def trained(toy):
    return train(MASKS, keys_of(len(MASKS)), toy, model=LINEAR)


@pytest.fixture(scope="module")
def given(trained, toy):
    return Ensemble.from_scores(MASKS, *scores_of(trained), data=toy)


@pytest.fixture(scope="module")
def saved(given, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "deep" / "run"
    given.save(path)
    return path


@pytest.mark.parametrize(
    "name", [name if name == "margin" else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_scores_alone_give_the_numbers_of_the_run(trained, given, function, name):
    assert_same(FUNCTIONS[function](given, name), FUNCTIONS[function](trained, name))


def test_a_plan_by_the_name_of_a_score(trained, given):
    """Any 0-1 score is taken; influences by the other kinds are no differences of probabilities."""
    expected = jaxinfl.plan(trained[::2], repeats=2)
    assert_same(jaxinfl.plan(given[::2], repeats=2), expected)
    one, other = scores_of(trained)
    renamed = Ensemble.from_scores(MASKS, {"right": one["correct"]}, {"right": other["correct"]})[::2]
    assert_same(jaxinfl.plan((renamed, "right"), repeats=2), expected)
    with pytest.raises(ValueError, match="score is 'correct'; this ensemble has 'right'"):
        jaxinfl.plan(renamed)
    with pytest.raises(TypeError, match="pilot names the score 'margin', whose kind is real; it takes a 0-1 score"):
        jaxinfl.plan((given, "margin"))


def test_names_and_kinds_of_scores(trained, given):
    assert given.scores == NAMES and trained.scores == (*NAMES, "loss")
    for runs in (trained, given):
        assert [runs.score_kind(name) for name in NAMES] == ["0-1", "real", "bounded"]
        for call in (runs.score_kind, runs.train_score, runs.test_score):
            with pytest.raises(
                ValueError, match="score is 'rank'; this ensemble has 'correct', 'margin', 'probability'"
            ):
                call("rank")
    with pytest.raises(ValueError, match="thresholds is None, which stands for differences of probabilities"):
        jaxinfl.iou_curve(given, "margin", num_models=[20], min_memorization=None)
    own = Ensemble.from_scores(
        MASKS, {"loss": np.full(MASKS.shape, 2.0), "seen": MASKS}, {"loss": np.ones((len(MASKS), 3), np.float16)}
    )
    assert own.scores == ("loss", "seen") and [own.score_kind(name) for name in own.scores] == ["real", "0-1"]
    assert own.test_score("loss").dtype == own.train_score("loss").dtype == np.float32


def test_a_score_of_some_examples_only():
    runs = Ensemble.from_scores(MASKS, train={"right": MASKS})
    assert jaxinfl.memorization(runs, "right").max() == 1
    with pytest.raises(
        ValueError, match=r"score is 'right'; this ensemble has it of the train examples only.* test, too"
    ):
        jaxinfl.influence(runs, "right")
    runs = Ensemble.from_scores(MASKS, test={"right": MASKS[:, :3]})
    assert jaxinfl.influence(runs, "right").shape == (40, 3)
    for call in (jaxinfl.memorization, jaxinfl.top_pairs):
        with pytest.raises(
            ValueError, match=r"score is 'right'; this ensemble has it of the test examples only.* train, too"
        ):
            call(runs, "right")


def test_labels_and_fingerprint(given, trained, toy):
    np.testing.assert_array_equal(given.train_targets, toy.train_targets)
    np.testing.assert_array_equal(given.test_targets, toy.test_targets)
    assert given.data_fingerprint == toy.fingerprint
    without = Ensemble.from_scores(MASKS, *scores_of(trained))
    for name in ("train_targets", "test_targets", "data_fingerprint"):
        with pytest.raises(ValueError, match=f"{name}: this ensemble knows no .* Give data to Ensemble.from_scores"):
            getattr(without, name)


def test_saved_and_opened(given, saved, capsys):
    runs = Ensemble.open(saved)
    assert runs.complete and runs.scores == NAMES and runs.data_fingerprint == given.data_fingerprint
    assert_same(scores_of(runs), scores_of(given))
    np.testing.assert_array_equal(runs.masks, MASKS)
    np.testing.assert_array_equal(runs.train_targets, given.train_targets)
    assert main([str(saved)]) == 0 and "every file is what was written" in capsys.readouterr().out
    assert [path.name for path in saved.parent.iterdir()] == ["run"]  # no draft is left
    for word in ("Ensemble of 104 of 104 models trained elsewhere", "margin (real)", "toy: 40 train, 12 test"):
        assert word in repr(runs)
    with pytest.raises(RunDirectoryError, match="run exists already; save makes a new directory"):
        given.save(saved)


def test_rows_are_selected_and_saved(given, tmp_path):
    rows = np.array([70, 3, 3, 11])
    given[rows].save(tmp_path / "some")
    some = Ensemble.open(tmp_path / "some")
    assert_same(scores_of(some), [{name: score[rows] for name, score in part.items()} for part in scores_of(given)])
    np.testing.assert_array_equal(some.masks, MASKS[rows])
    assert list(some.model_index) == [0, 1, 2, 3] and main([str(tmp_path / "some")]) == 0
    # Two selections of equal masks are sealed differently: a row of the one is no row of the other.
    given[[1]].save(tmp_path / "one")
    given[[0]].save(tmp_path / "other")
    assert (tmp_path / "one" / "zarr.json").read_bytes() != (tmp_path / "other" / "zarr.json").read_bytes()
    with pytest.raises(ValueError, match="no finished model; save takes at least one"):
        given[[]].save(tmp_path / "none")


def test_a_save_that_fails_leaves_nothing(given, tmp_path, monkeypatch):
    find = RunStore._array

    def fail(store, name):
        if store.path is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return find(store, name)

    monkeypatch.setattr(RunStore, "_array", fail)
    message = "run cannot be written: No space left on device. Free some space, and save again: nothing is left of it."
    with pytest.raises(jaxinfl.WriteFailed, match=re.escape(f"{tmp_path / message}")):
        given.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_damage_is_found_and_not_trained_again(saved, tmp_path, capsys):
    damaged = tmp_path / "run"
    shutil.copytree(saved, damaged)
    file = damaged / "test_margin" / "c" / "1" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    runs = Ensemble.open(damaged)
    np.testing.assert_array_equal(runs[:64].test_margin, Ensemble.open(saved)[:64].test_margin)
    with pytest.raises(RunDirectoryError, match="nothing here computes their scores again"):
        runs.test_score("margin")
    assert main([str(damaged)]) == 1
    assert "40 models are damaged. They were trained elsewhere" in (said := capsys.readouterr().out)
    assert "test_margin/c/1/0: damaged, models 64 to 103" in said and "--repair" not in said
    before = {path: path.read_bytes() for path in damaged.rglob("c/*/*") if path.is_file()}
    assert main([str(damaged), "--repair"]) == 2
    assert (
        "40 of them are damaged (64, 65, 66, 67, 68 and 35 more) and cannot be trained again" in capsys.readouterr().err
    )
    assert before == {path: path.read_bytes() for path in damaged.rglob("c/*/*") if path.is_file()}
    # What is there twice is put right.
    shutil.rmtree(damaged)
    shutil.copytree(saved, damaged)
    (damaged / "masks" / "c" / "0" / "0").unlink()
    (damaged / "test_margin" / "zarr.json").write_text("{}")
    assert main([str(damaged), "--repair"]) == 0 and main([str(damaged)]) == 0
    assert_same(scores_of(Ensemble.open(damaged)), scores_of(Ensemble.open(saved)))


def test_diverged_models_are_left_out(given, tmp_path):
    one, other = ({name: score.copy() for name, score in part.items()} for part in scores_of(given))
    for part in (one, other):
        part["margin"][5], part["probability"][5] = np.inf, np.nan
    with pytest.warns(RuntimeWarning, match="1 of 104 models diverged and are left out of the ensemble in memory"):
        runs = Ensemble.from_scores(MASKS, one, other)
    rest = np.delete(np.arange(104), 5)
    assert_same(jaxinfl.influence(runs, "margin"), jaxinfl.influence(given[rest], "margin"))
    assert np.isnan(runs.with_diverged().test_margin[5]).all() and runs.with_diverged().diverged.sum() == 1
    runs.save(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="1 of 104 models diverged"):
        again = Ensemble.open(tmp_path / "run")
    assert list(again.model_index) == list(rest) and again.num_diverged == 1
    runs[:3].save(tmp_path / "three")
    assert Ensemble.open(tmp_path / "three").num_diverged == 0


def test_some_missing_values_are_refused(given):
    one, other = scores_of(given)
    other["margin"] = other["margin"].copy()
    other["margin"][7, 4] = np.nan
    message = r"test\['margin'\] holds NaN or inf .* 1 of 104 models \(first: model 7, test example 4\)"
    with pytest.raises(ValueError, match=message):
        Ensemble.from_scores(MASKS, one, other)
    with pytest.raises(ValueError, match=r"train\['a'\] holds NaN or inf .* \(first: model 2, train example 0\)"):
        Ensemble.from_scores(MASKS, {"a": np.where(np.arange(104)[:, None] == 2, 1e300, np.zeros((104, 40)))}, other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": None, "test": None}, ValueError, "train and test are None"),
        ({"train": {}}, ValueError, r"train is empty; it takes a mapping .*, or None"),
        ({"test": MASKS}, TypeError, "test is ndarray; it takes a mapping"),
        ({"train": {3: MASKS}}, TypeError, r"train names a score 3 \(int\); it takes strings"),
        ({"train": {"a b": MASKS}}, ValueError, "train names a score 'a b'; it takes identifiers"),
        ({"train": {"../x": MASKS}}, ValueError, "it takes identifiers"),
        ({"train": {"class": MASKS}}, ValueError, "it takes identifiers .* Python's keywords"),
        ({"train": {"labels": MASKS}}, ValueError, "but for 'targets', 'labels', 'outputs'"),
        ({"train": {"a": MASKS[1:]}}, ValueError, r"train\['a'\] has 103 rows, but masks has 104"),
        ({"train": {"a": np.concatenate([MASKS, MASKS])}}, ValueError, r"train\['a'\] has 208 rows"),
        ({"train": {"a": MASKS[:, 1:]}}, ValueError, r"train\['a'\] has 39 columns, but masks has 40"),
        ({"train": {"a": MASKS.astype(int)}}, TypeError, r"train\['a'\] has dtype int64; it takes bool"),
        ({"train": {"a": MASKS[0]}}, ValueError, r"train\['a'\] has shape \(40,\)"),
        ({"train": {"a": MASKS}, "test": {"A": MASKS}}, ValueError, "must differ by more than case"),
        ({"train": {"a": MASKS}, "test": {"a": MASKS + 0.5}}, TypeError, "is bool in both or float in both"),
        ({"test": {"a": MASKS, "b": MASKS[:, :2]}}, ValueError, r"test\['b'\] has 2 columns, but test\['a'\] has 40"),
        ({"masks": MASKS.astype(int)}, TypeError, "masks has dtype int64"),
        ({"data": "digits"}, TypeError, "data is 'digits'; it takes a jaxinfl.Dataset, or None"),
    ],
)
def test_bad_input_is_refused(types_unchecked, change, error, message):
    with pytest.raises(error, match=message):
        Ensemble.from_scores(**({"masks": MASKS, "train": {"right": MASKS}} | change))


def test_a_name_that_is_no_string_is_refused(types_unchecked, given):
    for call in (given.score_kind, given.train_score, lambda name: jaxinfl.plan((given, name))):
        with pytest.raises(TypeError, match=r"score is 3 \(int\); this ensemble has 'correct'"):
            call(3)


def test_data_of_other_sizes_are_refused(toy):
    with pytest.raises(ValueError, match="data has 40 training examples and masks has 30 columns"):
        Ensemble.from_scores(MASKS[:, :30], {"a": MASKS[:, :30]}, data=toy)
    with pytest.raises(ValueError, match=r"data has 12 test examples and test\['a'\] has 40 columns"):
        Ensemble.from_scores(MASKS, test={"a": MASKS}, data=toy)


def test_what_needs_training_is_refused(given, saved, toy):
    for call in (given.weights, given.predict, lambda: given.key_data, lambda: given.test_prediction):
        with pytest.raises(RunDirectoryError, match="in memory were trained elsewhere: only their scores are here"):
            call()
    assert "trained elsewhere" in given.device and given.overrides == {}
    for models in (50, 104, 105):
        masks = np.concatenate([MASKS, MASKS])[:models]
        with pytest.raises(RunDirectoryError, match=r"trained elsewhere.* adds no models to them. Use another run_dir"):
            train(masks, keys_of(models), toy, run_dir=saved, model=LINEAR)
        with pytest.raises(RunDirectoryError, match="trained elsewhere"):
            jaxinfl.training_cost(masks, keys_of(models), data=toy, model=LINEAR, run_dir=saved)


def test_a_trained_run_is_saved_as_it_would_be_on_disk(toy, tmp_path, monkeypatch):
    """It keeps its weights, training goes on from it, and a selection is the run of its own job."""
    masks, keys = MASKS[::16], keys_of(7)
    runs = train(
        masks, keys, toy, model=LINEAR, keep_weights=True, shard_size=4, overrides={"learning_rate": [0.1] * 7}
    )
    runs.save(tmp_path / "run")
    runs[[1, 4]].save(tmp_path / "some")
    assert main([str(tmp_path / "run")]) == main([str(tmp_path / "some")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("jaxinfl.training.machine.build_programs", None)  # nothing is left to train
        for path, rows in ((tmp_path / "run", np.arange(7)), (tmp_path / "some", np.array([1, 4]))):
            rates = {"learning_rate": [0.1] * len(rows)}
            again = train(masks[rows], keys[rows], toy, run_dir=path, model=LINEAR, keep_weights=True, overrides=rates)
            assert_same(scores_of(again), scores_of(runs[rows]))
            assert_same(jax.tree.leaves(again.weights()), jax.tree.leaves(runs.weights(rows)))
            np.testing.assert_array_equal(again.key_data, runs.key_data[rows])
    some = Ensemble.open(tmp_path / "some")
    np.testing.assert_array_equal(some.predict(data=toy, model=LINEAR).test_margin, runs.test_margin[[1, 4]])
