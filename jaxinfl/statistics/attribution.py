"""Other methods' attributions against what training on subsets measured."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float
from scipy.special import ndtri, stdtr, stdtrit

from jaxinfl.arguments import check_attribution, check_choice, check_seed, check_share, check_whole
from jaxinfl.influence.outcomes import Models, Outcomes, Score, take_outcomes
from jaxinfl.statistics.ceiling import Ceiling, find_ceiling, to_pearson, to_rank
from jaxinfl.statistics.clusters import find_clusters
from jaxinfl.statistics.correlation import Correlation, Correlations, correlate

Over = Literal["both", "models"]
"""What an interval is over: "both" other subsets and models and other test examples, or only other subsets and "models"."""

_MOST_REPEATS = 1_000_000
"""So many bootstrap samples take minutes; more are a slip of the pen."""
_FEWEST_CASES = 30
"""Fewest cases for an interval: of 20 cases, 95% intervals covered 91% to 93%, and of 10 cases 87% to 92%."""
FEWEST_TEST = 30
"""Fewest test examples that show how other test examples would differ: of 5, 95% intervals covered 88% to 93%."""
_WEIGHTS_AT_ONCE = 2**22


class AttributionScore(NamedTuple):
    """How well attributions predict what was measured."""

    mean: float
    """Correlation averaged over the test examples for which it is defined; NaN where there are none."""
    low: float
    """Lower end of the interval of the mean that very many cases (subsets, or left-out examples) would give, over very many test
    examples like these ("both"), or over these very ones ("models").

    NaN where `reason` says why. It need not have the mean in its middle: Spearman's correlation of few cases is too near to 0.
    """
    high: float
    """Upper end of that interval."""
    correlation: Float[np.ndarray, " test"]
    """Correlation of each test example; NaN where its attributions or its scores are all the same."""
    p_value: Float[np.ndarray, " test"]
    """Two-sided p-value of no correlation for each test example, by Student's t with as many observations as cases."""
    reason: str = ""
    """Why the interval is NaN; empty where it is not."""
    ceiling: float = float("nan")
    """Correlation that the true expectations would have with these measured means, averaged over the test examples: `mean` is to be read
    as so much of at most that. NaN where `ceiling_reason` says why; only `lds` tells it."""
    corrected: float = float("nan")
    """The mean corrected for attenuation: the correlation with the true expectations, about `mean / ceiling`."""
    corrected_low: float = float("nan")
    """Lower end of the interval of that correlation, over the same as `low`."""
    corrected_high: float = float("nan")
    """Upper end of that interval."""
    ceiling_reason: str = ""
    """Why the ceiling and what is corrected by it are NaN, and what to do; empty where they are not."""


