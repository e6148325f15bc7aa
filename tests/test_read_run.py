"""Runs of other programs, read from synthetic twins of their files."""

import logging

import numpy as np
import pytest

import jaxinfl
from jaxinfl import RunDirectoryError, read_run
from tests import twins


@pytest.fixture(scope="module")
def twin():
    return twins.make_twin()


def test_feldman_zhang(twin, tmp_path, caplog):
    twins.write_feldman_zhang(twin, tmp_path / "cifar100", absent=(3,))
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        runs = read_run(tmp_path / "cifar100")
    assert "is read as the layout 'feldman_zhang', because it holds 0.7/" in caplog.text
    kept = np.arange(len(twin.masks)) != 3
    np.testing.assert_array_equal(runs.model_index, np.flatnonzero(kept))
    np.testing.assert_array_equal(runs.masks, twin.masks[kept])
    np.testing.assert_array_equal(runs.train_correct, twin.correct()[kept])
    np.testing.assert_array_equal(runs.test_score("correct"), twin.correct("test")[kept])
    assert runs.scores == ("correct",) and runs.score_kind("correct") == "0-1" and not runs.complete
    expected = jaxinfl.influence(twin.masks[kept], twin.correct("test")[kept])
    np.testing.assert_array_equal(jaxinfl.influence(runs, "correct"), expected)
    assert "TensorFlow Datasets" in runs.order and runs.attributes["names"][0] == "0.7/0"
    assert "models trained elsewhere" in repr(runs)


def test_feldman_zhang_in_the_order_of_tfds(twin, tmp_path, caplog):
    twins.write_feldman_zhang(twin, tmp_path)
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        runs = read_run(tmp_path / "0.7", "feldman_zhang", data=twin.data(jaxinfl, name="mine"))
    assert "nothing tells whether mine has that order" in caplog.text
    np.testing.assert_array_equal(runs.train_labels, twin.labels)
    own = twin.data(jaxinfl).with_source(name=str(tmp_path / "cifar-100-binary.tar.gz"))
    with pytest.raises(RunDirectoryError, match="whose order is its own: row i is another example"):
        read_run(tmp_path, "feldman_zhang", data=own)
    tfds = twin.data(jaxinfl).with_source(name="cifar100")
    assert read_run(tmp_path, "feldman_zhang", data=tfds).order.endswith("and the data, too")


def test_feldman_zhang_of_two_ratios(twin, tmp_path):
    twins.write_feldman_zhang(twin, tmp_path)
    (tmp_path / "0.7").rename(tmp_path / "0.5")
    twins.write_feldman_zhang(twin, tmp_path)
    with pytest.raises(RunDirectoryError, match=r"runs of 2 ratios: 0.5, 0.7. Give the folder of one"):
        read_run(tmp_path, "feldman_zhang")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index_train": np.array([0, 1])}, "has 2 numbers in index_train and 20 in correctness_train"),
        ({"index_train": np.zeros(20, np.int64)}, "each of 0 to 29 once"),
        ({"index_train": np.arange(20) + 100}, "holds 100, but has 30 indices"),
        ({"index_train": np.arange(20.0)}, "has dtype float64; it takes integers"),
        ({"correctness_test": np.full(9, 7)}, "holds 7; it takes 0 and 1"),
        ({"index_test": np.arange(8), "correctness_test": np.zeros(8)}, "has 30 training and 8 test examples"),
        ({"correctness_train": np.array([object()] * 20)}, "only a pickle can"),
    ],
)
def test_damaged_feldman_zhang(twin, tmp_path, change, message):
    twins.write_feldman_zhang(twin, tmp_path)
    file = tmp_path / "0.7" / "5" / "aux_arrays.npz"
    with np.load(file) as arrays:
        whole = dict(arrays)
    np.savez(file, **(whole | change))
    with pytest.raises(RunDirectoryError, match=message):
        read_run(tmp_path, "feldman_zhang")


