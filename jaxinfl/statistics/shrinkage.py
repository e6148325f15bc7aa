"""Empirical Bayes: what the distribution of all estimates says about each of them.

An estimate over its standard error is close to normal with variance 1 about the true effect in the same unit. From the
histogram of all these statistics the distribution of the true ones is found by maximum likelihood, with no shape assumed,
and each estimate becomes the mean of the true effects that could have given it. Pairs without influence, by far the most,
are drawn to 0; large estimates stay.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinfl.statistics.mixture import fit_mixture

# In standard errors. Beyond the reach an estimate is left as it is.
_BIN = 0.05
_ATOM = 0.1
_REACH = 30.0
# The likelihood is flat near its maximum: twice as many moved posterior means by less than 0.05.
_STEPS = 500
# What a unit of the statistic may be worth, in standard errors.
_MOST_STRETCHED = 3.0


class Prior(NamedTuple):
    """Distribution of the true effects, in standard errors."""

    places: Float[np.ndarray, " atoms"]
    mass: Float[np.ndarray, " atoms"]


def fit_prior(statistic: Float[np.ndarray, " pairs"]) -> Prior:
    """Nonparametric maximum likelihood on a grid of places 0.1 apart, by EM on a histogram; memory O(1) beyond the pairs."""
    edges = np.arange(-_REACH - _BIN / 2, _REACH + _BIN, _BIN)
    number, _ = np.histogram(np.clip(statistic, -_REACH, _REACH), edges)
    used = np.flatnonzero(number)
    if used.size == 0:
        return Prior(np.zeros(1), np.ones(1))
    centres, number = (edges[used] + edges[used + 1]) / 2, number[used]
    first, last = np.floor(min(centres[0], 0) / _ATOM), np.ceil(max(centres[-1], 0) / _ATOM)
    places = np.arange(first, last + 1) * _ATOM
    likelihood = np.exp(-0.5 * (centres[:, None] - places) ** 2)
    return Prior(places, fit_mixture(likelihood, number, np.full(places.size, 1 / places.size), _STEPS))


def posterior_mean(prior: Prior, statistic: Float[np.ndarray, "*pairs"]) -> Float[np.ndarray, "*pairs"]:
    """Mean of the true effects given the statistics, both in standard errors; NaN stays NaN."""
    grid = np.arange(prior.places[0] - 6, prior.places[-1] + 6 + _BIN, _BIN)
    exponent = -0.5 * (grid[:, None] - prior.places) ** 2
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True)) * prior.mass
    mean = weight @ prior.places / weight.sum(axis=1)
    found: Float[np.ndarray, "*pairs"] = np.interp(statistic, grid, mean)
    return np.where(np.abs(statistic) > _REACH, statistic, found)


def shrink(
    estimate: Float[np.ndarray, "rows test"],
    standard_error: Float[np.ndarray, "rows test"],
    statistic: Float[np.ndarray, "rows test"],
) -> Float[np.ndarray, "rows test"]:
    """Posterior mean of each estimate, its prior from all of them; where no score varies nothing is known, nothing changes.

    Args:
      estimate: in the unit of the score.
      standard_error: in that unit.
      statistic: standard normal where there is no influence; the estimate over its standard error, or nearer to normal than
        that. Then a unit of it is worth what the estimate says, within a factor of 3 of the standard error.

    Source: Robbins (1956); Efron (2010), "Large-scale inference", chapter 1; Stephens (2017), Biostatistics 18, whose
    prior is in units of standard errors too when its alpha is 1.
    """
    known = (standard_error > 0) & np.isfinite(statistic)
    usable = np.where(known, statistic, np.nan)
    prior = fit_prior(usable[known])
    agree = known & (estimate * usable > 0)
    unit = np.divide(estimate, usable, out=standard_error.astype(np.float64), where=agree)
    unit = np.clip(unit, standard_error / _MOST_STRETCHED, standard_error * _MOST_STRETCHED)
    near = np.abs(usable) <= _REACH
    return np.where(known & near, posterior_mean(prior, usable) * unit, estimate)
