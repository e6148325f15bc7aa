"""Influential pairs with a guarantee on how many of them are none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr
from scipy.stats import rankdata

from jaxinfl.arguments import check_choice
from jaxinfl.influence.blocks import count_blocks
from jaxinfl.influence.checks import check_score
from jaxinfl.statistics.arguments import check_share
from jaxinfl.statistics.clusters import Clusters, find_clusters, share_of_complements
from jaxinfl.statistics.fisher import Alternative, fisher_table, smallest_p_value
from jaxinfl.statistics.multiple import Block, FDRMethod, effective_level, step_up
from jaxinfl.statistics.uncertainty import pair_uncertainty
from jaxinfl.subsets import check_masks

# Pairs whose p-values are held at once.
_PAIRS_AT_ONCE = 2**21


@dataclass(frozen=True, eq=False)
class Discoveries:
    """Pairs whose influence is not 0, by rising q-value; equal ones by rising train and then test index."""

    train_index: Int[np.ndarray, " pairs"]
    test_index: Int[np.ndarray, " pairs"]
    influence: Float[np.ndarray, " pairs"]
    """In the unit of the score."""
    low: Float[np.ndarray, " pairs"]
    """Lower end of the influence's interval, widened for the selection (see `confidence`)."""
    high: Float[np.ndarray, " pairs"]
    """Upper end."""
    p_value: Float[np.ndarray, " pairs"]
    q_value: Float[np.ndarray, " pairs"]
    """The smallest false discovery rate at which the pair would still be reported."""
    num_tests: int
    """Pairs that were tested."""
    confidence: float
    """Of the intervals: of all those reported, a share of at most `fdr` is expected to miss its influence."""

    def __len__(self) -> int:
        return len(self.train_index)


def discoveries(
    masks: ArrayLike,
    score: ArrayLike,
    *,
    fdr: float = 0.05,
    method: FDRMethod = "bh",
    alternative: Alternative = "two-sided",
) -> Discoveries:
    """All pairs of a training and a test example with an influence, of which a share of at most `fdr` is expected to be none.

    Every pair is tested, and the p-values are compared with a threshold that adapts to how many there are. Nothing of the
    size train x test is stored.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i. Subsets drawn independently
        ("uniform") are what the tests assume; for leave-one-out subsets see
        `pair_uncertainty`. Complementary subsets are refused: in simulations with influences of 0.4 their discoveries at 10%
        were false in 16%.
      score: [models, test], bool (right or wrong) or float (a probability, a margin).
      fdr: expected share of false ones among the reported pairs, between 0 and 1.
      method: "bh" (Benjamini and Hochberg) holds `fdr` for independent or positively dependent tests; here, where tests share
        models, by simulation. "by" (Benjamini and Yekutieli) holds it whatever the dependence, and finds less.
      alternative: "two-sided", or "greater" for positive influence only (more right or a higher score with the example),
        or "less".

    Returns:
      `Discoveries`. Bool scores: Fisher's exact test, exact for any number of models. Pairs that no outcome could make a
      discovery, by their totals alone (a test example on which every model is right), are not counted as tests.
      Float scores: Wilcoxon's rank-sum test, with the normal approximation; it asks whether scores with the example tend to
      be higher or lower. (Welch's test on skewed scores is far too sure of itself at the small p-values that matter
      here: with 0-1 scores of 400 models as floats, 20% of its discoveries at 5% were false.)
      Where models share a subset (identical mask rows), the subset counts once: bool scores by whether all its models are
      right (or any, where most are wrong), float scores by their mean. The influence stays the difference of means over
      models.
      Time: two passes over all pairs. Memory beyond the inputs: some arrays of 2 million pairs, tables of models^2 values
      for bool scores, and the reported pairs.

    Raises:
      TypeError: `masks` is not bool, `score` neither bool nor float.
      ValueError: shapes do not fit, a score is NaN or inf, `fdr` is not between 0 and 1, an unknown method or alternative,
        complementary subsets.

    Source: Fisher (1935); Wilcoxon (1945), Biometrics 1; Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001). Which
    tests count: Gilbert (2005), "A modified false discovery rate multiple-comparisons procedure for discrete data",
    Applied Statistics 54, after Tarone (1990). Intervals: Benjamini and Yekutieli (2005), "False discovery rate-adjusted
    multiple confidence intervals for selected parameters", Journal of the American Statistical Association 100.
    """
    checked = check_masks(masks)
    scores = check_score(score, len(checked))
    limit = check_share(fdr, "fdr")
    check_choice(method, "method", get_args(FDRMethod))
    check_choice(alternative, "alternative", get_args(Alternative))
    if share_of_complements(checked) > 0.5:
        raise ValueError(
            "masks holds subsets that are each other's complements (design 'complementary'); discoveries takes subsets drawn "
            "independently. An example that matters makes such models differ, which the tests would take for the influence "
            'of others: draw_subsets(..., design="uniform").'
        )
    clusters = find_clusters(checked)
    subsets = checked[clusters.first]
    if scores.dtype == np.bool_:
        correct = scores if clusters.alone else _right_as_a_whole(scores, clusters)
        blocks, num_tests = _fisher_blocks(subsets, correct, limit, alternative)
    else:
        means = clusters.sums(scores.astype(np.float64)) / clusters.size[:, None]
        blocks, num_tests = _rank_blocks(subsets, means, alternative)
    found = step_up(blocks, num_tests, limit, method)
    # The false coverage rate of intervals at this confidence is at most fdr (Benjamini and Yekutieli, 2005).
    share = effective_level(limit, max(num_tests, 1), method) * len(found.p_value) / max(num_tests, 1)
    confidence = 1 - (share or limit)
    pairs = found.train_index, found.test_index
    uncertainty = pair_uncertainty(checked, scores, *pairs, confidence=confidence)
    estimate = _influence_of_pairs(checked, scores, *pairs)
    return Discoveries(
        *pairs, estimate, uncertainty.low, uncertainty.high, found.p_value, found.q_value, num_tests, confidence
    )


