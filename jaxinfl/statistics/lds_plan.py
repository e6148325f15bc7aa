"""How many subsets, and how many models on each, a linear datamodeling score takes for an interval of a given width."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float

from jaxinfl.arguments import check_choice, check_number, check_seed, check_share, check_whole
from jaxinfl.influence.outcomes import Models, Score, take_outcomes
from jaxinfl.statistics.attribution import FEWEST_TEST, Over, lds
from jaxinfl.statistics.ceiling import find_ceiling, to_pearson
from jaxinfl.statistics.clusters import Clusters, find_clusters

Of = Literal["corrected", "mean"]
"""What the interval is of."""

_SIZES = (60, 240)
"""Numbers of made-up subsets from which the width is extrapolated: it falls with the square root of their number."""
_DRAWS = 5
_SEEDS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
"""Numbers of models on a subset that are considered, up to the most that are asked for."""
_MOST_TEST = 300
"""Test examples of the pilot that are used, at most; the width is that for all of them."""
_FEWEST_REPEATED, _FEWEST_SUBSETS = 20, 30
_MOST_SUBSETS = 1_000_000


class LdsOption(NamedTuple):
    """One way to reach the width."""

    seeds: int
    """Models on each subset."""
    subsets: int
    """Subsets; 0 where no number of them reaches the width."""
    models: int
    """Models in all; 0 where the width is not reached."""
    ceiling: float
    """Noise ceiling of the score; NaN for one model on each subset."""


@dataclass(frozen=True)
class LdsPlan:
    """How many models a linear datamodeling score takes."""

    subsets: int
    """Subsets of the cheapest way; 0 where none reaches the width."""
    seeds: int
    """Models on each subset of the cheapest way."""
    models: int
    """Models of the cheapest way."""
    options: tuple[LdsOption, ...]
    """What each number of models on a subset takes."""
    width: float
    """Width of the interval that was asked for."""
    narrowest: float
    """Width that very many subsets leave, because other test examples would give another score."""

    @property
    def text(self) -> str:
        """The answer as a sentence."""
        if not self.models:
            return (
                f"no number of models reaches an interval of {self.width:g}: other test examples alone leave {self.narrowest:.2g}. Take more "
                "test examples, or over='models'."
            )
        return f"{self.subsets} subsets with {self.seeds} models on each, {self.models} models in all, give an interval of {self.width:g}."


def plan_lds(
    masks: Models,
    score: Score = None,
    *,
    width: float = 0.1,
    expected: float = 0.3,
    of: Of = "corrected",
    over: Over = "both",
    most_seeds: int = 6,
    confidence: float = 0.95,
    seed: int = 0,
) -> LdsPlan:
    """Number of subsets, and of models on each, for an interval of a given width of a linear datamodeling score.

    Args:
      masks: bool [models, train] of a pilot, 30 subsets or more of which 20 have several models; or an `Ensemble` or `Outcomes`. Neither
        the pilot's attribution nor its score is needed, only how noisy its models are.
      score: bool or float [models, test]; for an `Ensemble` the name of a score.
      width: width of the interval, from its lower to its upper end, above 0.
      expected: the score against the true expectations that an attribution is expected to get, from 0 to 1 (exclusive).
      of: which interval: "corrected", that of the score against the true expectations, which takes two models on each subset or more; or
        "mean", that of the score against the measured means.
      over: what the interval is over, as for `lds`.
      most_seeds: largest number of models on a subset that is considered, up to 50; of 7 and more 8, 10, 15, 20, 30 and 50 alone.
      confidence: confidence of the interval, between 0 and 1.
      seed: seed of the made-up runs.

    Returns:
      `LdsPlan`. Runs of 60 and 240 subsets are made up from the pilot: the expectations and the noise of its models, with their correlations
      between test examples, and attributions of the expected score whose errors are correlated alike. `lds` gives their intervals, and
      the number of subsets for `width` follows. In simulations, intervals of runs with the planned numbers were 0.85 to 1.15
      times as wide as asked for. Time: some 15 s.

    Raises:
      TypeError, ValueError: arguments that do not fit; a pilot with too few subsets, or too few with several models.

    Source: as `lds`.
    """
    wanted = check_number(width, "width", "a width above 0", 0.0, 2.0)
    check_choice(of, "of", get_args(Of))
    check_choice(over, "over", get_args(Over))
    share = check_share(expected, "expected")
    check_share(confidence, "confidence")
    check_seed(seed)
    highest = check_whole(most_seeds, "most_seeds", 2 if of == "corrected" else 1, 50)
    if not wanted > 0:
        raise ValueError(f"width is {wanted}; it takes a width above 0.")
    given = take_outcomes(masks, score)
    varying = int((np.ptp(given.test_score.astype(np.float64), axis=0) > 0).sum())
    if over == "both" and varying < FEWEST_TEST:
        raise ValueError(
            f"score varies on {varying} test examples; an interval over other test examples takes {FEWEST_TEST}. Pass over='models'."
        )
    pilot = _Pilot.of(given.masks, given.test_score.astype(np.float64), np.random.default_rng(seed))
    considered = [each for each in _SEEDS if (2 if of == "corrected" else 1) <= each <= highest]
    made = {seeds: pilot.widths(share, seeds, of, over, confidence, seed) for seeds in considered}
    falling, left = _extrapolate({seeds: squares for seeds, (squares, _) in made.items()})
    left *= pilot.truth.shape[1] / pilot.num_test
    options = []
    for seeds in considered:
        subsets = int(np.ceil(falling[seeds] / (wanted**2 - left))) if wanted**2 > left else 0
        subsets = 0 if subsets > _MOST_SUBSETS else max(subsets, _FEWEST_SUBSETS if subsets else 0)
        options.append(LdsOption(seeds, subsets, subsets * seeds, made[seeds][1]))
    nothing = LdsOption(0, 0, 0, np.nan)
    best = min((each for each in options if each.models), key=lambda each: each.models, default=nothing)
    return LdsPlan(best.subsets, best.seeds, best.models, tuple(options), wanted, float(left**0.5))


class _Pilot(NamedTuple):
    """What a pilot tells of expectations and noise."""

    truth: Float[np.ndarray, "subsets test"]
    """Deviations of the subsets' means from the mean of all, shrunk to the variance of the expectations."""
    noise: Float[np.ndarray, "residuals test"]
    """Deviations of single models from the mean of their subset, with the variance of single models."""
    shared: tuple[float, float]
    """Share of the covariances between test examples, of the expectations and of the noise, that is not a chance of the pilot."""
    rng: np.random.Generator
    num_test: int
    """Number of test examples of the pilot on which its scores vary."""

    @classmethod
    def of(
        cls,
        masks: Bool[np.ndarray, "models train"],
        measured: Float[np.ndarray, "models test"],
        rng: np.random.Generator,
    ) -> "_Pilot":
        clusters = find_clusters(masks)
        repeated = clusters.size > 1
        if clusters.size.size < _FEWEST_SUBSETS or repeated.sum() < _FEWEST_REPEATED:
            raise ValueError(
                f"masks holds {clusters.size.size} different subsets, of which {repeated.sum()} have several models; a pilot takes "
                f"{_FEWEST_SUBSETS}, of which {_FEWEST_REPEATED} have several. Train two models on each subset: np.repeat(masks, 2, axis=0)."
            )
        measured = measured[:, np.ptp(measured, axis=0) > 0]
        if reason := find_ceiling(clusters, measured, 0).reason:
            raise ValueError(f"score of the pilot has no noise ceiling, which a plan follows from: {reason}.")
        num_test = measured.shape[1]
        if num_test > _MOST_TEST:
            measured = measured[:, np.sort(rng.choice(num_test, _MOST_TEST, replace=False))]
        truth, noise = _components(clusters, measured)
        freedom = len(truth) - 1, len(noise) - int(repeated.sum())
        shared = _shared(truth, freedom[0]), _shared(noise, freedom[1])
        return cls(truth, noise, shared, rng, num_test)

    def widths(
        self, expected: float, seeds: int, of: Of, over: Over, confidence: float, seed: int
    ) -> tuple[dict[int, float], float]:
        """Width of the interval of made-up runs with each number of subsets, and the ceiling."""
        found: dict[int, float] = {}
        ceilings = []
        correlation = float(to_pearson(expected))
        for subsets in _SIZES:
            squares = []
            for _ in range(_DRAWS):
                masks, attribution, scores = self._make_up(subsets, seeds, correlation)
                result = lds(attribution, masks, scores, over=over, confidence=confidence, repeats=200, seed=seed)
                low, high = (
                    (result.corrected_low, result.corrected_high) if of == "corrected" else (result.low, result.high)
                )
                squares.append((high - low) ** 2)
                ceilings.append(result.ceiling)
            found[subsets] = float(np.median(squares))
        defined = [each for each in ceilings if np.isfinite(each)]
        return found, float(np.mean(defined)) if defined else float("nan")

    def _make_up(
        self, subsets: int, seeds: int, correlation: float
    ) -> tuple[Bool[np.ndarray, "models subsets"], Float[np.ndarray, "subsets test"], Float[np.ndarray, "models test"]]:
        """A run in which each subset is one training example of its own, so that an attribution says what it predicts of it."""
        truth, error = (self._mix(self.truth, self.shared[0], subsets) for _ in range(2))
        predicted = correlation * truth + np.sqrt(1 - correlation**2) * error
        scores = np.repeat(truth, seeds, axis=0) + self._mix(self.noise, self.shared[1], subsets * seeds)
        return np.repeat(np.eye(subsets, dtype=bool), seeds, axis=0), predicted, scores

    def _mix(
        self, rows: Float[np.ndarray, "rows test"], shared: float, number: int
    ) -> Float[np.ndarray, "number test"]:
        """Random normal rows with the variances of some rows, and so much of their covariances between test examples."""
        together = self.rng.standard_normal((number, len(rows))) @ rows / np.sqrt(len(rows))
        alone = self.rng.standard_normal(together.shape) * np.sqrt((rows**2).mean(axis=0))
        mixed: Float[np.ndarray, "number test"] = np.sqrt(shared) * together + np.sqrt(1 - shared) * alone
        return mixed


