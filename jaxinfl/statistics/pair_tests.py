"""Tests of no influence of all pairs, a block of training examples at a time, and which test fits which scores."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from jaxinfl.influence.blocks import count_blocks
from jaxinfl.statistics.clusters import Clusters
from jaxinfl.statistics.correlation import merge_rounding
from jaxinfl.statistics.exact_test import Alternative, fisher_table, smallest_p_value
from jaxinfl.statistics.multiple import Block

Blocks = Callable[[], Iterable[Block]]

# Pairs whose p-values are held at once.
_PAIRS_AT_ONCE = 2**21
_MOST_EQUAL = 1 / 3
"""Share of the subsets that may have one and the same score for a sum of ranks to be smooth."""
_MOST_OFF = 0.1
"""Share by which a p-value of the normal approximation may be too small at the level that decides."""


class PairTests(NamedTuple):
    """The tests of all pairs."""

    blocks: Blocks
    """Computes the p-values block by block, the same each time; NaN where a pair is not tested."""
    num_tests: int
    """Number of pairs that could be discovered at all."""


class _Scores(NamedTuple):
    """One score a subset for each test example, prepared for either test."""

    flags: Bool[np.ndarray, "subsets test"]
    """Whether the score of a subset is right, or above a cut: Fisher's test compares these."""
    ranks: Float[np.ndarray, "subsets test"]
    """Ranks of the scores, centred; 0 for bool scores."""
    smooth: Bool[np.ndarray, "sizes test"]
    """Whether the sum of the ranks over so many subsets is normal to the accuracy that is asked for."""


