"""Intervals of influence: published examples, coverage by simulation, models that share a subset."""

import numpy as np
import pytest
import scipy.stats

from experiments.uncertainty_simulations import skewed_coverage
from jaxinfl.statistics import (
    agresti_caffo_interval,
    memorization_uncertainty,
    newcombe_interval,
    pair_uncertainty,
)
from jaxinfl.statistics.welch import NOT_VARYING, TOO_FEW, TOO_SKEWED

SHARES = np.linspace(0.02, 0.98, 9)


def sides(*numbers):
    return [np.array([number], np.float64) for number in numbers]


def test_newcombe_published():
    """Newcombe (1998), table II, method 10."""
    for share_in, num_in, share_out, num_out, low, high in [
        (56 / 70, 70, 48 / 80, 80, 0.0524, 0.3339),
        (6 / 7, 7, 2 / 7, 7, 0.0582, 0.8062),
        (1.0, 10, 0.0, 20, 0.6791, 1.0),
    ]:
        found = newcombe_interval(*sides(share_in, num_in, share_out, num_out))
        np.testing.assert_allclose([found.low[0], found.high[0]], [low, high], atol=6e-5)


def test_agresti_caffo_by_hand():
    found = agresti_caffo_interval(*sides(0.5, 10, 0.25, 8))
    inside, outside = 6 / 12, 3 / 10
    half = 1.959964 * np.sqrt(inside * (1 - inside) / 12 + outside * (1 - outside) / 10)
    np.testing.assert_allclose([found.low[0], found.high[0]], [0.2 - half, 0.2 + half], rtol=1e-6)


def test_welch_equals_scipy():
    rng = np.random.default_rng(0)
    masks, score = rng.random((30, 40)) < 0.6, rng.normal(size=(30, 3))
    train, test = np.array([0, 3, 2]), np.array([2, 1, 0])
    found = pair_uncertainty(masks, score, train, test, confidence=0.9)
    for pair, (i, j) in enumerate(zip(train, test, strict=True)):
        side = masks[:, i]
        expected = scipy.stats.ttest_ind(score[side, j], score[~side, j], equal_var=False).confidence_interval(0.9)
        np.testing.assert_allclose([found.low[pair], found.high[pair]], expected, rtol=1e-9)


def simulate(num_models, ratio, uses, interval, repeats, seed=0):
    """Share of intervals that cover, for all pairs of SHARES with and without the example; subsets used `uses` times."""
    rng = np.random.default_rng(seed)
    p_in, p_out = (side.ravel() for side in np.meshgrid(SHARES, SHARES))
    subsets, own = num_models // uses, np.arange(p_in.size)
    members = np.arange(subsets) < round(ratio * subsets)
    # Other examples make every subset's row its own.
    rows = np.concatenate([members[:, None], (np.arange(subsets)[:, None] >> np.arange(11)) % 2 > 0], axis=1)
    covered = np.zeros(p_in.size)
    for _ in range(repeats):
        chance = np.where(members[:, None], p_in, p_out)
        if uses > 1:  # what a subset makes of a test example varies about the mean: correlation 0.3 within subsets
            chance = rng.beta(chance * 7 / 3, (1 - chance) * 7 / 3)
        right = rng.random((subsets, uses, p_in.size)) < chance[:, None]
        score = right.reshape(-1, p_in.size)
        score = score + rng.normal(size=score.shape) if interval == "welch" else score
        found = pair_uncertainty(np.repeat(rows, uses, axis=0), score, 0 * own, own, interval=interval)
        covered += (found.low <= p_in - p_out) & (p_in - p_out <= found.high)
    return covered / repeats


@pytest.mark.parametrize("interval", ["newcombe", "agresti-caffo", "welch"])
@pytest.mark.parametrize(("num_models", "ratio", "uses"), [(26, 0.7, 1), (26, 0.5, 2), (200, 0.7, 2), (1000, 0.5, 1)])
def test_coverage(num_models, ratio, uses, interval):
    """Nominal 95%: 93% to 97% over p from 0.02 to 0.98, and no pair of p is far below (81 pairs, each a noisy share)."""
    covered = simulate(num_models, ratio, uses, interval, repeats=60 if num_models > 500 else 150)
    assert 0.93 <= covered.mean() <= 0.97
    assert covered.min() >= 0.8


