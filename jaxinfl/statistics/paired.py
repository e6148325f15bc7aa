"""Intervals for a difference of two proportions that were measured in pairs."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxinfl.arguments import as_array
from jaxinfl.statistics.proportions import Interval, normal_quantile, wilson_interval


def newcombe_paired_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Hybrid score interval of mean(first) - mean(second), row t of both being one pair.

    As `newcombe_interval`, but for models that come in pairs, such as with and without an example from the same keys: the more
    the two of a pair say the same, the shorter it is. Columns are separate questions.

    Args:
      first, second: bool [models, pairs], whether each model is right; row t of both is a pair of models. `Ensemble.paired` aligns
        two ensembles so.
      confidence: confidence of each interval alone, between 0 and 1; 1 - alpha / pairs covers all of them together with 1 - alpha at least (Bonferroni).

    Returns:
      `Interval` of float64 [pairs], inside -1..1, and of a width above 0 also where every model agrees.

    Raises:
      TypeError: `first` or `second` are not bool.
      ValueError: other than two dimensions, different shapes, no models, a confidence that is not between 0 and 1.

    Source: Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17, method 10; the correlation is corrected for continuity where it is above 0.
    """
    one, two = (as_array(side, name, "bool [models, pairs]") for side, name in ((first, "first"), (second, "second")))
    if one.dtype != np.bool_ or two.dtype != np.bool_:
        raise TypeError(f"first is {one.dtype} and second {two.dtype}; they take bool, whether each model is right.")
    if one.ndim != 2 or one.shape != two.shape or not len(one):
        raise ValueError(
            f"first has shape {one.shape} and second {two.shape}; they take [models, pairs], one row a model of each pair, "
            "and at least one."
        )
    number, quantile = len(one), normal_quantile(confidence)
    share, other = one.mean(axis=0), two.mean(axis=0)
    models = np.full(share.shape, float(number))
    low, high = wilson_interval(share, models, quantile)
    other_low, other_high = wilson_interval(other, models, quantile)
    correlation = _correlation(one, two)
    difference = share - other
    return Interval(
        difference - _combine(share - low, other_high - other, correlation),
        difference + _combine(high - share, other - other_low, correlation),
    )


def _combine(
    one: Float[np.ndarray, " pairs"], other: Float[np.ndarray, " pairs"], correlation: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """Half width of the interval of the difference, from how far each share may lie off."""
    # Rounding may leave a sum just below 0 where the two cancel.
    return np.sqrt(np.maximum(one**2 - 2 * correlation * one * other + other**2, 0))


def _correlation(
    first: Bool[np.ndarray, "models pairs"], second: Bool[np.ndarray, "models pairs"]
) -> Float[np.ndarray, " pairs"]:
    """The phi coefficient of the four counts, corrected for continuity; 0 where one side does not vary."""
    number = len(first)
    both, neither = (first & second).sum(axis=0), (~first & ~second).sum(axis=0)
    ones, others = first.sum(axis=0), second.sum(axis=0)
    product = both.astype(np.float64) * neither - (ones - both) * (others - both).astype(np.float64)
    corrected = np.where(product > 0, np.maximum(product - number / 2, 0), product)
    # Of floats: the product of four counts may exceed 64 bits.
    totals = ones.astype(np.float64) * (number - ones) * others * (number - others)
    return np.where(totals > 0, corrected / np.sqrt(np.where(totals > 0, totals, 1)), 0)
