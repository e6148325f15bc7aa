"""Scores of attributions against scipy and known games."""

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

import jaxinfl
from experiments.uncertainty_simulations import lds_coverage
from jaxinfl import data_banzhaf, lds, leave_one_out_correlation
from jaxinfl.statistics.correlation import correlate


def linear_models(noise=0.5, models=60, train=15, test=8, seed=0):
    rng = np.random.default_rng(seed)
    masks, weights = rng.random((models, train)) < 0.5, rng.normal(size=(train, test))
    return masks, weights, masks @ weights + noise * rng.normal(size=(models, test))


def test_lds_equals_scipy():
    masks, weights, score = linear_models()
    weights = weights.round(0)  # ties
    found = lds(weights, masks, score, over="models")
    for j in range(8):
        expected = scipy.stats.spearmanr(masks @ weights[:, j], score[:, j].astype(np.float32))
        assert found.correlation[j] == pytest.approx(expected.statistic, rel=1e-9)
        assert found.p_value[j] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.mean == pytest.approx(found.correlation.mean()) and found.low < found.mean < found.high


def test_lds_of_the_truth_of_noise_and_of_the_wrong_sign():
    masks, weights, score = linear_models(noise=0.01)
    assert lds(weights, masks, score).mean > 0.99
    assert lds(-weights, masks, score).mean == pytest.approx(-lds(weights, masks, score).mean)
    assert lds(-weights, masks, -score).mean == pytest.approx(lds(weights, masks, score).mean)
    nothing = lds(
        np.random.default_rng(1).normal(size=weights.shape),
        masks,
        np.random.default_rng(2).normal(size=score.shape),
        over="models",
    )
    assert abs(nothing.mean) < 0.15 and nothing.low < 0.1 and (nothing.p_value > 0.001).all()


