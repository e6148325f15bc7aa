"""Runs of other programs, read from synthetic twins of their files."""

import json
import logging

import numpy as np
import pytest

import jaxinfl
from jaxinfl import RunDirectoryError, read_run
from jaxinfl.influence import streamed
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
    assert read_run(tmp_path, "feldman_zhang", data=tfds).order.endswith("which were loaded as 'cifar100'")


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
    assert isinstance(runs.masks, np.memmap) and not isinstance(runs[[4, 2]].masks, np.memmap)
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
    assert "is not known" in read_run(tmp_path, "lira", data=other.data(jaxinfl)).order


def test_lira_logits_need_labels(twin, tmp_path):
    twins.write_lira(twin, tmp_path, kind="logits", labels=False)
    with pytest.raises(RunDirectoryError, match=r"no labels to take margins by. Put y_train.npy"):
        read_run(tmp_path, "lira")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "tracin"}, ValueError, "layout is 'tracin'; it takes"),
        ({"num_train": 5}, ValueError, "num_train is 5, which is taken by 'dattri' and 'bergson' and not by 'lira'"),
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


@pytest.mark.parametrize("layout", ["feldman_zhang", "datamodels", "lira"])
def test_data_of_another_size_are_refused(twin, tmp_path, layout):
    write = {
        "feldman_zhang": twins.write_feldman_zhang,
        "datamodels": twins.write_datamodels_data,
        "lira": twins.write_lira,
    }
    write[layout](twin, tmp_path / "runs")
    if layout == "lira":
        (tmp_path / "runs" / "y_train.npy").unlink()
    other = twins.make_twin(train=42, test=12).data(jaxinfl)
    with pytest.raises(RunDirectoryError, match="has 30 training examples, and arrays 42"):
        read_run(tmp_path / "runs", layout, data=other)


def test_a_value_that_is_missing_is_no_wrong_prediction(twin, tmp_path):
    """A comparison with NaN is False, which would pass for a prediction that is wrong."""
    twins.write_datamodels_data(twin, tmp_path)
    margins = np.load(tmp_path / "test_margins_50pct.npy")
    margins[4, 8] = np.nan
    np.save(tmp_path / "test_margins_50pct.npy", margins)
    runs = read_run(tmp_path, "datamodels")
    with pytest.raises(RunDirectoryError, match="NaN for some examples of 1 models and numbers for others"):
        jaxinfl.influence(runs, "correct")
    twins.write_lira(twin, tmp_path / "lira")
    file = tmp_path / "lira" / "experiment-3_12" / "scores" / f"{100:010d}.npy"
    scores = np.load(file)
    scores[20] = np.nan
    np.save(file, scores)
    with pytest.raises(RunDirectoryError, match="NaN for some examples of 1 models"):
        read_run(tmp_path / "lira", "lira")


def test_empty_rows_of_released_masks_are_absent(twin, tmp_path):
    twins.write_datamodels_data(twin._replace(masks=twin.masks & (np.arange(12) != 5)[:, None]), tmp_path)
    runs = read_run(tmp_path, "datamodels")
    np.testing.assert_array_equal(runs.model_index, np.delete(np.arange(12), 5))


def test_logits_in_another_order_than_the_labels_are_refused(tmp_path):
    twin = twins.make_twin(models=12, train=300, test=150)
    twins.write_datamodels_data(twin, tmp_path, logits=True)
    other = twin._replace(labels=np.roll(twin.labels, 1), test_labels=np.roll(twin.test_labels, 1))
    with pytest.raises(RunDirectoryError, match="as often as by chance"):
        read_run(tmp_path, "datamodels", data=other.data(jaxinfl))
    np.save(tmp_path / "train_margins_50pct.npy", -twin.top_margin().astype(np.float16))
    with pytest.raises(RunDirectoryError, match="disagree on which predictions are right"):
        read_run(tmp_path, "datamodels", data=twin.data(jaxinfl))


def test_the_last_epochs_of_lira_must_be_one(twin, tmp_path):
    twins.write_lira(twin, tmp_path, epochs=(20, 100))
    (tmp_path / "experiment-3_12" / "scores" / f"{100:010d}.npy").unlink()
    with pytest.raises(
        RunDirectoryError, match=r"last epochs are 20, 100; they are not models of one training. Pass epoch=20"
    ):
        read_run(tmp_path, "lira")
    assert len(read_run(tmp_path, "lira", epoch=20)) == 12 and len(read_run(tmp_path, "lira", epoch=100)) == 11
    with pytest.raises(RunDirectoryError, match="of epoch 7 in any of its 12 models"):
        read_run(tmp_path, "lira", epoch=7)


def test_no_finished_model_is_told_apart_from_diverged_ones(twin, tmp_path):
    twins.write_datamodels(twin, tmp_path / "own", absent=range(12))
    runs = read_run(tmp_path / "own", "datamodels")
    with pytest.raises(ValueError, match="without any finished model"):
        jaxinfl.influence(runs, "top_margin")


