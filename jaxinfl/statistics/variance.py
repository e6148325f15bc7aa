"""Where the noise of a prediction comes from: the subset or the training (Section 3 and Figure 1, right)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.special import stdtrit

from jaxinfl.arguments import check_share, check_values, quote
from jaxinfl.influence.outcomes import Names, Outcomes, Runs, take_given
from jaxinfl.statistics.clusters import find_clusters

Repeated = ArrayLike | Sequence[Any] | Runs | Outcomes
"""What tells subsets from seeds: scores [subsets, seeds, test], or models of which some share a subset."""

_DRAWS = 4000
"""Number of draws of the pivots; the ends of an interval of 95% are then off by 2% of its width."""
_TESTS_AT_ONCE = 1000
_FEWEST_SUBSETS = 20
"""Fewest subsets for an interval over all test examples: of 10 whose test examples all go the same way, it covered 86%."""
_FEWEST_RARE = 15.0
"""Fewest pairs of a subset and a test example in which chance alone would give two or more models the rarer of two outcomes: of 1
or 2, intervals covered 60% to 85%, because whether a few more such pairs are seen decides the whole share."""
_FEWEST_SPLIT = 3
"""Fewest pairs of a subset and a test example on which the subset's models disagree."""
_TOGETHER = 0.05
"""Mean squared correlation of 0-1 scores of two test examples, over subsets, from which on they go together."""
_FEWEST_TOGETHER = 50
"""Fewest subsets for an interval if they do: of 20, intervals of shares of 0.5 to 0.9 covered 82% to 90%."""
_SMALLEST = 1e-6
"""Smaller ratios are replaced by this one: the logarithm of 0 is infinite."""


class VarianceComponents(NamedTuple):
    """Parts of the variance of the score of a test example; unbiased, so that a small one may come out below 0."""

    subset: Float[np.ndarray, " test"]
    """Variance between subsets: what the choice of training examples decides."""
    seed: Float[np.ndarray, " test"]
    """Variance between seeds that is the same for every subset (0 in truth where each model has a seed of its own)."""
    interaction: Float[np.ndarray, " test"]
    """The rest of the variance: what a seed does to one subset and not to the others."""

    @property
    def training(self) -> Float[np.ndarray, " test"]:
        """Variance by training randomness: all that is not between subsets."""
        return self.seed + self.interaction

    @property
    def total(self) -> Float[np.ndarray, " test"]:
        """Variance of the score."""
        return self.subset + self.seed + self.interaction

    @property
    def subset_share(self) -> Float[np.ndarray, " test"]:
        """Share of the variance that is the subset; NaN where nothing varies. Not clamped to 0..1."""
        total = self.total
        return np.where(total > 0, self.subset / np.where(total > 0, total, 1), np.nan)


class ShareInterval(NamedTuple):
    """Share of the variance that is the subset, with a confidence interval."""

    share: Float[np.ndarray, "*shape"]
    """Share of the variance, which is not clamped to 0..1; NaN where nothing varies."""
    low: Float[np.ndarray, "*shape"]
    """Lower end; NaN where nothing varies, and where `reason` says why."""
    high: Float[np.ndarray, "*shape"]
    """Upper end of the interval."""
    reason: str = ""
    """Why there is no interval though scores vary; empty where there is one."""


def variance_components(score: Repeated, name: str | None = None) -> VarianceComponents:
    """Variance of the score over a crossed design: every subset trained with every seed.

    Args:
      score: bool or float [subsets, seeds, test]; at least 2 subsets and 2 seeds. The keys of seed r are the same for every
        subset (crossed), or each model has a key of its own (nested; `seed` is then 0 but for noise). Or an `Ensemble` with
        equally many models on each of its subsets, or `Outcomes`: models with the same mask row are the seeds of one subset,
        in their order. Diverged models of an `Ensemble` are left out.
      name: name of the score of an `Ensemble`, such as "margin"; None for an array or `Outcomes`.

    Returns:
      `VarianceComponents`, in the squared unit of the score; of 0-1 scores they add up to p (1 - p) on average.

    Raises:
      TypeError, ValueError: a score that is not [subsets, seeds, test], too few of them, NaN.

    Source: two-way random effects, score = mean + subset + seed + interaction, by the expected mean squares: Searle, Casella
    and McCulloch (1992), "Variance components", the two-way crossed layout with one observation a cell.
    """
    return _components(_check(score, name))