def test_lds_ranks_the_mean_of_the_models_that_share_a_subset():
    """TRAK defines the score by one number for each subset, however many models were trained on it."""
    base, weights, _ = linear_models(models=100)
    uses = np.random.default_rng(1).integers(1, 6, 100)
    masks = np.repeat(base, uses, axis=0)
    score = (masks @ weights + 3 * np.random.default_rng(2).normal(size=(len(masks), 8))).astype(np.float32)
    starts = np.cumsum(uses) - uses
    means = np.add.reduceat(score.astype(float), starts, axis=0) / uses[:, None]
    order = np.random.default_rng(3).permutation(len(masks))
    found, expected = lds(weights, masks[order], score[order], over="models"), lds(weights, base, means, over="models")
    np.testing.assert_allclose(found.correlation, expected.correlation, atol=1e-6)
    np.testing.assert_allclose(found.p_value, expected.p_value, rtol=1e-3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    with pytest.raises(ValueError, match="masks holds 2 different subsets; a correlation takes at least 3"):
        lds(weights, np.repeat(base[:2], 5, axis=0), score[:10])


def test_the_unit_of_attributions_does_not_matter():
    """Sums that are the same but for rounding share a rank."""
    rng = np.random.default_rng(0)
    masks, weights = rng.random((100, 300)) < 0.5, np.zeros((300, 10))
    for column in weights.T:
        column[rng.choice(300, 10, replace=False)] = 1
    score = masks @ weights + rng.normal(size=(100, 10))
    expected = lds(weights, masks, score)
    for unit in (0.1, 1 / 3, 1e-20, 7e30):
        np.testing.assert_allclose(lds(unit * weights, masks, score).correlation, expected.correlation, atol=1e-12)


def covered(num_subsets, num_test, common, redraw, repeats=60):
    """Share of 95% intervals that hold the score of very many subsets; of very many test examples too if they are redrawn."""
    rng = np.random.default_rng(0)
    most = 400 if redraw else num_test
    weights = rng.normal(size=(40, most)) * rng.uniform(0.3, 1.5, most)

    def draw(models, seed, columns):
        own = np.random.default_rng(seed)
        masks = jaxinfl.draw_subsets(models, 40, 0.5, seed)
        noise = common * own.normal(size=(models, 1)) + own.normal(size=(models, columns.size))
        return masks, masks @ weights[:, columns] * 0.2 + noise

    truth = lds(weights, *draw(2500, 1, np.arange(most)), repeats=1).mean
    inside = 0
    for seed in range(repeats):
        some = np.random.default_rng(seed).choice(most, num_test, replace=False) if redraw else np.arange(num_test)
        over = "both" if redraw else "models"
        found = lds(weights[:, some], *draw(num_subsets, 100 + seed, some), over=over, repeats=300, seed=seed)
        inside += found.low <= truth <= found.high
    return inside, repeats


@pytest.mark.parametrize(
    ("num_subsets", "num_test", "common", "redraw"),
    [(30, 1, 0.0, False), (40, 5, 2.0, False), (40, 50, 0.0, False), (100, 50, 2.0, False), (60, 40, 0.5, True)],
)
def test_lds_intervals_cover_other_subsets_models_and_test_examples(num_subsets, num_test, common, redraw):
    inside, repeats = covered(num_subsets, num_test, common, redraw)
    low, high = scipy.stats.binomtest(inside, repeats).proportion_ci(0.99)
    assert high >= 0.93 and low <= 0.97


@pytest.mark.parametrize("truth", [0.2, 0.5, 0.8])
@pytest.mark.parametrize(
    ("num_subsets", "num_test", "uses"),
    [(30, 30, 1), pytest.param(50, 30, 3, marks=pytest.mark.slow), pytest.param(100, 60, 1, marks=pytest.mark.slow)],
)
def test_lds_intervals_cover_new_draws_of_models_and_test_examples(num_subsets, num_test, uses, truth):
    """The simulation of `experiments.uncertainty`, short: scores of which the mean over all test examples is known."""
    inside = lds_coverage(num_subsets, num_test, truth, uses, "both", repeats=120, seed=1)
    low, high = scipy.stats.binomtest(int(inside.sum()), inside.size).proportion_ci(0.99)
    assert high >= 0.93 and low <= 0.97


def test_intervals_outside_of_the_domain_are_nan_with_a_reason():
    masks, weights, score = linear_models(models=60)
    found = lds(weights[:, :1], masks, score[:, :1], over="models")
    assert found.high - found.low > 0.02 and found.reason == ""
    few = lds(weights, masks[:29], score[:29], over="models")
    assert np.isnan([few.low, few.high]).all() and np.isfinite(few.mean)
    assert few.reason == "29 subsets or left-out examples are too few; an interval takes 30"
    others = lds(weights, masks, score)
    assert np.isnan([others.low, others.high]).all() and np.isfinite(others.mean)
    expected = "8 test examples are too few; an interval over other test examples takes 30 (or over='models')"
    assert others.reason == expected


def test_influence_values_are_what_leaving_cases_out_shows():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(400, 2)).round(1)  # ties
    other = one + rng.exponential(size=(400, 2))
    for kind, function in (("spearman", scipy.stats.spearmanr), ("pearson", scipy.stats.pearsonr)):
        found = correlate(one, other, kind)
        for column in range(2):
            whole = function(one[:, column], other[:, column]).statistic
            assert found.value[column] == pytest.approx(whole, abs=1e-12)
            for case in (0, 7, 133):
                rest = np.arange(400) != case
                without = function(one[rest, column], other[rest, column]).statistic
                assert 399 * (whole - without) == pytest.approx(found.contribution[case, column], abs=0.03)


def test_undefined_correlations_take_no_part():
    masks, weights, score = linear_models()
    weights[:, 0], score[:, 1] = 0, 1.0
    found = lds(weights, masks, score)
    assert np.isnan(found.correlation[:2]).all() and found.mean == pytest.approx(found.correlation[2:].mean())
    assert math.isnan(lds(0 * weights, masks, score).mean)


def test_leave_one_out_correlation_by_hand():
    train, dropped = 6, [0, 2, 5]
    masks = np.concatenate([np.ones((2, train), bool), jaxinfl.leave_one_out(train, dropped, repeats=2)])
    # On everything 1; without 0, 2 and 5: 0.5, 0.9 and 1.25, so influences 0.5, 0.1, -0.25.
    score = np.array([[0.5], [1.5], [0.25], [0.75], [0.75], [1.05], [1.0], [1.5]])
    attribution = np.array([[3.0], [99], [2], [99], [99], [-4]])
    order = np.random.default_rng(0).permutation(8)
    assert leave_one_out_correlation(attribution, masks[order], score[order]).mean == pytest.approx(1)
    expected = np.corrcoef([3, 2, -4], [0.5, 0.1, -0.25])[0, 1]
    found = leave_one_out_correlation(attribution, masks, score, correlation="pearson")
    assert found.mean == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="0 models on everything, 6 without one of 3"):
        leave_one_out_correlation(attribution, masks[2:], score[2:])
    masks[0, :2] = False
    with pytest.raises(ValueError, match="1 without more"):
        leave_one_out_correlation(attribution, masks, score)


