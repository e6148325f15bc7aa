"""The noise ceiling of a rank correlation with measured means: how well the true expectations would do.

Models that share a subset differ by chance alone. Two halves of them are correlated over the subsets, and that correlation tells how much of
the measured means is noise: the means of k models are t + e / sqrt(k), and two halves of a and b models correlate by
1 / sqrt((1 + x / a) (1 + x / b)), where x is the variance of e over that of t. The truth t itself then correlates with the means of all
k by 1 / sqrt(1 + x / k). This is the correction for attenuation of Spearman (1904), with halves of any size in place of Brown's (1910) and
Spearman's (1910) equal ones.

These equations are Pearson's correlations of normal variables; rank correlations are turned into them and back by Pearson's (1907) formula.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.statistics.clusters import Clusters
from jaxinfl.statistics.correlation import correlate

_SPLITS = 10
"""Random splits of the models of every subset into two halves; more hardly lower the error."""
_FEWEST_REPEATED = 20
"""Fewest subsets with several models from which a ceiling is told."""
_LEAST_SHARE = 0.5
"""Least share of the subsets that have several models: those of one model may be of another kind."""
_LOWEST = 0.1
"""A ceiling below which nothing is told: it may be 0."""
_MOST_SKEWED, _LEAST_PEAKED, _MOST_PEAKED = 1.0, -0.7, 6.0
"""Range of skewness and excess kurtosis outside of which the ceiling was off by 0.05 to 0.15 in simulations, and inside by 0.02."""
_STEP = 1e-6


class Ceiling(NamedTuple):
    """Noise ceilings of the test examples."""

    value: Float[np.ndarray, " test"]
    """Rank correlation that the true expectations would have with the measured means, 0 to 1; NaN where these do not vary."""
    contribution: Float[np.ndarray, "subsets test"]
    """Influence values: how the ceiling changes with the weight of a subset; 0 for a subset of one model."""
    reason: str = ""
    """Why there is no ceiling; empty where there is one."""


def find_ceiling(clusters: Clusters, measured: Float[np.ndarray, "models test"], seed: int) -> Ceiling:
    """Estimate the ceiling of each test example from random halves of the models that share a subset.

    Args:
      clusters: which models share a subset.
      measured: score of each model on each test example.
      seed: seed of the halves.
    """
    num_subsets, num_test = clusters.size.size, measured.shape[1]
    repeated = np.flatnonzero(clusters.size > 1)
    if reason := _why_not(clusters, measured):
        return Ceiling(np.full(num_test, np.nan), np.zeros((0, num_test)), reason)
    rng = np.random.default_rng(seed)
    value, contribution = np.zeros(num_test), np.zeros((repeated.size, num_test))
    for _ in range(_SPLITS):
        found = correlate(*_halves(clusters, repeated, measured, rng), "spearman")
        value += found.value / _SPLITS
        contribution += found.contribution / _SPLITS
    value = _shrink(value, contribution)
    sizes = clusters.size[repeated]
    small, large = (1 / (sizes // 2)).mean(), (1 / (sizes - sizes // 2)).mean()
    whole = (1 / clusters.size).mean()
    # The halves of an odd number take turns in being the larger one, which hardly matters.
    ceiling = _from_halves(value, small, large, whole)
    slope = (_from_halves(value + _STEP, small, large, whole) - _from_halves(value - _STEP, small, large, whole)) / (
        2 * _STEP
    )
    spread = np.zeros((num_subsets, num_test))
    spread[repeated] = slope * contribution * (num_subsets / repeated.size)
    defined = np.isfinite(ceiling)
    highest = float(ceiling[defined].mean()) if defined.any() else 0.0
    error = float(np.linalg.norm(spread[:, defined].mean(axis=1))) / num_subsets if defined.any() else 0.0
    if highest < max(_LOWEST, 3 * error):
        reason = f"the ceiling is {highest:.2f}, which may be 0: the measured means are nearly all noise. Train more models on each subset"
        return Ceiling(np.full(num_test, np.nan), spread, reason)
    return Ceiling(ceiling, spread)


def _why_not(clusters: Clusters, measured: Float[np.ndarray, "models test"]) -> str:
    """Why no ceiling can be told, and what to do; empty where it can."""
    several = clusters.size > 1
    remedy = "train several models on each subset, with other keys, such as masks = np.repeat(masks, 5, axis=0)"
    if several.sum() < _FEWEST_REPEATED:
        return f"{several.sum()} subsets have several models, and a ceiling takes {_FEWEST_REPEATED}: {remedy}"
    if several.mean() < _LEAST_SHARE:
        return (
            f"{several.mean():.0%} of the subsets have several models, and a ceiling takes {_LEAST_SHARE:.0%}: {remedy}"
        )
    varies = np.ptp(measured, axis=0) > 0
    if not varies.any():
        return "no score varies between the models"
    if np.isin(measured, (0, 1)).all():
        return "the scores are 0 and 1, and the ceiling is that of normal scores: take margins"
    means = clusters.means(measured[:, varies])
    residual = (measured[:, varies] - means[clusters.member])[several[clusters.member]]
    if not (residual**2).sum() > 1e-18 * (measured[:, varies] ** 2).sum():
        return "the models that share a subset say the same, as copies do: train them with other keys"
    centred = means - means.mean(axis=0)
    skewness = np.abs(_moment(centred, 3))
    peaked = _moment(residual, 4) - 3
    if not (np.nanmedian(skewness) <= _MOST_SKEWED and _LEAST_PEAKED <= np.nanmedian(peaked) <= _MOST_PEAKED):
        return (
            f"the scores are far from normal (skewness of the subsets' means {np.nanmedian(skewness):.1f}, excess kurtosis of the noise "
            f"{np.nanmedian(peaked):.1f}, medians over test examples), and the ceiling is that of normal ones: take another score, such as the margin"
        )
    return ""


def _moment(values: Float[np.ndarray, "rows test"], order: int) -> Float[np.ndarray, " test"]:
    """Mean power of each column in standard deviations; NaN where it does not vary."""
    scale = np.sqrt((values**2).mean(axis=0))
    scaled = values / np.where(scale > 0, scale, np.nan)
    moment: Float[np.ndarray, " test"] = (scaled**order).mean(axis=0)
    return moment


def _shrink(
    value: Float[np.ndarray, " test"], contribution: Float[np.ndarray, "repeated test"]
) -> Float[np.ndarray, " test"]:
    """Draw the correlations of the test examples towards their mean, until they differ as much as without the noise of each.

    The ceiling is a curved function of them: the noise of few subsets would lower the mean ceiling by up to 0.04.
    """
    defined = value[np.isfinite(value)]
    if defined.size < 3:
        return value
    noise = float(np.nanmean((contribution**2).sum(axis=0))) / len(contribution) ** 2
    spread = float(defined.var(ddof=1))
    kept = np.sqrt(max(1 - noise / spread, 0.0)) if spread > 0 else 1.0
    shrunk: Float[np.ndarray, " test"] = defined.mean() + kept * (value - defined.mean())
    return shrunk


def to_pearson(rank_correlation: Any) -> Any:
    """Pearson's correlation of normal variables with this rank correlation, a number or an array."""
    return 2 * np.sin(np.pi / 6 * rank_correlation)