def test_truncated_and_missing_files_are_named(twin, tmp_path):
    twins.write_feldman_zhang(twin, tmp_path)
    file = tmp_path / "0.7" / "5" / "aux_arrays.npz"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(RunDirectoryError, match=r"aux_arrays.npz is damaged or no NumPy file"):
        read_run(tmp_path, "feldman_zhang")
    twins.write_datamodels_data(twin, tmp_path / "d")
    masks = tmp_path / "d" / "train_masks_50pct.npy"
    masks.write_bytes(masks.read_bytes()[:-5])
    with pytest.raises(RunDirectoryError, match=r"train_masks_50pct.npy is damaged"):
        read_run(tmp_path / "d", "datamodels")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunDirectoryError, match="looks like no layout that jaxinfl reads"):
        read_run(tmp_path / "empty")
    with pytest.raises(RunDirectoryError, match="there is no"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("logits", [False, True])
def test_datamodels_data(twin, tmp_path, logits):
    twins.write_datamodels_data(twin, tmp_path, logits=logits)
    runs = read_run(tmp_path, "datamodels", data=twin.data(jaxinfl) if logits else None)
    for split in ("train", "test"):
        score = getattr(runs, f"{split}_score")
        np.testing.assert_array_equal(score("top_margin"), twin.top_margin(split).astype(np.float16))
        np.testing.assert_array_equal(score("correct"), twin.correct(split))
        if logits:
            np.testing.assert_allclose(score("margin"), twin.margin(split), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(score("probability"), 1 / (1 + np.exp(-twin.margin(split))), rtol=1e-4)
    assert ("margin" in runs.scores) == logits
    assert isinstance(runs.masks, np.memmap) and isinstance(runs[2:5].test_score("top_margin"), np.ndarray)
    np.testing.assert_array_equal(runs[[4, 1]].masks, twin.masks[[4, 1]])
    rounded = twin.top_margin("test").astype(np.float16)
    np.testing.assert_array_equal(jaxinfl.influence(runs, "top_margin"), jaxinfl.influence(twin.masks, rounded))


def test_files_of_several_ratios(twin, tmp_path):
    twins.write_datamodels_data(twin, tmp_path, "20")
    twins.write_datamodels_data(twin, tmp_path, "50")
    with pytest.raises(RunDirectoryError, match=r"runs of 2 ratios: train_masks_20pct.npy, train_masks_50pct.npy"):
        read_run(tmp_path)
    assert len(read_run(tmp_path / "train_masks_50pct.npy")) == len(twin.masks)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("test_margins_50pct.npy", np.zeros((5, 9), np.float16), "has 5 models and the masks beside it 12"),
        ("train_margins_50pct.npy", np.zeros((12, 9), np.float16), "has 9 columns and the masks beside it 30"),
        ("train_masks_50pct.npy", np.zeros((12, 30), np.int64), "has dtype int64; it takes bool"),
        ("test_margins_50pct.npy", np.zeros((12, 9), np.int32), "has dtype int32; it takes floats"),
        ("test_margins_50pct.npy", np.zeros(12, np.float16), "it takes 2 axes"),
        ("test_margins_50pct.npy", np.array([{}] * 12), "only a pickle can"),
    ],
)
def test_damaged_datamodels(twin, tmp_path, file, array, message):
    twins.write_datamodels_data(twin, tmp_path)
    np.save(tmp_path / file, array, allow_pickle=True)
    with pytest.raises(RunDirectoryError, match=message):
        read_run(tmp_path, "datamodels")


@pytest.mark.parametrize("marked", [True, False])
def test_models_that_were_not_completed_are_absent(twin, tmp_path, marked):
    twins.write_datamodels(twin, tmp_path / "own", absent=(0, 7))
    if not marked:
        (tmp_path / "own" / "_completed.npy").unlink()
    runs = read_run(tmp_path / "own", "datamodels")
    kept = ~np.isin(np.arange(len(twin.masks)), (0, 7))
    np.testing.assert_array_equal(runs.masks, twin.masks[kept])
    np.testing.assert_array_equal(runs.test_score("top_margin"), twin.top_margin("test").astype(np.float32)[kept])
    assert runs.num_diverged == 0 and not runs.complete


