"""Where the noise of a prediction comes from: the subset or the training (Section 3 and Figure 1, right)."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.special import fdtri, stdtrit

from jaxinfl.statistics.arguments import check_share, check_values


class VarianceComponents(NamedTuple):
    """Parts of the variance of the score of a test example; unbiased, so that a small one may come out below 0."""

    subset: Float[np.ndarray, " test"]
    """Between subsets: what the choice of training examples decides."""
    seed: Float[np.ndarray, " test"]
    """Between seeds, the same for every subset (0 in truth where each model has a seed of its own)."""
    interaction: Float[np.ndarray, " test"]
    """The rest: what a seed makes of one subset and not of the others."""

    @property
    def training(self) -> Float[np.ndarray, " test"]:
        """All that is not the subset: training randomness."""
        return self.seed + self.interaction

    @property
    def total(self) -> Float[np.ndarray, " test"]:
        return self.subset + self.seed + self.interaction

    @property
    def subset_share(self) -> Float[np.ndarray, " test"]:
        """Share of the variance that is the subset; NaN where nothing varies. Not clamped to 0..1."""
        total = self.total
        return np.where(total > 0, self.subset / np.where(total > 0, total, 1), np.nan)


class ShareInterval(NamedTuple):
    """Share of the variance that is the subset, with a confidence interval."""

    share: Float[np.ndarray, "*shape"]
    low: Float[np.ndarray, "*shape"]
    high: Float[np.ndarray, "*shape"]


def variance_components(score: ArrayLike) -> VarianceComponents:
    """Variance of the score over a crossed design: every subset trained with every seed.

    Args:
      score: bool or float [subsets, seeds, test]; at least 2 subsets and 2 seeds. The keys of seed r are the same for every
        subset (crossed), or each model has a key of its own (nested; `seed` is then 0 but for noise).

    Returns:
      `VarianceComponents`, in the squared unit of the score; of 0-1 scores they add up to p (1 - p) on average.

    Raises:
      TypeError, ValueError: a score that is not [subsets, seeds, test], too few of them, NaN.

    Source: two-way random effects, score = mean + subset + seed + interaction, by the expected mean squares: Searle, Casella
    and McCulloch (1992), "Variance components", the two-way crossed layout with one observation a cell.
    """
    return _components(_check(score))


def subset_share_intervals(score: ArrayLike, confidence: float = 0.95) -> ShareInterval:
    """Share of the variance of each test example that is the subset, with an interval by the F distribution.

    Args:
      score: as for `variance_components`; float scores near a normal distribution, such as margins: of 0-1 scores the
        interval of one example is only rough, and `subset_share_of_all` is for them.
      confidence: between 0 and 1.

    Returns:
      `ShareInterval`, each [test]. The share is the one-way estimate that goes with the interval, the seeds taken as
      repeats of each subset: as `VarianceComponents.subset_share` where seeds have no effect of their own. NaN where
      nothing varies.

    Source: the exact interval of the intraclass correlation of a one-way layout: Searle, Casella and McCulloch
    (1992); McGraw and Wong (1996), Psychological Methods 1, ICC(1).
    """
    values, limit = _check(score), check_share(confidence, "confidence")
    subsets, seeds, _ = values.shape
    between = seeds * values.mean(axis=1).var(axis=0, ddof=1)
    within = values.var(axis=1, ddof=1).mean(axis=0)
    freedom = subsets - 1, subsets * (seeds - 1)
    varies = (between > 0) | (within > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(varies, between / within, np.nan)
        quantiles = [float(fdtri(*freedom, level)) for level in ((1 + limit) / 2, (1 - limit) / 2)]
        share, low, high = (_correlation(part, seeds) for part in (ratio, *(ratio / one for one in quantiles)))
    return ShareInterval(share, low, high)


def subset_share_of_all(score: ArrayLike, confidence: float = 0.95) -> ShareInterval:
    """Share of the variance that is the subset, over all test examples together: sums of components, then their ratio.

    Args:
      score: as for `variance_components`, with at least 3 subsets.
      confidence: between 0 and 1.

    Returns:
      `ShareInterval` of 0-d arrays. The interval is the jackknife's over whole subsets, with all their models and test
      examples, so it needs no distribution of the scores and knows that test examples go together. Where all subsets
      share their seeds, it is about those seeds. NaN where nothing varies.

    Raises:
      TypeError, ValueError: as `variance_components`; fewer than 3 subsets.

    Source: Arvesen (1969), "Jackknifing U-statistics", Annals of Mathematical Statistics 40;
    Student's t with subsets - 1 degrees of freedom after Tukey (1958).
    """
    values, limit = _check(score), check_share(confidence, "confidence")
    subsets = len(values)
    if subsets < 3:
        raise ValueError(f"score has {subsets} subsets; the interval over all examples takes at least 3.")
    share = _pooled_share(values)
    # Each subset left out once, the estimate from the others.
    without = np.array([_pooled_share(np.delete(values, subset, axis=0)) for subset in range(subsets)])
    error = np.sqrt((subsets - 1) / subsets * ((without - without.mean()) ** 2).sum())
    half = float(stdtrit(subsets - 1, (1 + limit) / 2)) * error
    return ShareInterval(np.array(share), np.array(share - half), np.array(share + half))


def _components(values: Float[np.ndarray, "subsets seeds test"]) -> VarianceComponents:
    subsets, seeds, _ = values.shape
    centred = values - values.mean(axis=(0, 1))
    by_subset, by_seed = centred.mean(axis=1), centred.mean(axis=0)
    rest = centred - by_subset[:, None] - by_seed[None, :]
    square_subset = seeds * (by_subset**2).sum(axis=0) / (subsets - 1)
    square_seed = subsets * (by_seed**2).sum(axis=0) / (seeds - 1)
    interaction = (rest**2).sum(axis=(0, 1)) / ((subsets - 1) * (seeds - 1))
    return VarianceComponents((square_subset - interaction) / seeds, (square_seed - interaction) / subsets, interaction)


def _pooled_share(values: Float[np.ndarray, "subsets seeds test"]) -> float:
    parts = _components(values)
    total = float(parts.total.sum())
    return float(parts.subset.sum()) / total if total > 0 else float("nan")


def _correlation(ratio: Float[np.ndarray, " test"], seeds: int) -> Float[np.ndarray, " test"]:
    """Intraclass correlation from a ratio of mean squares; 1 for an infinite one."""
    return np.where(np.isinf(ratio), 1.0, (ratio - 1) / (np.where(np.isinf(ratio), 1, ratio) + seeds - 1))


def _check(score: ArrayLike) -> Float[np.ndarray, "subsets seeds test"]:
    array = check_values(score, "score", "[subsets, seeds, test]")
    if array.ndim != 3 or min(array.shape[:2]) < 2 or array.shape[2] < 1:
        raise ValueError(
            f"score has shape {array.shape}; it takes [subsets, seeds, test] with at least 2 subsets and 2 seeds: "
            "score.reshape(subsets, seeds, -1) where the models of a subset follow one another."
        )
    return array.astype(np.float64)
