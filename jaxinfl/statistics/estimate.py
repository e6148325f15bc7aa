"""Estimates of influence that need fewer models than the difference of means of 0-1 scores, behind one function."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32, Int

from jaxinfl.arguments import check_choice, check_switch, is_number, shown
from jaxinfl.influence import influence
from jaxinfl.influence.checks import check_correct, check_examples, check_score
from jaxinfl.statistics import lasso, ridge
from jaxinfl.statistics.shift import influence_on_being_right
from jaxinfl.statistics.shrinkage import shrink as shrunk
from jaxinfl.subsets import check_masks

Method = Literal["difference", "adjusted", "ridge", "lasso"]
Regression = Literal["ridge", "lasso"]


class Estimate(NamedTuple):
    """Influences of some training examples on all test examples."""

    influence: Float32[np.ndarray, "rows test"]
    """NaN where an example is in no subset or in all of them."""
    standard_error: Float32[np.ndarray, "rows test"]
    """Of "difference" and "adjusted", before anything was shrunk, in the unit of the score; NaN for the others."""


def estimate(
    masks: ArrayLike,
    score: ArrayLike,
    method: Method | str = "difference",
    *,
    shrink: bool = False,
    correct: ArrayLike | None = None,
    examples: ArrayLike | Sequence[Any] | None = None,
) -> Estimate:
    """Influence of training on example i on the score of test example j, by one of several estimators.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      score: [models, test], bool or float. Its unit is that of the result, and it decides what is estimated: 0-1 scores the
        influence on being right, which the paper publishes; probabilities and margins influences of their own, which rank
        pairs differently.
      method: "difference": mean with the example minus mean without it, `jaxinfl.influence`. "adjusted": the same
        after what the other examples predict is subtracted; the same estimand without bias, and the less noise the better
        subsets predict scores. "ridge", "lasso": weights of a datamodel, as `datamodel_weights`; the same estimand if scores
        are linear in the masks, but drawn to 0, so that they do not compare at a threshold with the others.
      shrink: posterior mean by empirical Bayes; for "difference" and "adjusted", which have standard errors.
      correct: bool [models, test], for margins (`score`) alone: the result is then the influence on being right, that of
        0-1 scores, which the margins tell with less noise; it assumes that an example moves margins without
        changing the shape of their distribution, and measures how far that fails.
      examples: training examples that are estimated, indices or bool [train]; None takes all. Give those that pass the
        memorization condition: the others cost as much.

    Returns:
      `Estimate`, float32 [examples, test]. Memory: a few float64 arrays of that shape and of the masks, and of models x test.
      Time: "difference" O(models * examples * test); the regressions O(models * train * min(models, train)) once for all
      test examples, and some products of models x train x test ("lasso": hundreds).

    Raises:
      TypeError, ValueError: as `influence`; also an unknown method, fewer than 3 models, `shrink` without a standard error,
        `correct` of another shape.

    Source: Feldman and Zhang (2020); Ilyas et al. (2022), "Datamodels"; Wager et al. (2016) for "adjusted"; Stephens
    (2017) for `shrink`; Fay and Herriot (1979) for `correct`. `experiments/estimators.py` compares them.
    """
    checked = check_masks(masks)
    scores = check_score(score, len(checked))
    rows = check_examples(examples, checked.shape[1])
    rows = np.arange(checked.shape[1]) if rows is None else rows
    right = _check(method, shrink, correct, scores, len(checked))
    values = scores.astype(np.float64)
    if method in ("ridge", "lasso"):
        found = _weights(checked, values, "ridge" if method == "ridge" else "lasso", rows)
        error = np.full(found.shape, np.nan)
    elif method == "adjusted":
        found, error = _adjusted(checked, values, rows)
    else:
        found, error = _difference(checked, scores, rows)
    known = error > 0
    statistic = np.where(known, found / np.where(known, error, 1), np.nan)
    result = shrunk(found, error) if shrink else found
    if right is not None:
        result = _on_being_right(checked[:, rows], result, statistic, values, right)
    return Estimate(result.astype(np.float32), error.astype(np.float32))


def datamodel_weights(
    masks: ArrayLike, score: ArrayLike, method: Regression | str = "ridge", *, penalty: float | None = None
) -> Float[np.ndarray, "train test"]:
    """Weights of the linear model that predicts a model's score from the subset that it was trained on.

    Args:
      masks: bool [models, train].
      score: [models, test], bool or float; the margin is customary.
      method: "ridge" (the penalty by leave-one-out errors) or "lasso" (by 4-fold cross-validation, as the source has it).
      penalty: of the sum of squared weights, added to the sum of squared errors ("ridge"), or of the sum of absolute weights,
        added to half the mean squared error ("lasso"); the same for all test examples. None: each one's own, as above.

    Returns:
      float64 [train, test], in the unit of the score: what `lds` and `leave_one_out_correlation` take as an attribution. The
      intercept is not penalized and not returned. NaN for an example that is in no subset or in all of them. Weights are
      drawn to 0, "lasso"'s mostly onto it. Under subsets of one size all weights are relative to their mean.
      Memory and time: as `estimate`.

    Raises:
      TypeError, ValueError: as `influence`; also an unknown method, a penalty that is not above 0, fewer than 3 models.

    Source: Ilyas et al. (2022), "Datamodels: understanding predictions with data and data with predictions" (LASSO).
    """
    checked = check_masks(masks)
    scores = check_score(score, len(checked))
    check_choice(method, "method", get_args(Regression))
    _check_number_of_models(len(checked))
    if penalty is not None and not (is_number(penalty) and 0 < penalty < np.inf):
        raise ValueError(f"penalty is {shown(penalty)}; it takes a number above 0, or None.")
    regression: Regression = "ridge" if method == "ridge" else "lasso"
    return _weights(checked, scores.astype(np.float64), regression, np.arange(checked.shape[1]), penalty)


def _weights(
    masks: Bool[np.ndarray, "models train"],
    score: Float[np.ndarray, "models test"],
    method: Regression,
    rows: Int[np.ndarray, " rows"],
    penalty: float | None = None,
) -> Float[np.ndarray, "rows test"]:
    if method == "ridge":
        spectrum = ridge.decompose(masks)
        found = ridge.weights(spectrum, ridge.fit(spectrum, score, penalty), rows)
    else:
        found = lasso.lasso_weights(masks, score, penalty)[rows]
    found[_undefined(masks[:, rows])] = np.nan
    return found


def _adjusted(
    masks: Bool[np.ndarray, "models train"], score: Float[np.ndarray, "models test"], rows: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "rows test"], Float[np.ndarray, "rows test"]]:
    spectrum = ridge.decompose(masks)
    fitted = ridge.fit(spectrum, score)
    found = ridge.adjusted(spectrum, fitted, rows)
    found[_undefined(masks[:, rows])] = np.nan
    square = (fitted.left_out**2).sum(axis=0) / (len(masks) - 1)
    return found, np.sqrt(square / _pairs_of_models(masks[:, rows])[:, None])


def _difference(
    masks: Bool[np.ndarray, "models train"], score: np.ndarray, rows: Int[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, "rows test"], Float[np.ndarray, "rows test"]]:
    """With the standard error of two means of one variance, that about both means."""
    found = np.asarray(influence(masks[:, rows], score)).astype(np.float64)
    number = _pairs_of_models(masks[:, rows])[:, None]
    total = score.var(axis=0, dtype=np.float64) * len(masks)
    within = np.maximum(total - found**2 * number, 0) / (len(masks) - 2)
    return found, np.sqrt(within / number)


def _pairs_of_models(masks: Bool[np.ndarray, "models rows"]) -> Float[np.ndarray, " rows"]:
    """1 / (1 / num_in + 1 / num_out); NaN where either is 0."""
    num_in = masks.sum(axis=0)
    product = num_in * (len(masks) - num_in) / len(masks)
    return np.where(product > 0, product, np.nan)


def _on_being_right(
    masks: Bool[np.ndarray, "models rows"],
    effect: Float[np.ndarray, "rows test"],
    statistic: Float[np.ndarray, "rows test"],
    margin: Float[np.ndarray, "models test"],
    correct: Bool[np.ndarray, "models test"],
) -> Float[np.ndarray, "rows test"]:
    direct = np.asarray(influence(masks, correct)).astype(np.float64)
    found = np.full(effect.shape, np.nan)
    defined = ~_undefined(masks)
    num_in = masks[:, defined].sum(axis=0).astype(np.float64)
    found[defined] = influence_on_being_right(
        effect[defined], statistic[defined], direct[defined], num_in, margin, correct
    )
    return found


def _undefined(masks: Bool[np.ndarray, "models rows"]) -> Bool[np.ndarray, " rows"]:
    number = masks.sum(axis=0)
    return (number == 0) | (number == len(masks))


def _check(
    method: Any, shrink: bool, correct: ArrayLike | None, score: np.ndarray, num_models: int
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


def _check_number_of_models(number: int) -> None:
    if number < 3:
        raise ValueError(f"masks has {number} models; an estimate with its error takes at least 3.")
