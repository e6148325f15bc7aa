"""The planner predicts from a small run how many models a trustworthy estimate takes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.special import expit, logit, ndtri

from jaxinfl.arguments import (
    check_correct,
    check_masks,
    check_min_memorization,
    check_share,
    check_thresholds,
    check_whole,
    quote,
)
from jaxinfl.influence.groups import warn_of_groups
from jaxinfl.influence.outcomes import Names, Outcomes, Runs, take_given
from jaxinfl.statistics.clusters import find_clusters, share_of_complements
from jaxinfl.statistics.deconvolution import Grid, likelihood, make_grid, nearest_rates, smoothing
from jaxinfl.statistics.expected_iou import chance_to_reach, expected_iou
from jaxinfl.statistics.mixture import fit_mixture
from jaxinfl.statistics.model_plan import FEW_PAIRS, Answer, Band, ModelPlan, judge
from jaxinfl.statistics.pilot_counts import PilotPairs, memorization_chance, pilot_pairs

FEWEST_MODELS = 50
"""Fewest models of a pilot. Of fewer, 15 or less are without an example (at ratio 0.7), and steps of 1/15 hide an influence of 0.1."""
_STEPS = 180
_STEPS_AGAIN = 45
_STEPS_BELOW = 60
_SEED = 0
"""Seed of the bootstrap samples: the same pilot has the same answer."""
_WIDTH = 2.0
"""Width of the bell curves that make up the distribution of effects, in thirds of a standard error."""
_WIDTH_SPARSE, _SPARSE = 3.0, 0.97
"""Width, and share of pairs without any effect to start from, of the other distribution that the counts allow; the first one
starts from weak effects of all pairs. The counts hardly tell which one is true; their difference widens the intervals."""
_LEAST_ERROR = 0.06
"""IOU intervals are wider by this on either side than resampling and the two distributions make them. It is what the
predictions of simulated runs were off by, whose bias hardly differed from pilot to pilot (0.02 to 0.09 at 2 to 8 times the pilot)."""
_CLEAR = 9.0
"""Twice the logarithm of how much likelier the counts must be if pairs reach a threshold than if none does; 3 standard
deviations, squared. In simulations of many weak influences noise alone seemed to reach 0.2, with less than that, and the IOU
that was predicted for 8 times the pilot's models was 0.2 to 0.6 too high. Where influences are strong it is in the hundreds."""
_STEPS_AN_OCTAVE = 8
_OCTAVES_BELOW = 3