def subset_share_intervals(score: Repeated, name: str | None = None, *, confidence: float = 0.95) -> ShareInterval:
    """Share of the variance of each test example that is the subset, with an interval from chi-squared pivots.

    Args:
      score: as for `variance_components`; float scores near a normal distribution, such as margins: of 0-1 scores the
        interval of one example is only rough, and `subset_share_of_all` is for them.
      name: name of the score of an `Ensemble`; None for an array or `Outcomes`.
      confidence: confidence of each interval, between 0 and 1.

    Returns:
      `ShareInterval`, each [test]; the share is that of `variance_components`. At 95% the interval covered 93% to 97% of normal
      scores of 5 to 100 subsets and 2 to 10 seeds, for shares from 0 to 0.9, crossed (with seeds that make up to 80% of the
      rest) and nested. NaN where nothing varies. Time: a second for 10,000 test examples.

    Source: generalized confidence intervals: Weerahandi (1993), Journal of the American Statistical Association 88; for ratios of
    variance components Burdick, Borror and Montgomery (2005), "Design and analysis of gauge R&R studies", chapter 2. The pivots are
    drawn 4,000 times, the same for all examples.
    """
    values, limit = _check(score, name), check_share(confidence, "confidence")
    parts = _components(values)
    subsets, seeds, tests = values.shape
    freedom = subsets - 1, seeds - 1, (subsets - 1) * (seeds - 1)
    rng = np.random.default_rng(0)
    by_subset, by_seed, rest = (rng.chisquare(number, (_DRAWS, 1)) / number for number in freedom)
    low, high = np.empty((2, tests))
    tails = (1 - limit) / 2, (1 + limit) / 2
    for start in range(0, tests, _TESTS_AT_ONCE):
        some = slice(start, start + _TESTS_AT_ONCE)
        interaction = parts.interaction[some] / rest
        # Mean squares over what they may be too large by, less what they hold of the interaction.
        subset = ((seeds * parts.subset[some] + parts.interaction[some]) / by_subset - interaction) / seeds
        seed = ((subsets * parts.seed[some] + parts.interaction[some]) / by_seed - interaction) / subsets
        total = subset + np.maximum(seed, 0) + interaction
        # The total is 0 where only subsets differ from nothing: then all of it is the subset.
        drawn = np.divide(subset, total, out=np.ones_like(total), where=total > 0)
        low[some], high[some] = np.quantile(drawn, tails, axis=0)
    share = parts.subset_share
    varies = np.isfinite(share)
    return ShareInterval(
        share, np.where(varies, np.minimum(low, share), np.nan), np.where(varies, np.maximum(high, share), np.nan)
    )


def subset_share_of_all(score: Repeated, name: str | None = None, *, confidence: float = 0.95) -> ShareInterval:
    """Share of the variance that is the subset, over all test examples together: sums of components, then their ratio.

    Args:
      score: as for `variance_components`, with at least 3 subsets, and 20 for an interval.
      name: name of the score of an `Ensemble`; None for an array or `Outcomes`.
      confidence: confidence of the interval, between 0 and 1.

    Returns:
      `ShareInterval` of 0-d arrays. The interval is the jackknife's over whole subsets, with all their models and test
      examples, so it needs no distribution of the scores and knows that test examples go together. It is made on the scale of
      the logarithm of the ratio of mean squares, and corrected for skewness. Where all subsets share their seeds, it is about
      those seeds.

      Domain, as simulated at 95%: 20 to 100 subsets of 2 to 5 seeds, 1 to 100 test examples, shares from 0 to 0.9. It covers 93%
      to 97% of normal scores, up to test examples that all go the same way, and of 0-1 scores on average over probabilities
      from 0.02 to 0.98. It is NaN where nothing varies, and where `reason` says why: below 20 subsets; for 0-1 scores also
      below 50 subsets where test examples go together (a mean squared correlation above 0.05), and where nearly all scores are
      the same. For the latter, chance alone must be expected to give the rarer outcome to two models of a subset 15 times, and
      models of a subset must disagree 3 times; test examples that go together are counted as fewer.
      Of 20 subsets that go together the scores show it in half of the cases; in the others it covered 79% to 95%.

    Raises:
      TypeError, ValueError: as `variance_components`; fewer than 3 subsets.

    Source: Arvesen (1969), "Jackknifing U-statistics", Annals of Mathematical Statistics 40;
    Student's t after Tukey (1958), with the degrees of freedom that the kurtosis of the pseudo-values leaves of subsets - 1;
    Hall (1992), "On the removal of skewness by transformation", Journal of the Royal Statistical Society B 54.
    """
    values, limit = _check(score, name), check_share(confidence, "confidence")
    subsets, seeds, _ = values.shape
    if subsets < 3:
        raise ValueError(f"score has {subsets} subsets; the interval over all examples takes at least 3.")
    share = _pooled_share(values)
    reason = _no_interval(values)
    if not np.isfinite(share) or reason:
        told = reason if np.isfinite(share) else ""
        return ShareInterval(np.array(share), np.array(np.nan), np.array(np.nan), told)
    # Each subset left out once, the estimate from the others.
    without = np.array([_pooled_share(np.delete(values, subset, axis=0)) for subset in range(subsets)])
    pseudo = subsets * _log_ratio(share, seeds) - (subsets - 1) * _log_ratio(without, seeds)
    low, high = (_share_of(end, seeds) for end in _skewed_interval(pseudo, limit))
    return ShareInterval(np.array(share), np.array(min(low, share)), np.array(max(high, share)))


