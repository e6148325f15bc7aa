"""Float scores as integers in two digits, so that their sums over models are exact in whatever order they are taken.

A float32 matrix product rounds in an order that depends on its shape: the rows of a tile of 1 differed in 94% of the
values from the same rows inside a tile of 256 (XLA:CPU, 2000 models). A streamed result would then depend on the tile,
and a pair at a threshold would flip. So each test column is centred, scaled by a power of two to [-1, 1] and written as
`(high + low / 2**13) / 2**13` with integers |high| <= 2**13, |low| <= 2**12, which is 2**-27 of the scale at worst from
the score: less than float32 itself loses. Sums of 2048 such digits stay below 2**24, where float32 is exact, so one
float32 matrix product over both digits gives the exact sums, at twice the cost of the inexact ones.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32

_DIGIT_BITS = 13
_MODELS_PER_SUM = 2 ** (24 - _DIGIT_BITS)  # float32 sums of that many digits are exact
_MAX_MODELS = 2 ** (31 - _DIGIT_BITS) - 1  # int32 sums over all models must not overflow

# Sums of digits over some models: float32 while 24 bits hold them, int32 beyond.
DigitSums = Float32[Array, "rows digits"] | Int32[Array, "rows digits"]


class FixedPoint(NamedTuple):
    """Scores as integers: column `j` holds the high digits of test example j, column `test + j` the low ones."""

    digits: Float32[Array, "models digits"]
    totals: DigitSums  # over all models, one row
    unit: Float32[Array, " test"]  # what one step of a high digit is worth, a power of two


def to_fixed_point(score: Float32[np.ndarray, "models test"]) -> FixedPoint:
    """Centre, scale and round each column of `score` (finite)."""
    if len(score) > _MAX_MODELS:
        raise ValueError(f"score has {len(score)} models; exact sums of float scores take at most {_MAX_MODELS}.")
    lowest, highest = score.min(axis=0), score.max(axis=0)
    # Any constant leaves the influence alone; the middle of the range makes the largest digit smallest.
    centre = lowest / 2 + highest / 2
    # On the host, where frexp and ldexp are exact. The floor keeps 1 / unit finite.
    exponent = np.maximum(np.frexp(np.maximum(highest - centre, centre - lowest))[1], -100) - _DIGIT_BITS
    one = np.float32(1)
    digits = _round_digits(jnp.asarray(score), jnp.asarray(centre), jnp.asarray(np.ldexp(one, -exponent)))
    everyone = jnp.ones((len(score), 1), bool)
    return FixedPoint(digits, sum_digits(everyone, digits), jnp.asarray(np.ldexp(one, exponent)))


def sum_digits(members: Bool[Array, "models rows"], digits: Float32[Array, "models digits"]) -> DigitSums:
    """Exact sums of the digits over the models that are in each of `rows` subsets."""
    sums: Array | None = None
    num_parts = math.ceil(len(members) / _MODELS_PER_SUM)
    for part in range(num_parts):
        models = slice(part * _MODELS_PER_SUM, (part + 1) * _MODELS_PER_SUM)
        # HIGHEST: a GPU may otherwise round the digits to the 11 bits of TF32.
        part_sums = jnp.matmul(
            members[models].astype(jnp.float32).T, digits[models], precision=jax.lax.Precision.HIGHEST
        )
        if num_parts > 1:
            part_sums = part_sums.astype(jnp.int32)
        sums = part_sums if sums is None else sums + part_sums
    assert sums is not None  # there is at least one model
    return sums


def in_units(sums: DigitSums) -> Float32[Array, "rows test"]:
    """Sums of scores from sums of digits, in `unit` and about the centre; rounded once."""
    high, low = jnp.split(sums, 2, axis=1)
    # The product is exact, so a fused multiply-add gives the same bits.
    return high.astype(jnp.float32) + low.astype(jnp.float32) * 2.0**-_DIGIT_BITS


@jax.jit
def _round_digits(
    score: Float32[Array, "models test"], centre: Float32[Array, " test"], scale: Float32[Array, " test"]
) -> Float32[Array, "models digits"]:
    scaled = (score - centre[None, :]) * scale[None, :]
    high = jnp.round(scaled)
    return jnp.concatenate([high, jnp.round((scaled - high) * 2.0**_DIGIT_BITS)], axis=1)
