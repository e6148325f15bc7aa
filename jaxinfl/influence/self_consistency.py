"""Self-consistency of influence estimates: the IOU of two estimates from disjoint sets of t models, for growing t."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float64, Int

from jaxinfl.arguments import as_array, check_min_memorization, check_seed, check_thresholds, check_whole
from jaxinfl.influence.outcomes import Models, Names, Outcomes, Score, take_outcomes
from jaxinfl.influence.overlap import iou_of_outcomes

_FIRST_NUM_MODELS = 25
_MOST_REPEATS = 1_000_000
"""More repeats would run for weeks on the smallest pool: they are a slip of the pen."""


@dataclass(frozen=True, eq=False)
class IOUCurve:
    """IOU of two estimates from disjoint sets of models: the left panel of Figure 1.

    The repeats draw their models from one pool. They share models, the more so the larger `num_models` is: with
    `2 * num_models` near the size of the pool every repeat uses nearly all of it, and `std` then understates how far
    the IOU of fresh ensembles would spread.
    """

    thresholds: Float64[np.ndarray, " thresholds"]
    """Thresholds in the unit of the score."""
    num_models: Int[np.ndarray, " sizes"]
    """Numbers of models in each of the two estimates, one a row of `values`."""
    values: Float64[np.ndarray, "sizes repeats thresholds"]
    """IOU of each split; NaN where no pair reaches the threshold in either estimate."""
    num_examples: int
    """Number of training examples that take part: those above the memorization condition."""

    @property
    def mean(self) -> Float64[np.ndarray, "sizes thresholds"]:
        """Mean over the repeats that are not NaN; NaN where all are."""
        number = self._number
        return _ratio(np.nansum(self.values, axis=1), number, number > 0)

    @property
    def std(self) -> Float64[np.ndarray, "sizes thresholds"]:
        """Sample standard deviation (ddof=1) over the repeats that are not NaN; NaN where fewer than two are left."""
        number = self._number
        squares = np.nansum((self.values - self.mean[:, None, :]) ** 2, axis=1)
        return _ratio(squares, number - 1, number > 1) ** 0.5

    @property
    def _number(self) -> Int[np.ndarray, "sizes thresholds"]:
        return (~np.isnan(self.values)).sum(axis=1)


def iou_curve(
    masks: Models,
    train_score: Score = None,
    test_score: Score = None,
    *,
    num_models: ArrayLike | Sequence[Any] | None = None,
    thresholds: ArrayLike | Sequence[Any] | None = None,
    repeats: int = 10,
    seed: int = 0,
    min_memorization: float | None = 0.25,
) -> IOUCurve:
    """How well influence from t models agrees with influence from t other models, by threshold.

    Each repeat puts the pool in one random order. For each t, its first t and its next t models give two estimates,
    and their IOU is taken over the training examples that the pool as a whole memorizes.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out, or `Outcomes` with both scores.
      train_score: [models, train], bool or float; its memorization decides which training examples take part. For an
        `Ensemble` the name of a score.
      test_score: [models, test], bool or float; its unit is that of the influence and of the thresholds. For an `Ensemble` the
        name of a score; by default the one that `train_score` names.
      num_models: the sizes t, from 1 up; by default 25, 50, 100, ... as long as 2 t models are in the pool.
      thresholds: scalar or 1-D, in the unit of the influence; by default 0.05, 0.075, ..., 1: Figure 1 without what the noise of
        all pairs reaches. Scores that are neither 0-1 nor from 0 to 1, as margins are, have no default.
      repeats: number of random orders of the models, from 1 up.
      seed: seed of these orders. Repeat r is drawn from `np.random.default_rng((seed, r))`: more repeats keep those before.
      min_memorization: only training examples whose memorization, estimated from the whole pool, is above this take
        part (Appendix E), in the unit of `train_score`; None takes all.

    Returns:
      `IOUCurve`. Its repeats share models, so its spread understates the true one where 2 t is near the pool.
      Memory beyond the inputs: two copies of the masks, 1 byte (bool) or 16 (float) for every test score, and a few
      arrays of 4 million values; never train x test.

    Raises:
      TypeError, ValueError: as `influence` and `iou`; also where a size or `repeats` is not a positive int, 2 t exceeds
        the pool, or no example is above `min_memorization`.

    Source: Figure 1 (left) of Section 3, and Appendix E of the paper; Feldman and Zhang (2020).
    """
    given = take_outcomes(masks, test_score, train_score, Names(score="test_score"))
    sizes = _check_sizes(num_models, len(given))
    if thresholds is None and given.kind == "real":
        raise ValueError(
            "thresholds is None, which stands for differences of probabilities, and test_score is neither bool nor from 0 to 1. Pass "
            "thresholds in the unit of the score."
        )
    limits = check_thresholds(np.arange(2, 41) / 40 if thresholds is None else thresholds)
    repeats = check_whole(repeats, "repeats", 1, _MOST_REPEATS)
    check_seed(seed)
    check_min_memorization(min_memorization)
    examples = _examples_above(given, min_memorization)
    kept, score = given.masks[:, examples], given.test_score
    values = np.empty((len(sizes), repeats, limits.size))
    for repeat in range(repeats):
        order = np.random.default_rng((seed, repeat)).permutation(len(given))
        for row, size in enumerate(sizes):
            halves = order[:size], order[size : 2 * size]
            a, b = (Outcomes(kept[half], score[half], None) for half in halves)
            values[row, repeat] = iou_of_outcomes(a, b, limits)
    return IOUCurve(limits, np.array(sizes), values, examples.size)


def _check_sizes(num_models: ArrayLike | Sequence[Any] | None, pool: int) -> list[int]:
    if num_models is None:
        if pool < 2 * _FIRST_NUM_MODELS:
            raise ValueError(
                f"the pool has {pool} models, but the default num_models starts with two sets of {_FIRST_NUM_MODELS}; "
                "train more models or pass num_models."
            )
        doublings = int(np.log2(pool / (2 * _FIRST_NUM_MODELS)))
        return [_FIRST_NUM_MODELS * 2**doubling for doubling in range(doublings + 1)]
    given = np.atleast_1d(as_array(num_models, "num_models", "numbers of models"))
    if given.ndim != 1:
        raise ValueError(f"num_models has shape {given.shape}; it takes a whole number of models or a list of them.")
    sizes = [check_whole(size, "num_models") for size in given]
    if not sizes:
        raise ValueError("num_models is empty; pass at least one number of models.")
    for size in sizes:
        if 2 * size > pool:
            raise ValueError(
                f"num_models holds {size}, and two disjoint sets of that many need {2 * size} models, "
                f"but the pool has {pool}."
            )
    return sizes


def _examples_above(given: Outcomes, minimum: float | None) -> Int[np.ndarray, " examples"]:
    examples = given.examples_above(minimum)
    if examples.size == 0:
        memorization = given.memorization.rounded
        known = memorization[~np.isnan(memorization)]
        highest = f"the highest is {known.max():.3g}" if known.size else "all of it is NaN"
        raise ValueError(
            f"none of {memorization.size} training examples has a memorization above {minimum} ({highest}). "
            "Lower min_memorization, or pass None to take every example."
        )
    return examples


def _ratio(numerator: np.ndarray, denominator: np.ndarray, defined: np.ndarray) -> np.ndarray:
    ratio = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=ratio, where=defined)