def _components(
    clusters: Clusters, measured: Float[np.ndarray, "models test"]
) -> tuple[Float[np.ndarray, "subsets test"], Float[np.ndarray, "residuals test"]]:
    """Rows whose covariances are those of the expectations and of the noise of single models."""
    means = clusters.means(measured)
    size = clusters.size[clusters.member]
    several = size > 1
    residual = (measured - means[clusters.member])[several] * np.sqrt(size[several] / (size[several] - 1))[:, None]
    noise = (residual**2).mean(axis=0)
    centred = means - means.mean(axis=0)
    observed = centred.var(axis=0, ddof=1)
    true = np.maximum(observed - noise * (1 / clusters.size).mean(), 0.01 * observed)
    return centred * np.sqrt(true / np.maximum(observed, 1e-300)), residual


def _shared(rows: Float[np.ndarray, "rows test"], freedom: int) -> float:
    """Factor by which the correlations of columns are smaller than those of so few rows, whose chance adds 1 / freedom to their squares."""
    scaled = rows / np.maximum(np.sqrt((rows**2).mean(axis=0)), 1e-300)
    correlations = scaled.T @ scaled / len(rows)
    others = correlations[~np.eye(len(correlations), dtype=bool)]
    square = float((others**2).mean()) if others.size else 0.0
    return float(np.sqrt(max(1 - 1 / max(freedom, 1) / square, 0.0))) if square > 0 else 0.0


def _extrapolate(squares: dict[int, dict[int, float]]) -> tuple[dict[int, float], float]:
    """The squared widths as a / subsets + b: a for each number of models on a subset, and b, what other test examples leave."""
    (few, many) = _SIZES
    left = [each[many] - max(each[few] - each[many], 0.0) / (1 / few - 1 / many) / many for each in squares.values()]
    rest = max(float(np.median(left)), 0.0)
    falling = {
        seeds: max((few * (each[few] - rest) + many * (each[many] - rest)) / 2, 0.0) for seeds, each in squares.items()
    }
    return falling, rest


__all__ = ["LdsOption", "LdsPlan", "plan_lds"]
