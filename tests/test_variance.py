"""Variance components: recovered in simulation, by hand, and intervals that cover."""

import numpy as np
import pytest
import scipy.stats

from experiments.uncertainty_simulations import pooled_share_coverage
from jaxinfl.statistics import subset_share_intervals, subset_share_of_all, variance_components


def draw(rng, subsets, seeds, test, subset, seed, interaction):
    """Scores of a crossed design with known variances."""
    return (
        np.sqrt(subset) * rng.normal(size=(subsets, 1, test))
        + np.sqrt(seed) * rng.normal(size=(1, seeds, test))
        + np.sqrt(interaction) * rng.normal(size=(subsets, seeds, test))
    )


@pytest.mark.parametrize("truth", [(1.0, 0.5, 2.0), (0.0, 0.0, 1.0), (2.0, 0.0, 0.1)])
def test_unbiased(truth):
    found = variance_components(draw(np.random.default_rng(0), 12, 3, 20_000, *truth))
    for part, expected in zip(found, truth, strict=True):
        assert part.mean() == pytest.approx(expected, abs=4 * part.std() / np.sqrt(20_000) + 1e-12)


def test_zero_one_scores():
    """Right with a probability that the subset decides: shares by the law of total variance."""
    rng = np.random.default_rng(0)
    chance = rng.beta(2, 1, (30, 1, 5000))
    found = variance_components(rng.random((30, 4, 5000)) < chance)
    variance_of_chance, mean = 1 / 18, 2 / 3
    assert found.subset.mean() == pytest.approx(variance_of_chance, rel=0.03)
    assert found.total.mean() == pytest.approx(mean * (1 - mean), rel=0.01)
    assert found.seed.mean() == pytest.approx(0, abs=0.001)


def test_by_hand():
    score = np.array([[0.0, 2.0], [4.0, 8.0]])[:, :, None]
    # Means of rows 1 and 6, of columns 2 and 5, of all 3.5; residuals +-0.5.
    found = variance_components(score)
    assert found.interaction[0] == pytest.approx(1.0)
    assert found.subset[0] == pytest.approx((25 - 1) / 2) and found.seed[0] == pytest.approx((9 - 1) / 2)
    assert found.training[0] == pytest.approx(5) and found.subset_share[0] == pytest.approx(12 / 17)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_intervals_of_each_example_cover(share):
    score = draw(np.random.default_rng(0), 15, 3, 4000, share, 0, 1 - share)
    found = subset_share_intervals(score, confidence=0.9)
    assert ((found.low <= share) & (share <= found.high)).mean() == pytest.approx(0.9, abs=0.03)
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    # One-way: seeds that have no effect of their own cost nothing but a degree of freedom or two.
    np.testing.assert_allclose(found.share.mean(), variance_components(score).subset_share.mean(), atol=0.03)


@pytest.mark.parametrize(("subsets", "seeds"), [(10, 5), (50, 3), (20, 10)])
@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("of_rest", [0.0, 0.3, 0.8])
def test_intervals_of_each_example_cover_shared_seeds(subsets, seeds, share, of_rest):
    """Seeds that are the same for all subsets make up to 80% of the rest; taken for repeats, coverage fell to 40%."""
    rest = 1 - share
    score = draw(np.random.default_rng(0), subsets, seeds, 1500, share, of_rest * rest, (1 - of_rest) * rest)
    found = subset_share_intervals(score)
    covered = ((found.low <= share) & (share <= found.high)).sum()
    low, high = scipy.stats.binomtest(int(covered), 1500).proportion_ci(0.99)
    assert high >= 0.93 and low <= 0.97


def test_few_subsets_have_no_interval_over_all_examples():
    score = draw(np.random.default_rng(0), 19, 3, 5, 1.0, 0.0, 1.0)
    found = subset_share_of_all(score)
    assert np.isnan([found.low, found.high]).all() and 0 < found.share < 1
    assert found.reason == "19 subsets are too few; an interval takes 20"


@pytest.mark.parametrize("kind", ["normal", "bool"])
def test_interval_over_all_examples_covers(kind):
    """Test examples that go together, at 95%."""
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        noise = np.sqrt(0.75)
        subset = 0.5 * (rng.normal(size=(20, 1, 1)) * 0.6 + rng.normal(size=(20, 1, 40)) * 0.8)
        score = subset + noise * rng.normal(size=(20, 3, 40))
        truth = 0.25
        if kind == "bool":
            # Of the sign of two normal variables with correlation 1/4: 2 / pi arcsin(1 / 4), orthant probabilities.
            score, truth = score > 0, 2 / np.pi * np.arcsin(0.25)
        found = subset_share_of_all(score)
        covered += found.low <= truth <= found.high
    assert 0.89 <= covered / 150 <= 0.99


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(
    ("kind", "subsets", "seeds", "tests"), [("0-1", 20, 5, 20), ("0-1", 50, 5, 1), ("normal", 20, 3, 1)]
)
def test_interval_over_all_examples_covers_on_average_over_probabilities(kind, subsets, seeds, tests, share):
    """The simulation of `experiments.uncertainty`, short."""
    inside = pooled_share_coverage(kind, subsets, seeds, tests, share, 400, 1)
    defined = inside[~np.isnan(inside)]
    low, high = scipy.stats.binomtest(int(defined.sum()), defined.size).proportion_ci(0.99)
    assert defined.size > 100 and high >= 0.93 and low <= 0.97


def test_scores_that_are_nearly_all_the_same_have_a_reason():
    """The intervals of one test example that is right with probability 0.98 covered 17% to 75%, so they are left out with a reason."""
    rng = np.random.default_rng(0)
    same = "0-1 scores of so few models and test examples are too nearly all the same"
    assert subset_share_of_all(rng.random((50, 2, 1)) < 0.98).reason == same
    found = subset_share_of_all(np.repeat(rng.random((30, 1, 9)) < 0.5, 3, axis=1))
    assert found.reason == same and found.share == 1 and np.isnan(found.low)
    together = np.repeat(rng.random((20, 3, 1)) < np.repeat(rng.random((20, 1, 1)), 3, axis=1), 40, axis=2)
    told = subset_share_of_all(together).reason
    assert told == "20 subsets are too few, because test examples go together; an interval takes 50"
    assert subset_share_of_all(rng.random((20, 5, 20)) < 0.7).reason == ""


def test_nothing_varies():
    found = variance_components(np.ones((3, 2, 2), bool))
    assert (found.total == 0).all() and np.isnan(found.subset_share).all()
    assert np.isnan(subset_share_intervals(np.ones((3, 2, 2), bool)).share).all()
    assert np.isnan(subset_share_of_all(np.ones((3, 2, 2), bool)).low)
    only = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 2, 2))
    assert (subset_share_intervals(only).share == 1).all()


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (np.ones((4, 3)), ValueError, r"score has shape \(4, 3\); it takes \[subsets, seeds, test\]"),
        (np.ones((1, 3, 2)), ValueError, "at least 2 subsets"),
        (np.full((2, 2, 2), np.nan), ValueError, "8 of 8 values that are NaN, infinite"),
        (np.ones((2, 2, 2), int), TypeError, "dtype int64"),
    ],
)
def test_refusals(score, error, message):
    with pytest.raises(error, match=message):
        variance_components(score)
    with pytest.raises(ValueError, match="score has 2 subsets"):
        subset_share_of_all(np.ones((2, 2, 2)))
