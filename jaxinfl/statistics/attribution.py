"""Other methods' attributions against what training on subsets measured."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.special import stdtr
from scipy.stats import rankdata

from jaxinfl.arguments import as_array, check_choice, check_seed
from jaxinfl.influence.checks import check_score
from jaxinfl.statistics.arguments import check_share, check_whole
from jaxinfl.subsets import check_masks

Correlation = Literal["spearman", "pearson"]
_MOST_REPEATS = 1_000_000
"""Bootstrap samples that take minutes; more are a slip."""


class AttributionScore(NamedTuple):
    """How well attributions predict what was measured."""

    mean: float
    """Correlation averaged over the test examples for which it is defined; NaN where there are none."""
    low: float
    """Lower end of the mean's interval, by the bootstrap over test examples: the models are taken as they are."""
    high: float
    """Upper end."""
    correlation: Float[np.ndarray, " test"]
    """Of each test example; NaN where attribution or score is the same for all."""
    p_value: Float[np.ndarray, " test"]
    """Two-sided, of no correlation, for each test example; by Student's t."""


def lds(
    attribution: ArrayLike,
    masks: ArrayLike,
    score: ArrayLike,
    *,
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> AttributionScore:
    """Linear datamodeling score: does the sum of a subset's attributions rank the models as their scores do?

    Args:
      attribution: [train, test]: how much training example i raises the score on test example j. Of a method whose positive
        values raise the LOSS (influence functions as they are often written), pass `-attribution`, or the measured loss as
        the score: a wrong sign turns the result into its negative.
      masks: bool [models, train], not those of the models that the attributions were computed from.
      score: bool or float [models, test], higher is better: the margin is customary.
      confidence: of the interval, between 0 and 1.
      repeats: bootstrap samples.
      seed: of the bootstrap.

    Returns:
      `AttributionScore` with Spearman's rank correlations, equal values sharing their mean rank. Its p-values do not know
      that models may share a subset. Memory: a few float64 arrays of models x test.

    Raises:
      TypeError, ValueError: shapes that do not fit, NaN, fewer than 3 models; a confidence, repeats or seed out of range.

    Source: Park et al. (2023), "TRAK: Attributing model behavior at scale"; Ilyas et al. (2022),
    "Datamodels", for the linear prediction; Spearman (1904).
    """
    checked = check_masks(masks)
    measured = _measured(score, len(checked))
    weights = _attribution(attribution, checked.shape[1], measured.shape[1])
    bootstrap = _Bootstrap.checked(confidence, repeats, seed)
    predicted = checked.astype(np.float64) @ weights
    return _compare(predicted, measured, "spearman", bootstrap)


def leave_one_out_correlation(
    attribution: ArrayLike,
    masks: ArrayLike,
    score: ArrayLike,
    *,
    correlation: Correlation = "spearman",
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> AttributionScore:
    """Do attributions rank the left-out examples as leaving them out did? The correlation over them, for each test example.

    Args:
      attribution: [train, test], as for `lds`, both signs included. Rows of examples that are never left out are not used.
      masks: bool [models, train] of models on everything and of models without one example each, in any order:
        `np.concatenate([np.ones((20, n), bool), leave_one_out(n, dropped, repeats=20)])`.
      score: bool or float [models, test]; the measured influence is the mean score of the models on everything minus
        that of the models without the example (Equation 1).
      correlation: "spearman" or "pearson".
      confidence, repeats, seed: as for `lds`.

    Returns:
      `AttributionScore`, its correlations over the left-out examples, which the noise of the measured influence lowers.

    Raises:
      TypeError, ValueError: as `lds`; also masks that leave out two examples or more, or fewer than 3 examples in all.

    Source: Koh and Liang (2017), section 4.1, where it is Pearson's; Equation 1 of the paper.
    """
    checked = check_masks(masks)
    measured = _measured(score, len(checked))
    weights = _attribution(attribution, checked.shape[1], measured.shape[1])
    check_choice(correlation, "correlation", get_args(Correlation))
    bootstrap = _Bootstrap.checked(confidence, repeats, seed)
    missing = checked.shape[1] - checked.sum(axis=1)
    dropped = np.unique(np.argmin(checked[missing == 1], axis=1)) if (missing == 1).any() else np.zeros(0, np.intp)
    if (missing > 1).any() or not (missing == 0).any() or dropped.size < 3:
        raise ValueError(
            f"masks holds {(missing == 0).sum()} models on everything, {(missing == 1).sum()} without one of "
            f"{dropped.size} examples and {(missing > 1).sum()} without more; it takes some on everything, some without one "
            "of at least 3 examples, and no others."
        )
    full = measured[missing == 0].mean(axis=0)
    effect = np.stack([full - measured[~checked[:, example]].mean(axis=0) for example in dropped])
    return _compare(weights[dropped], effect, correlation, bootstrap)


def data_banzhaf(masks: ArrayLike, score: ArrayLike) -> Float[np.ndarray, "train test"]:
    """Data Banzhaf values: what an example adds to the score of a random subset of the others, averaged over all subsets.

    Every model tells about every example (maximum sample reuse), which makes this the difference of means that
    `jaxinfl.influence` computes, faster and in float32, from subsets of ratio 1/2.

    Args:
      masks: bool [models, train]; every example in or out with probability 1/2, independently (`rng.random(shape) < 0.5`,
        or all 2^train subsets once: then the values are exact). Subsets of exactly half of the examples, as
        `draw_subsets(..., ratio=0.5)` draws them, give the average over subsets of that size alone.
      score: bool or float [models, test], the subset's utility.

    Returns:
      float64 [train, test]; NaN where an example is in no subset or in all of them.

    Raises:
      TypeError, ValueError: shapes that do not fit, NaN; examples whose share of the subsets is not 1/2 (by five standard
        errors).

    Source: Wang and Jia (2023), "Data Banzhaf: a robust data valuation framework for machine learning", AISTATS, and
    its estimator of maximum sample reuse; Banzhaf (1965).
    """
    checked = check_masks(masks)
    measured = _measured(score, len(checked), least=1)
    share = checked.mean(axis=0)
    off = np.flatnonzero(np.abs(share - 0.5) > 2.5 / np.sqrt(len(checked)))
    if off.size:
        raise ValueError(
            f"masks holds {off.size} of {share.size} examples that are not in about half of the subsets (first: example "
            f"{off[0]}, in {share[off[0]]:.0%}); Banzhaf values take subsets of ratio 1/2: draw_subsets(..., ratio=0.5)."
        )
    seen = checked.astype(np.float64).T
    num_in = seen.sum(axis=1)[:, None]
    num_out = len(checked) - num_in
    sum_in = seen @ measured
    sum_out = measured.sum(axis=0) - sum_in
    defined = (num_in > 0) & (num_out > 0)
    return np.where(defined, sum_in / np.maximum(num_in, 1) - sum_out / np.maximum(num_out, 1), np.nan)


class _Bootstrap(NamedTuple):
    """How the interval of the mean is made."""

    confidence: float
    repeats: int
    seed: int

    @classmethod
    def checked(cls, confidence: float, repeats: int, seed: int) -> "_Bootstrap":
        check_seed(seed)
        return cls(check_share(confidence, "confidence"), check_whole(repeats, "repeats", 1, _MOST_REPEATS), seed)


def _compare(
    predicted: Float[np.ndarray, "cases test"],
    measured: Float[np.ndarray, "cases test"],
    kind: Correlation,
    bootstrap: _Bootstrap,
) -> AttributionScore:
    """Correlation over the cases for each test example, and its mean with an interval."""
    sides = []
    for values in (predicted, measured):
        ranked = rankdata(values, axis=0) if kind == "spearman" else values
        centred = ranked - ranked.mean(axis=0)
        # What only rounding tells apart is the same.
        norm = np.sqrt((centred**2).sum(axis=0))
        varies = norm > 1e-9 * np.abs(ranked).max(axis=0)
        sides.append(np.where(varies, centred / np.where(varies, norm, 1), np.nan))
    correlation = np.clip((sides[0] * sides[1]).sum(axis=0), -1, 1)
    freedom = len(predicted) - 2
    # At a correlation of 1 the statistic is infinite, and the p-value 0.
    with np.errstate(divide="ignore"):
        statistic = np.abs(correlation) * np.sqrt(freedom / (1 - correlation**2))
    p_value = 2 * stdtr(freedom, -statistic)
    defined = correlation[np.isfinite(correlation)]
    if defined.size == 0:
        return AttributionScore(np.nan, np.nan, np.nan, correlation, p_value)
    rng, tail = np.random.default_rng(bootstrap.seed), (1 - bootstrap.confidence) / 2
    means = [defined[rng.integers(0, defined.size, defined.size)].mean() for _ in range(bootstrap.repeats)]
    low, high = np.quantile(means, [tail, 1 - tail])
    return AttributionScore(float(defined.mean()), float(low), float(high), correlation, p_value)


def _measured(score: ArrayLike, num_models: int, least: int = 3) -> Float[np.ndarray, "models test"]:
    if num_models < least:
        raise ValueError(f"masks has {num_models} models; a correlation takes at least {least}.")
    return check_score(score, num_models).astype(np.float64)


def _attribution(attribution: ArrayLike, num_train: int, num_test: int) -> Float[np.ndarray, "train test"]:
    """The attributions in float64, those of each test example scaled by a power of two to at most 1.

    No correlation depends on the scale, and sums of numbers near the largest there are would be infinite.
    """
    array = as_array(attribution, "attribution", "numbers [train, test]")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"attribution has dtype {array.dtype}; it takes numbers [train, test].")
    if array.shape != (num_train, num_test):
        raise ValueError(
            f"attribution has shape {array.shape}; masks and score have {num_train} training and {num_test} test examples: "
            f"it takes ({num_train}, {num_test})."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"attribution holds {np.count_nonzero(~np.isfinite(array))} NaN or infinite values.")
    values = array.astype(np.float64)
    return np.ldexp(values, -np.frexp(np.abs(values).max(axis=0))[1])
