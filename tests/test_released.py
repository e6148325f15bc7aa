"""Estimates that were published without models, from twins of their files, and comparisons with models of one's own."""

import logging

import numpy as np
import pytest
from scipy.stats import spearmanr

import jaxinfl
from jaxinfl import RunDirectoryError, compare_pairs, read_pairs, read_run
from jaxinfl.published import released
from jaxinfl.statistics.means import mean_over_models
from tests import twins


@pytest.fixture(scope="module")
def twin():
    return twins.make_twin(models=200)


@pytest.fixture(scope="module")
def runs(twin):
    correct = {"correct": twin.correct()}, {"correct": twin.correct("test")}
    return jaxinfl.Ensemble.from_scores(twin.masks, *correct)


def test_released_pairs(tmp_path):
    pairs = read_pairs(twins.write_pairs(tmp_path))
    np.testing.assert_array_equal(pairs.influence, [0.5, 0.3, 0.2, 0.15])
    np.testing.assert_array_equal(pairs.train_index, [2, 2, 4, 9])
    np.testing.assert_array_equal(pairs.test_index, [0, 5, 1, 3])
    assert (pairs.min_influence, pairs.min_memorization) == (0.15, 0.25) and len(pairs) == 4
    assert "not known" in pairs.order and "4 pairs with influence from 0.15" in repr(pairs)
    assert len(read_pairs(twins.write_pairs(tmp_path), min_influence=0.25)) == 2
    renamed = read_run(twins.write_pairs(tmp_path, "mine.npz"), "pairs")
    assert (renamed.min_influence, renamed.min_memorization) == (0.15, 0.3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"infl": np.ones(3)}, r"arrays of \[3, 4\] numbers"),
        ({"tr_idx": np.array([-1, 0, 1, 2])}, "an index of -1"),
        ({"tr_idx": np.arange(4.0)}, "has dtype float64; it takes integers"),
        ({"mem": np.array([None] * 4)}, "only a pickle can"),
        ({"infl": np.array([0.2, np.nan, 0.3, 0.4])}, "infl in .* holds NaN"),
        ({"tr_idx": np.array([4, 2, 9, 4]), "tt_idx": np.array([1, 0, 3, 1])}, "has a pair twice"),
        ({"infl": np.full(4, 0.01)}, "below what its name says"),
    ],
)
def test_damaged_pairs(tmp_path, changed, message):
    with pytest.raises(RunDirectoryError, match=message):
        read_pairs(twins.write_pairs(tmp_path, **changed))


def own_estimate(twin):
    return jaxinfl.influence(twin.masks, twin.correct("test")), jaxinfl.memorization(twin.masks, twin.correct())


def test_class_matrices_are_the_pairs_of_one_class(twin, tmp_path):
    influence, memorization = own_estimate(twin)
    path = twins.write_class_matrices(twin, tmp_path, influence, memorization)
    pairs = read_run(path, data=twin.data(jaxinfl))
    same = twin.labels[:, None] == twin.test_labels[None, :]
    train, test = np.nonzero((influence >= 0.15) & same & (memorization >= np.float64(0.25))[:, None])
    assert set(zip(pairs.train_index, pairs.test_index, strict=True)) == set(zip(train, test, strict=True))
    np.testing.assert_array_equal(pairs.influence, influence[pairs.train_index, pairs.test_index])
    np.testing.assert_array_equal(pairs.train_memorization, memorization)
    assert pairs.same_class and pairs.order == "that of the data: every label is the same"
    for changed in ({"labels": np.roll(twin.labels, 1)}, {"test_labels": np.roll(twin.test_labels, 1)}):
        with pytest.raises(RunDirectoryError, match="in another order"):
            read_pairs(path, data=twin._replace(**changed).data(jaxinfl))


def test_labels_of_both_sides_are_compared(twin, tmp_path):
    path = twins.write_class_matrices(twin, tmp_path, *own_estimate(twin))
    pairs, scores = read_pairs(path), ({"correct": twin.correct()}, {"correct": twin.correct("test")})
    other = twin._replace(labels=np.roll(twin.labels, 1)).data(jaxinfl)
    runs = jaxinfl.Ensemble.from_scores(twin.masks, *scores, data=other)
    with pytest.raises(ValueError, match="labels of the training examples differ"):
        compare_pairs(pairs, runs, "correct")
    np.savez(tmp_path / "c.npz", labels=twin.labels, scores=np.linspace(0, 1, 30))
    with pytest.raises(ValueError, match="labels of the training examples differ"):
        jaxinfl.compare_scores(read_run(tmp_path / "c.npz", "cscores"), runs, "correct")


def test_two_classes_tell_an_order_too(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    labels[:2] = 0, 1
    rows = rng.permutation(300)[:40]
    columns = np.array([rng.choice(np.flatnonzero(labels == labels[row])) for row in rows])
    path = twins.write_pairs(tmp_path, tr_idx=rows, tt_idx=columns, infl=np.full(40, 0.2), mem=np.full(40, 0.5))
    inputs = np.zeros((300, 1), np.float32)
    data = jaxinfl.Dataset(train_inputs=inputs, train_targets=labels, test_inputs=inputs, test_targets=labels)
    assert read_pairs(path, data=data).order.startswith("that of the data: 100%")


def test_an_index_of_names_is_no_estimate(tmp_path):
    np.savez(tmp_path / "imagenet_index.npz", tr_mem=np.ones(3), tr_labels=np.arange(3), tt_labels=np.arange(3))
    with pytest.raises(RunDirectoryError, match="looks like no layout"):
        read_run(tmp_path / "imagenet_index.npz")


def test_mnist_is_the_other_way_round(twin, tmp_path, monkeypatch):
    influence, memorization = own_estimate(twin)
    path = twins.write_mnist(tmp_path, influence, memorization)
    monkeypatch.setattr(released, "_ROWS_BYTES", 4 * 30 * 2)  # two rows at a time
    pairs = read_run(path, "mnist")
    train, test = np.nonzero((influence >= 0.15) & (memorization.astype(np.float64) >= 0.25)[:, None])
    assert set(zip(pairs.train_index, pairs.test_index, strict=True)) == set(zip(train, test, strict=True))
    np.testing.assert_array_equal(pairs.influence, influence[pairs.train_index, pairs.test_index])


def test_a_truncated_matrix_is_told(twin, tmp_path):
    path = twins.write_mnist(tmp_path, *own_estimate(twin))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RunDirectoryError, match="is damaged or no NumPy file"):
        read_pairs(path)


