"""Estimators against slow definitions, refits and known truths."""

from itertools import product

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.linear_model import Lasso

import jaxinfl
from jaxinfl import datamodel_weights, estimate, lds, leave_one_out_correlation
from jaxinfl.statistics import lasso, ridge
from jaxinfl.statistics.lasso import lasso_weights
from jaxinfl.statistics.shift import right_with_and_without
from jaxinfl.statistics.shrinkage import fit_prior, posterior_mean


def linear_game(models, train=20, test=6, noise=0.5, seed=0, ratio=0.6):
    """Scores that are linear in the masks, but for noise; and the weights."""
    rng = np.random.default_rng(seed)
    masks, truth = rng.random((models, train)) < ratio, rng.normal(size=(train, test))
    return masks, truth, 2 + masks @ truth + noise * rng.normal(size=(models, test))


def ridge_by_definition(masks, score, penalty):
    """Intercept and weights, by the normal equations of the augmented least squares."""
    design = np.concatenate([np.ones((len(masks), 1)), masks.astype(float)], axis=1)
    square = penalty * np.diag([0.0] + [1.0] * masks.shape[1])
    return np.linalg.solve(design.T @ design + square, design.T @ score)


@pytest.mark.parametrize("models", [12, 60])  # fewer and more than training examples
def test_ridge_and_its_left_out_residuals_equal_refits(models):
    masks, _, score = linear_game(models)
    masks[0], masks[1] = True, False
    np.testing.assert_allclose(
        datamodel_weights(masks, score, penalty=0.7),
        ridge_by_definition(masks, score.astype(np.float32).astype(float), 0.7)[1:],
        atol=1e-9,
    )
    found = ridge.fit(ridge.decompose(masks, np.ones(len(masks))), score, 0.7)
    for t in range(models):
        rest = np.arange(models) != t
        parts = ridge_by_definition(masks[rest], score[rest], 0.7)
        np.testing.assert_allclose(found.left_out[t], score[t] - parts[0] - masks[t] @ parts[1:], atol=1e-8)


@pytest.mark.parametrize("models", [12, 60])
def test_adjustment_equals_refits_without_model_and_example(models):
    masks, _, score = linear_game(models)
    masks[0], masks[1] = True, False
    spectrum = ridge.decompose(masks, np.ones(len(masks)))
    found = ridge.adjusted(spectrum, ridge.fit(spectrum, score, 0.7), np.array([0, 7]))
    mean = masks.mean(axis=0)
    for row, i in enumerate((0, 7)):
        rest = np.empty_like(score)
        for t in range(models):
            others = np.arange(models) != t
            weights = ridge_by_definition(masks[others], score[others], 0.7)[1:].copy()
            weights[i] = 0
            rest[t] = score[t] - (masks[t] - mean) @ weights
        # The mean over models is that of all of them, in refits and here.
        expected = rest[masks[:, i]].mean(axis=0) - rest[~masks[:, i]].mean(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-8)


def test_each_column_has_the_penalty_that_predicts_best():
    masks, _, score = linear_game(80, noise=0.1)
    score[:, 0] = np.random.default_rng(1).normal(size=80)  # nothing to predict
    spectrum = ridge.decompose(masks, np.ones(len(masks)))
    chosen = ridge.fit(spectrum, score)
    assert chosen.penalty[0] > 10 * chosen.penalty[1:].max()
    for penalty in ridge._PENALTIES[:-1] * spectrum.values.mean():
        other = ridge.fit(spectrum, score, penalty)
        assert ((other.left_out**2).sum(axis=0) >= (chosen.left_out**2).sum(axis=0) * (1 - 1e-12)).all()


def test_without_anything_to_predict_adjusted_is_the_difference():
    masks, _, _ = linear_game(40)
    spectrum = ridge.decompose(masks, np.ones(len(masks)))
    score = np.random.default_rng(3).normal(size=(40, 3))
    found = ridge.adjusted(spectrum, ridge.fit(spectrum, score, np.inf), np.arange(20))
    np.testing.assert_allclose(found, jaxinfl.influence(masks, score), atol=1e-5)


