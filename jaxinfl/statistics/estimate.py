"""Estimates of influence that need fewer models than the difference of means of 0-1 scores, behind one function."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32, Int

from jaxinfl.arguments import (
    check_choice,
    check_correct,
    check_examples,
    check_switch,
    is_number,
    quote,
)
from jaxinfl.influence import influence
from jaxinfl.influence.blocks import count_blocks
from jaxinfl.influence.outcomes import Models, Names, Runs, Score, take_outcomes
from jaxinfl.statistics import lasso, ridge
from jaxinfl.statistics.clusters import Clusters, find_clusters
from jaxinfl.statistics.exact_test import normal_scores
from jaxinfl.statistics.shift import influence_on_being_right
from jaxinfl.statistics.shrinkage import shrink as shrink_estimates
from jaxinfl.statistics.standard_errors import StandardErrors, normal_equivalent, standard_errors

Method = Literal["difference", "adjusted", "ridge", "lasso"]
Regression = Literal["ridge", "lasso"]


class Estimate(NamedTuple):
    """Influences of some training examples on all test examples."""

    influence: Float32[np.ndarray, "rows test"]
    """Influence of each example, in the unit of the score; NaN where an example is in no subset or in all of them."""
    standard_error: Float32[np.ndarray, "rows test"]
    """Standard error before anything was shrunk, in the unit of the score; NaN for the methods "ridge" and "lasso".

    Within 1.96 of it lies the true influence of 93% to 97% of the pairs: of 0-1 scores on average over probabilities of being
    right from 0.02 to 0.995, from 5 models on either side, of float scores that are not far from normal from 15 models, or
    15 subsets where models share them, on either side. For fewer, and for float scores with a long tail, see
    `pair_uncertainty`.
    """


def estimate(
    masks: Models,
    score: Score = None,
    method: Method | str = "difference",
    *,
    shrink: bool = False,
    correct: Score = None,
    examples: ArrayLike | Sequence[Any] | None = None,
) -> Estimate:
    """Influence of training on example i on the score of test example j, by one of several estimators.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out, or `Outcomes`. Models with the same row share a subset: their mean counts as one observation in
        standard errors, shrinkage and cross-validation.
      score: [models, test], bool or float; for an `Ensemble` the name of a score. Its unit is that of the result, and it decides what is estimated: 0-1 scores the
        influence on being right, which the paper publishes; probabilities and margins influences of their own, which rank
        pairs differently.
      method: "difference": mean with the example minus mean without it, `jaxinfl.influence`. "adjusted": the same
        after what the other examples predict is subtracted; the same estimand without bias, and the less noise the better
        subsets predict scores. "ridge", "lasso": weights of a datamodel, as `datamodel_weights`; the same estimand if scores
        are linear in the masks, but drawn to 0, so that they do not compare at a threshold with the others.
      shrink: whether each influence is replaced by its posterior mean under an empirical Bayes prior; for "difference" and
        "adjusted", which have standard errors.
      correct: bool [models, test], or "correct" for an `Ensemble`; for margins as `score` alone. The result is then the influence on being right, that of
        0-1 scores, which the margins tell with less noise where an example moves margins and leaves the shape of their
        distribution alone. How far that fails is measured on the same models, and the result never leaves the 95% interval
        of the 0-1 difference (1.96 of its standard errors), so it errs with many models by no more than that does.
      examples: the training examples whose influence is estimated: indices, or a bool mask [train]; None takes all. Give those
        that pass the memorization condition: the others cost as much.

    Returns:
      `Estimate`, float32 [examples, test]. Memory: a few float64 arrays of that shape and of the masks, and of models x test.
      Time: "difference" O(models * examples * test); the regressions O(models * train * min(models, train)) once for all
      test examples and some products of models x train x test; "lasso" five paths of coordinate descent for each test example.

    Raises:
      TypeError, ValueError: as `influence`; also an unknown method, fewer than 3 models, `shrink` without a standard error,
        `correct` of another shape.

    Source: Feldman and Zhang (2020); Ilyas et al. (2022), "Datamodels"; Wager et al. (2016) for "adjusted"; Stephens
    (2017) for `shrink`; Fay and Herriot (1979) for `correct`. `experiments/estimators.py` compares them.
    """
    given = take_outcomes(masks, score)
    checked, scores = given.masks, given.test_score
    rows = check_examples(examples, checked.shape[1])
    rows = np.arange(checked.shape[1]) if rows is None else rows
    right = _check(method, shrink, _take_correct(masks, correct), scores, len(checked))
    clusters = find_clusters(checked)
    if method != "difference":
        _check_number_of_subsets(clusters)
    if method in ("ridge", "lasso"):
        found = _weights(checked, scores, clusters, "ridge" if method == "ridge" else "lasso", rows)
        return Estimate(found.astype(np.float32), np.full(found.shape, np.nan, np.float32))
    seen = checked[:, rows]
    found = np.asarray(influence(seen, scores)).astype(np.float64)
    errors = standard_errors(seen, scores, clusters)
    statistic = _statistic(seen, scores, clusters, found, errors)
    if method == "adjusted":
        plain, (found, left) = found, _adjust(checked, scores, clusters, rows)
        # The statistic of the difference knows of rare outcomes: it is changed by what the adjustment changes.
        statistic = (statistic + _in_standard_errors(found - plain, errors.if_none)) / left
        errors = errors._replace(error=errors.error * left, if_none=errors.if_none * left)
    result = shrink_estimates(found, errors.error, statistic) if shrink else found
    if right is not None:
        clear = _in_standard_errors(found, errors.if_none)
        result = _on_being_right(seen, result, clear, scores.astype(np.float64), right, clusters)
    return Estimate(result.astype(np.float32), errors.error.astype(np.float32))


def datamodel_weights(
    masks: Models, score: Score = None, method: Regression | str = "ridge", *, penalty: float | None = None
) -> Float[np.ndarray, "train test"]:
    """Weights of the linear model that predicts a model's score from the subset that it was trained on.

    Args:
      masks: bool [models, train], or an `Ensemble`, whose diverged models are left out, or `Outcomes`. Models with the same row
        share a subset, and are left out together in cross-validation.
      score: [models, test], bool or float; the margin is customary. For an `Ensemble` the name of a score.
      method: "ridge" (the penalty by leave-one-out errors) or "lasso" (by 4-fold cross-validation, as the source has it).
      penalty: factor above 0, the same for all test examples: of the sum of squared weights, which is added to the sum of squared
        errors ("ridge"), or of the sum of absolute weights, which is added to half the mean squared error ("lasso"). None
        chooses one for each test example, as `method` says.

    Returns:
      float64 [train, test], in the unit of the score: what `lds` and `leave_one_out_correlation` take as an attribution. The
      intercept is not penalized and not returned. NaN for an example that is in no subset or in all of them. Weights are
      drawn to 0, "lasso"'s mostly onto it. Under subsets of one size all weights are relative to their mean.
      Memory and time: as `estimate`.

    Raises:
      TypeError, ValueError: as `influence`; also an unknown method, a penalty that is not above 0, fewer than 3 models.

    Source: Ilyas et al. (2022), "Datamodels: understanding predictions with data and data with predictions" (LASSO).
    """
    given = take_outcomes(masks, score)
    checked, scores = given.masks, given.test_score
    check_choice(method, "method", get_args(Regression))
    clusters = find_clusters(checked)
    _check_number_of_models(len(checked))
    _check_number_of_subsets(clusters)
    if penalty is not None and not (is_number(penalty) and 0 < penalty < np.inf):
        raise ValueError(f"penalty is {quote(penalty)}; it takes a number above 0, or None.")
    regression: Regression = "ridge" if method == "ridge" else "lasso"
    return _weights(checked, scores, clusters, regression, np.arange(checked.shape[1]), penalty)


def _weights(
    masks: Bool[np.ndarray, "models train"],
    score: np.ndarray,
    clusters: Clusters,
    method: Regression,
    rows: Int[np.ndarray, " rows"],
    penalty: float | None = None,
) -> Float[np.ndarray, "rows test"]:
    subsets, size = masks[clusters.first], clusters.size.astype(np.float64)
    means = clusters.means(score.astype(np.float64))
    if method == "ridge":
        spectrum = ridge.decompose(subsets, size)
        found = ridge.weights(spectrum, ridge.fit(spectrum, means, penalty), rows)
    else:
        found = lasso.lasso_weights(subsets, means, size, penalty)[rows]
    found[_undefined(masks[:, rows])] = np.nan
    return found


def _adjust(
    masks: Bool[np.ndarray, "models train"], score: np.ndarray, clusters: Clusters, rows: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "rows test"], Float[np.ndarray, " test"]]:
    """The estimate, and by what factor its standard errors are smaller: that of what is left of each score's spread."""
    values = score.astype(np.float64)
    spectrum = ridge.decompose(masks[clusters.first], clusters.size.astype(np.float64))
    fitted = ridge.fit(spectrum, clusters.means(values))
    found = ridge.adjusted(spectrum, fitted, rows)
    found[_undefined(masks[:, rows])] = np.nan
    spread, left = (
        np.sqrt((part**2).sum(axis=0))
        for part in (ridge.centred(clusters.means(values), spectrum.size), fitted.left_out)
    )
    return found, np.divide(left, spread, out=np.ones_like(left), where=spread > 0)