def plan(
    pilot: Any,
    target_iou: float = 0.7,
    threshold: float = 0.2,
    *,
    thresholds: ArrayLike | None = None,
    min_memorization: float | None = 0.25,
    doublings: int = 3,
    confidence: float = 0.9,
    repeats: int = 15,
) -> ModelPlan:
    """Number of models at which two influence estimates agree, and their whole IOU curve, predicted from a small run.

    What is predicted is the mean of `iou_curve` on the same data: two estimates by 0-1 scores from disjoint sets of t models
    each, over the training examples that are memorized. Let p and q be the probabilities that a model with and without a
    training example is right on a test example. Then an estimate from t models is the difference of two binomial
    proportions; it reaches a threshold with a probability r that p, q and t decide, both of two estimates do with r^2, one
    or both with 2 r - r^2, and the IOU is the ratio of these over all pairs. The distribution of (p, q) over the pairs is
    deconvolved from the pilot's counts, without which its noise would be taken for influence. It is smooth but for pairs of no
    influence at all, so that no answer depends on which side of a threshold some atom of it happens to lie. A training example takes part
    with the probability that its true memorization is above `min_memorization`, for the pilot's own selection is noisy.

    Args:
      pilot: an `Ensemble`, whose diverged models are left out and whose score "correct" is taken; or the tuple (ensemble, name) for
        another 0-1 score of it; or `Outcomes` with both 0-1 scores; or the tuple (masks, train_correct, test_correct) of bool
        arrays; or `pack(runs, "correct", groups=...)` for influence per group, with `min_memorization=None`, because the train
        score of a group is a mean and not 0-1. It takes 50 models or more, each on a subset of its own, drawn independently.
      target_iou: the IOU that two estimates should have, between 0 and 1.
      threshold: the influence from which on a pair counts for that IOU, between 0 and 1.
      thresholds: the influences at which whole curves are predicted, between 0 and 1; by default 0.05, 0.075, ..., 0.5.
      min_memorization: only training examples whose memorization is above this take part, as in `iou_curve`; None takes all.
      doublings: how many doublings of the pilot's number of models are predicted, from 1 to 20. Each asks for influences finer
        than those that the pilot resolves; beyond 3 it can hardly tell.
      confidence: confidence of the intervals, between 0 and 1.
      repeats: number of bootstrap samples behind the intervals, from 2 up.

    Returns:
      `ModelPlan`; its `verdict` and `text` say whether the pilot can tell. Where it cannot, values are NaN or None.
      Intervals are for the expected IOU, not for that of one pair of estimates, which spreads around it. They hold what two
      distributions predict between which the counts hardly decide (most pairs have no influence at all; or all have some, most of
      them next to none), the middle of which is the prediction; what other training and test examples would say (Owen, 2007),
      by resampling both at once; and 0.06 of IOU on either side, which is what predictions in simulated worlds were off by.
      Models are not resampled: a model drawn twice doubles the noise of its pairs, and the deconvolution would take that for
      influence. The interval speaks of data sets like this one, so it is wider than what is unknown of this very one.
      Domain: pilots of 200 models, 2 to 8 times as many, influences from 0.1 to 0.2, at some hundred test examples or more. There
      90% intervals held 90% or more of what was measured in 51 of 54 cells of six simulated worlds, three influences and three
      sizes, and 77% in the worst one (0.1, 8 times; 100 pilots a cell, `python -m experiments.planner_simulations`).
      A threshold is answered only where the likelihood ratio says beyond doubt that pairs reach it: of many pairs some seem to.
      Time: seconds; every pair is counted once, and some 10,000 outcomes at most are deconvolved `repeats` times.

    Raises:
      TypeError, ValueError: arrays that are not bool or do not fit; a number out of its range; models that share subsets.

    Source: Feldman and Zhang (2020) and Section 2.3.1 of the paper for the estimate and its IOU; Kiefer and Wolfowitz (1956),
    Koenker and Mizera (2014) and Efron (2016) for the deconvolution (see `jaxinfl.statistics.deconvolution`); Owen (2007),
    "The pigeonhole bootstrap", Annals of Applied Statistics 1, for the intervals.
    """
    if isinstance(pilot, Outcomes) and pilot.names is not None:
        pilot = _take_groups(pilot, min_memorization)
    masks, train, test = _check_pilot(pilot)
    target, level = check_share(target_iou, "target_iou"), check_share(confidence, "confidence")
    check_min_memorization(min_memorization)
    check_whole(repeats, "repeats", 2, 10**6)
    asked = _check_question(masks, threshold, thresholds, check_whole(doublings, "doublings", 1, 20))
    num_models = len(masks)
    chance = memorization_chance(masks, train, min_memorization)
    pairs = pilot_pairs(masks, test, chance) if num_models >= FEWEST_MODELS else None
    found = _make_empty(asked) if pairs is None else _predict(asked, num_models, pairs, level, repeats)
    told = Answer("small pilot", f"{num_models} models cannot tell; a pilot takes {FEWEST_MODELS} or more.")
    if num_models >= FEWEST_MODELS:
        told = judge(
            found.at_threshold,
            asked.steps,
            num_pairs=found.pairs_at_threshold,
            num_examples=float(chance.sum()),
            clear=found.clear_up_to >= asked.threshold,
            target_iou=target,
            threshold=asked.threshold,
        )
    return ModelPlan(
        *told,
        num_models=asked.sizes,
        thresholds=asked.thresholds,
        curve=found.curve,
        num_pairs=found.num_pairs,
        steps=asked.steps,
        at_threshold=found.at_threshold,
        num_examples=float(chance.sum()),
        pilot_models=num_models,
        target_iou=target,
        threshold=asked.threshold,
        confidence=level,
    )