def judged(covered, number):
    """Whether a share of intervals may be 93% to 97%, by its own interval of 99%."""
    low, high = scipy.stats.binomtest(int(covered), int(number)).proportion_ci(0.99)
    return high >= 0.93 and low <= 0.97


def one_example(num_models, ratio):
    """Masks whose first example is in the first part of the subsets, and whose rows all differ."""
    members = np.arange(num_models) < round(ratio * num_models)
    return members, np.concatenate(
        [members[:, None], (np.arange(num_models)[:, None] >> np.arange(11)) % 2 > 0], axis=1
    )


@pytest.mark.parametrize(("num_models", "ratio"), [(26, 0.7), (100, 0.9), (200, 0.7), (400, 0.95)])
@pytest.mark.parametrize("kind", ["normal", "unequal", "uniform", "beta"])
def test_welch_covers_scores_that_are_not_far_from_symmetric(num_models, ratio, kind):
    members, masks = one_example(num_models, ratio)
    rng, pairs = np.random.default_rng(0), 1500
    shape = num_models, pairs
    score = {
        "normal": rng.normal(size=shape),
        "unequal": rng.normal(size=shape) * np.where(members, 1, 3)[:, None],
        "uniform": rng.random(shape) - 0.5,
        "beta": rng.beta(1.2, 0.8, shape) - 0.6,
    }[kind]
    found = pair_uncertainty(masks, score + members[:, None], np.zeros(pairs, int), np.arange(pairs))
    defined = np.isfinite(found.low)
    assert defined.mean() > 0.9 and ((found.reason == "") == defined).all()
    assert judged(((found.low <= 1) & (1 <= found.high)).sum(), defined.sum())


@pytest.mark.parametrize(("num_models", "ratio"), [(20, 0.5), (26, 0.7), (50, 0.7), (200, 0.7)])
@pytest.mark.parametrize("kind", ["lognormal", "exponential"])
def test_welch_covers_skewed_scores_where_no_side_is_far_larger(num_models, ratio, kind):
    """The skewness of the sides nearly cancels in their difference; intervals of few models are wider than need be."""
    inside = skewed_coverage(kind, num_models, ratio, 3000, 1)
    defined = ~np.isnan(inside)
    assert defined.mean() > 0.6
    low, high = scipy.stats.binomtest(int(inside[defined].sum()), int(defined.sum())).proportion_ci(0.99)
    assert high >= 0.93 and low <= 0.97


@pytest.mark.parametrize(("num_models", "ratio"), [(100, 0.9), (400, 0.95)])
@pytest.mark.parametrize("kind", ["lognormal", "exponential"])
def test_a_small_side_of_skewed_scores_has_no_interval(num_models, ratio, kind):
    """Judged by its own skewness, a side of 20 lognormal scores had an interval in 30% of cases, and that covered 74%."""
    inside = skewed_coverage(kind, num_models, ratio, 2000, 1)
    assert np.isnan(inside).mean() > 0.98


@pytest.mark.parametrize("num_models", [50, 200, 400])
@pytest.mark.parametrize(
    ("with_it", "without", "concentration"), [(0.999, 0.99, 1), (0.999, 0.99, 0.3), (0.98, 0.95, 0.3)]
)
def test_saturated_probabilities_have_no_interval_but_a_reason(num_models, with_it, without, concentration):
    """Few models show the rare low values of probabilities near 1, so that intervals would cover only 23% to 90%."""
    members, masks = one_example(num_models, 0.7)
    rng, pairs = np.random.default_rng(0), 400
    mean = np.where(members, with_it, without)[:, None] * concentration
    score = rng.beta(mean, concentration - mean, (num_models, pairs))
    found = pair_uncertainty(masks, score, np.zeros(pairs, int), np.arange(pairs))
    missed = (found.low > with_it - without) | (found.high < with_it - without)
    assert np.isnan(found.low).mean() > 0.9 and missed.mean() < 0.02
    assert set(found.reason) <= {"", TOO_SKEWED, NOT_VARYING} and np.isfinite(found.standard_error).all()
    rounded = pair_uncertainty(masks, np.ones((num_models, 1)), np.zeros(1, int), np.zeros(1, int))
    assert rounded.reason[0] == NOT_VARYING and np.isnan(rounded.high[0])