def test_adjusted_is_unbiased_has_less_noise_and_says_how_much():
    errors = {"difference": [], "adjusted": []}
    covered = []
    for seed in range(25):
        masks, truth, score = linear_game(150, seed=seed, noise=1.0)
        for method, collected in errors.items():
            found = estimate(masks, score, method)
            collected.append(found.influence - truth)
            covered.append(np.abs(found.influence - truth) < 1.96 * found.standard_error)
    plain, adjusted = (np.array(values) for values in errors.values())
    assert abs(adjusted.mean()) < 0.02 and (adjusted**2).mean() < 0.5 * (plain**2).mean()
    assert 0.92 < np.mean(covered[::2]) < 0.98 and 0.92 < np.mean(covered[1::2]) < 0.98
    # Not drawn to 0: errors do not go with the truth, which ridge's do.
    truths = np.array([linear_game(150, seed=seed)[1] for seed in range(25)])
    assert (adjusted * truths).sum() / (truths**2).sum() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("models", [15, 90])
@pytest.mark.parametrize("penalty", [0.02, 0.1])
def test_lasso_equals_coordinate_descent(models, penalty):
    masks, _, score = linear_game(models)
    found = lasso_weights(masks, score, np.ones(len(masks)), penalty)
    for j in range(6):
        expected = Lasso(alpha=penalty, tol=1e-10, max_iter=100_000).fit(masks.astype(float), score[:, j])
        centred = masks - masks.mean(axis=0)

        def loss(weights, centred=centred, j=j):
            residual = score[:, j] - score[:, j].mean() - centred @ weights
            return (residual**2).mean() / 2 + penalty * np.abs(weights).sum()

        assert loss(found[:, j]) <= loss(expected.coef_) * (1 + 1e-4)
        assert np.abs(found[:, j] - expected.coef_).max() < 0.02


def test_lasso_takes_the_penalty_with_the_lowest_error_of_all():
    """Errors may rise twice on the way down: refits by coordinate descent say which penalty is best."""
    worst = 1.0
    for seed, (models, train) in enumerate([(30, 60), (50, 100), (100, 40)]):
        rng = np.random.default_rng(seed)
        masks = rng.random((models, train)) < 0.7
        score = masks @ (rng.normal(size=(train, 2)) * (rng.random((train, 2)) < 0.1)) + rng.normal(0, 0.5, (models, 2))
        centred = masks - masks.mean(axis=0)
        highest = np.abs(centred.T @ (score - score.mean(axis=0)) / models).max(axis=0)
        chosen, fold = lasso._choose(masks, score, highest), np.arange(models) % 4
        for j in range(2):
            error = np.zeros(lasso._SHARES.size)
            for held, (number, share) in product(range(4), enumerate(lasso._SHARES)):
                fitted = Lasso(alpha=share * highest[j], tol=1e-8, max_iter=50_000)
                fitted.fit(masks[fold != held].astype(float), score[fold != held, j])
                left = masks[fold == held].astype(float)
                error[number] += ((score[fold == held, j] - fitted.predict(left)) ** 2).sum()
            worst = max(worst, error[chosen[j]] / error.min())
    assert worst < 1.01


def test_lasso_by_cross_validation_finds_the_few_examples_that_count():
    rng = np.random.default_rng(0)
    masks, truth = rng.random((120, 200)) < 0.5, np.zeros((200, 3))
    truth[[3, 50], 0], truth[[7, 9], 1] = (2, -2), (1.5, 1)
    weights = datamodel_weights(masks, masks @ truth + 0.3 * rng.normal(size=(120, 3)), "lasso")
    for j, members in ((0, {3, 50}), (1, {7, 9})):
        assert set(np.argsort(-np.abs(weights[:, j]))[:2]) == members
        assert np.abs(weights - truth)[:, j].max() < 0.4
    assert np.abs(weights[:, 2]).sum() < 0.5  # noise alone


def test_known_weights_of_a_linear_game_and_three_lines():
    masks, truth, score = linear_game(300, noise=0.0)
    for method, penalty in (("ridge", 1e-6), ("lasso", 1e-4)):
        np.testing.assert_allclose(datamodel_weights(masks, score, method, penalty=penalty), truth, atol=0.01)
    weights = datamodel_weights(masks[:200], score[:200])
    assert lds(weights, masks[200:], score[200:]).mean > 0.999
    left_out = np.concatenate([np.ones((2, 20), bool), jaxinfl.leave_one_out(20, range(10), repeats=1)])
    assert leave_one_out_correlation(weights, left_out, left_out @ truth).mean > 0.99