def _statistic(
    masks: Bool[np.ndarray, "models rows"],
    score: np.ndarray,
    clusters: Clusters,
    found: Float[np.ndarray, "rows test"],
    errors: StandardErrors,
) -> Float[np.ndarray, "rows test"]:
    """Standard normal where there is no influence, as nearly as can be; NaN where no score varies or none is defined."""
    if score.dtype != np.bool_ or not clusters.alone:
        statistic = _in_standard_errors(found, errors.if_none)
        return statistic if clusters.alone else normal_equivalent(statistic, errors.freedom)
    counts = np.concatenate([block for _, block in count_blocks(masks, score)])
    scores = normal_scores(counts, masks.sum(axis=0), score.sum(axis=0), len(score))
    varies = score.any(axis=0) & ~score.all(axis=0)
    return np.where(varies & ~_undefined(masks)[:, None], scores, np.nan)


def _in_standard_errors(estimate: Float[np.ndarray, "rows test"], error: Float[np.ndarray, "rows test"]) -> np.ndarray:
    """Estimate in standard errors; NaN where these are 0 or unknown."""
    known = error > 0
    return np.where(known, estimate / np.where(known, error, 1), np.nan)


def _on_being_right(
    masks: Bool[np.ndarray, "models rows"],
    effect: Float[np.ndarray, "rows test"],
    statistic: Float[np.ndarray, "rows test"],
    margin: Float[np.ndarray, "models test"],
    correct: Bool[np.ndarray, "models test"],
    clusters: Clusters,
) -> Float[np.ndarray, "rows test"]:
    direct = np.asarray(influence(masks, correct)).astype(np.float64)
    found = np.full(effect.shape, np.nan)
    defined = ~_undefined(masks)
    seen = masks[:, defined]
    found[defined] = influence_on_being_right(
        effect[defined],
        statistic[defined],
        direct[defined],
        standard_errors(seen, correct, clusters),
        seen.sum(axis=0).astype(np.float64),
        margin,
        correct,
    )
    return found