class _Question(NamedTuple):
    ratio: float
    thresholds: Float[np.ndarray, " thresholds"]
    threshold: float
    sizes: np.ndarray
    steps: np.ndarray


def _check_question(
    masks: Bool[np.ndarray, "models train"], threshold: float, thresholds: ArrayLike | None, doublings: int
) -> _Question:
    """The question of a call, checked: at which sizes and thresholds the IOU is predicted."""
    limit = check_share(threshold, "threshold")
    curve = check_thresholds(np.arange(2, 21) / 40 if thresholds is None else thresholds)
    if not ((curve > 0) & (curve < 1)).all():
        raise ValueError(f"thresholds lie from {curve.min():g} to {curve.max():g}; take them between 0 and 1.")
    sizes = len(masks) * 2 ** np.arange(1, doublings + 1)
    octaves = np.arange(-_OCTAVES_BELOW * _STEPS_AN_OCTAVE, doublings * _STEPS_AN_OCTAVE + 1) / _STEPS_AN_OCTAVE
    return _Question(float(masks.mean()), curve, limit, sizes, len(masks) * 2**octaves)


class _Found(NamedTuple):
    curve: Band
    at_threshold: Band
    num_pairs: Float[np.ndarray, " thresholds"]
    pairs_at_threshold: float
    clear_up_to: float
    """The highest threshold that some pairs reach beyond doubt."""


class _Forecast:
    """The IOU that a distribution leads to, at every size; what needs no distribution is computed once."""

    def __init__(self, grid: Grid, asked: _Question):
        def reach(num_models: float, thresholds: Float[np.ndarray, " thresholds"]) -> np.ndarray:
            return chance_to_reach(grid.with_example, grid.without, num_models, asked.ratio, thresholds)

        self._curve = [reach(size, asked.thresholds) for size in asked.sizes.astype(np.float64).tolist()]
        self._path = [reach(step, np.array([asked.threshold])) for step in asked.steps.tolist()]

    def curve(self, distribution: Float[np.ndarray, " atoms"]) -> Float[np.ndarray, "sizes thresholds"]:
        return np.stack([expected_iou(reach, distribution) for reach in self._curve])

    def path(self, distribution: Float[np.ndarray, " atoms"]) -> Float[np.ndarray, " steps"]:
        return np.concatenate([expected_iou(reach, distribution) for reach in self._path])


class _Fit:
    """Smooth distributions of one width, found from one start."""

    def __init__(
        self,
        grid: Grid,
        table: csr_array,
        at_rate: Float[np.ndarray, " rates"],
        width: float,
        none: float | None = None,
    ):
        """`none` is the share of pairs without effect to start from; None starts from the grid's own broad distribution."""
        self._parts = smoothing(grid, width, at_rate)
        self._table = csr_array(table @ self._parts)
        start = self._parts.T @ grid.start
        if none is not None:
            at_none = self._parts.T @ (grid.effects_of_atoms == 0) > 0
            start = np.where(at_none, none * start / start[at_none].sum(), (1 - none) * start / start[~at_none].sum())
        self._start: Float[np.ndarray, " parts"] = start / start.sum()

    def __call__(self, weight: Float[np.ndarray, " cells"], steps: int) -> Float[np.ndarray, " atoms"]:
        """The likeliest distribution, or nearly: where the counts say little it stays near the start."""
        found: Float[np.ndarray, " atoms"] = self._parts @ fit_mixture(
            self._table, weight, self._start, steps, extrapolate=True
        )
        return found


