"""Standard errors and test statistics of estimates: coverage, shared subsets, rare outcomes, and what shrinkage makes of them."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import hypergeom

import jaxinfl
from jaxinfl import estimate
from jaxinfl.statistics import pair_uncertainty
from jaxinfl.statistics.exact_test import normal_scores


def test_standard_errors_of_floats_are_those_of_pairs_one_by_one():
    """Models with subsets of their own, shared ones, and an example whose side has a single subset."""
    rng = np.random.default_rng(0)
    alone = rng.random((30, 6)) < 0.6
    shared = np.repeat(alone, 3, axis=0)[rng.permutation(90)][:71]
    shared[:, 0] = (shared == alone[0]).all(axis=1)
    for masks in (alone, shared):
        score = rng.normal(size=(len(masks), 4)) + masks[:, :4]
        found = estimate(masks, score).standard_error
        i, j = (side.ravel() for side in np.indices(found.shape))
        expected = pair_uncertainty(masks, score.astype(np.float32), i, j).standard_error
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


SHARES = np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.995])


@pytest.mark.parametrize(("num_models", "ratio"), [(50, 0.7), (100, 0.5), (400, 0.9), (1000, 0.7)])
def test_standard_errors_of_0_1_scores_cover(num_models, ratio):
    """Nominal 95% over probabilities with and without, and where an example is memorized (pooled variance: 70% to 86%)."""
    rng = np.random.default_rng(0)
    p, q = (side.ravel() for side in np.meshgrid(SHARES, SHARES))
    masks = np.arange(num_models)[:, None] < round(ratio * num_models)
    covered = np.zeros(p.size)
    for _ in range(100):
        found = estimate(masks, rng.random((num_models, p.size)) < np.where(masks, p, q), examples=[0])
        covered += np.abs(found.influence[0] - (p - q)) <= 1.96 * found.standard_error[0]
    assert 0.93 <= covered.mean() / 100 <= 0.97
    assert covered[(p > 0.95) & (q < 0.8)].mean() / 100 >= 0.915


def test_noise_of_shared_subsets_is_not_taken_for_influence():
    rng = np.random.default_rng(0)
    masks = np.repeat(jaxinfl.draw_subsets(50, 100, 0.7), 8, axis=0)
    score = np.repeat(rng.normal(size=(50, 80)), 8, axis=0) + rng.normal(size=(400, 80))
    found = estimate(masks, score)
    assert 0.9 < np.sqrt((found.influence**2 / found.standard_error**2).mean()) < 1.15
    assert np.sqrt((estimate(masks, score, shrink=True).influence ** 2).mean()) < 0.02
    right = score > 0
    of_right = estimate(masks, right)
    assert 0.9 < np.sqrt((of_right.influence**2 / of_right.standard_error**2).mean()) < 1.15


def test_shrunk_estimates_of_easy_examples_are_what_they_say():
    """Where nearly all models are right, the mean truth of pairs with a high posterior mean is no less than three quarters of it."""
    rng = np.random.default_rng(0)
    effect = rng.laplace(0, 0.03, (150, 120))
    rate = np.where(rng.random(120) < 0.7, 0.97, rng.uniform(0.3, 0.9, 120))

    def chance(masks):
        return np.clip(rate + (masks - 0.7) @ effect, 0, 1)

    truth = np.asarray(jaxinfl.influence(many := jaxinfl.draw_subsets(10_000, 150, 0.7, 1), chance(many)))
    masks = jaxinfl.draw_subsets(200, 150, 0.7, 2)
    right = rng.random((200, 120)) < chance(masks)
    for method in ("difference", "adjusted"):
        found = estimate(masks, right, method, shrink=True).influence
        for side in (1, -1):
            high = side * found > 0.02
            assert high.sum() > 100 and 0.75 < truth[high].mean() / found[high].mean() < 2
        assert ((found - truth) ** 2).mean() < 0.3 * ((estimate(masks, right).influence - truth) ** 2).mean()


def test_normal_scores_of_counts():
    """Mid-p of Fisher's test where an outcome is rare, and the likelihood ratio hardly differs where it is not."""
    rng = np.random.default_rng(0)
    masks = rng.random((200, 5)) < 0.7
    masks[:, 4] = True
    right = rng.random((200, 6)) < np.array([0.99, 0.95, 0.5, 0.03, 1.0, 0.0])
    counts, num_in, totals = masks.T.astype(int) @ right, masks.sum(axis=0), right.sum(axis=0)
    found = normal_scores(counts, num_in, totals, 200)
    assert np.isnan(found[4, :4]).all() and (found[:4, 4:] == 0).all()
    for i, j in np.ndindex(4, 4):
        law = hypergeom(200, totals[j], num_in[i])
        below = law.cdf(counts[i, j]) - law.pmf(counts[i, j]) / 2
        assert found[i, j] == pytest.approx(ndtri(below), abs=0.03 if j == 2 else 1e-8)