def test_cscores(twin, runs, tmp_path):
    held_out = mean_over_models(twin.correct(), ~twin.masks)
    np.savez(tmp_path / "cifar10-cscores-orig-order.npz", labels=twin.labels, scores=held_out)
    scores = read_run(tmp_path / "cifar10-cscores-orig-order.npz", data=twin.data(jaxinfl))
    np.testing.assert_array_equal(scores.values, held_out)
    assert jaxinfl.compare_scores(scores, runs, "correct") == pytest.approx(1)
    with pytest.raises(RunDirectoryError, match="holds no pairs: it has labels, scores"):
        read_pairs(tmp_path / "cifar10-cscores-orig-order.npz")


@pytest.mark.parametrize("threshold", [None, 0.2])
def test_a_comparison_by_hand(twin, runs, tmp_path, threshold):
    influence, memorization = own_estimate(twin)
    rng = np.random.default_rng(0)
    noisy = influence + rng.normal(0, 0.05, influence.shape)
    rows, columns = np.nonzero((noisy >= 0.15) & (memorization >= 0.25)[:, None])
    pairs = read_pairs(
        twins.write_pairs(
            tmp_path, tr_idx=rows, tt_idx=columns, infl=noisy[rows, columns], mem=memorization[rows].astype(np.float64)
        )
    )
    compared = compare_pairs(pairs, runs, "correct", threshold=threshold)
    limit = 0.15 if threshold is None else threshold
    memorized = (memorization >= np.float32(0.25))[:, None]
    theirs, ours = (noisy >= limit) & memorized, (influence >= np.float32(limit)) & memorized
    assert compared.num_published == theirs.sum() and compared.num_own == ours.sum()
    assert compared.num_both == (theirs & ours).sum()
    assert compared.iou == pytest.approx((theirs & ours).sum() / (theirs | ours).sum())
    expected = spearmanr(noisy[rows, columns], influence[rows, columns]).statistic
    assert compared.rank_correlation == pytest.approx(expected)
    same = compare_pairs(pairs, twin.masks, twin.correct("test"), twin.correct(), threshold=threshold)
    assert same.iou == compared.iou


def test_pairs_of_one_class_are_compared_with_pairs_of_one_class(twin, runs, tmp_path):
    path = twins.write_class_matrices(twin, tmp_path, *own_estimate(twin))
    compared = compare_pairs(read_pairs(path), runs, "correct")
    assert compared.iou == 1 and compared.rank_correlation == pytest.approx(1)


def test_labels_tell_the_order_of_pairs(tmp_path, caplog):
    rng = np.random.default_rng(0)
    labels, test_labels = rng.integers(0, 10, 500), rng.integers(0, 10, 400)
    labels[:10], test_labels[:10] = np.arange(10), np.arange(10)
    rows = rng.integers(0, 500, 60)
    columns = np.array([rng.choice(np.flatnonzero(test_labels == labels[row])) for row in rows])
    path = twins.write_pairs(tmp_path, tr_idx=rows, tt_idx=columns, infl=np.full(60, 0.2), mem=np.full(60, 0.5))

    def data(train):
        inputs = np.zeros((500, 1), np.float32), np.zeros((400, 1), np.float32)
        return jaxinfl.Dataset(
            train_inputs=inputs[0], train_targets=train, test_inputs=inputs[1], test_targets=test_labels
        )

    assert read_pairs(path, data=data(labels)).order == "that of the data: 100% of the pairs are of one class"
    with pytest.raises(RunDirectoryError, match="is in another order than arrays"):
        read_pairs(path, data=data(np.roll(labels, 7)))
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        mixed = np.where(np.isin(np.arange(500), rows[:36]), (labels + 1) % 10, labels)
        assert "not known" in read_pairs(path, data=data(mixed)).order
    assert "which tells no order" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.1}, "threshold is 0.1; only pairs from 0.15 on were published"),
        ({"score": "margin"}, "this ensemble has 'correct'"),
        (
            {"masks": np.eye(30, dtype=bool), "score": np.eye(30, 9) * 5, "train_score": np.eye(30) * 5},
            "differences of probabilities",
        ),
    ],
)
def test_mistakes_are_told(runs, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        compare_pairs(read_pairs(twins.write_pairs(tmp_path)), **({"masks": runs, "score": "correct"} | change))


def test_pairs_of_other_data_are_refused(runs, tmp_path):
    pairs = read_pairs(twins.write_pairs(tmp_path, tr_idx=np.array([1, 2, 3, 700])))
    with pytest.raises(ValueError, match="the models have 30 training examples, and a published pair has number 700"):
        compare_pairs(pairs, runs, "correct")
