"""Welch's interval of a difference of means, and where it can be trusted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtrit

from jaxinfl.statistics.proportions import Interval

FEWEST = 6
"""Fewest independent observations on a side: fewer do not show how they are distributed."""
_SKEWNESS = 0.25
"""Skewness of the difference of the means from which on an interval of 95% covers less than 94%."""
_SKEWNESS_TOGETHER = 0.2
"""The same where it is told from both sides together: a sample shows less skewness than its distribution has."""
_UNEQUAL = 3.0
"""How many times the squared error of one side that of the other may be, so that their skewness nearly cancels in the difference:
without any check intervals of lognormal scores covered 94% to 98% at ratios 0.5 to 0.75, and 91% at ratio 0.8."""
_UNLIKE = 2.0
"""How many times as wide as the other the interquartile range of a side must be, so that the sides differ by more than chance."""
_CLEAR = 2.5
"""A skewness of fewer standard errors than this (of a normal sample's skewness) is taken for noise."""
_CLEAR_TOGETHER = 2.0
"""The same for the skewness of both sides together."""
_CONCENTRATED = 0.25
"""Half the interquartile range in standard deviations (normal: 0.67), up to which the scores of a side are nearly all the same."""
_SKEWNESS_CONCENTRATED = 0.2
"""The same as `_SKEWNESS`, where the scores of a side are nearly all the same."""
_MANY = 8.0
"""Number of observations that the variance of such a side must rest on, so that its few far scores are seen."""
_SHARE = 0.1
"""Share of the squared standard error from which on a side matters."""

NOT_VARYING = "no score varies on either side"
TOO_FEW = f"a side has fewer than {FEWEST} independent subsets"
TOO_SKEWED = "scores are too skewed, or nearly all the same, for so few models"


class Sample(NamedTuple):
    """Independent observations of one side of each pair."""

    values: Float[np.ndarray, "groups pairs"]
    """Deviations from the mean of the side, 0 where a group is not on it."""
    members: Bool[np.ndarray, "groups pairs"]
    """Whether a group is on this side."""
    mean: Float[np.ndarray, " pairs"]
    """Mean score of the models on this side."""
    square: Float[np.ndarray, " pairs"]
    """Squared standard error of the mean."""

    @property
    def number(self) -> Float[np.ndarray, " pairs"]:
        """Number of independent observations."""
        return self.members.sum(axis=0).astype(np.float64)


def welch_interval(inside: Sample, outside: Sample, confidence: float) -> tuple[Interval, np.ndarray]:
    """Interval of the difference of the means, and why it is NaN where it is; an empty string elsewhere.

    It is NaN where the sample shows that it would cover less than it says: too few observations, a difference of means whose
    skewness is above 0.25 (its coverage falls by 0.25 times the square of that, by Hall's expansion), or scores of which nearly
    all are the same and fewer than 8 are far away, such as probabilities near 1. The skewness is told from both sides together,
    as if they had one distribution but for its mean and width, where the squared error of one side is over 3 times that of the
    other; and from each side by itself where their interquartile ranges differ by more than a factor of 2.

    Source: Welch (1947), "The generalization of 'Student's' problem", Biometrika 34; Hall (1988), "Theoretical comparison of
    bootstrap confidence intervals", Annals of Statistics 16, for the coverage of Student's interval.
    """
    square = inside.square + outside.square
    half = -stdtrit(_freedom(inside, outside), (1 - confidence) / 2) * np.sqrt(square)
    difference = inside.mean - outside.mean
    few = np.minimum(inside.number, outside.number) < FEWEST
    untold = _too_skewed(inside, outside, square)
    reason = np.select([few, ~(square > 0), untold], [TOO_FEW, NOT_VARYING, TOO_SKEWED], "")
    half = np.where(reason == "", half, np.nan)
    return Interval(difference - half, difference + half), reason


def _freedom(inside: Sample, outside: Sample) -> Float[np.ndarray, " pairs"]:
    """Degrees of freedom of the Welch-Satterthwaite equation; those of both sides where no side varies."""
    parts = sum(side.square**2 / np.maximum(side.number - 1, 1) for side in (inside, outside))
    varies = parts > 0
    freedom = (inside.square + outside.square) ** 2 / np.where(varies, parts, 1)
    found: Float[np.ndarray, " pairs"]
    found = np.where(varies, freedom, np.maximum(inside.number + outside.number - 2, 1))
    return found


def _too_skewed(inside: Sample, outside: Sample, square: Float[np.ndarray, " pairs"]) -> Bool[np.ndarray, " pairs"]:
    of_mean = [_third_moment(side) / np.maximum(side.number, 1) ** 2 for side in (inside, outside)]
    skewness = np.abs(of_mean[0] - of_mean[1]) / np.where(square > 0, square, np.inf) ** 1.5
    clear, concentrated = np.zeros(square.shape, bool), np.zeros(square.shape, bool)
    for side, other in ((inside, outside), (outside, inside)):
        deviation = _deviation(side)
        matters = side.square > _SHARE * square
        noise = np.sqrt(6 / np.maximum(side.number, 1))
        clear |= matters & (np.abs(_third_moment(side)) > _CLEAR * noise * deviation**3)
        # Of 99% of normal samples it is above 0.67 - 2.2 / sqrt(number).
        concentrated_at = np.clip(0.67 - 2.2 / np.sqrt(np.maximum(side.number, 1)), 0.02, _CONCENTRATED)
        alike = _quartile_range(side) / 2 <= concentrated_at * deviation
        untold = (_number_behind_variance(side) < _MANY) | (skewness > _SKEWNESS_CONCENTRATED)
        # The smaller side may not have shown yet how far its few far scores are.
        concentrated |= alike & untold & (matters | (side.number < other.number))
    wider = _times_as_wide(inside, outside)
    together = _too_skewed_together(inside, outside, wider) | _too_skewed_together(inside, outside, np.ones_like(wider))
    return ((wider != 1) & clear & (skewness > _SKEWNESS)) | concentrated | together


def _times_as_wide(inside: Sample, outside: Sample) -> Float[np.ndarray, " pairs"]:
    """How many times as wide the scores with the example spread as those without; 1 where they differ by less than `_UNLIKE` times."""
    ranges = [np.maximum(_quartile_range(side), 1e-9 * _deviation(side)) for side in (inside, outside)]
    ratio = np.divide(ranges[0], ranges[1], out=np.ones_like(ranges[0]), where=np.minimum(*ranges) > 0)
    found: Float[np.ndarray, " pairs"] = np.where(np.maximum(ratio, 1 / ratio) > _UNLIKE, ratio, 1)
    return found


def _too_skewed_together(
    inside: Sample, outside: Sample, wider: Float[np.ndarray, " pairs"]
) -> Bool[np.ndarray, " pairs"]:
    """Whether the difference of means is too skewed if both sides have one distribution but for its mean and width.

    A small side hides its skewness: many samples of 20 lognormal scores look symmetric, but the 380 on the other side do not.
    Intervals by the side's own skewness covered 74% there, because samples that look symmetric lack the rare high scores.
    """
    skewness = np.zeros(inside.mean.shape)
    for side in (inside, outside):
        cube = _deviation(side) ** 3
        skewness += side.number * np.divide(_third_moment(side), cube, out=np.zeros_like(cube), where=cube > 0)
    number_in, number_out = (np.maximum(side.number, 1) for side in (inside, outside))
    together = number_in + number_out
    skewness = np.abs(skewness) / together
    square_in, square_out = wider**2 / number_in, 1 / number_out
    third = np.abs(wider**3 / number_in**2 - 1 / number_out**2) / (square_in + square_out) ** 1.5
    unequal = np.maximum(square_in, square_out) > _UNEQUAL * np.minimum(square_in, square_out)
    clear = skewness > _CLEAR_TOGETHER * np.sqrt(6 / together)
    found: Bool[np.ndarray, " pairs"] = unequal & clear & (skewness * third > _SKEWNESS_TOGETHER)
    return found


def _deviation(side: Sample) -> Float[np.ndarray, " pairs"]:
    """Standard deviation of the observations; 0 where there are too few."""
    found: Float[np.ndarray, " pairs"] = np.sqrt(np.nan_to_num(np.maximum(side.square * side.number, 0)))
    return found


def _third_moment(side: Sample) -> Float[np.ndarray, " pairs"]:
    """Unbiased third central moment of the observations."""
    number = np.maximum(side.number, 3)
    found: Float[np.ndarray, " pairs"] = (side.values**3).sum(axis=0) * number / ((number - 1) * (number - 2))
    return found


def _number_behind_variance(side: Sample) -> Float[np.ndarray, " pairs"]:
    """Number of observations that make up the sum of squares: all if their deviations are equal, few if a few are far away."""
    squares, fourths = (side.values**2).sum(axis=0), (side.values**4).sum(axis=0)
    found: Float[np.ndarray, " pairs"] = np.where(fourths > 0, squares**2 / np.where(fourths > 0, fourths, 1), 0)
    return found


def _quartile_range(side: Sample) -> Float[np.ndarray, " pairs"]:
    ordered = np.sort(np.where(side.members, side.values, np.inf), axis=0)
    last = np.maximum(side.number.astype(np.intp) - 1, 0)
    low, high = (
        np.take_along_axis(ordered, np.rint(part * last).astype(np.intp)[None, :], axis=0)[0] for part in (0.25, 0.75)
    )
    found: Float[np.ndarray, " pairs"] = np.where(np.isfinite(high), high, 0) - np.where(np.isfinite(low), low, 0)
    return found
