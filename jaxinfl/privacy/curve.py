"""How well membership is told, over all pairs of a target and an example: the ROC curve, and intervals over targets.

The curve is exact. Intervals are a jackknife over targets, which needs the curve without each target. It is read from counts between
some thousand thresholds, which lie close where few non-members are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

_THRESHOLDS = 1024
"""Number of thresholds at which shares of all scores lie evenly, and again at which shares of non-members' highest scores do, by their logarithms."""


Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A function of the rates of false alarms and of members told at thresholds [..., thresholds], from high to low."""


class Rate(NamedTuple):
    """A number with its interval over targets; NaN where there is nothing to tell it from."""

    value: float
    low: float
    high: float


class OperatingPoint(NamedTuple):
    """The share of members that is told at a small rate of false alarms, and what that rests on."""

    fpr: float
    """The rate of false alarms that was asked for."""
    tpr: Rate
    """Share of the members that is told at the last threshold whose rate of false alarms is below `fpr`."""
    false_alarms: int
    """Number of pairs of a target and an example that it was not trained on, at or above that threshold."""
    targets: int
    """Number of targets with such a pair."""
    examples: int
    """Number of examples with such a pair."""
    reason: str
    """Why the rate is NaN; empty where it is not."""


@dataclass(frozen=True)
class Curve:
    """Scores and members of some targets; where a score is NaN the pair takes no part."""

    score: Float[np.ndarray, "targets examples"]
    member: Bool[np.ndarray, "targets examples"]
    confidence: float = 0.95
    """Confidence of the intervals."""
    variance_factor: float = 1.0
    """Factor of the jackknife's variance, for targets that are each other's shadows."""

    @cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds from high to low, of which the first tells nothing, and the numbers of members and of non-members at or above each."""
        told = ~np.isnan(self.score)
        inside, outside = (np.sort(self.score[told & kind]) for kind in (self.member, ~self.member))
        # Sorted numbers are found among sorted numbers faster than an order of all of them is.
        ordered = np.sort(np.concatenate([inside, outside]))
        is_last = np.append(np.diff(ordered) > 0, np.ones(min(ordered.size, 1), bool))
        # NaN is sorted behind all numbers: no score is at or above it.
        thresholds = np.append(ordered[is_last], np.nan)
        hits, alarms = (each.size - np.searchsorted(each, thresholds, side="left") for each in (inside, outside))
        return thresholds[::-1], hits[::-1], alarms[::-1]

    @cached_property
    def roc(self) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """The rates of false alarms and of members told, from (0, 0) to (1, 1); NaN where there are no members or no others."""
        _, hits, alarms = self._points
        return _rates(hits, alarms) if hits.size > 1 else (np.full(2, np.nan), np.full(2, np.nan))

    @cached_property
    def auc(self) -> Rate:
        """Probability that a member's score is above that of a non-member; ties count half."""
        return self._with_interval(_area)

    @cached_property
    def balanced_accuracy(self) -> Rate:
        """Highest mean of the shares of members and of non-members that a threshold tells."""
        return self._with_interval(_best_accuracy)

    def at(self, fpr: float) -> OperatingPoint:
        """The share of members that is told at a rate of false alarms below `fpr`."""
        thresholds, _, alarms = self._points
        rates, told = self.roc
        if not np.isfinite(rates).all() or not np.isfinite(told).all():
            return self._nothing(fpr, "there are no members or no non-members")
        place = int(_last_below(rates, fpr))
        if alarms[place] == 0:
            most = int(alarms[-1])
            return self._nothing(
                fpr, f"of {most} non-members none scores so high that the rate is below {fpr:g} and above 0"
            )
        with np.errstate(invalid="ignore"):
            false = (self.score >= thresholds[place]) & ~self.member
        rate = self._with_interval(partial(_told_below, most=fpr))
        return OperatingPoint(
            fpr, rate, int(alarms[place]), int(false.any(axis=1).sum()), int(false.any(axis=0).sum()), ""
        )

    def _nothing(self, fpr: float, reason: str) -> OperatingPoint:
        return OperatingPoint(fpr, Rate(np.nan, np.nan, np.nan), 0, 0, 0, reason)

    @cached_property
    def _counts(self) -> tuple[Float[np.ndarray, "targets thresholds"], Float[np.ndarray, "targets thresholds"]]:
        """Numbers of members and of non-members of each target at or above each of some thresholds, from high to low.

        The first is above all scores, and the last below.
        """
        thresholds, hits, alarms = self._points
        even = np.searchsorted(hits + alarms, np.linspace(1, hits[-1] + alarms[-1], _THRESHOLDS))
        close = np.searchsorted(alarms, np.geomspace(1, max(alarms[-1], 1), _THRESHOLDS))
        edges = np.unique(thresholds[np.clip(np.append(even, close), 0, thresholds.size - 1)])[::-1]
        counts = np.zeros((2, len(self.score), edges.size + 2))
        for target, (score, member) in enumerate(zip(self.score, self.member, strict=True)):
            told = ~np.isnan(score)
            for kind, chosen in enumerate((told & member, told & ~member)):
                ordered = np.sort(score[chosen])
                counts[kind, target, 1:-1] = ordered.size - np.searchsorted(ordered, edges, side="left")
                counts[kind, target, -1] = ordered.size
        return counts[0], counts[1]

    def _with_interval(self, statistic: Statistic) -> Rate:
        """A statistic of the curve, with the interval of a jackknife over targets, which is NaN with fewer than two of them."""
        value, targets = float(statistic(*self.roc)), len(self.score)
        if targets < 2 or not np.isfinite(value):
            return Rate(value, np.nan, np.nan)
        hits, alarms = self._counts
        without = statistic(*_rates(hits.sum(0) - hits, alarms.sum(0) - alarms))
        variance = (targets - 1) / targets * np.square(without - without.mean()).sum()
        error = np.sqrt(self.variance_factor * variance)
        half = float(stdtrit(targets - 1, (1 + self.confidence) / 2) * error)
        return Rate(value, max(value - half, 0.0), min(value + half, 1.0))


def _rates(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rates of false alarms and of members told, from numbers at thresholds of which the last is below all scores."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return alarms / alarms[..., -1:], hits / hits[..., -1:]


def _area(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    area: np.ndarray = np.trapezoid(tpr, fpr, axis=-1)
    return area


def _best_accuracy(fpr: np.ndarray, tpr: np.ndarray) -> np.ndarray:
    best: np.ndarray = (1 + tpr - fpr).max(axis=-1) / 2
    return best


def _last_below(fpr: np.ndarray, most: float) -> np.ndarray:
    """Place of the last threshold whose rate of false alarms is below `most`."""
    last: np.ndarray = (fpr < most).sum(axis=-1) - 1
    return last


def _told_below(fpr: np.ndarray, tpr: np.ndarray, most: float) -> np.ndarray:
    return np.take_along_axis(tpr, _last_below(fpr, most)[..., None], axis=-1)[..., 0]


__all__ = ["Curve", "OperatingPoint", "Rate"]