@pytest.mark.parametrize(
    "content", [b"<html>Not found</html>", b"version https://git-lfs.github.com/spec/v1", b"xx", b"", b"PK\x03\x04"]
)
def test_what_is_no_numpy_file_is_not_called_a_pickle(tmp_path, content):
    (tmp_path / "pairs.npz").write_bytes(content)
    with pytest.raises(RunDirectoryError, match="is damaged or no NumPy file") as refused:
        read_run(tmp_path / "pairs.npz", "pairs")
    assert "pickle" not in str(refused.value)


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_are_told(twin, tmp_path, seed):
    """A damaged file is read as it is where nothing shows, or is refused by name."""
    rng = np.random.default_rng(seed)
    twins.write_datamodels_data(twin, tmp_path)
    file = tmp_path / "train_masks_50pct.npy"
    content = bytearray(file.read_bytes())
    for place in rng.integers(0, 128, 3):
        content[place] = rng.integers(256)
    file.write_bytes(bytes(content))
    try:
        read_run(tmp_path, "datamodels")
    except RunDirectoryError as error:
        assert "train_masks_50pct.npy" in str(error) or "masks beside it" in str(error)


@pytest.mark.parametrize("absent", [(), (7,)])
def test_streamed_models_give_the_bits_of_those_in_memory(tmp_path, monkeypatch, absent):
    twin = twins.make_twin(models=150, train=40, test=11)
    twins.write_datamodels(twin, tmp_path / "own", absent=absent)
    runs = read_run(tmp_path / "own", "datamodels")
    whole = {name: jaxinfl.influence(runs, name) for name in ("top_margin", "correct")}
    assert runs.stream("test", "correct") is None
    monkeypatch.setattr("jaxinfl.store.ensemble.STREAMED", 0)
    monkeypatch.setattr(streamed, "_MODELS", 16)
    monkeypatch.setattr(streamed, "_SUMS_BYTES", 40 * 16 * 3)
    assert runs.stream("test", "correct").num_models == 150 - len(absent)
    for name, expected in whole.items():
        np.testing.assert_array_equal(jaxinfl.influence(runs, name), expected)


def test_streamed_memorization(tmp_path, monkeypatch):
    twin = twins.make_twin(models=150, train=40, test=11)
    twins.write_datamodels_data(twin, tmp_path)
    runs = read_run(tmp_path, "datamodels")
    whole = {name: jaxinfl.memorization(runs, name) for name in ("top_margin", "correct")}
    monkeypatch.setattr("jaxinfl.store.ensemble.STREAMED", 0)
    for name, expected in whole.items():
        np.testing.assert_array_equal(jaxinfl.memorization(runs, name), expected)
    with pytest.raises(ValueError, match="this ensemble has"):
        jaxinfl.memorization(runs, "loss")


def test_left_out_lists_are_inverted(twin, tmp_path):
    lists = [np.flatnonzero(~mask).tolist() for mask in twin.masks]
    (tmp_path / "subsets.json").write_text(json.dumps(lists))
    scores = {"top_margin": twin.top_margin("test")}
    runs = read_run(tmp_path, num_train=30, test=scores)
    np.testing.assert_array_equal(runs.masks, twin.masks)
    np.testing.assert_array_equal(runs.test_score("top_margin"), scores["top_margin"].astype(np.float32))
    assert runs.layout == "bergson" and len(read_run(tmp_path, "bergson", data=twin.data(jaxinfl), test=scores)) == 12
    for options, error, message in (
        ({"test": scores}, RunDirectoryError, "Give num_train, or data"),
        ({"num_train": 30}, RunDirectoryError, "holds subsets and no scores"),
        ({"num_train": 5, "test": scores}, RunDirectoryError, "not of different indices from 0 to 4"),
        ({"num_train": 30, "test": {"top_margin": np.zeros((3, 2))}}, ValueError, "test\\['top_margin'\\]"),
        ({"num_train": 30, "test": [1]}, TypeError, "test is list"),
        ({"num_train": 30, "epoch": 3, "test": scores}, ValueError, "epoch is 3, which is taken by 'lira'"),
    ):
        with pytest.raises(error, match=message):
            read_run(tmp_path, "bergson", **options)
    for content in ("{}", "[]", "[[1, 1]]", "[[true]]", "[[1.5]]", "[1", "[[-1]]"):
        (tmp_path / "subsets.json").write_text(content)
        with pytest.raises(RunDirectoryError, match=r"subsets\.json"):
            read_run(tmp_path, "bergson", num_train=30, test=scores)


def test_memberships(twin, tmp_path):
    np.save(tmp_path / "memberships.npy", np.concatenate([twin.masks, ~twin.masks]))
    margins = np.concatenate([twin.margin(), -twin.margin()])
    runs = read_run(tmp_path, train={"margin": margins})
    assert runs.layout == "privacy_meter" and runs.masks.shape == (24, 30)
    np.testing.assert_array_equal(runs.train_score("margin"), margins.astype(np.float32))
