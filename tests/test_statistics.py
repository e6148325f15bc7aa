import numpy as np
import pytest

from jaxinfl import agreement
from jaxinfl.statistics import agreement_between, agreement_of_pairs, pair_uncertainty


def test_agreement_by_hand():
    predictions = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [1, 0, 0, 0]])
    np.testing.assert_allclose(agreement(predictions), [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]])


def test_agreement_of_pairs_by_hand():
    predictions = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [1, 0, 0, 0], [1, 1, 2, 2]])
    np.testing.assert_allclose(agreement_of_pairs(predictions), [0.75, 0, 0.75, 0, 0.5, 0.25])
    assert agreement_of_pairs(predictions[:1]).size == 0


def test_agreement_between_by_hand():
    one, other = np.array([[0, 1, 2, 2], [1, 1, 1, 1]]), np.array([[0, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_allclose(agreement_between(one, other), [0.5, 0.75])
    with pytest.raises(ValueError, match=r"one has shape \(2, 4\) and other \(1, 4\)"):
        agreement_between(one, other[:1])
    with pytest.raises(ValueError, match="other holds negative classes for 1 models"):
        agreement_between(one, np.where(one == 0, -1, one))


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "dtype float64"),
        (np.zeros(3, int), ValueError, r"shape \(3,\)"),
        (np.zeros((2, 0), int), ValueError, r"shape \(2, 0\)"),
        (np.array([[0, 1], [-1, -1]]), ValueError, r"1 models \(first: \[1\]\): models that diverged"),
    ],
)
def test_refusals(predictions, error, message):
    with pytest.raises(error, match=message):
        agreement(predictions)


def test_pair_uncertainty_is_the_spread_of_influence_over_ensembles():
    """Over many ensembles the influence spreads as much as its standard error says."""
    rng = np.random.default_rng(0)
    estimates, errors = [], []
    pair = np.zeros(1, int)
    for _ in range(2000):
        masks = rng.random((60, 1)) < 0.7
        score = rng.random((60, 1)) < np.where(masks, 0.8, 0.5)
        estimates.append(score[masks[:, 0]].mean() - score[~masks[:, 0]].mean())
        uncertainty = pair_uncertainty(masks, score, pair, pair)
        errors.append(uncertainty.standard_error[0])
        assert uncertainty.num_in[0] == masks.sum() and uncertainty.num_out[0] == 60 - masks.sum()
    assert np.std(estimates) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.05)


def test_pair_uncertainty_by_hand():
    masks = np.array([[True, True], [True, False], [False, False], [False, False]])
    score = np.array([[1.0], [0.0], [0.5], [0.5]])
    uncertainty = pair_uncertainty(masks, score, np.array([0, 1]), np.array([0, 0]))
    # In: variance 1/2 over 2 models; out: none. The other example is in one subset only.
    np.testing.assert_allclose(uncertainty.standard_error, [0.5, np.nan])