def test_posterior_mean_of_a_known_prior():
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(20_000) < 0.05, rng.normal(4, 1, 20_000), 0)
    seen = truth + rng.normal(size=truth.size)
    found = posterior_mean(fit_prior(seen), seen)
    null, other = 0.95 * np.exp(-(seen**2) / 2), 0.05 * np.exp(-((seen - 4) ** 2) / 4) / np.sqrt(2)
    oracle = other / (null + other) * (4 + seen) / 2
    assert ((found - truth) ** 2).mean() < 1.03 * ((oracle - truth) ** 2).mean() < 0.2
    nothing = rng.normal(size=20_000)
    assert (posterior_mean(fit_prior(nothing), nothing) ** 2).mean() < 0.005
    assert posterior_mean(fit_prior(nothing), np.array([100.0]))[0] == 100


def test_shrinkage_finds_more_of_the_influential_pairs():
    rng = np.random.default_rng(1)
    masks, truth = rng.random((300, 60)) < 0.7, np.zeros((60, 80))
    truth.ravel()[rng.choice(truth.size, 60, replace=False)] = 0.3
    right = rng.random((300, 80)) < np.clip(0.5 + (masks - 0.7) @ truth, 0, 1)
    # NaN takes no part in the prior either.
    masks[:, 0] = True
    plain, shrunk = estimate(masks, right).influence, estimate(masks, right, shrink=True).influence
    assert np.isnan(plain[0]).all() and np.isnan(shrunk[0]).all() and np.isfinite(shrunk[1:]).all()
    assert ((shrunk - truth)[1:] ** 2).mean() < 0.3 * ((plain - truth)[1:] ** 2).mean()
    overlap = [jaxinfl.iou(each, truth.astype(np.float32), 0.15)[0] for each in (plain, shrunk)]
    assert overlap[1] > overlap[0] + 0.1


def margins(models, seed, spread_with=1.0, others=11):
    """Margins that the first example moves by 1 and whose spread it multiplies; and its influence on being right."""
    place = np.random.default_rng(99).uniform(-0.5, 2, 30)
    rng = np.random.default_rng(seed)
    masks = rng.random((models, 1 + others)) < 0.7
    first = masks[:, :1]
    margin = place + first - 0.7 + rng.normal(size=(models, 30)) * np.where(first, spread_with, 1)
    return masks, margin, margin > 0, ndtr((place + 0.3) / spread_with) - ndtr(place - 0.7)


def squared_errors(models, spread_with, repeats):
    """Squared errors of the share of right models, as counted and from margins."""
    squares = np.zeros(2)
    for seed in range(repeats):
        masks, margin, right, truth = margins(models, seed, spread_with)
        counted = estimate(masks, right, examples=[0]).influence
        told = estimate(masks, margin, correct=right, examples=[0]).influence
        squares += [((each - truth) ** 2).mean() for each in (counted, told)]
    return squares / repeats


def test_margins_tell_influence_on_being_right_with_less_noise():
    counted, told = squared_errors(150, 1.0, 20)
    assert told < 0.75 * counted


def test_where_margins_do_more_than_move_counting_has_its_say():
    counted, told = squared_errors(4000, 3.0, 4)
    assert told < 2.5 * counted
    masks, margin, right, truth = margins(4000, 0, 3.0)
    effect = np.asarray(estimate(masks, margin, examples=[0]).influence, np.float64)
    with_it, without = right_with_and_without(effect, masks[:, :1].mean(axis=0), margin, right)
    assert ((with_it - without - truth) ** 2).mean() > 10 * told


def test_margins_move_as_the_normal_distribution_says():
    _, margin, right, _ = margins(40_000, 0)
    effect = np.full((1, 30), 1.0)
    with_it, without = right_with_and_without(effect, np.array([0.7]), margin, right)
    place = np.random.default_rng(99).uniform(-0.5, 2, 30)
    np.testing.assert_allclose(with_it[0], ndtr(place + 0.3), atol=0.015)
    np.testing.assert_allclose(without[0], ndtr(place - 0.7), atol=0.015)


