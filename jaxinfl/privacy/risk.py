"""The risk of single examples: how often, and how far, models that saw an example are told from models that did not."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from jaxinfl.statistics.proportions import normal_quantile

_HALVINGS = 60
"""Number of times that the interval in which a limit is looked for is halved."""


class Risk(NamedTuple):
    """The risk of each example; NaN where no target saw it, or all did."""

    told_apart: Float[np.ndarray, " examples"]
    """Probability that a target that saw the example gets a higher score than one that did not; ties count half, and 0.5 is chance."""
    low: Float[np.ndarray, " examples"]
    high: Float[np.ndarray, " examples"]
    """Limits of its interval (Newcombe 2006, method 5)."""
    distance: Float[np.ndarray, " examples"]
    """Difference of the mean scores of both kinds of targets, in standard deviations of those that did not see it."""
    num_in: Int[np.ndarray, " examples"]
    """Number of targets that saw the example and have a score."""
    num_out: Int[np.ndarray, " examples"]
    """Number of targets that did not, and have one."""


def measure_risk(
    score: Float[np.ndarray, "targets examples"], member: Bool[np.ndarray, "targets examples"], confidence: float
) -> Risk:
    """Measure the risk of each example over the targets."""
    told = ~np.isnan(score)
    inside, outside = told & member, told & ~member
    num_in, num_out = inside.sum(axis=0), outside.sum(axis=0)
    ranks = rankdata(np.where(told, score, np.inf), axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        above = np.where(inside, ranks, 0.0).sum(axis=0) - num_in * (num_in + 1) / 2
        share = np.where((num_in > 0) & (num_out > 0), above / (num_in * num_out), np.nan)
        means = [np.where(kind, score, 0.0).sum(axis=0) / kind.sum(axis=0) for kind in (inside, outside)]
        square = np.square(np.where(outside, score - means[1], 0.0)).sum(axis=0)
        distance = (means[0] - means[1]) / np.sqrt(square / (num_out - 1))
    low, high = _limits(share, num_in, num_out, confidence)
    return Risk(share, low, high, np.where(np.isfinite(distance), distance, np.nan), num_in, num_out)


def _limits(
    share: Float[np.ndarray, " examples"],
    num_in: Int[np.ndarray, " examples"],
    num_out: Int[np.ndarray, " examples"],
    confidence: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the probability that one sample exceeds another.

    They are the probabilities whose distance from the share is the normal quantile times the standard error that Hanley and McNeil
    (1982) give for them, so that they stay inside of 0 and 1.

    Source: Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics
    in Medicine 25, method 5.
    """
    quantile = normal_quantile(confidence)
    total = num_in + num_out

    def error(probability: np.ndarray) -> np.ndarray:
        star = total / 2 - 1
        rest = 1 - probability
        inner = 1 + star * (rest / (2 - probability) + probability / (1 + probability))
        deviation: np.ndarray = np.sqrt(probability * rest * inner / (num_in * num_out))
        return deviation

    limits = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for end in (0.0, 1.0):
            near, far = share.copy(), np.full_like(share, end)
            for _ in range(_HALVINGS):
                middle = (near + far) / 2
                within = np.abs(share - middle) <= quantile * error(middle)
                near, far = np.where(within, middle, near), np.where(within, far, middle)
            limits.append(np.where(np.isnan(share), np.nan, (near + far) / 2))
    return limits[0], limits[1]


__all__ = ["Risk", "measure_risk"]