def to_rank(correlation: Any) -> Any:
    """Rank correlation of normal variables with this correlation of Pearson's, a number or an array."""
    return 6 / np.pi * np.arcsin(np.clip(correlation, -1, 1) / 2)


def _halves(
    clusters: Clusters,
    repeated: Int[np.ndarray, " repeated"],
    measured: Float[np.ndarray, "models test"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "repeated test"], Float[np.ndarray, "repeated test"]]:
    """Mean scores of two random halves of the models of each subset that has several."""
    order = np.lexsort((rng.random(clusters.member.size), clusters.member))
    place = np.empty(order.size, np.intp)
    starts = np.concatenate([[0], np.cumsum(clusters.size)[:-1]])
    place[order] = np.arange(order.size) - starts[clusters.member[order]]
    size = clusters.size[clusters.member]
    # Half of a number that is odd goes up for every second subset.
    first = place < (size + (clusters.member % 2) * (size % 2)) // 2
    row = np.full(clusters.size.size, -1)
    row[repeated] = np.arange(repeated.size)
    sides = []
    for side in (first, ~first):
        chosen = np.flatnonzero(side & (row[clusters.member] >= 0))
        rows = row[clusters.member[chosen]]
        chosen = chosen[np.argsort(rows, kind="stable")]
        count = np.bincount(rows, minlength=repeated.size)
        sums = np.add.reduceat(measured[chosen], np.concatenate([[0], np.cumsum(count)[:-1]]), axis=0)
        sides.append(sums / count[:, None])
    return sides[0], sides[1]


def _from_halves(
    value: Float[np.ndarray, " test"], small: float, large: float, whole: float
) -> Float[np.ndarray, " test"]:
    """The ceiling by the rank correlation of two halves; the others are means of 1 / models in the halves and in the whole."""
    correlation = np.clip(to_pearson(value), 1e-9, 1.0)
    product, total = small * large, small + large
    # (1 + x small) (1 + x large) = 1 / correlation**2
    noise = (np.sqrt(total**2 + 4 * product * (correlation**-2 - 1)) - total) / (2 * product)
    ceiling: Float[np.ndarray, " test"] = to_rank(1 / np.sqrt(1 + noise * whole))
    return ceiling


__all__ = ["Ceiling", "find_ceiling", "to_pearson", "to_rank"]
