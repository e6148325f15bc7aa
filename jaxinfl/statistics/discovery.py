"""Influential pairs with a guarantee on how many of the reported ones are false."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import check_choice, check_share
from jaxinfl.influence.groups import warn_of_groups
from jaxinfl.influence.outcomes import Models, Score, take_outcomes
from jaxinfl.notebook import html_table
from jaxinfl.statistics.clusters import dependent_design, find_clusters
from jaxinfl.statistics.exact_test import Alternative
from jaxinfl.statistics.leaks import find_leaks, p_values_beyond
from jaxinfl.statistics.multiple import Block, FDRMethod, Rejected, effective_level, step_up
from jaxinfl.statistics.pair_tests import one_score_a_subset, pair_tests
from jaxinfl.statistics.uncertainty import pair_uncertainty

# Values of models x pairs that are held at once.
_VALUES_AT_ONCE = 2**21
_SHOWN = 10
"""Number of pairs that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Discoveries:
    """Pairs whose influence is not 0, by rising q-value; pairs of equal q-value by rising train and then test index."""

    train_index: Int[np.ndarray, " pairs"]
    """The training example of each pair."""
    test_index: Int[np.ndarray, " pairs"]
    """The test example of each pair."""
    influence: Float[np.ndarray, " pairs"]
    """Influence of each pair, in the unit of the score."""
    low: Float[np.ndarray, " pairs"]
    """Lower end of the influence's interval, widened for the selection (see `confidence`)."""
    high: Float[np.ndarray, " pairs"]
    """Upper end of that interval."""
    p_value: Float[np.ndarray, " pairs"]
    """Probability of a statistic as extreme as this pair's if its influence were 0."""
    q_value: Float[np.ndarray, " pairs"]
    """The smallest false discovery rate at which the pair would still be reported."""
    num_tests: int
    """Number of pairs that were tested."""
    confidence: float
    """Confidence of the intervals. A share of at most `fdr` of the reported intervals is expected to miss its influence."""

    def __len__(self) -> int:
        return len(self.train_index)

    def _repr_html_(self) -> str:
        shown = (self.train_index, self.test_index, self.influence, self.low, self.high, self.q_value)
        rows = zip(*(values[:_SHOWN].tolist() for values in shown), strict=True)
        more = f"{len(self) - _SHOWN} more pairs are not shown here. " if len(self) > _SHOWN else ""
        return html_table(
            ("train", "test", "influence", "low", "high", "q-value"),
            rows,
            title=f"Pairs whose influence is not 0: {len(self)} of {self.num_tests} tested",
            note=f"{more}The confidence of the intervals is {self.confidence:.3%}.",
        )


