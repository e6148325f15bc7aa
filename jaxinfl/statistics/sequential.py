"""How many models tell p from q if the evidence is looked at after each model: Wald's sequential probability ratio test."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxinfl.arguments import check_probabilities, check_share
from jaxinfl.statistics.sample_size import log_ratios

PERCENTILE = 0.95
# Probability that the test still runs at which the count stops.
_NEGLIGIBLE = 1e-12
# Expected models from which a test takes more than some 10 seconds to work through.
_LONGEST = 1e5

# One value where the smaller probability holds, one where the larger does.
_Both = Float[np.ndarray, "2"]


class SequentialModels(NamedTuple):
    """Models until the test decides; each field float64 of the shape of p and q broadcast."""

    mean_p: Float[np.ndarray, "*shape"]
    """Expected number where p holds."""
    mean_q: Float[np.ndarray, "*shape"]
    """Expected number where q holds."""
    percentile_p: Float[np.ndarray, "*shape"]
    """Number that suffices with probability 0.95 where p holds."""
    percentile_q: Float[np.ndarray, "*shape"]
    """Number that suffices with probability 0.95 where q holds."""
    error_p: Float[np.ndarray, "*shape"]
    """Probability of deciding for q where p holds; at most delta / (1 - delta)."""
    error_q: Float[np.ndarray, "*shape"]
    """Probability of deciding for p where q holds; at most delta / (1 - delta)."""


def models_needed_sequentially(
    p: ArrayLike | Sequence[Any], q: ArrayLike | Sequence[Any], delta: float = 0.05
) -> SequentialModels:
    """Models that Wald's sequential test trains before it tells probability p of being right from q.

    After each model the likelihood ratio of the larger to the smaller probability is compared with (1 - delta) / delta and
    its inverse; the test ends when it reaches either. No test with the same errors expects fewer models under either
    hypothesis (Wald and Wolfowitz, 1948), so this is what the fixed number of `models_needed` can be lowered to.

    Args:
      p: probability of being right for models trained with the example, in 0..1; any shape.
      q: probability of being right for models trained without it, in 0..1; broadcast against p.
      delta: probability of an error that either decision aims at, between 0 and 0.5.

    Returns:
      `SequentialModels`: exact up to rounding, by following the probability of each number of right models until the test
      runs on with probability 1e-12. Infinite numbers and undefined (NaN) errors where p equals q.

    Raises:
      TypeError: p, q or delta are not numbers.
      ValueError: p or q outside 0..1 or NaN, shapes that do not broadcast, delta not between 0 and 0.5, or p and q so close
        that more than 100,000 models are expected.

    Source: Wald (1945), "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16: thresholds, bounds
    on the errors, and the approximate expected number by which pairs that are too close are refused beforehand.
    """
    one, other = check_probabilities(p=p, q=q)
    limit = check_share(delta, "delta", 0.5)
    results = np.empty((6, one.size))
    for column, (first, second) in enumerate(zip(one.ravel(), other.ravel(), strict=True)):
        if first == second:
            results[:, column] = [np.inf] * 4 + [np.nan] * 2
            continue
        mean, percentile, error = _follow(
            min(first, second), max(first, second), float(np.log1p(-limit) - np.log(limit))
        )
        # Rows of `_follow` are where the smaller and where the larger probability holds.
        order = [0, 1] if first < second else [1, 0]
        results[:, column] = np.concatenate([mean[order], percentile[order], error[order]])
    shaped = results.reshape(6, *one.shape)
    return SequentialModels(*(shaped[field, ...] for field in range(6)))


def _follow(low: float, high: float, bound: float) -> tuple[_Both, _Both, _Both]:
    """Mean, percentile and error where `low` and where `high` holds; `bound` is the log likelihood ratio that decides."""
    right, wrong = (float(part[0]) for part in log_ratios(np.array([low]), np.array([high])))
    if np.isinf(right) or np.isinf(wrong):
        return _follow_sure(low, high, right, wrong, bound)
    shares = np.array([[low], [high]])
    drift = shares[:, 0] * right - (1 - shares[:, 0]) * wrong
    if (bound / np.abs(drift)).max() > _LONGEST:
        raise ValueError(
            f"p and q are {low} and {high}: a sequential test expects about {(bound / np.abs(drift)).max():.0f} models, and "
            f"this takes pairs that need up to {_LONGEST:.0f}. Use models_needed, of which it takes about half."
        )
    # Numbers of right models at which the test runs on lie within an open interval of this width about m t.
    width = int(np.ceil(2 * bound / (right + wrong))) + 2
    begin, running = 0, np.zeros((2, width))
    running[:, 0] = 1
    mean, error, percentile = np.zeros(2), np.zeros(2), np.zeros(2)
    number = 0
    while (alive := running.sum(axis=1)).max() > _NEGLIGIBLE:
        mean += alive
        percentile += alive > 1 - PERCENTILE
        number += 1
        after = np.zeros((2, width + 1))
        after[:, :-1] = running * (1 - shares)
        after[:, 1:] += running * shares
        count = begin + np.arange(width + 1)
        evidence = count * right - (number - count) * wrong
        # A unit in the last place short of the bound is rounding.
        upper, lower = evidence >= bound * (1 - 1e-12), evidence <= -bound * (1 - 1e-12)
        error += [after[0, upper].sum(), after[1, lower].sum()]
        after[:, upper | lower] = 0
        # The lowest number at which the test may run on; the window holds all above it.
        shift = int(lower[0])
        begin, running = begin + shift, after[:, shift : shift + width]
    return mean, percentile, error


def _follow_sure(low: float, high: float, right: float, wrong: float, bound: float) -> tuple[_Both, _Both, _Both]:
    """`_follow` where one side is sure: it is decided for after enough models that agree, and against at the first other."""
    if np.isinf(right) and np.isinf(wrong):
        return np.ones(2), np.ones(2), np.zeros(2)
    evidence, share = (wrong, 1 - high) if np.isinf(right) else (right, low)
    enough = np.ceil(bound / evidence * (1 - 1e-12))
    # The unsure side is found out with probability 1 - share at each model: a geometric number, cut at `enough`.
    mean = (1 - share**enough) / (1 - share)
    percentile = min(enough, max(1.0, np.ceil(np.log(1 - PERCENTILE) / np.log(share) * (1 - 1e-12))))
    sure, unsure = [enough, enough, 0.0], [mean, percentile, share**enough]
    both = [sure, unsure] if np.isinf(right) else [unsure, sure]
    found = np.array(both).T
    return found[0], found[1], found[2]