def _predict(asked: _Question, num_models: int, pairs: PilotPairs, level: float, repeats: int) -> _Found:
    grid = make_grid(num_models, asked.ratio, strongest=9.0, start_width=1.0)
    table = likelihood(grid, pairs.counts)
    weight = pairs.cell_weights()
    at_rate = np.bincount(nearest_rates(grid, pairs.counts), weights=weight, minlength=len(grid.with_example))
    dense, sparse = _Fit(grid, table, at_rate, _WIDTH), _Fit(grid, table, at_rate, _WIDTH_SPARSE, none=_SPARSE)
    dense_one, sparse_one = dense(weight, _STEPS), sparse(weight, _STEPS)

    def number(threshold: float) -> float:
        reach = grid.influence >= threshold
        return float(weight.sum() * (dense_one[reach].sum() + sparse_one[reach].sum()) / 2)

    forecast = _Forecast(grid, asked)
    again = [dense(drawn, _STEPS_AGAIN) for drawn in _resample_weights(pairs, repeats)]
    curve, path = (
        _band(of(dense_one), of(sparse_one), np.stack([of(each) for each in again]), level)
        for of in (forecast.curve, forecast.path)
    )
    num_pairs = np.array([number(threshold) for threshold in asked.thresholds])
    limit = _clear_up_to(np.append(asked.thresholds, asked.threshold), grid, table, weight, dense_one)
    enough = (num_pairs >= FEW_PAIRS) & (asked.thresholds <= limit)
    at_threshold = number(asked.threshold)
    told = np.array(at_threshold >= FEW_PAIRS and asked.threshold <= limit)
    return _Found(_keep(enough, curve), _keep(told, path), num_pairs, at_threshold, limit)


def _keep(told: Bool[np.ndarray, "*shape"], band: Band) -> Band:
    """The band, with NaN where the IOU would be the luck of a few pairs, or of noise."""
    return Band(*(np.where(told, part, np.nan) for part in band))


def _clear_up_to(
    thresholds: Float[np.ndarray, " thresholds"],
    grid: Grid,
    table: csr_array,
    weight: Float[np.ndarray, " cells"],
    distribution: Float[np.ndarray, " atoms"],
) -> float:
    """The highest of the thresholds that some pairs reach beyond doubt, -inf if there is none: by likelihood ratios.

    The distribution is compared with the likeliest one, smooth or not, that has no influence at or above a threshold; the higher
    the threshold, the less can speak against that.
    """

    def log_likelihood(density: Float[np.ndarray, " atoms"]) -> float:
        return float(weight @ np.log(np.maximum(table @ density, 1e-300)))

    ordered = np.unique(thresholds)
    broad = 0.9 * distribution + 0.1 * grid.start
    best = log_likelihood(fit_mixture(table, weight, broad, _STEPS_BELOW, extrapolate=True))
    clear, unclear = -1, ordered.size
    while unclear - clear > 1:
        middle = (clear + unclear) // 2
        start = broad * (grid.influence < ordered[middle])
        below = fit_mixture(table, weight, start / start.sum(), _STEPS_BELOW, extrapolate=True)
        if 2 * (best - log_likelihood(below)) >= _CLEAR:
            clear = middle
        else:
            unclear = middle
    return float(ordered[clear]) if clear >= 0 else -np.inf


def _resample_weights(pairs: PilotPairs, repeats: int) -> Iterator[Float[np.ndarray, " cells"]]:
    """Weights of the outcomes with resampled training and test examples."""
    rows, columns = int(pairs.row.max()) + 1, int(pairs.column.max()) + 1
    for repeat in range(repeats):
        rng = np.random.default_rng((_SEED, repeat))
        drawn = (rng.multinomial(size, np.full(size, 1 / size)).astype(np.float64) for size in (rows, columns))
        weight = pairs.cell_weights(*drawn)
        if weight.sum() > 0:
            yield weight


