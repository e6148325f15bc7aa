"""How far an estimated influence may be off."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from jaxinfl.arguments import check_choice
from jaxinfl.statistics.arguments import check_indices, check_share, check_values
from jaxinfl.statistics.clusters import Clusters, find_clusters
from jaxinfl.statistics.proportions import Interval, agresti_caffo_interval, newcombe_interval
from jaxinfl.subsets import check_masks

IntervalMethod = Literal["auto", "newcombe", "agresti-caffo", "welch"]

# Values of models x pairs that are held at once.
_VALUES_AT_ONCE = 2**23


class PairUncertainty(NamedTuple):
    """For some pairs of a training and a test example."""

    standard_error: Float[np.ndarray, " pairs"]
    """Of the influence, in its unit; NaN where fewer than two models are on either side."""
    num_in: Int[np.ndarray, " pairs"]
    """Models trained on the training example."""
    num_out: Int[np.ndarray, " pairs"]
    """Models trained without it."""
    low: Float[np.ndarray, " pairs"]
    """Lower end of the confidence interval of the influence."""
    high: Float[np.ndarray, " pairs"]
    """Upper end."""


def pair_uncertainty(
    masks: ArrayLike,
    score: ArrayLike,
    train_index: ArrayLike,
    test_index: ArrayLike,
    *,
    confidence: float = 0.95,
    interval: IntervalMethod = "auto",
) -> PairUncertainty:
    """Standard errors and confidence intervals of the influence of some pairs, and the numbers of models behind them.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i. Models with the same row
        share a subset and are no independent witnesses: they are clustered.
      score: bool or float [models, test].
      train_index, test_index: the pairs, [pairs] each.
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
      within clusters estimated from both sides (1 where all models agree), and Welch's interval has the degrees of
      freedom of the clusters. Where a side has a single subset (leave-one-out), nothing tells how subsets differ: there
      the models count, and the influence is that on these very subsets. Memory: some arrays of 8 million values.

    Raises:
      TypeError, ValueError: masks that are not bool [models, train], a score that is neither bool nor finite floats or has
        another number of models, indices that are no examples', a confidence outside 0..1, an interval for proportions of
        float scores.

    Source: Welch (1947), "The generalization of 'Student's' problem", Biometrika 34; Newcombe (1998); Agresti and Caffo
    (2000); for clusters the ratio estimator of Cochran (1977), "Sampling techniques", 9A, and the effective sample size of
    Rao and Scott (1992), Biometrics 48, with the analysis-of-variance correlation of Donner (1986), International
    Statistical Review 54.
    """
    checked, scores = check_masks(masks), check_values(score, "score", "[models, test]")
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
    step = max(1, _VALUES_AT_ONCE // len(checked))
    parts = []
    for start in range(0, max(len(train_index), 1), step):
        block = slice(start, start + step)
        seen, values = checked[:, train_index[block]], scores[:, test_index[block]].astype(np.float64)
        parts.append(_uncertainty(seen, values, clusters, limit, method))
    return PairUncertainty(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def memorization_uncertainty(
    masks: ArrayLike, train_score: ArrayLike, *, confidence: float = 0.95, interval: IntervalMethod = "auto"
) -> PairUncertainty:
    """Standard errors and confidence intervals of the memorization of every training example.

    Args:
      masks: bool [models, train].
      train_score: bool or float [models, train].
      confidence, interval: as in `pair_uncertainty`, of which this is the diagonal.
    """
    checked, scores = check_masks(masks), check_values(train_score, "train_score", "[models, train]")
    if scores.shape != checked.shape:
        raise ValueError(f"train_score has shape {scores.shape}; it takes that of masks, {checked.shape}.")
    own = np.arange(checked.shape[1])
    return pair_uncertainty(checked, scores, own, own, confidence=confidence, interval=interval)


class Side(NamedTuple):
    """The models of one side of each pair."""

    number: Int[np.ndarray, " pairs"]
    groups: Int[np.ndarray, " pairs"]
    """Independent ones of them: clusters where these count."""
    mean: Float[np.ndarray, " pairs"]
    """NaN where there is no model."""
    square: Float[np.ndarray, " pairs"]
    """Squared standard error of the mean; NaN below two groups."""


def _uncertainty(
    seen: Bool[np.ndarray, "models pairs"],
    values: Float[np.ndarray, "models pairs"],
    clusters: Clusters,
    confidence: float,
    method: IntervalMethod,
) -> PairUncertainty:
    groups = [members[clusters.first].sum(axis=0) for members in (seen, ~seen)]
    # With one subset on a side nothing says how subsets differ: then it is about these very subsets.
    clustered = (np.minimum(*groups) >= 2) & (not clusters.alone)
    inside, outside = (
        _side(values, members, clusters, clustered, number)
        for members, number in zip((seen, ~seen), groups, strict=True)
    )
    error = np.sqrt(inside.square + outside.square)
    if method == "welch":
        ends = _welch(inside, outside, confidence)
    else:
        shrink = np.where(clustered, _design_effect(seen, values, clusters), 1) if clustered.any() else np.ones(1)
        function = newcombe_interval if method == "newcombe" else agresti_caffo_interval
        ends = function(inside.mean, inside.number / shrink, outside.mean, outside.number / shrink, confidence)
    return PairUncertainty(error, inside.number, outside.number, ends.low, ends.high)


def _side(
    values: Float[np.ndarray, "models pairs"],
    members: Bool[np.ndarray, "models pairs"],
    clusters: Clusters,
    clustered: Bool[np.ndarray, " pairs"],
    num_clusters: Int[np.ndarray, " pairs"],
) -> Side:
    """The mean over the members, and how far it may be off: by clusters for the pairs in `clustered`, else by models."""
    number = members.sum(axis=0)
    mean = np.where(number > 0, np.where(members, values, 0).sum(axis=0) / np.maximum(number, 1), np.nan)
    deviation = np.where(members, values - np.where(number > 0, mean, 0), 0)
    total = (deviation**2).sum(axis=0)
    if clustered.any():
        total = np.where(clustered, (clusters.sums(deviation) ** 2).sum(axis=0), total)
    groups = np.where(clustered, num_clusters, number)
    enough = groups >= 2
    safe = np.where(enough, groups, 2)
    # Of a mean of cluster sums; with clusters of one model it is their sample variance over their number.
    square = safe / (safe - 1) * total / np.maximum(number, 1) ** 2
    return Side(number, groups, mean, np.where(enough, square, np.nan))


def _welch(inside: Side, outside: Side, confidence: float) -> Interval:
    square = inside.square + outside.square
    freedom = _freedom(inside.square, inside.groups, outside.square, outside.groups)
    half = -stdtrit(freedom, (1 - confidence) / 2) * np.sqrt(square)
    difference = inside.mean - outside.mean
    return Interval(difference - half, difference + half)


def _freedom(
    square_in: Float[np.ndarray, "*pairs"],
    num_in: Int[np.ndarray, "*pairs"],
    square_out: Float[np.ndarray, "*pairs"],
    num_out: Int[np.ndarray, "*pairs"],
) -> Float[np.ndarray, "*pairs"]:
    """Degrees of freedom of the Welch-Satterthwaite equation; those of both sides where no side varies.

    Args:
      square_in, square_out: squared standard errors of the two means.
      num_in, num_out: independent observations behind them, at least 2.
    """
    parts = square_in**2 / np.maximum(num_in - 1, 1) + square_out**2 / np.maximum(num_out - 1, 1)
    varies = parts > 0
    freedom = (square_in + square_out) ** 2 / np.where(varies, parts, 1)
    return np.where(varies, freedom, np.maximum(num_in + num_out - 2, 1))


def _design_effect(
    seen: Bool[np.ndarray, "models pairs"], values: Float[np.ndarray, "models pairs"], clusters: Clusters
) -> Float[np.ndarray, " pairs"]:
    """By how much clusters shrink the number of models: from 1 (no correlation within) to the size of a cluster."""
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
    effect: Float[np.ndarray, " pairs"] = 1 + (models / groups - 1) * np.clip(correlation, 0, 1)
    return effect


def _check_interval(interval: Any, dtype: np.dtype[Any]) -> IntervalMethod:
    check_choice(interval, "interval", get_args(IntervalMethod))
    is_bool = dtype == np.bool_
    if interval in ("newcombe", "agresti-caffo") and not is_bool:
        raise ValueError(f"interval {interval!r} is for bool scores; score has dtype {dtype}. Use 'welch' or 'auto'.")
    if interval == "auto":
        return "newcombe" if is_bool else "welch"
    checked: IntervalMethod = interval
    return checked