def all_subsets(players):
    return (np.arange(2**players)[:, None] >> np.arange(players)) % 2 > 0


@pytest.mark.parametrize(
    ("players", "utility", "values"),
    [
        # Majority of 3: a player decides in half of the subsets of the others.
        (3, lambda s: s.sum(axis=1) >= 2, [0.5, 0.5, 0.5]),
        # The UN's old Security Council in small: one veto, three others of whom one must agree.
        (4, lambda s: s[:, 0] & (s[:, 1:].sum(axis=1) >= 1), [7 / 8, 1 / 8, 1 / 8, 1 / 8]),
        # Gloves: one left, two right.
        (3, lambda s: s[:, 0] & (s[:, 1] | s[:, 2]), [3 / 4, 1 / 4, 1 / 4]),
        # An additive game: everyone gets what they bring; the last brings nothing.
        (3, lambda s: s @ np.array([1.0, -2.0, 0.0]), [1, -2, 0]),
    ],
)
def test_banzhaf_of_known_games(players, utility, values):
    masks = all_subsets(players)
    found = data_banzhaf(masks, np.asarray(utility(masks))[:, None])
    np.testing.assert_allclose(found[:, 0], values, atol=1e-7)


def test_banzhaf_by_definition_and_by_influence():
    rng = np.random.default_rng(0)
    masks = all_subsets(5)
    worth = rng.normal(size=(32, 2)).astype(np.float32)
    expected = np.zeros((5, 2))
    for i in range(5):
        others = [k for k in range(5) if k != i]
        for size in range(5):
            for chosen in combinations(others, size):
                without = sum(2**k for k in chosen)
                expected[i] += (worth[without + 2**i] - worth[without]) / 16
    found = data_banzhaf(masks, worth)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found, jaxinfl.influence(masks, worth), atol=1e-5)


def test_banzhaf_values_take_subsets_of_many_sizes():
    """Subsets of one size are refused: they would turn the values 1, 2, ..., 10 of an additive game into -5 to 5."""
    game = np.arange(1.0, 11)
    half = np.array([np.isin(np.arange(10), chosen) for chosen in combinations(range(10), 5)])
    for masks in (half, jaxinfl.draw_subsets(400, 10, 0.5), jaxinfl.draw_subsets(5, 10, 0.5)):
        with pytest.raises(ValueError, match=r"subsets of 5 to 5 of 10 examples, a size that is fixed, or nearly so"):
            data_banzhaf(masks, (masks @ game)[:, None])
    masks = np.random.default_rng(0).random((20_000, 10)) < 0.5
    np.testing.assert_allclose(data_banzhaf(masks, (masks @ game)[:, None])[:, 0], game, atol=0.5)
    nearly = half[np.random.default_rng(1).integers(0, 252, 400)]
    nearly[np.arange(400), np.random.default_rng(2).integers(0, 10, 400)] ^= True  # sizes 4 and 6
    with pytest.raises(ValueError, match="subsets of 4 to 6 of 10 examples"):
        data_banzhaf(nearly, (nearly @ game)[:, None])


def test_refusals():
    masks, weights, score = linear_models()
    with pytest.raises(ValueError, match=r"attribution has shape \(8, 15\).*it takes \(15, 8\)"):
        lds(weights.T, masks, score)
    with pytest.raises(ValueError, match="attribution holds 1 NaN"):
        lds(np.where(weights == weights[0, 0], np.nan, weights), masks, score)
    with pytest.raises(ValueError, match="masks has 2 models; a correlation takes at least 3"):
        lds(weights, masks[:2], score[:2])
    with pytest.raises(ValueError, match="score has 59 rows"):
        lds(weights, masks, score[:-1])
    with pytest.raises(TypeError, match="attribution has dtype bool"):
        lds(weights > 0, masks, score)
    with pytest.raises(ValueError, match=r"not in about half of the subsets \(first: example 0, in 70%\)"):
        data_banzhaf(np.repeat(np.arange(200)[:, None] % 10 < 7, 2, axis=1), np.ones((200, 2)))
