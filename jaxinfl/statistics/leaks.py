"""Leaks of strong influences: in subsets of one size every other training example gets a small one of the opposite sign.

In subsets of one size who is in keeps others out. So the difference of means of an example holds, besides its own effect, minus
the sum of all others' effects over their number, n - 1. Of many training examples that is nothing; of 20, and with many models,
it is what tests find: with effects of 0.4 up to 72% of the discoveries were such leaks.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from jaxinfl.statistics.exact_test import Alternative
from jaxinfl.statistics.multiple import Rejected

_NEGLIGIBLE = 0.15
"""Size of a leak, in standard errors, below which nothing is done: a two-sided p-value of 1e-4 is off by less than a fifth."""


def find_leaks(
    masks: Bool[np.ndarray, "subsets train"], score: np.ndarray, found: Rejected
) -> Float[np.ndarray, " test"] | None:
    """How many standard errors others' influences may have leaked into the statistics of each test example; None if hardly any.

    The largest sum of influences, taken by falling strength, over n - 1: the sum over all of them is 0 in such subsets, the leaks
    included.
    """
    num_subsets, num_train = masks.shape
    sizes = masks.sum(axis=1)
    if not found.train_index.size or num_train < 2 or np.ptp(sizes) > 0:
        return None
    ratio = sizes[0] / num_train
    values = score.astype(np.float64)
    error = values.std(axis=0) / np.sqrt(num_subsets * ratio * (1 - ratio))
    shift = np.zeros(score.shape[1])
    for test in np.unique(found.test_index):
        seen = masks[:, found.train_index[found.test_index == test]]
        number = seen.sum(axis=0)
        inside = values[:, test] @ seen
        influence = inside / number - (values[:, test].sum() - inside) / (num_subsets - number)
        strongest = influence[np.argsort(-np.abs(influence), kind="stable")]
        shift[test] = np.abs(np.cumsum(strongest)).max() / error[test] / (num_train - 1)
    shift[shift < _NEGLIGIBLE] = 0
    return shift if shift.any() else None


def p_values_beyond(
    p_value: Float[np.ndarray, "rows test"], shift: Float[np.ndarray, " test"], alternative: Alternative
) -> Float[np.ndarray, "rows test"]:
    """p-values of the hypothesis that a statistic is off 0 by up to `shift` standard errors; NaN stays NaN."""
    sides = 2 if alternative == "two-sided" else 1
    distance = -ndtri(p_value / sides)
    moved = np.minimum(sides * ndtr(-np.maximum(distance - shift, 0 if sides == 2 else -np.inf)), 1.0)
    return np.where(shift > 0, moved, p_value)
