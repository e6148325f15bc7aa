"""False discovery rate among more p-values than memory holds."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import digamma

FDRMethod = Literal["bh", "by"]

# A block of p-values of pairs: first training example of the block's rows, and p-values [rows, test], NaN where not tested.
Block = tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows test"]]

# Edges of the histogram of p-values below the level: 100 a factor of ten, down to 1e-300.
_EDGES = 10.0 ** (-np.arange(30_001) / 100)


class Rejected(NamedTuple):
    """Pairs whose hypothesis of no influence is rejected, by rising p-value; equal ones by rising train and then test index."""

    train_index: Int[np.ndarray, " pairs"]
    """The training example of each pair."""
    test_index: Int[np.ndarray, " pairs"]
    """The test example of each pair."""
    p_value: Float[np.ndarray, " pairs"]
    """Probability of a statistic as extreme as this pair's if its influence were 0."""
    q_value: Float[np.ndarray, " pairs"]
    """The smallest false discovery rate at which the pair would still be reported."""


def effective_level(fdr: float, num_tests: int, method: FDRMethod) -> float:
    """Level at which the step-up procedure runs: `fdr` (BH), or `fdr / (1 + 1/2 + ... + 1/num_tests)` (BY)."""
    if method == "bh":
        return fdr
    return fdr / float(digamma(num_tests + 1) + np.euler_gamma)


def step_up(blocks: Callable[[], Iterable[Block]], num_tests: int, fdr: float, method: FDRMethod = "bh") -> Rejected:
    """Benjamini and Hochberg's or Benjamini and Yekutieli's procedure over p-values that are computed twice, never stored.

    The first pass counts p-values in a histogram. With it the procedure, done from above with counts up to the next edge,
    gives a bound that no rejected p-value exceeds; the second pass keeps the pairs up to that bound and the procedure on
    them is exact. Memory: one block, and the pairs kept (hardly more than are rejected).

    Args:
      blocks: gives all p-values, block by block; it is called twice and must give the same bits each time.
      num_tests: number of hypotheses, those with large p-values included.
      fdr: false discovery rate, between 0 and 1.
      method: "bh" holds it for independent and for positively dependent tests, "by" whatever the dependence.

    Source: Benjamini and Hochberg (1995), Journal of the Royal Statistical Society B 57; Benjamini and Yekutieli (2001),
    Annals of Statistics 29; q-values: the adjusted p-values of Yekutieli and Benjamini (1999).
    """
    if num_tests == 0:
        return Rejected(*(np.zeros(0, np.intp) for _ in range(2)), *(np.zeros(0) for _ in range(2)))
    level = effective_level(fdr, num_tests, method)
    edges = level * _EDGES[::-1]
    histogram = np.zeros(edges.size, np.int64)
    for _, values in blocks():
        small = values[values <= level]
        # Number of the lowest edge that is not below the value.
        histogram += np.bincount(np.searchsorted(edges, small), minlength=edges.size)
    bound = _bound(edges, np.cumsum(histogram), level, num_tests)
    train, test, kept = [], [], []
    for rows, values in blocks():
        row, column = np.nonzero(values <= bound)
        train.append(rows[row])
        test.append(column)
        kept.append(values[row, column])
    return _step_up_exactly(np.concatenate(train), np.concatenate(test), np.concatenate(kept), level, fdr, num_tests)


def _bound(edges: Float[np.ndarray, " edges"], below: Int[np.ndarray, " edges"], level: float, num_tests: int) -> float:
    """The lowest edge that no rejected p-value exceeds; `below` counts the p-values up to each edge."""
    at = edges.size - 1
    while True:
        # A rejected p-value is at most level * (p-values up to the bound) / num_tests, and an edge at or above that is next.
        following = min(int(np.searchsorted(edges, level * below[at] / num_tests)), at)
        if following == at:
            return float(edges[at])
        at = following


def _step_up_exactly(
    train: Int[np.ndarray, " pairs"],
    test: Int[np.ndarray, " pairs"],
    values: Float[np.ndarray, " pairs"],
    level: float,
    fdr: float,
    num_tests: int,
) -> Rejected:
    order = np.lexsort((test, train, values))
    train, test, values = train[order], test[order], values[order]
    # Equal p-values share the rank of the last of them.
    rank = np.searchsorted(values, values, side="right")
    adjusted = np.minimum.accumulate((values * (num_tests / level) / np.maximum(rank, 1))[::-1])[::-1]
    accepted = adjusted <= 1
    # In units of fdr: an adjusted value of 1 is a pair at the very level.
    return Rejected(train[accepted], test[accepted], values[accepted], np.minimum(adjusted[accepted], 1) * fdr)
