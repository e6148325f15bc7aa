"""Intervals for a difference of two proportions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri


class Interval(NamedTuple):
    """Lower and upper end; NaN where a side has no model."""

    low: Float[np.ndarray, " pairs"]
    high: Float[np.ndarray, " pairs"]


def newcombe_interval(
    share_in: Float[np.ndarray, " pairs"],
    num_in: Float[np.ndarray, " pairs"],
    share_out: Float[np.ndarray, " pairs"],
    num_out: Float[np.ndarray, " pairs"],
    confidence: float = 0.95,
) -> Interval:
    """Hybrid score interval of share_in - share_out: from the Wilson intervals of the two sides.

    Never outside -1..1, and of a width above 0 also where every model agrees. Numbers of models may be fractions:
    effective numbers of clustered observations.

    Source: Newcombe (1998), "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17, method 10; Wilson (1927), Journal of the American Statistical Association 22.
    """
    quantile = _quantile(confidence)
    low_in, high_in = wilson_interval(share_in, num_in, quantile)
    low_out, high_out = wilson_interval(share_out, num_out, quantile)
    difference = share_in - share_out
    return Interval(
        difference - np.hypot(share_in - low_in, high_out - share_out),
        difference + np.hypot(high_in - share_in, share_out - low_out),
    )


def agresti_caffo_interval(
    share_in: Float[np.ndarray, " pairs"],
    num_in: Float[np.ndarray, " pairs"],
    share_out: Float[np.ndarray, " pairs"],
    num_out: Float[np.ndarray, " pairs"],
    confidence: float = 0.95,
) -> Interval:
    """Interval of share_in - share_out by the normal approximation after one right and one wrong model more on each side.

    Simple and close to nominal on average; it is centred on an estimate drawn towards 0, and may reach outside -1..1.

    Source: Agresti and Caffo (2000), "Simple and effective confidence intervals for proportions and differences of
    proportions result from adding two successes and two failures", The American Statistician 54.
    """
    difference, square = np.zeros(()), np.zeros(())
    for sign, share, number in ((1, share_in, num_in), (-1, share_out, num_out)):
        drawn = np.where(number > 0, (share * number + 1) / (number + 2), np.nan)
        difference = difference + sign * drawn
        square = square + drawn * (1 - drawn) / (number + 2)
    half = _quantile(confidence) * np.sqrt(square)
    return Interval(difference - half, difference + half)


def wilson_interval(
    share: Float[np.ndarray, " pairs"], number: Float[np.ndarray, " pairs"], quantile: float
) -> Interval:
    """Score interval of one proportion: the values that a test at `quantile` standard errors does not reject."""
    safe = np.where(number > 0, number, np.nan)
    weight = quantile**2 / safe
    centre = (share + weight / 2) / (1 + weight)
    half = np.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # Rounding must not leave the estimate outside its own interval where it is 0 or 1.
    return Interval(np.minimum(np.maximum(centre - half, 0), share), np.maximum(np.minimum(centre + half, 1), share))


def _quantile(confidence: float) -> float:
    # By the lower tail: 1 - (1 - c) / 2 would round to 1 for the far quantiles of many pairs.
    return -float(ndtri((1 - confidence) / 2))
