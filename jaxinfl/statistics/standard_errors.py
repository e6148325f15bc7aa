"""Standard errors of all differences of means at once, by matrix products."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri, stdtr

from jaxinfl.statistics.clusters import Clusters


class StandardErrors(NamedTuple):
    """Standard errors of the difference between the mean with and the mean without each training example."""

    error: Float[np.ndarray, "rows test"]
    """Standard error in the unit of the score; NaN where a side has fewer than two independent subsets and fewer than two models."""
    if_none: Float[np.ndarray, "rows test"]
    """Standard error if the example has no influence, so that both sides vary alike: a test divides by it."""
    freedom: int
    """Degrees of freedom of `if_none`: the number of independent subsets less 2."""
    inflation: Float[np.ndarray, "rows test"]
    """Factor by which models that share subsets raise the squared error; 1 where none do."""


class _Side(NamedTuple):
    """The models with an example, or those without it."""

    number: Float[np.ndarray, "rows 1"]
    """Number of models."""
    groups: Float[np.ndarray, "rows 1"]
    """Number of independent observations: models, or subsets where models share these."""
    total: Float[np.ndarray, "rows test"]
    """Sum of squared deviations of the groups' sums from the sums that the mean leads to expect."""
    square: Float[np.ndarray, "rows test"]
    """Squared standard error of the mean."""
    independent: Float[np.ndarray, "rows test"]
    """Squared standard error if models that share a subset were independent."""


def standard_errors(masks: Bool[np.ndarray, "models rows"], score: np.ndarray, clusters: Clusters) -> StandardErrors:
    """Standard errors of the difference of means, nothing pooled: models with and without an example may vary by different amounts.

    0-1 scores: the variance of a share is p (1 - p) / (n + 2), p from one right and one wrong model more than were counted,
    which is above 0 where all models agree too. Float scores: the sample variance over the number of models. Where models share
    subsets: the variance of the clusters' sums about the mean (of 0-1 scores no less than the above).

    Source: Agresti and Caffo (2000) for shares; Welch (1947); Cochran (1977), "Sampling techniques", 9A, for clusters.
    """
    inside, outside = (_side(members, score, clusters) for members in (masks, ~masks))
    square = inside.square + outside.square
    independent = inside.independent + outside.independent
    inflation = np.divide(square, independent, out=np.ones_like(square), where=independent > 0)
    groups = inside.groups + outside.groups
    defined = (inside.number > 0) & (outside.number > 0) & (groups > 2)
    one = (inside.total + outside.total) / np.maximum(groups - 2, 1)
    weight = sum(side.groups / np.maximum(side.number, 1) ** 2 for side in (inside, outside))
    if_none = np.where(defined, np.sqrt(one * weight), np.nan)
    return StandardErrors(np.sqrt(square), if_none, len(clusters.size) - 2, np.maximum(inflation, 1))


def normal_equivalent(statistic: Float[np.ndarray, "rows test"], freedom: int) -> Float[np.ndarray, "rows test"]:
    """The normal quantile that is as far out as a statistic with Student's t distribution; NaN stays NaN."""
    size = np.abs(statistic)
    # Far out Student's tail is a power, which float64 holds.
    quantile = -ndtri(np.maximum(stdtr(max(freedom, 1), -size), 1e-300))
    return np.sign(statistic) * np.minimum(quantile, size)


def _side(members: Bool[np.ndarray, "models rows"], score: np.ndarray, clusters: Clusters) -> _Side:
    values, seen = score.astype(np.float64), members.T.astype(np.float64)
    centred = values - values.mean(axis=0)
    number = seen.sum(axis=1)[:, None]
    total = _deviations(seen, centred, np.ones(len(seen.T)))
    if score.dtype == np.bool_:
        share = (seen @ values + 1) / (number + 2)
        independent = np.where(number > 0, share * (1 - share) / (number + 2), np.nan)
    else:
        independent = _square(total, number, number)
    if clusters.alone:
        return _Side(number, number, total, independent, independent)
    subsets = members[clusters.first].T.astype(np.float64)
    groups = subsets.sum(axis=1)[:, None]
    of_groups = _deviations(subsets, clusters.sums(centred), clusters.size.astype(np.float64))
    square = _square(of_groups, groups, number)
    if score.dtype == np.bool_:
        square = np.fmax(square, independent)
    # With one subset on a side nothing says how subsets differ: then it is about these very subsets.
    few = np.minimum(groups, subsets.shape[1] - groups) < 2
    return _Side(
        number,
        np.where(few, number, groups),
        np.where(few, total, of_groups),
        np.where(few, independent, square),
        independent,
    )


def _deviations(
    seen: Float[np.ndarray, "rows groups"], sums: Float[np.ndarray, "groups test"], size: Float[np.ndarray, " groups"]
) -> Float[np.ndarray, "rows test"]:
    """Sum over the groups of a side of (sum of the group - models of the group * mean of the side) squared."""
    mean = seen @ sums / np.maximum(seen @ size, 1)[:, None]
    total = seen @ sums**2 - 2 * mean * (seen @ (sums * size[:, None])) + mean**2 * (seen @ size**2)[:, None]
    return np.maximum(total, 0)


def _square(
    total: Float[np.ndarray, "rows test"], groups: Float[np.ndarray, "rows 1"], number: Float[np.ndarray, "rows 1"]
) -> Float[np.ndarray, "rows test"]:
    """Squared standard error of a mean; NaN below two groups."""
    enough = groups >= 2
    safe = np.where(enough, groups, 2)
    return np.where(enough, safe / (safe - 1) * total / np.maximum(number, 1) ** 2, np.nan)