def _band(dense: np.ndarray, sparse: np.ndarray, again: np.ndarray, level: float) -> Band:
    """What lies between the two predictions, and an interval that holds both.

    On the log odds scale, where an IOU near 0 or 1 spreads as one in the middle does. Two things are unknown: what other examples
    would say, by the spread of `again`, and which distribution is true. The second is no matter of chance, nor is what both miss.
    """

    def odds(iou: np.ndarray) -> np.ndarray:
        return logit(np.clip(iou, 1e-3, 1 - 1e-3))

    middle, apart = (odds(dense) + odds(sparse)) / 2, np.abs(odds(dense) - odds(sparse)) / 2
    half = np.hypot(ndtri((1 + level) / 2) * odds(again).std(axis=0, ddof=1), apart)
    return Band(
        expit(middle),
        np.maximum(expit(middle - half) - _LEAST_ERROR, 0),
        np.minimum(expit(middle + half) + _LEAST_ERROR, 1),
    )


def _make_empty(asked: _Question) -> _Found:
    curve, path = np.full((asked.sizes.size, asked.thresholds.size), np.nan), np.full(asked.steps.size, np.nan)
    return _Found(Band(curve, curve, curve), Band(path, path, path), np.zeros(asked.thresholds.size), 0.0, -np.inf)


def _take_named(runs: Runs, name: Any) -> tuple[Any, ...]:
    """Masks and both 0-1 scores of an `Ensemble`."""
    if (kind := runs.score_kind(name)) != "0-1":
        raise TypeError(
            f"pilot names the score {name!r}, whose kind is {kind}; it takes a 0-1 score, of which influences are differences of "
            "probabilities."
        )
    given = take_given(runs, name, name, Names("pilot"))
    return given.masks, given.train_score, given.score


def _take_groups(pilot: Outcomes, minimum: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks and 0-1 scores of a pilot whose columns are groups, where no condition on memorization is set."""
    if minimum is not None:
        raise ValueError(
            f"min_memorization is {quote(minimum)}; it takes None where pilot is an Outcomes of groups, whose train score is a mean "
            "over their members and not 0-1. Pass min_memorization=None."
        )
    # No train score is looked at then.
    return pilot.masks, np.zeros_like(pilot.masks), pilot.test_score


def _check_pilot(
    pilot: Any,
) -> tuple[Bool[np.ndarray, "models train"], Bool[np.ndarray, "models train"], Bool[np.ndarray, "models test"]]:
    if isinstance(pilot, tuple) and len(pilot) == 2 and isinstance(pilot[0], Runs):
        arrays = _take_named(*pilot)
    elif isinstance(pilot, Runs):
        arrays = _take_named(pilot, "correct")
    elif isinstance(pilot, Outcomes):
        arrays = pilot.masks, pilot.train_score, pilot.test_score
    elif isinstance(pilot, tuple):
        arrays = pilot
    else:
        raise TypeError(
            f"pilot is {quote(pilot)}; it takes an Ensemble, Outcomes, or a tuple: (Ensemble, name of a score) or (masks, "
            "train_correct, test_correct)."
        )
    if len(arrays) != 3:
        raise ValueError(f"pilot has {len(arrays)} arrays; it takes (masks, train_correct, test_correct).")
    masks = check_masks(arrays[0])
    train = check_correct(arrays[1], len(masks), "train_correct")
    test = check_correct(arrays[2], len(masks), "test_correct")
    if train.shape != masks.shape:
        raise ValueError(f"train_correct has shape {train.shape} and masks {masks.shape}; they take the same examples.")
    if not find_clusters(masks).alone:
        raise ValueError("masks holds the same subset more than once; plan takes models with subsets of their own.")
    if share_of_complements(masks) > 0.5:
        raise ValueError(
            "masks holds subsets that are each other's complements (design 'complementary', or 'balanced' with ratio 0.5), whose models are "
            'not independent; plan takes draw_subsets(..., design="uniform").'
        )
    warn_of_groups(masks, "pilot")
    return masks, train, test