Blocks = Callable[[], Iterable[Block]]


def _fisher_blocks(
    masks: Bool[np.ndarray, "models train"],
    correct: Bool[np.ndarray, "models test"],
    fdr: float,
    alternative: Alternative,
) -> tuple[Blocks, int]:
    """p-values by Fisher's test, and how many pairs can be discovered at all."""
    num_models = len(masks)
    num_in, totals = masks.sum(axis=0), correct.sum(axis=0)
    # Training examples with equally many models follow one another: they share a table.
    order = np.argsort(num_in, kind="stable")
    ordered, distinct = masks[:, order], np.unique(totals)
    column = np.searchsorted(distinct, totals)
    sizes, examples = np.unique(num_in, return_counts=True)
    smallest = smallest_p_value(sizes, distinct, num_models, alternative)
    smallest[(sizes == 0) | (sizes == num_models)] = np.inf
    weight = examples[:, None] * np.bincount(column)[None, :]
    attainable, num_tests = _attainable(smallest, weight, fdr)
    tested = dict(zip(sizes.tolist(), smallest <= attainable, strict=True))

    def blocks() -> Iterator[Block]:
        size, table = -1, np.zeros((0, 0))
        rows = max(1, _PAIRS_AT_ONCE // correct.shape[1])
        for start, counts in count_blocks(ordered, correct, rows):
            numbers = num_in[order[start : start + len(counts)]]
            for first, last in _runs(numbers):
                if not tested[int(numbers[first])].any():
                    continue
                if numbers[first] != size:
                    size = int(numbers[first])
                    table = fisher_table(size, distinct, num_models, alternative)
                    table[:, ~tested[size]] = np.nan
                yield order[start + first : start + last], table[counts[first:last], column[None, :]]

    return blocks, num_tests


def _attainable(
    smallest: Float[np.ndarray, "sizes totals"], weight: Int[np.ndarray, "sizes totals"], fdr: float
) -> tuple[float, int]:
    """Gilbert's rule: pairs count whose smallest p-value is at most fdr / k, k the first that no more than k pairs meet.

    It looks at the totals only, of which the p-values are independent where there is no influence.
    """
    order = np.argsort(smallest, axis=None)
    values, numbers = smallest.ravel()[order], np.cumsum(weight.ravel()[order])

    def counted(k: int) -> int:
        at = int(np.searchsorted(values, fdr / k, side="right"))
        return int(numbers[at - 1]) if at else 0

    low, high = 0, max(int(numbers[-1]), 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if counted(middle) <= middle else (middle, high)
    return fdr / high, counted(high)


def _rank_blocks(
    masks: Bool[np.ndarray, "subsets train"], score: Float[np.ndarray, "subsets test"], alternative: Alternative
) -> tuple[Blocks, int]:
    """p-values by the rank-sum test, and the number of pairs for which there is something to compare."""
    num_subsets = len(masks)
    num_in = masks.sum(axis=0)
    (usable,) = np.nonzero((num_in > 0) & (num_in < num_subsets))
    (varying,) = np.nonzero(np.ptp(score, axis=0) > 0)
    ranks = rankdata(score[:, varying], axis=0) - (num_subsets + 1) / 2
    # Given the ranks, ties included, this is what chance alone makes of their sum over a random num_in of the subsets.
    deviation = np.sqrt((ranks**2).mean(axis=0) / max(num_subsets - 1, 1))

    def blocks() -> Iterator[Block]:
        step = max(1, _PAIRS_AT_ONCE // score.shape[1])
        for start in range(0, usable.size, step):
            rows = usable[start : start + step]
            sums = masks[:, rows].T.astype(np.float64) @ ranks
            chance = np.sqrt(num_in[rows] * (num_subsets - num_in[rows]))[:, None] * deviation
            found = np.full((rows.size, score.shape[1]), np.nan)
            found[:, varying] = _normal_p_values(sums / chance, alternative)
            yield rows, found

    return blocks, usable.size * varying.size


def _normal_p_values(
    statistic: Float[np.ndarray, "rows test"], alternative: Alternative
) -> Float[np.ndarray, "rows test"]:
    if alternative == "two-sided":
        return 2 * ndtr(-np.abs(statistic))
    return ndtr(-statistic if alternative == "greater" else statistic)


def _right_as_a_whole(correct: Bool[np.ndarray, "models test"], clusters: Clusters) -> Bool[np.ndarray, "subsets test"]:
    """One 0-1 score a subset: whether all of its models are right, or any where the majority of models is wrong.

    The rarer outcome of a test example is what tells subsets apart. Which one is rarer is a matter of totals, of which
    Fisher's test is independent.
    """
    right = clusters.sums(correct.astype(np.float64))
    mostly = 2 * right.sum(axis=0) >= len(correct)
    return np.where(mostly, right == clusters.size[:, None], right > 0)


def _influence_of_pairs(
    masks: Bool[np.ndarray, "models train"],
    score: np.ndarray,
    train_index: Int[np.ndarray, " pairs"],
    test_index: Int[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    result = np.empty(train_index.size)
    step = max(1, _PAIRS_AT_ONCE // len(masks))
    for start in range(0, train_index.size, step):
        block = slice(start, start + step)
        seen, values = masks[:, train_index[block]], score[:, test_index[block]].astype(np.float64)
        number, inside = seen.sum(axis=0), np.where(seen, values, 0).sum(axis=0)
        result[block] = inside / number - (values.sum(axis=0) - inside) / (len(masks) - number)
    return result


def _runs(numbers: Int[np.ndarray, " rows"]) -> list[tuple[int, int]]:
    """Begin and end of each run of equal numbers."""
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    return list(zip(begins.tolist(), np.append(begins[1:], len(numbers)).tolist(), strict=True))
