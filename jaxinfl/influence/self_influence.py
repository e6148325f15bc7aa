"""Memorization of checked scores: the influence of each training example on itself, exactly."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from jaxinfl.influence.counts import count_flags
from jaxinfl.influence.fixed_point import in_units, own_sums, to_fixed_point

# Training examples whose digits are held at once, 32 MB at 1000 models.
_COLUMNS = 4096


class Memorization(NamedTuple):
    """Memorization of every training example, in the unit of the score; NaN where it is in no subset or in all of them."""

    rounded: Float32[np.ndarray, " train"]
    """Self-influence as it is reported, rounded to float32."""
    exact: Float64[np.ndarray, " train"]
    """Self-influence as it is compared: float64 tells fractions of up to a million models apart."""


def compute_memorization(
    masks: Bool[np.ndarray, "models train"],
    score: Bool[np.ndarray, "models train"] | Float32[np.ndarray, "models train"],
) -> Memorization:
    """Memorization from checked masks and train scores, some training examples at a time."""
    num_models, num_train = masks.shape
    exact = np.empty(num_train, np.float64)
    for start in range(0, num_train, _COLUMNS):
        block = slice(start, start + _COLUMNS)
        members, own = masks[:, block], score[:, block]
        num_in = np.asarray(count_flags(members)).astype(np.float64)
        if own.dtype == np.bool_:
            sum_in, sum_all = (np.asarray(count_flags(flags)).astype(np.float64) for flags in (members & own, own))
            unit = np.ones(1)
        else:
            digits = to_fixed_point(own)
            sum_in, sum_all = in_units(own_sums(members, digits.digits)), in_units(np.asarray(digits.totals))
            unit = np.asarray(digits.unit).astype(np.float64)
        exact[block] = difference_of_means(sum_in, sum_all, num_in, num_models) * unit
    return Memorization(exact.astype(np.float32), exact)


def difference_of_means(
    sum_in: Float64[np.ndarray, "..."],
    total: Float64[np.ndarray, "..."],
    num_in: Float64[np.ndarray, "..."],
    num_models: int,
) -> Float64[np.ndarray, "..."]:
    """The mean over the models with an example less that over the others, as one fraction; NaN where either is over no model.

    Args:
      sum_in: sums over the models with the example.
      total: sums over all models, of a shape that broadcasts to that of `sum_in`, as that of `num_in` does.
      num_in: number of models with the example.
      num_models: number of all models.
    """
    numerator = num_models * sum_in - num_in * total
    denominator = np.broadcast_to(num_in * (num_models - num_in), numerator.shape)
    quotient: Float64[np.ndarray, "..."] = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=quotient, where=denominator > 0)