def _undefined(masks: Bool[np.ndarray, "models rows"]) -> Bool[np.ndarray, " rows"]:
    number = masks.sum(axis=0)
    return (number == 0) | (number == len(masks))


def _take_correct(masks: Models, correct: Score) -> Any:
    """Whether each model is right: the array, or the score of an `Ensemble` by its name."""
    if correct is None:
        return None
    if isinstance(masks, Runs):
        return take_outcomes(masks, correct, names=Names(score="correct")).test_score
    if isinstance(correct, str):
        raise TypeError(
            f"correct is {quote(correct)}, the name of a score, and masks is no Ensemble; it takes bool [models, test]."
        )
    return correct


def _check(
    method: Any, shrink: bool, correct: Any, score: np.ndarray, num_models: int
) -> Bool[np.ndarray, "models test"] | None:
    """`correct`, if all arguments fit."""
    check_choice(method, "method", get_args(Method))
    check_switch(shrink, "shrink")
    _check_number_of_models(num_models)
    if method in ("ridge", "lasso") and (shrink or correct is not None):
        asked = "shrink" if shrink else "correct"
        raise ValueError(
            f"{asked} is given with method {method!r}, whose weights have no standard error; use 'difference' or 'adjusted'."
        )
    if correct is None:
        return None
    right = check_correct(correct, num_models)
    if score.dtype == np.bool_:
        raise TypeError("score has dtype bool; with correct it takes margins: score=runs.test_margin.")
    if right.shape[1] != score.shape[1]:
        raise ValueError(
            f"correct has {right.shape[1]} columns and score {score.shape[1]}: both need the same examples."
        )
    return right


def _check_number_of_subsets(clusters: Clusters) -> None:
    if clusters.size.size < 3:
        raise ValueError(f"masks holds {clusters.size.size} different subsets; a regression on them takes at least 3.")


def _check_number_of_models(number: int) -> None:
    if number < 3:
        raise ValueError(f"masks has {number} models; an estimate with its error takes at least 3.")