@pytest.mark.parametrize("interval", ["newcombe", "agresti-caffo"])
@pytest.mark.parametrize(("subsets", "uses"), [(20, 5), (20, 20), (50, 4)])
def test_few_subsets_with_many_models_each(subsets, uses, interval):
    """0-1 scores of correlated models, on average over probabilities; below 6 subsets a side there is no interval."""
    members, masks = one_example(subsets, 0.7)
    rng, own = np.random.default_rng(0), np.arange(300)
    inside = number = 0
    for correlation in (0.0, 0.1, 0.5, 0.9):
        for p_in, p_out in ((0.5, 0.5), (0.9, 0.7), (0.97, 0.97)):
            chance = np.repeat(np.where(members, p_in, p_out)[:, None], own.size, axis=1)
            if correlation:
                scale = (1 - correlation) / correlation
                chance = rng.beta(chance * scale, (1 - chance) * scale)
            score = rng.random((subsets * uses, own.size)) < np.repeat(chance, uses, axis=0)
            found = pair_uncertainty(np.repeat(masks, uses, axis=0), score, 0 * own, own, interval=interval)
            inside += ((found.low <= p_in - p_out) & (p_in - p_out <= found.high)).sum()
            number += own.size
    assert 0.93 <= inside / number <= 0.97
    members, masks = one_example(10, 0.7)
    none = np.zeros(1, int)
    few = pair_uncertainty(np.repeat(masks, 50, axis=0), np.repeat(members, 50)[:, None], none, none, interval=interval)
    assert np.isnan(few.low[0]) and few.reason[0] == TOO_FEW


def test_shared_subsets_are_no_more_independent_than_one():
    """Copies of models add nothing; ignoring that would halve the squared error."""
    rng = np.random.default_rng(0)
    masks, score = rng.random((40, 50)) < 0.6, rng.random((40, 5)) < 0.7
    train, test = np.arange(5), np.arange(5)[::-1].copy()
    copies = rng.permutation(np.repeat(np.arange(40), 2))
    for interval in ("newcombe", "welch", "agresti-caffo"):
        alone = pair_uncertainty(masks, score, train, test, interval=interval)
        twice = pair_uncertainty(masks[copies], score[copies], train, test, interval=interval)
        np.testing.assert_array_equal(twice.num_in, 2 * alone.num_in)
        np.testing.assert_allclose(twice.standard_error, alone.standard_error)
        np.testing.assert_allclose([twice.low, twice.high], [alone.low, alone.high])


def test_memorization_is_the_diagonal(monkeypatch):
    rng = np.random.default_rng(0)
    masks, score = rng.random((30, 7)) < 0.6, rng.random((30, 7)) < 0.7
    own = np.arange(7)
    expected = pair_uncertainty(masks, score, own, own)
    monkeypatch.setattr("jaxinfl.statistics.uncertainty._VALUES_AT_ONCE", 60)  # two pairs at a time
    for one, other in zip(memorization_uncertainty(masks, score), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_limits():
    masks = np.array([[True, True], [True, False], [True, True], [True, False]])
    score = np.array([[True], [True], [True], [True]])
    found = pair_uncertainty(masks, score, np.array([0, 1]), np.array([0, 0]))
    assert np.isnan(found.low[0]) and np.isnan(found.high[0])
    assert found.low[1] < 0 < found.high[1] and found.standard_error[1] == 0  # all agree, and that is not certainty
    assert found.num_in.tolist() == [4, 2]
    # One model each side of nothing but two: defined by the models where a side has one subset only.
    masks, score = np.repeat(np.eye(2, dtype=bool), 3, axis=0), np.array([[1.0], [2.0], [3.0], [0.0], [0.0], [3.0]])
    found = pair_uncertainty(masks, score, np.zeros(1, int), np.zeros(1, int))
    assert found.standard_error[0] == pytest.approx(np.sqrt(1 / 3 + 3 / 3))
    none = pair_uncertainty(masks, score, np.zeros(0, int), np.zeros(0, int))
    assert all(field.shape == (0,) for field in none)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"interval": "newcombe"}, "'newcombe' is for bool scores; score has dtype float64"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        pair_uncertainty(np.eye(4, dtype=bool), np.zeros((4, 2)), np.zeros(1, int), np.zeros(1, int), **options)
