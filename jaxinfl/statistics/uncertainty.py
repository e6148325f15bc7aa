"""Standard errors and confidence intervals of influence and memorization."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, stdtrit

from jaxinfl.arguments import check_choice, check_indices, check_masks, check_share, check_values
from jaxinfl.influence.groups import warn_of_design
from jaxinfl.influence.outcomes import Models, Score, take_given
from jaxinfl.statistics.clusters import Clusters, dependent_design, find_clusters, make_each_alone
from jaxinfl.statistics.proportions import Interval, agresti_caffo_interval, newcombe_interval
from jaxinfl.statistics.welch import FEWEST, TOO_FEW, Sample, welch_interval

IntervalMethod = Literal["auto", "newcombe", "agresti-caffo", "welch"]

NO_MODEL = "the training example is in no subset, or in all"

# Values of models x pairs that are held at once.
_VALUES_AT_ONCE = 2**23


class PairUncertainty(NamedTuple):
    """How far the estimated influences of some pairs of a training and a test example may be off."""

    standard_error: Float[np.ndarray, " pairs"]
    """Standard error of the influence, in its unit; NaN where fewer than two models are on either side."""
    num_in: Int[np.ndarray, " pairs"]
    """Number of models that were trained on the training example."""
    num_out: Int[np.ndarray, " pairs"]
    """Number of models that were trained without it."""
    low: Float[np.ndarray, " pairs"]
    """Lower end of the confidence interval of the influence; NaN where `reason` says why."""
    high: Float[np.ndarray, " pairs"]
    """Upper end of that interval."""
    reason: np.ndarray
    """[pairs] strings: why there is no interval; empty where there is one."""


def pair_uncertainty(
    masks: Models,
    score: Score,
    train_index: ArrayLike,
    test_index: ArrayLike,
    *,
    confidence: float = 0.95,
    interval: IntervalMethod = "auto",
) -> PairUncertainty:
    """Standard errors and confidence intervals of the influence of some pairs, and the numbers of models behind them.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out, or `Outcomes`. Models with the same row share a subset and are no independent witnesses: they are
        clustered.
      score: bool or float [models, test]; the name of a score for an `Ensemble`, None for `Outcomes`.
      train_index, test_index: the training and the test example of each pair, whole numbers [pairs] each.
      confidence: probability with which an interval covers the true influence, between 0 and 1, for a pair chosen
        without a look at its estimate: of many pairs, those with the highest estimates are overestimated (`discoveries`
        widens its intervals for that).
      interval: "newcombe" (hybrid score interval) or "agresti-caffo" for bool scores, "welch" for any; "auto": newcombe for
        bool scores, else welch.

    Returns:
      `PairUncertainty`. The standard error is sqrt(var_in / num_in + var_out / num_out) with sample variances, nothing
      pooled (Welch, 1947); with clusters the variance of a side is that of sums over clusters (as below). It is 0 where all
      models of each side agree, which says that they were too few to disagree: intervals for bool scores know of this.
      With clusters, score intervals take the effective numbers of models num / (1 + (size - 1) * r), r being the correlation
      within clusters estimated from both sides (1 where all models agree), and a quantile of Student's distribution for what
      is unknown of it; Welch's interval has the degrees of freedom of the clusters. Where a side has a single subset
      (leave-one-out), nothing tells how subsets differ: there the models count, and the influence is that on these very
      subsets. Memory: some arrays of 8 million values.

      Domain, as simulated at 95%: intervals of 0-1 scores cover 93% to 97% on average over probabilities from 0.02 to 0.98,
      from 8 models on either side, or 6 subsets where models share them. Welch's cover 93% to 97% for scores that are not far
      from symmetric (margins, logits; probabilities away from 0 and 1), from 6 models or subsets on either side. Of skewed scores
      (exponential, lognormal) they cover 93% to 98% where the sides spread alike and neither has over 3 times the models of the other.
      Intervals are NaN below 6 shared subsets, and below 6 models for Welch's; where the scores show that Welch's
      would cover less (see `jaxinfl.statistics.welch`): skewed scores of sides of unequal size, and probabilities of which nearly
      all round to 1. Where most pairs of a test example are NaN for that, the few others are no better. What few models do not
      show is not found: of lognormal scores that spread 3 times as widely on one side, 26 models have an interval in half
      of the cases, and it covers 77%. On subsets that depend on each other (designs "balanced" and "complementary") 95% intervals
      covered 87% to 94%, the less the more single examples matter, and a warning says so.

    Raises:
      TypeError, ValueError: masks that are not bool [models, train], a score that is neither bool nor finite floats or has
        another number of models, indices that are no examples', a confidence outside 0..1, an interval for proportions of
        float scores.

    Source: Welch (1947), "The generalization of 'Student's' problem", Biometrika 34; Newcombe (1998); Agresti and Caffo
    (2000); for clusters the ratio estimator of Cochran (1977), "Sampling techniques", 9A, and the effective sample size of
    Rao and Scott (1992), Biometrics 48, with the analysis-of-variance correlation of Donner (1986), International
    Statistical Review 54.
    """
    given = take_given(masks, score)
    checked, scores = check_masks(given.masks), check_values(given.score, "score", "[models, test]")
    if scores.ndim != 2 or len(scores) != len(checked) or not scores.size:
        raise ValueError(
            f"score has shape {scores.shape}, but masks has {len(checked)} rows; both take one row for each of the models, and the "
            "score a column for each of at least one test example."
        )
    train_index = check_indices(train_index, "train_index", checked.shape[1])
    test_index = check_indices(test_index, "test_index", scores.shape[1])
    if train_index.size != test_index.size:
        raise ValueError(
            f"train_index names {train_index.size} examples and test_index {test_index.size}; they take one of each a pair."
        )
    limit = check_share(confidence, "confidence")
    method = _check_interval(interval, scores.dtype)
    clusters = find_clusters(checked)
    if clusters.size.size >= FEWEST:
        warn_of_design(dependent_design(checked))
    step = max(1, _VALUES_AT_ONCE // len(checked))
    parts = []
    for start in range(0, max(len(train_index), 1), step):
        block = slice(start, start + step)
        seen, values = checked[:, train_index[block]], scores[:, test_index[block]].astype(np.float64)
        parts.append(_uncertainty(seen, values, clusters, limit, method))
    return PairUncertainty(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def memorization_uncertainty(
    masks: Models, train_score: Score = None, *, confidence: float = 0.95, interval: IntervalMethod = "auto"
) -> PairUncertainty:
    """Standard errors and confidence intervals of the memorization of every training example.

    Args:
      masks: bool [models, train]; or an `Ensemble`, whose diverged models are left out, or `Outcomes` with a train score.
      train_score: bool or float [models, train]; for an `Ensemble` the name of a score.
      confidence: probability with which an interval covers the true memorization, between 0 and 1.
      interval: as in `pair_uncertainty`, of which this is the diagonal.

    Raises:
      TypeError, ValueError: as `pair_uncertainty`.
    """
    given = take_given(masks, train_score=train_score)
    checked, scores = check_masks(given.masks), check_values(given.train_score, "train_score", "[models, train]")
    if scores.shape != checked.shape:
        raise ValueError(f"train_score has shape {scores.shape}; it takes that of masks, {checked.shape}.")
    own = np.arange(checked.shape[1])
    return pair_uncertainty(checked, scores, own, own, confidence=confidence, interval=interval)


def _uncertainty(
    seen: Bool[np.ndarray, "models pairs"],
    values: Float[np.ndarray, "models pairs"],
    clusters: Clusters,
    confidence: float,
    method: IntervalMethod,
) -> PairUncertainty:
    if clusters.alone:
        return _of_groups(seen, values, clusters, confidence, method)
    # With one subset on a side nothing says how subsets differ: then it is about these very subsets.
    groups = [members[clusters.first].sum(axis=0) for members in (seen, ~seen)]
    clustered = np.minimum(*groups) >= 2
    if clustered.all():
        return _of_groups(seen, values, clusters, confidence, method)
    parts = [
        _of_groups(seen[:, chosen], values[:, chosen], grouping, confidence, method)
        for chosen, grouping in ((clustered, clusters), (~clustered, make_each_alone(len(seen))))
        if chosen.any()
    ]
    order = np.argsort(np.concatenate([np.flatnonzero(clustered), np.flatnonzero(~clustered)]))
    return PairUncertainty(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def _of_groups(
    seen: Bool[np.ndarray, "models pairs"],
    values: Float[np.ndarray, "models pairs"],
    clusters: Clusters,
    confidence: float,
    method: IntervalMethod,
) -> PairUncertainty:
    """Uncertainty of pairs whose independent observations are these clusters."""
    inside, outside = (_sample(values, members, clusters) for members in (seen, ~seen))
    num_in = seen.sum(axis=0)
    error = np.sqrt(inside.square + outside.square)
    if method == "welch":
        ends, reason = welch_interval(inside, outside, confidence)
    else:
        ends, reason = _score_interval(seen, values, clusters, inside, outside, confidence, method)
    return PairUncertainty(error, num_in, len(seen) - num_in, ends.low, ends.high, reason)


def _sample(
    values: Float[np.ndarray, "models pairs"], members: Bool[np.ndarray, "models pairs"], clusters: Clusters
) -> Sample:
    """One side: what each cluster adds to the mean, and how far the mean may be off."""
    number = members.sum(axis=0)
    mean = np.where(number > 0, np.where(members, values, 0).sum(axis=0) / np.maximum(number, 1), np.nan)
    deviation = clusters.sums(np.where(members, values - np.where(number > 0, mean, 0), 0))
    groups = members[clusters.first].sum(axis=0)
    # Deviations of means over clusters, each counted by its size; with clusters of one model, those of the models.
    weighed = deviation * (groups / np.maximum(number, 1))
    enough = groups >= 2
    safe = np.where(enough, groups, 2)
    square = safe / (safe - 1) * (deviation**2).sum(axis=0) / np.maximum(number, 1) ** 2
    return Sample(weighed, members[clusters.first], mean, np.where(enough, square, np.nan))


def _score_interval(
    seen: Bool[np.ndarray, "models pairs"],
    values: Float[np.ndarray, "models pairs"],
    clusters: Clusters,
    inside: Sample,
    outside: Sample,
    confidence: float,
    method: IntervalMethod,
) -> tuple[Interval, np.ndarray]:
    function = newcombe_interval if method == "newcombe" else agresti_caffo_interval
    numbers = [members.sum(axis=0).astype(np.float64) for members in (seen, ~seen)]
    undefined = np.minimum(*numbers) == 0
    if clusters.alone:
        ends = function(inside.mean, numbers[0], outside.mean, numbers[1], confidence)
        return ends, np.where(undefined, NO_MODEL, "")
    effect, known = _design_effect(seen, values, clusters)
    # The correlation is estimated: a quantile of Student's distribution, as the normal quantile of a higher confidence. With the
    # clusters' own degrees of freedom it covered 97.5% of 13 clusters; they overstate it, for the shares tell most of the variance.
    tail = float(ndtr(stdtrit(max(2 * len(clusters.size) - 2, 1), (1 - confidence) / 2)))
    higher = max(1 - 2 * tail, confidence)
    shares = inside.mean, numbers[0] / effect, outside.mean, numbers[1] / effect
    wider, plain = (function(*shares, level) for level in (higher if higher < 1 else confidence, confidence))
    few = np.minimum(inside.number, outside.number) < FEWEST
    reason = np.select([undefined, few], [NO_MODEL, TOO_FEW], "")
    low, high = (
        np.where(reason == "", np.where(known, one, other), np.nan) for one, other in zip(plain, wider, strict=True)
    )
    return Interval(low, high), reason


def _design_effect(
    seen: Bool[np.ndarray, "models pairs"], values: Float[np.ndarray, "models pairs"], clusters: Clusters
) -> tuple[Float[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """The factor by which clusters shrink the number of models, for each pair, and whether it is known rather than estimated.

    It goes from 1, without correlation within clusters, to the size of a cluster. It is known where all models of each cluster
    agree.
    """
    size = clusters.size[:, None].astype(np.float64)
    cluster_mean = clusters.sums(values) / size
    within = np.maximum(clusters.sums(values**2) - size * cluster_mean**2, 0).sum(axis=0)
    between = np.zeros(seen.shape[1])
    for members in (seen[clusters.first], ~seen[clusters.first]):
        weight = np.where(members, size, 0)
        mean = (weight * cluster_mean).sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
        between += (weight * (cluster_mean - mean) ** 2).sum(axis=0)
    models, groups = size.sum(), len(size)
    between /= max(groups - 2, 1)
    within /= max(models - groups, 1)
    typical = (models - (size**2).sum() / models) / max(groups - 1, 1)
    total = between + (typical - 1) * within
    correlation = np.where(total > 0, (between - within) / np.where(total > 0, total, 1), 1)
    return 1 + (models / groups - 1) * np.clip(correlation, 0, 1), within <= 0


def _check_interval(interval: Any, dtype: np.dtype[Any]) -> IntervalMethod:
    check_choice(interval, "interval", get_args(IntervalMethod))
    is_bool = dtype == np.bool_
    if interval in ("newcombe", "agresti-caffo") and not is_bool:
        raise ValueError(f"interval {interval!r} is for bool scores; score has dtype {dtype}. Use 'welch' or 'auto'.")
    if interval == "auto":
        return "newcombe" if is_bool else "welch"
    checked: IntervalMethod = interval
    return checked