def _no_interval(values: Float[np.ndarray, "subsets seeds test"]) -> str:
    """Why scores tell no interval over all test examples; empty where they do."""
    subsets, seeds, _ = values.shape
    if subsets < _FEWEST_SUBSETS:
        return f"{subsets} subsets are too few; an interval takes {_FEWEST_SUBSETS}"
    if not np.isin(values, (0, 1)).all():
        return ""
    # Of the rarer outcome alone, not of how it falls on subsets: a choice by that would choose among the shares.
    rare = np.minimum(values.mean(axis=(0, 1)), 1 - values.mean(axis=(0, 1)))
    twice = 1 - (1 - rare) ** seeds - seeds * rare * (1 - rare) ** (seeds - 1)
    right = values.sum(axis=1)
    split = np.count_nonzero((right > 0) & (right < seeds))
    together, own = _how_they_go_together(right / seeds)
    if together > _TOGETHER and subsets < _FEWEST_TOGETHER:
        return f"{subsets} subsets are too few, because test examples go together; an interval takes {_FEWEST_TOGETHER}"
    if subsets * twice.sum() * own < _FEWEST_RARE or split * own < _FEWEST_SPLIT:
        return "0-1 scores of so few models and test examples are too nearly all the same"
    return ""


def _how_they_go_together(means: Float[np.ndarray, "subsets test"]) -> tuple[float, float]:
    """Mean squared correlation of two test examples over subsets, and the share of the examples that would tell as much if independent.

    What chance adds to squared covariances is taken off after Bai and Saranadasa (1996), "Effect of high dimension", Statistica
    Sinica 6.
    """
    centred, freedom = means - means.mean(axis=0), len(means) - 1
    variance = (centred**2).sum(axis=0) / freedom
    squares = float((variance**2).sum())
    products = float(variance.sum()) ** 2 - squares
    covariances = float(((centred @ centred.T) ** 2).sum()) / freedom**2 - squares
    # Of one test example both are 0, but for rounding.
    if means.shape[1] < 2 or products <= 0:
        return 0.0, 1.0
    excess = max(covariances - products / freedom, 0.0)
    return excess / products, squares / (squares + excess)


def _log_ratio(share: Any, seeds: int) -> Any:
    """Logarithm of the ratio of mean squares that a share of the subset stands for."""
    return np.log(np.maximum(1 + (seeds - 1) * share, _SMALLEST) / np.maximum(1 - share, _SMALLEST))


def _share_of(log_ratio: float, seeds: int) -> float:
    # Of 1, up to rounding, where only subsets differ.
    return float(np.expm1(log_ratio) / (np.expm1(log_ratio) + seeds))


def _skewed_interval(values: Float[np.ndarray, " values"], confidence: float) -> tuple[float, float]:
    """Interval of the mean of a skewed distribution."""
    number, mean = len(values), values.mean()
    deviation = values - mean
    square = (deviation**2).mean()
    if square <= (1e-9 * max(abs(mean), 1e-9)) ** 2:
        return float(mean), float(mean)
    skewness, kurtosis = (deviation**3).mean() / square**1.5, (deviation**4).mean() / square**2
    quantile = float(stdtrit(min(number - 1, 2 * number / max(kurtosis - 1, 1e-9)), (1 + confidence) / 2))
    bend = skewness / np.sqrt(number)
    ends = []
    for statistic in (quantile, -quantile):
        # Hall's transformation of Student's statistic, solved for the statistic.
        moved = statistic if abs(bend) < 1e-9 else 3 / bend * (np.cbrt(1 + bend * (statistic - bend / 6)) - 1)
        ends.append(float(mean - moved * np.sqrt(square / (number - 1))))
    return ends[0], ends[1]


def _group(models: Runs | Outcomes, name: str | None) -> Float[np.ndarray, "subsets seeds test"]:
    """Scores of models by their subsets."""
    given = take_given(models, name, names=Names("score", "name"))
    clusters = find_clusters(given.masks)
    fewest, most = int(clusters.size.min()), int(clusters.size.max())
    if len(clusters.size) < 2 or fewest < 2 or fewest < most:
        raise ValueError(
            f"score holds {len(clusters.size)} different subsets, each of {fewest} to {most} models; it takes at least 2 subsets, and "
            "equally many models of each, 2 or more. Choose such rows of an Ensemble: runs[rows]."
        )
    order = np.argsort(clusters.member, kind="stable")
    values = given.score[order].astype(np.float64)
    return values.reshape(len(clusters.size), most, values.shape[1])


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


def _check(score: Repeated, name: str | None) -> Float[np.ndarray, "subsets seeds test"]:
    if isinstance(score, (Runs, Outcomes)):
        return _group(score, name)
    if name is not None:
        raise TypeError(
            f"name is {quote(name)}, and score is no Ensemble ({type(score).__name__}); pass the Ensemble as score, or leave name out."
        )
    array = check_values(score, "score", "[subsets, seeds, test]")
    if array.ndim != 3 or min(array.shape[:2]) < 2 or array.shape[2] < 1:
        raise ValueError(
            f"score has shape {array.shape}; it takes [subsets, seeds, test] with at least 2 subsets and 2 seeds: "
            "score.reshape(subsets, seeds, -1) where the models of a subset follow one another."
        )
    return array.astype(np.float64)