@pytest.mark.parametrize("shrink", [False, True])
def test_what_is_undefined_is_nan_and_harms_no_other(shrink):
    masks, margin, right, _ = margins(60, 0)
    right[:, 0], margin[:, 1] = True, 2.0
    wide = np.concatenate([masks, np.ones((60, 1), bool), np.zeros((60, 1), bool)], axis=1)
    for method, options in (
        ("difference", {}),
        ("adjusted", {}),
        ("difference", {"correct": right}),
        ("adjusted", {"correct": right}),
        ("ridge", {}),
        ("lasso", {}),
    ):
        if method in ("ridge", "lasso") and shrink:
            continue
        options = options | {"shrink": shrink}
        found = estimate(wide, margin, method, **options).influence
        assert np.isnan(found[-2:]).all() and np.isfinite(found[:-2]).all()
        np.testing.assert_allclose(found[:-2], estimate(masks, margin, method, **options).influence, atol=2e-3)
        some = estimate(wide, margin, method, examples=[12, 2], **options).influence
        assert np.isnan(some[0]).all() and some.shape == (2, 30)
        assert found.dtype == np.float32
        if "correct" in options:
            np.testing.assert_array_equal(found[:-2, 0], 0)  # every model is right
    assert np.isnan(datamodel_weights(wide, margin)[-2:]).all()


def test_difference_of_0_1_scores_is_the_published_estimate():
    masks, _, right, _ = margins(60, 0)
    found = estimate(masks, right)
    np.testing.assert_array_equal(found.influence, jaxinfl.influence(masks, right))
    for i, j in ((0, 3), (2, 7)):
        p, q = right[masks[:, i], j].mean(), right[~masks[:, i], j].mean()
        m, n = masks[:, i].sum(), (~masks[:, i]).sum()
        p, q = (m * p + 1) / (m + 2), (n * q + 1) / (n + 2)
        expected = np.sqrt(p * (1 - p) / (m + 2) + q * (1 - q) / (n + 2))
        assert found.standard_error[i, j] == pytest.approx(expected, rel=1e-6)


def test_models_that_share_a_subset_are_one_observation():
    """Regressions on several models a subset are those on their means; copies of a model change nothing."""
    rng = np.random.default_rng(0)
    base, truth, _ = linear_game(40)
    uses = rng.integers(1, 4, 40)
    masks = np.repeat(base, uses, axis=0)
    score = (masks @ truth + rng.normal(size=(len(masks), 6))).astype(np.float32)
    order = rng.permutation(len(masks))
    for method in ("ridge", "lasso"):
        found = datamodel_weights(masks, score, method, penalty=0.1)
        np.testing.assert_allclose(datamodel_weights(masks[order], score[order], method, penalty=0.1), found, atol=1e-3)
    np.testing.assert_allclose(
        datamodel_weights(masks, score, penalty=0.1),
        ridge_by_definition(masks, score.astype(float), 0.1)[1:],
        atol=1e-9,
    )
    expected = Lasso(alpha=0.1, tol=1e-10, max_iter=100_000).fit(masks.astype(float), score[:, 0]).coef_
    np.testing.assert_allclose(datamodel_weights(masks, score, "lasso", penalty=0.1)[:, 0], expected, atol=0.01)
    twice, score = np.repeat(base, 2, axis=0), base @ truth + rng.normal(size=(40, 6))
    for method in ("ridge", "lasso"):  # the penalty by cross-validation: a copy must not predict its original
        np.testing.assert_allclose(
            datamodel_weights(twice, np.repeat(score, 2, axis=0), method),
            datamodel_weights(base, score, method),
            atol=1e-6,
        )
    for method in ("difference", "adjusted"):
        alone, copies = (estimate(*pair, method) for pair in ((base, score), (twice, np.repeat(score, 2, axis=0))))
        np.testing.assert_allclose(copies.standard_error, alone.standard_error, rtol=1e-5)
        np.testing.assert_allclose(copies.influence, alone.influence, atol=1e-5)


