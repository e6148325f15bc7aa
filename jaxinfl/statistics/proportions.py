"""Intervals for a difference of two proportions."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.special import ndtri

from jaxinfl.arguments import as_array, check_share


class Interval(NamedTuple):
    """Lower and upper ends of the intervals of some pairs; NaN where a side has no model."""

    low: Float[np.ndarray, " pairs"]
    high: Float[np.ndarray, " pairs"]


def newcombe_interval(
    share_in: ArrayLike,
    num_in: ArrayLike,
    share_out: ArrayLike,
    num_out: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Hybrid score interval of share_in - share_out: from the Wilson intervals of the two sides.

    It is never outside -1..1, and has a width above 0 also where every model agrees.

    Args:
      share_in, share_out: share of right models on each side, from 0 to 1, [pairs]; NaN where there is no model.
      num_in, num_out: number of models on each side, from 0 up, [pairs]; fractions are effective numbers of clustered models.
      confidence: confidence of each interval, between 0 and 1.

    Returns:
      `Interval` of float64 [pairs]; NaN where a side has no model.

    Raises:
      TypeError, ValueError: shares outside 0..1 (NaN is taken where there is no model), negative or infinite numbers of models,
        shapes that do not broadcast, a confidence that is not between 0 and 1.

    Source: Newcombe (1998), "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17, method 10; Wilson (1927), Journal of the American Statistical Association 22.
    """
    share_in, num_in, share_out, num_out = _check_sides(share_in, num_in, share_out, num_out)
    quantile = normal_quantile(confidence)
    low_in, high_in = wilson_interval(share_in, num_in, quantile)
    low_out, high_out = wilson_interval(share_out, num_out, quantile)
    difference = share_in - share_out
    return Interval(
        difference - np.hypot(share_in - low_in, high_out - share_out),
        difference + np.hypot(high_in - share_in, share_out - low_out),
    )


def agresti_caffo_interval(
    share_in: ArrayLike,
    num_in: ArrayLike,
    share_out: ArrayLike,
    num_out: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Interval of share_in - share_out by the normal approximation after one right and one wrong model more on each side.

    Simple and close to nominal on average; it is centred on an estimate drawn towards 0, and may reach outside -1..1.

    Args:
      share_in, share_out: share of right models on each side, from 0 to 1, [pairs]; NaN where there is no model.
      num_in, num_out: number of models on each side, from 0 up, [pairs]; fractions are effective numbers of clustered models.
      confidence: confidence of each interval, between 0 and 1.

    Returns:
      `Interval` of float64 [pairs]; NaN where a side has no model.

    Raises:
      TypeError, ValueError: as `newcombe_interval`.

    Source: Agresti and Caffo (2000), "Simple and effective confidence intervals for proportions and differences of
    proportions result from adding two successes and two failures", The American Statistician 54.
    """
    share_in, num_in, share_out, num_out = _check_sides(share_in, num_in, share_out, num_out)
    difference, square = np.zeros(()), np.zeros(())
    for sign, share, number in ((1, share_in, num_in), (-1, share_out, num_out)):
        drawn = np.where(number > 0, (share * number + 1) / (number + 2), np.nan)
        difference = difference + sign * drawn
        square = square + drawn * (1 - drawn) / (number + 2)
    half = normal_quantile(confidence) * np.sqrt(square)
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


def normal_quantile(confidence: float) -> float:
    """Standard errors on either side of the mean within which a normal value lies with this probability, such as 1.96 of 0.95.

    Raises:
      TypeError, ValueError: a confidence that is not between 0 and 1.
    """
    # By the lower tail: 1 - (1 - c) / 2 would round to 1 for the far quantiles of many pairs.
    return -float(ndtri((1 - check_share(confidence, "confidence")) / 2))


def _check_sides(
    share_in: ArrayLike, num_in: ArrayLike, share_out: ArrayLike, num_out: ArrayLike
) -> list[Float[np.ndarray, " pairs"]]:
    """The four arguments as float64 arrays of one shape."""
    given = {"share_in": share_in, "num_in": num_in, "share_out": share_out, "num_out": num_out}
    arrays = []
    for name, value in given.items():
        array = as_array(value, name, "numbers")
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name} has dtype {array.dtype}; it takes numbers.")
        is_share = name.startswith("share")
        fits = np.isnan(array) | ((array >= 0) & (array <= 1)) if is_share else np.isfinite(array) & (array >= 0)
        if not fits.all():
            takes = "shares from 0 to 1, or NaN where there is no model" if is_share else "numbers of models from 0 up"
            raise ValueError(f"{name} holds {array[~fits].flat[0]}; it takes {takes}.")
        arrays.append(array.astype(np.float64))
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(given, arrays, strict=True))
        raise ValueError(f"shapes that do not broadcast: {shapes}; they take one value a pair.") from None