def lds(
    attribution: ArrayLike,
    masks: Models,
    score: Score = None,
    *,
    over: Over = "both",
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> AttributionScore:
    """Linear datamodeling score: does the sum of a subset's attributions rank the subsets as their models' mean scores do?

    Args:
      attribution: numbers [train, test]: how much training example i raises the score on test example j. If positive values of
        a method raise the LOSS (influence functions as they are often written), pass `-attribution`, or the measured loss as
        the score: a wrong sign turns the result into its negative.
      masks: bool [models, train], or an `Ensemble`, whose diverged models are left out, or `Outcomes`; not of the models that the
        attributions were computed from. Models with the same row share a subset, and their mean score is what is ranked, as
        the source has it.
      score: bool or float [models, test], higher is better: the margin is customary. For an `Ensemble` the name of a score.
      over: what the interval is over. "both": a new draw of subsets, models and test examples from the same population; it
        takes 30 test examples. "models": a new draw of subsets and models, for these very test examples, of which one suffices.
      confidence: confidence of the interval, between 0 and 1.
      repeats: number of bootstrap samples of the subsets, from which the interval comes; 1000 for an interval of 95%.
      seed: seed of the bootstrap.

    Returns:
      `AttributionScore` with Spearman's rank correlations over subsets; values that are the same but for rounding share their
      mean rank, so that the unit of the attributions does not matter.

      The mean score of few models is a noisy measure of their expectation, and no attribution can predict the noise. Where at least 20
      subsets, and half of all, have several models, `ceiling` is the score that the true expectations would get. `corrected` is the
      score that the attributions would get against these, a mean over test examples in which those of a low ceiling count less. Both
      assume scores that are about normal, as margins are. They are NaN for 0-1 scores and for scores that are far from normal.
      In simulations of normal scores, of 200 subsets with 2 to 5 models each, the ceiling was right to within 0.02, and 95% intervals of
      `corrected` covered 95% to 96%. Time: ten rank correlations of all models, 30 s for 10,000 test examples and 2,500 models.

      Domain: 30 subsets or more, of one or several models each, and 30 test examples or more for "both". At 95% the interval
      covered 93% to 97% of new draws of what it is over, in simulations of 30 to 400 subsets, scores of 0.05 to 0.95, and test
      examples that are independent or share noise and influences. For the very test examples that it was computed from an
      interval over "both" is too wide, and covers up to 100%.
      It is NaN outside of the domain. Memory: some float64 arrays of subsets x test. Time: O(subsets * test * log subsets), and
      O(repeats * subsets).

    Raises:
      TypeError, ValueError: shapes that do not fit, NaN, fewer than 3 different subsets; a confidence, repeats or seed out of
        range.

    Source: Park et al. (2023), "TRAK: Attributing model behavior at scale"; Ilyas et al. (2022),
    "Datamodels", for the linear prediction; Spearman (1904), also for the correction for attenuation; for the interval Rubin (1981), "The Bayesian bootstrap", and the
    variance over two crossed samples of Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1.
    """
    given = take_outcomes(masks, score)
    checked, measured = given.masks, _check_measured(given)
    weights = _check_attribution(attribution, checked.shape[1], measured.shape[1])
    bootstrap = _Bootstrap.make(confidence, repeats, seed, over)
    clusters = find_clusters(checked)
    subsets = checked[clusters.first]
    if len(subsets) < 3:
        raise ValueError(f"masks holds {len(subsets)} different subsets; a correlation takes at least 3.")
    ceiling = find_ceiling(clusters, measured, seed)
    return _compare(subsets.astype(np.float64) @ weights, clusters.means(measured), "spearman", bootstrap, ceiling)


def leave_one_out_correlation(
    attribution: ArrayLike,
    masks: Models,
    score: Score = None,
    *,
    correlation: Correlation = "spearman",
    over: Over = "both",
    confidence: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> AttributionScore:
    """Do attributions rank the left-out examples as leaving them out did? The correlation over them, for each test example.

    Args:
      attribution: numbers [train, test], as for `lds`. Rows of examples that are never left out are not used.
      masks: bool [models, train], or an `Ensemble` or `Outcomes`, of models on everything and of models without one example each, in
        any order: `np.concatenate([np.ones((20, n), bool), leave_one_out(n, dropped, repeats=20)])`.
      score: bool or float [models, test]; for an `Ensemble` the name of a score. The measured influence is the mean score of the models on everything minus
        that of the models without the example (Equation 1).
      correlation: "spearman" or "pearson".
      over, confidence, repeats, seed: as for `lds`; here "models" are other left-out examples and models.

    Returns:
      `AttributionScore`, its correlations over the left-out examples, which the noise of the measured influence lowers. The
      interval is about other left-out examples, models and test examples; below 30 left-out examples it is NaN.

    Raises:
      TypeError, ValueError: as `lds`; also masks that leave out two examples or more, or fewer than 3 examples in all.

    Source: Koh and Liang (2017), section 4.1, where it is Pearson's; Equation 1 of the paper.
    """
    given = take_outcomes(masks, score)
    checked, measured = given.masks, _check_measured(given)
    weights = _check_attribution(attribution, checked.shape[1], measured.shape[1])
    check_choice(correlation, "correlation", get_args(Correlation))
    bootstrap = _Bootstrap.make(confidence, repeats, seed, over)
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


class _Bootstrap(NamedTuple):
    """How the interval of the mean is made."""

    confidence: float
    repeats: int
    seed: int
    over: Over

    @classmethod
    def make(cls, confidence: float, repeats: int, seed: int, over: Over) -> "_Bootstrap":
        check_seed(seed)
        check_choice(over, "over", get_args(Over))
        return cls(check_share(confidence, "confidence"), check_whole(repeats, "repeats", 1, _MOST_REPEATS), seed, over)

    def deviations(
        self, contribution: Float[np.ndarray, "cases test"], correlation: Float[np.ndarray, " test"]
    ) -> tuple[float, float]:
        """How far below and above its true value a mean correlation may lie, from what each case contributes to it.

        Cases get random weights, exponential and of sum 1. That spreads the mean less than other cases would: there is one
        degree of freedom less for the mean and two for the slopes, and Student's distribution for a normal one. What other
        test examples would change widens it.
        """
        (cases, test), tail = contribution.shape, (1 - self.confidence) / 2
        of_mean = contribution.mean(axis=1)
        scale = (cases + 1) / (cases - 3) / (cases * (cases + 1))
        by_cases = scale * float((of_mean**2).sum())
        by_test = 0.0
        if self.over == "both":
            # Correlations of test examples differ by chance as well, as far as cases contribute differently to them.
            chance = scale * float(((contribution - of_mean[:, None]) ** 2).sum()) / test
            by_test = max(float(correlation.var(ddof=1)) - chance * test / (test - 1), 0.0) / test
        together = by_cases + by_test
        if together == 0:
            return 0.0, 0.0
        of_cases = min(cases - 2, _freedom_of_variance(of_mean))
        freedom = together**2 / (by_cases**2 / of_cases + by_test**2 / max(test - 1, 1))
        quantile = float(stdtrit(freedom, tail))
        if by_cases == 0:
            return quantile * together**0.5, -quantile * together**0.5
        below, above = np.quantile(self._means(of_mean), [tail, 1 - tail], method="weibull")
        widen = quantile / ndtri(tail) * np.sqrt(together / (by_cases * (cases - 3) / (cases + 1)))
        return float(widen * below), float(widen * above)

    def _means(self, values: Float[np.ndarray, " cases"]) -> Float[np.ndarray, " repeats"]:
        """Means of the values, of mean 0, with random weights."""
        rng = np.random.default_rng(self.seed)
        means = np.empty(self.repeats)
        step = max(1, _WEIGHTS_AT_ONCE // len(values))
        for start in range(0, self.repeats, step):
            weight = rng.exponential(size=(min(step, self.repeats - start), len(values)))
            means[start : start + step] = weight @ values / weight.sum(axis=1)
        return means


def _freedom_of_variance(values: Float[np.ndarray, " cases"]) -> float:
    """Degrees of freedom that the kurtosis of values of mean 0 leaves of their number: fewer where a few are far away."""
    square = float((values**2).mean())
    kurtosis = float((values**4).mean()) / square**2 if square > 0 else 3.0
    return 2 * len(values) / max(kurtosis - 1, 1e-9)


def _compare(
    predicted: Float[np.ndarray, "cases test"],
    measured: Float[np.ndarray, "cases test"],
    kind: Correlation,
    bootstrap: _Bootstrap,
    ceiling: Ceiling | None = None,
) -> AttributionScore:
    """Correlation over the cases for each test example, and its mean with an interval and a noise ceiling."""
    found = correlate(predicted, measured, kind)
    freedom = len(predicted) - 2
    # At a correlation of 1 the statistic is infinite, and the p-value 0.
    with np.errstate(divide="ignore"):
        statistic = np.abs(found.value) * np.sqrt(freedom / (1 - found.value**2))
    p_value = 2 * stdtr(freedom, -statistic)
    defined = np.isfinite(found.value)
    if not defined.any():
        reason = "no test example has attributions and scores that both vary"
        return AttributionScore(np.nan, np.nan, np.nan, found.value, p_value, reason)
    mean = float(found.value[defined].mean())
    reason = ""
    if len(predicted) < _FEWEST_CASES:
        reason = f"{len(predicted)} subsets or left-out examples are too few; an interval takes {_FEWEST_CASES}"
    elif bootstrap.over == "both" and defined.sum() < FEWEST_TEST:
        reason = f"{defined.sum()} test examples are too few; an interval over other test examples takes {FEWEST_TEST} (or over='models')"
    score = AttributionScore(mean, np.nan, np.nan, found.value, p_value, reason)
    if not reason:
        below, above = bootstrap.deviations(found.contribution[:, defined], found.value[defined])
        centre = mean + found.bias
        low, high = (float(np.clip(end, -1, 1)) for end in (centre + below, centre + above))
        score = score._replace(low=low, high=high)
    return score if ceiling is None else _correct(score, found, ceiling, bootstrap)


def _correct(score: AttributionScore, found: Correlations, ceiling: Ceiling, bootstrap: _Bootstrap) -> AttributionScore:
    """Put the ceiling beside a mean correlation, and correct it for attenuation."""
    if ceiling.reason:
        return score._replace(ceiling_reason=ceiling.reason)
    defined = np.isfinite(found.value) & np.isfinite(ceiling.value)
    if not defined.any():
        return score._replace(ceiling_reason="no test example has attributions and a ceiling")
    highest, own = float(ceiling.value[defined].mean()), float(found.value[defined].mean())
    mean, most = to_pearson(own + found.bias), to_pearson(highest)
    ratio = float(mean / most)
    score = score._replace(ceiling=highest, corrected=float(to_rank(ratio)))
    if score.reason:
        return score
    # How the corrected value changes with the mean correlation and with the mean ceiling.
    outer = 3 / np.pi / np.sqrt(1 - min(ratio**2, 1.0) / 4)
    by_mean = outer * np.pi / 3 * np.cos(np.pi / 6 * own) / most
    by_ceiling = -outer * ratio * np.pi / 3 * np.cos(np.pi / 6 * highest) / most
    contribution = by_mean * found.contribution[:, defined] + by_ceiling * ceiling.contribution[:, defined]
    of_example = by_mean * found.value[defined] + by_ceiling * ceiling.value[defined]
    below, above = bootstrap.deviations(contribution, of_example)
    low, high = (float(np.clip(score.corrected + end, -1, 1)) for end in (below, above))
    return score._replace(corrected_low=low, corrected_high=high)


def _check_measured(given: Outcomes) -> Float[np.ndarray, "models test"]:
    """The models' scores in float64, of enough models."""
    if len(given) < 3:
        raise ValueError(f"masks has {len(given)} models; a correlation takes at least 3.")
    return given.test_score.astype(np.float64)


def _check_attribution(attribution: ArrayLike, num_train: int, num_test: int) -> Float[np.ndarray, "train test"]:
    """The attributions in float64, those of each test example scaled by a power of two to at most 1.

    No correlation depends on the scale, and sums of numbers near the largest there are would be infinite.
    """
    array = check_attribution(attribution, num_train, num_test)
    values = array.astype(np.float64)
    return np.ldexp(values, -np.frexp(np.abs(values).max(axis=0))[1])