def test_left_out_subsets_equal_refits():
    """Ridge and adjustment with several models a subset, each left out with all of them."""
    rng = np.random.default_rng(1)
    base, _, score = linear_game(12)
    size = rng.integers(1, 5, 12)
    spectrum = ridge.decompose(base, size.astype(float))
    found = ridge.fit(spectrum, score, 0.7)
    masks, scores = np.repeat(base, size, axis=0), np.repeat(score, size, axis=0)
    of_model, mean = np.repeat(np.arange(12), size), np.average(base, axis=0, weights=size)
    rest = np.empty_like(score)
    for subset in range(12):
        kept = of_model != subset
        parts = ridge_by_definition(masks[kept], scores[kept], 0.7)
        left = score[subset] - parts[0] - base[subset] @ parts[1:]
        np.testing.assert_allclose(found.left_out[subset] / np.sqrt(size[subset]), left, atol=1e-8)
        parts[1 + 3] = 0
        rest[subset] = score[subset] - (base[subset] - mean) @ parts[1:]
    inside = base[:, 3]
    expected = np.average(rest[inside], axis=0, weights=size[inside]) - np.average(
        rest[~inside], axis=0, weights=size[~inside]
    )
    np.testing.assert_allclose(ridge.adjusted(spectrum, found, np.array([3]))[0], expected, atol=1e-8)


def shape(kind, masks, rng):
    """Margins whose shape the only example of each test example changes, and its influence on being right."""
    seen, noise = masks[:, :30], rng.normal(size=(len(masks), 30))
    if kind == "spread":
        return 1 + np.where(seen, 1, 3) * noise, ndtr(1) - ndtr(1 / 3)
    if kind == "two modes":
        high = rng.random(seen.shape) < np.where(seen, 0.9, 0.5)
        return np.where(high, 2.0, -2.0) + 0.5 * noise, 0.4 * (ndtr(4) - ndtr(-4))
    if kind == "against the mean":  # right more often, by less
        return np.where(seen, 0.3 + 0.1 * noise, np.where(rng.random(seen.shape) < 0.6, 5, -1.0)), ndtr(3) - 0.6
    tail = rng.exponential(size=seen.shape) - 1
    return np.where(seen, tail + 0.3, 0.3 - tail), np.exp(-0.7) - (1 - np.exp(-1.3))


@pytest.mark.parametrize("kind", ["spread", "two modes", "against the mean", "skewness"])
def test_from_many_models_counting_decides_whatever_the_shape(kind):
    rng = np.random.default_rng(0)
    masks = jaxinfl.draw_subsets(10_000, 60, 0.7)
    margin, truth = shape(kind, masks, rng)
    counted = estimate(masks, margin > 0)
    told = estimate(masks, margin, correct=margin > 0, shrink=True)
    assert (np.abs(told.influence - counted.influence) <= 1.9601 * counted.standard_error).all()
    own = np.arange(30), np.arange(30)
    error, plain = (np.sqrt(((each.influence[own] - truth) ** 2).mean()) for each in (told, counted))
    assert error < max(1.6 * plain, 0.01) and abs(told.influence[own].mean() - truth) < 1.96 * plain


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((), {"method": "median"}, ValueError, "method is 'median'; it takes one of 'difference', 'adjusted', 'ridge'"),
        (
            (),
            {"method": "ridge", "shrink": True},
            ValueError,
            "shrink is given with method 'ridge', whose weights have no",
        ),
        ((), {"correct": np.ones((60, 29), bool)}, ValueError, "correct has 29 columns and score 30"),
        ((), {"correct": np.ones((59, 30), bool)}, ValueError, "59"),
        ((), {"examples": [12]}, ValueError, "examples"),
        ((2,), {}, ValueError, "masks has 2 models; an estimate with its error takes at least 3"),
        (
            ([0, 1] * 9,),
            {"method": "ridge"},
            ValueError,
            "masks holds 2 different subsets; a regression on them takes at",
        ),
    ],
)
def test_refusals(arguments, options, error, message):
    masks, margin, right, _ = margins(60, 0)
    kept = slice(None) if not arguments else arguments[0] if isinstance(arguments[0], list) else slice(*arguments)
    with pytest.raises(error, match=message):
        estimate(masks[kept], margin[kept], **options)
    with pytest.raises(TypeError, match="score has dtype bool; with correct it takes margins"):
        estimate(masks, right, correct=right)
    with pytest.raises(ValueError, match=r"penalty is 0\.0 \(float\); it takes a number above 0"):
        datamodel_weights(masks, margin, penalty=0.0)
    with pytest.raises(ValueError, match="method is 'adjusted'; it takes one of 'ridge', 'lasso'"):
        datamodel_weights(masks, margin, "adjusted")
