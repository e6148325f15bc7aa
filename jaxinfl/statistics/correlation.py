"""Correlations of many columns at once, and what each case contributes to them."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import kendalltau, rankdata

Correlation = Literal["spearman", "pearson"]

_SAME = 1e-12
"""Values that differ by less than this share of their column's largest value count as equal: only rounding tells them apart."""
_MOST_COLUMNS = 50
"""Number of columns from which the bias of the mean is estimated."""


class Correlations(NamedTuple):
    """Correlations of two arrays [cases, columns], column by column."""

    value: Float[np.ndarray, " columns"]
    """Correlation of each column, -1 to 1; NaN where a column does not vary."""
    contribution: Float[np.ndarray, "cases columns"]
    """Influence values: how the correlation changes with the weight of a case; their mean is 0, and the variance of the
    correlation is about their sum of squares over the squared number of cases. NaN where the correlation is."""
    bias: float
    """How far the mean correlation lies on average below that of very many cases."""


def correlate(
    one: Float[np.ndarray, "cases columns"], other: Float[np.ndarray, "cases columns"], kind: Correlation
) -> Correlations:
    """Correlation of each column of `one` with that of `other`; values that are the same but for rounding are tied.

    Source: Spearman (1904); influence values after Croux and Dehon (2010), "Influence functions of the Spearman and Kendall
    correlation measures", Statistical Methods and Applications 19; the bias of Spearman's, 3 (tau - rho) / (cases + 1), after
    Hoeffding (1948), Annals of Mathematical Statistics 19.
    """
    tied = [merge_rounding(values) for values in (one, other)]
    sides = [rankdata(values, axis=0) if kind == "spearman" else values for values in tied]
    (first, first_size), (second, second_size) = (_standardize(values) for values in sides)
    product = first * second
    value = np.clip(product.mean(axis=0), -1, 1)
    if kind == "pearson":
        return Correlations(value, product - value * (first**2 + second**2) / 2, 0.0)
    # Ranks depend on the other cases: each case also moves the ranks of those above it, by one of them.
    moved = _sum_above(tied[0], second) / first_size + _sum_above(tied[1], first) / second_size
    contribution = product + moved
    return Correlations(value, contribution - contribution.mean(axis=0), _bias(tied[0], tied[1], value))


def _bias(
    one: Float[np.ndarray, "cases columns"],
    other: Float[np.ndarray, "cases columns"],
    value: Float[np.ndarray, " columns"],
) -> float:
    """Bias of the mean correlation: 3 (mean correlation - mean of Kendall's tau) / (cases - 2), from some columns, evenly taken."""
    (defined,) = np.nonzero(np.isfinite(value))
    if not defined.size:
        return 0.0
    some = defined[:: -(-defined.size // _MOST_COLUMNS)]
    tau = np.mean([kendalltau(one[:, column], other[:, column]).statistic for column in some])
    return float(3 * (value[some].mean() - tau) / max(len(one) - 2, 1))


def merge_rounding(values: Float[np.ndarray, "cases columns"]) -> Float[np.ndarray, "cases columns"]:
    """Set values that differ only by rounding to the lowest of them."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    gap = np.diff(ordered, axis=0, prepend=-np.inf) > _SAME * np.abs(values).max(axis=0)
    first: Int[np.ndarray, "cases columns"] = np.maximum.accumulate(
        np.where(gap, np.arange(len(values))[:, None], 0), axis=0
    )
    merged = np.empty_like(ordered)
    np.put_along_axis(merged, order, np.take_along_axis(ordered, first, axis=0), axis=0)
    return merged


def _standardize(
    values: Float[np.ndarray, "cases columns"],
) -> tuple[Float[np.ndarray, "cases columns"], Float[np.ndarray, " columns"]]:
    """Each column with mean 0 and mean square 1, and its standard deviation; NaN where it does not vary."""
    centred = values - values.mean(axis=0)
    size = np.sqrt((centred**2).mean(axis=0))
    # What only rounding tells apart is the same.
    size = np.where(size > 1e-9 * np.abs(values).max(axis=0), size, np.nan)
    return centred / size, size


def _sum_above(
    values: Float[np.ndarray, "cases columns"], weight: Float[np.ndarray, "cases columns"]
) -> Float[np.ndarray, "cases columns"]:
    """Sum, for each case, the weights of the cases whose value is above its own, and half of those with the same value."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered, weights = (np.take_along_axis(part, order, axis=0) for part in (values, weight))
    from_here = np.zeros((len(values) + 1, values.shape[1]))
    from_here[:-1] = np.cumsum(weights[::-1], axis=0)[::-1]
    rows = np.arange(len(values))[:, None]
    new = np.diff(ordered, axis=0, prepend=-np.inf) > 0
    last = np.concatenate([new[1:], np.ones((1, values.shape[1]), bool)])
    begin = np.maximum.accumulate(np.where(new, rows, 0), axis=0)
    end = np.minimum.accumulate(np.where(last, rows + 1, len(values))[::-1], axis=0)[::-1]
    half = (np.take_along_axis(from_here, begin, axis=0) + np.take_along_axis(from_here, end, axis=0)) / 2
    found = np.empty_like(half)
    np.put_along_axis(found, order, half, axis=0)
    return found