def discoveries(
    masks: Models,
    score: Score = None,
    *,
    fdr: float = 0.05,
    method: FDRMethod = "bh",
    alternative: Alternative = "two-sided",
) -> Discoveries:
    """The pairs of a training and a test example that have an influence; a share of at most `fdr` is expected to be false.

    Every pair is tested, and the p-values are compared with a threshold that adapts to how many there are. Nothing of the
    size train x test is stored.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out, or `Outcomes`. The tests assume subsets that were drawn independently ("uniform"); for
        leave-one-out subsets see `pair_uncertainty`. Complementary subsets are refused: in simulations with influences of 0.4 their discoveries at 10%
        were false in 16%. Examples that are always in or out together bring a warning: of 5 such examples each is a test of its
        own, and one chance finding is reported five times. `pack(masks, score, groups=...)` counts a group once.
      score: [models, test], bool (right or wrong) or float (a probability, a margin); for an `Ensemble` the name of a score.
      fdr: expected share of false pairs among the reported ones, between 0 and 1.
      method: "bh" (Benjamini and Hochberg) holds `fdr` for independent or positively dependent tests; here, where tests share
        models, by simulation. "by" (Benjamini and Yekutieli) holds it whatever the dependence, and finds less.
      alternative: "two-sided", or "greater" for positive influence only (more right or a higher score with the example),
        or "less".

    Returns:
      `Discoveries`. Bool scores: Fisher's exact test, exact for any number of models. Pairs that no outcome could make a
      discovery, by their totals alone (a test example on which every model is right), are not counted as tests.
      Float scores: Wilcoxon's rank-sum test, with the normal approximation; it asks whether scores with the example tend to
      be higher or lower. Where equal scores make the approximation more than 10% too sure of itself at the p-value that
      decides (0-1 scores as floats, probabilities that round to 1), Fisher's test on whether scores are above the cut that
      halves them most evenly. (Welch's test on skewed scores is far too sure of itself at the small p-values that matter
      here: with 0-1 scores of 400 models as floats, 20% of its discoveries at 5% were false.)
      Subsets of one size, as `draw_subsets` draws them, spread an influence over all other training examples, with the
      opposite sign and divided by their number. Where what is found is so strong, or training examples so few, that this
      would pass for influence, p-values are those of being beyond it.
      Where models share a subset (identical mask rows), the subset counts once: bool scores by whether all its models are
      right (or any, where most are wrong), float scores by their mean. The influence stays the difference of means over
      models.
      Time: two passes over all pairs. Memory beyond the inputs: some arrays of 2 million pairs, tables of models^2 values
      for bool scores, and the reported pairs.

    Raises:
      TypeError: `masks` is not bool, `score` neither bool nor float.
      ValueError: shapes do not fit, a score is NaN or inf, `fdr` is not between 0 and 1, an unknown method or alternative,
        complementary or balanced subsets.

    Source: Fisher (1935); Wilcoxon (1945), Biometrics 1; Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001). Which
    tests count: Gilbert (2005), "A modified false discovery rate multiple-comparisons procedure for discrete data",
    Applied Statistics 54, after Tarone (1990). Intervals: Benjamini and Yekutieli (2005), "False discovery rate-adjusted
    multiple confidence intervals for selected parameters", Journal of the American Statistical Association 100.
    """
    given = take_outcomes(masks, score)
    checked, scores = given.masks, given.test_score
    limit = check_share(fdr, "fdr")
    check_choice(method, "method", get_args(FDRMethod))
    check_choice(alternative, "alternative", get_args(Alternative))
    design = dependent_design(checked)
    if design is not None:
        what = "are each other's complements" if design == "complementary" else "depend on each other"
        raise ValueError(
            f"masks holds subsets that {what} (design {design!r}); discoveries takes subsets drawn independently. An example that "
            "matters makes such models differ, which the tests would take for the influence of others: "
            'draw_subsets(..., design="uniform").'
        )
    found, num_tests = _discover(checked, scores, limit, method, alternative)
    # The false coverage rate of intervals at this confidence is at most fdr (Benjamini and Yekutieli, 2005).
    share = effective_level(limit, max(num_tests, 1), method) * len(found.p_value) / max(num_tests, 1)
    confidence = 1 - (share or limit)
    pairs = found.train_index, found.test_index
    uncertainty = pair_uncertainty(checked, scores, *pairs, confidence=confidence)
    estimate = _influence_of_pairs(checked, scores, *pairs)
    return Discoveries(
        *pairs, estimate, uncertainty.low, uncertainty.high, found.p_value, found.q_value, num_tests, confidence
    )


def _discover(
    masks: Bool[np.ndarray, "models train"], score: np.ndarray, fdr: float, method: FDRMethod, alternative: Alternative
) -> tuple[Rejected, int]:
    clusters = find_clusters(masks)
    subsets, scores = masks[clusters.first], one_score_a_subset(score, clusters)
    warn_of_groups(subsets)
    blocks, num_tests = pair_tests(subsets, scores, fdr, alternative)
    found = step_up(blocks, num_tests, fdr, method)
    shift = find_leaks(subsets, scores, found)
    if shift is None:
        return found, num_tests

    def beyond() -> Iterator[Block]:
        for rows, values in blocks():
            yield rows, p_values_beyond(values, shift, alternative)

    return step_up(beyond, num_tests, fdr, method), num_tests


def _influence_of_pairs(
    masks: Bool[np.ndarray, "models train"],
    score: np.ndarray,
    train_index: Int[np.ndarray, " pairs"],
    test_index: Int[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    result = np.empty(train_index.size)
    step = max(1, _VALUES_AT_ONCE // len(masks))
    for start in range(0, train_index.size, step):
        block = slice(start, start + step)
        seen, values = masks[:, train_index[block]], score[:, test_index[block]].astype(np.float64)
        number, inside = seen.sum(axis=0), np.where(seen, values, 0).sum(axis=0)
        result[block] = inside / number - (values.sum(axis=0) - inside) / (len(masks) - number)
    return result