def pair_tests(
    masks: Bool[np.ndarray, "subsets train"], score: np.ndarray, fdr: float, alternative: Alternative
) -> PairTests:
    """Tests of one score a subset: Fisher's of bool scores; of floats the rank-sum test where it can be trusted, else Fisher's.

    Args:
      masks: bool [subsets, train], all rows different.
      score: bool or float64 [subsets, test].
      fdr: false discovery rate, which decides how small the p-values are that matter.
      alternative: "two-sided", "greater" or "less", as in `discoveries`.
    """
    num_in = masks.sum(axis=0)
    sizes, examples = np.unique(num_in, return_counts=True)
    usable = examples @ ((sizes > 0) & (sizes < len(masks)))
    level = fdr / max(int(usable) * score.shape[1], 1) / (2 if alternative == "two-sided" else 1)
    scores = _prepare(score, sizes, len(masks), level)
    totals = scores.flags.sum(axis=0)
    distinct, column = np.unique(totals, return_inverse=True)
    smallest = smallest_p_value(sizes, distinct, len(masks), alternative)
    smallest[(sizes == 0) | (sizes == len(masks))] = np.inf
    scores.smooth[(sizes == 0) | (sizes == len(masks))] = False
    counted = np.stack([np.bincount(column[~row], minlength=distinct.size) for row in scores.smooth])
    ranked = int(examples @ scores.smooth.sum(axis=1))
    attainable, num_tests = _attainable(smallest, examples[:, None] * counted, ranked, fdr)
    tested = dict(zip(sizes.tolist(), (smallest <= attainable)[:, column] & ~scores.smooth, strict=True))
    smooth = dict(zip(sizes.tolist(), scores.smooth, strict=True))

    def blocks() -> Iterator[Block]:
        # Training examples with equally many subsets follow one another: they share a table.
        order = np.argsort(num_in, kind="stable")
        size, table = -1, np.zeros((0, 0))
        rows = max(1, _PAIRS_AT_ONCE // score.shape[1])
        for start, counts in count_blocks(masks[:, order], scores.flags, rows):
            numbers = num_in[order[start : start + len(counts)]]
            for first, last in _find_runs(numbers):
                number, members = int(numbers[first]), order[start + first : start + last]
                exact, normal = tested[number], smooth[number]
                if not exact.any() and not normal.any():
                    continue
                found = np.full((last - first, score.shape[1]), np.nan)
                if exact.any():
                    if number != size:
                        size, table = number, fisher_table(number, distinct, len(masks), alternative)
                    found[:, exact] = table[counts[first:last][:, exact], column[None, exact]]
                if normal.any():
                    found[:, normal] = _rank_sum_p_values(masks[:, members], scores.ranks[:, normal], alternative)
                yield members, found

    return PairTests(blocks, num_tests)


def one_score_a_subset(score: np.ndarray, clusters: Clusters) -> np.ndarray:
    """Scores of models as one score a subset: the mean of floats, and of 0-1 scores whether all models are right.

    (Or any where the majority of models is wrong: the rarer outcome of a test example is what tells subsets apart. Which one is
    rarer is a matter of totals, of which Fisher's test is independent.)
    """
    if score.dtype != np.bool_:
        return clusters.means(score.astype(np.float64))
    if clusters.alone:
        return score
    right = clusters.sums(score.astype(np.float64))
    mostly = 2 * right.sum(axis=0) >= len(score)
    return np.where(mostly, right == clusters.size[:, None], right > 0)


def _prepare(score: np.ndarray, sizes: Int[np.ndarray, " sizes"], num_subsets: int, level: float) -> _Scores:
    if score.dtype == np.bool_:
        return _Scores(score, np.zeros(score.shape), np.zeros((sizes.size, score.shape[1]), bool))
    merged = merge_rounding(score)
    ranks = rankdata(merged, axis=0) - (num_subsets + 1) / 2
    return _Scores(_above_cut(merged, ranks), ranks, _is_smooth(ranks, sizes, level))


def _above_cut(
    score: Float[np.ndarray, "subsets test"], ranks: Float[np.ndarray, "subsets test"]
) -> Bool[np.ndarray, "subsets test"]:
    """Whether a score is above the cut that halves a column's scores most evenly; of two values, whether it is the higher one."""
    ordered = np.sort(score, axis=0)
    num_subsets = len(score)
    if num_subsets == 1:
        return np.zeros(score.shape, bool)
    place = np.arange(1, num_subsets)[:, None]
    cost = np.where(ordered[1:] > ordered[:-1], np.abs(place - num_subsets / 2), np.inf)
    best = cost.argmin(axis=0)
    limit = np.take_along_axis(ordered, best[None, :], axis=0)[0]
    return np.where(ordered[0] < ordered[-1], score > limit, False)


def _is_smooth(
    ranks: Float[np.ndarray, "subsets test"], sizes: Int[np.ndarray, " sizes"], level: float
) -> Bool[np.ndarray, "sizes test"]:
    """Where a p-value near `level` by the normal approximation of the rank sum is at most a tenth too small.

    Without ties the rank sum is symmetric and its tails are lighter than normal ones. Ties make it skewed where the two sides
    differ in number, and lumpy. To the first order of Edgeworth's expansion a skewness g makes the tail beyond z larger by
    the share g z (z^2 - 1) / 6, and steps of h standard deviations by z h / 2. Where a third of the subsets has one and the same
    score, the steps are those of the number of these.

    Source: Feller (1971), "An introduction to probability theory and its applications" II, XVI; the skewness of a sum over a
    sample drawn without replacement after Cochran (1977), "Sampling techniques", 2.15.
    """
    num_subsets = len(ranks)
    z = -ndtri(min(level, 0.025))
    spread = np.sqrt((ranks**2).mean(axis=0))
    varies = spread > 0
    skewness = np.where(varies, (ranks**3).mean(axis=0) / np.where(varies, spread, 1) ** 3, 0)
    ordered = np.sort(ranks, axis=0)
    steps = np.rint(2 * np.diff(ordered, axis=0)).astype(np.int64)
    step = np.gcd.reduce(steps, axis=0) / 2 if num_subsets > 1 else np.zeros(ranks.shape[1])
    equal = _longest_run(steps == 0) / num_subsets
    number = sizes[:, None].astype(np.float64)
    product = np.maximum(number * (num_subsets - number), 1)
    deviation = spread * np.sqrt(product / max(num_subsets - 1, 1))
    lopsided = np.abs(num_subsets - 2 * number) / max(num_subsets - 2, 1) * np.sqrt((num_subsets - 1) / product)
    too_small = z * (z**2 - 1) / 6 * np.abs(skewness) * lopsided + z / 2 * step / np.where(varies, deviation, 1)
    return varies & (equal <= _MOST_EQUAL) & (too_small <= _MOST_OFF)


def _longest_run(same: Bool[np.ndarray, "steps test"]) -> Int[np.ndarray, " test"]:
    """Length of the longest run of equal values in each column, from whether each value equals the one before."""
    length, longest = np.ones(same.shape[1], np.intp), np.ones(same.shape[1], np.intp)
    for row in same:
        length = np.where(row, length + 1, 1)
        longest = np.maximum(longest, length)
    return longest


def _attainable(
    smallest: Float[np.ndarray, "sizes totals"], weight: Int[np.ndarray, "sizes totals"], others: int, fdr: float
) -> tuple[float, int]:
    """Gilbert's rule: pairs count whose smallest p-value is at most fdr / k, k the first that no more than k pairs meet.

    It looks at the totals only, of which the p-values are independent where there is no influence. `others` always count.
    """
    order = np.argsort(smallest, axis=None)
    values, numbers = smallest.ravel()[order], others + np.cumsum(weight.ravel()[order])

    def counted(k: int) -> int:
        at = int(np.searchsorted(values, fdr / k, side="right"))
        return int(numbers[at - 1]) if at else others

    low, high = 0, max(int(numbers[-1]), 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if counted(middle) <= middle else (middle, high)
    return fdr / high, counted(high)


def _rank_sum_p_values(
    members: Bool[np.ndarray, "subsets rows"], ranks: Float[np.ndarray, "subsets test"], alternative: Alternative
) -> Float[np.ndarray, "rows test"]:
    """p-values of the rank-sum test by the normal approximation; all rows have equally many members."""
    num_subsets, number = len(members), int(members[:, 0].sum())
    # Given the ranks, ties included, this is what chance alone makes of their sum over a random part of the subsets.
    deviation = np.sqrt((ranks**2).mean(axis=0) / max(num_subsets - 1, 1) * number * (num_subsets - number))
    statistic = members.T.astype(np.float64) @ ranks / deviation
    if alternative == "two-sided":
        return 2 * ndtr(-np.abs(statistic))
    return ndtr(-statistic if alternative == "greater" else statistic)


def _find_runs(numbers: Int[np.ndarray, " rows"]) -> list[tuple[int, int]]:
    """Begin and end of each run of equal numbers."""
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    return list(zip(begins.tolist(), np.append(begins[1:], len(numbers)).tolist(), strict=True))
