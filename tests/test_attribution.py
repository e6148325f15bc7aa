"""Scores of attributions against scipy and known games."""

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

import jaxinfl
from jaxinfl import data_banzhaf, lds, leave_one_out_correlation


def linear_models(noise=0.5, models=60, train=15, test=8, seed=0):
    rng = np.random.default_rng(seed)
    masks, weights = rng.random((models, train)) < 0.5, rng.normal(size=(train, test))
    return masks, weights, masks @ weights + noise * rng.normal(size=(models, test))


def test_lds_equals_scipy():
    masks, weights, score = linear_models()
    weights = weights.round(0)  # ties
    found = lds(weights, masks, score)
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
        np.random.default_rng(1).normal(size=weights.shape), masks, np.random.default_rng(2).normal(size=score.shape)
    )
    assert abs(nothing.mean) < 0.15 and nothing.low < 0.1 and (nothing.p_value > 0.001).all()


def test_lds_interval_covers_over_test_examples():
    """Test examples drawn at random: the mean correlation over very many of them is inside 95 times of 100."""
    masks, weights, score = linear_models(noise=3.0, test=3000)
    truth = lds(weights, masks, score, repeats=2).mean
    covered = 0
    for part in range(75):
        columns = slice(40 * part, 40 * part + 40)
        found = lds(weights[:, columns], masks, score[:, columns], repeats=300, seed=part)
        covered += found.low <= truth <= found.high
    assert 0.86 <= covered / 75 <= 1


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