def test_models_that_diverged_are_told_from_single_values_that_are_missing(twin, tmp_path):
    twins.write_datamodels(twin, tmp_path / "own")
    margins = np.load(tmp_path / "own" / "margins.npy")
    margins[4] = np.nan
    np.save(tmp_path / "own" / "margins.npy", margins)
    with pytest.warns(RuntimeWarning, match="1 of 12 models diverged"):
        runs = read_run(tmp_path / "own", "datamodels")
    assert runs.num_diverged == 1 and len(runs) == 11
    margins[4, 5] = 1.0
    np.save(tmp_path / "own" / "margins.npy", margins)
    with pytest.raises(ValueError, match="NaN or inf"):
        jaxinfl.influence(read_run(tmp_path / "own", "datamodels"), "top_margin")


@pytest.mark.parametrize("views", [1, 2])
def test_lira_scores(twin, tmp_path, views):
    twins.write_lira(twin, tmp_path, views=views, epochs=(20, 100))
    runs = read_run(tmp_path, data=None)
    np.testing.assert_array_equal(runs.masks, twin.masks)
    np.testing.assert_allclose(runs.train_score("lira_score"), twins.lira_score(twin), rtol=1e-6)
    np.testing.assert_array_equal(runs.train_labels, twin.labels)
    assert runs.scores == ("lira_score", "lira_score_view_2")[:views]
    early = read_run(tmp_path, "lira", epoch=20)
    np.testing.assert_allclose(early.train_score("lira_score"), twins.lira_score(twin) + 80, rtol=1e-5)
    with pytest.raises(ValueError, match="has it of the train examples only"):
        runs.test_score("lira_score")


def test_lira_logits(twin, tmp_path):
    twins.write_lira(twin, tmp_path, kind="logits", views=2)
    runs = read_run(tmp_path, "lira", data=twin.data(jaxinfl))
    np.testing.assert_allclose(runs.train_score("margin"), twin.margin(), rtol=1e-4, atol=1e-4)
    assert runs.scores == ("margin", "margin_view_2") and runs.order.startswith("that of the data")


def test_lira_labels_tell_the_order(twin, tmp_path):
    twins.write_lira(twin, tmp_path)
    other = twin._replace(labels=np.roll(twin.labels, 1))
    with pytest.raises(RunDirectoryError, match="in another order: row i is another example"):
        read_run(tmp_path, "lira", data=other.data(jaxinfl))
    (tmp_path / "y_train.npy").unlink()
    assert "no labels" in read_run(tmp_path, "lira", data=other.data(jaxinfl)).order


def test_lira_logits_need_labels(twin, tmp_path):
    twins.write_lira(twin, tmp_path, kind="logits", labels=False)
    with pytest.raises(RunDirectoryError, match=r"no labels to take margins by. Put y_train.npy"):
        read_run(tmp_path, "lira")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "tracin"}, ValueError, "layout is 'tracin'; it takes"),
        ({"num_train": 5}, ValueError, "num_train is 5, which the layout 'dattri' takes and 'lira' does not"),
        ({"epoch": -1}, ValueError, "epoch is -1"),
        ({"data": "cifar10"}, TypeError, "data is 'cifar10'; it takes a jaxinfl.Dataset"),
    ],
)
def test_mistakes_are_told(twin, tmp_path, options, error, message):
    twins.write_lira(twin, tmp_path)
    with pytest.raises(error, match=message):
        read_run(tmp_path, **options)


def test_what_was_read_is_saved_as_a_run_directory(twin, tmp_path):
    twins.write_datamodels(twin, tmp_path / "own", absent=(2,))
    runs = read_run(tmp_path / "own", "datamodels")
    runs.save(tmp_path / "saved")
    again = jaxinfl.Ensemble.open(tmp_path / "saved")
    np.testing.assert_array_equal(again.masks, runs.masks)
    for name in runs.scores:
        np.testing.assert_array_equal(again.test_score(name), runs.test_score(name))
    from jaxinfl import verify

    assert verify.main([str(tmp_path / "saved")]) in (0, None)


def test_nothing_is_unpickled(twin, tmp_path):
    twins.write_datamodels(twin, tmp_path / "own")

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    np.save(tmp_path / "own" / "margins.npy", np.array([Bomb()] * 12), allow_pickle=True)
    with pytest.raises(RunDirectoryError, match="can run any program when it is read"):
        read_run(tmp_path / "own", "datamodels")
    assert not (tmp_path / "exploded").exists()
