"""Pairs that reach thresholds in two estimates, counted on all cores by kernels written by hand.

Call these functions with 64-bit types on (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, Int64, Num

from jaxinfl.native.library import foreign_function

Given = Array | np.ndarray

OVERLAP_DTYPES = ("int32", "float32")
"""Types of an estimate that the kernel is compiled for."""


def overlap_counts(
    a: Num[Array, "rows test"],
    b: Num[Array, "rows test"],
    limits_a: Num[Array, "rows_a limits"],
    limits_b: Num[Array, "rows_b limits"],
) -> Int64[Array, "2 limits"]:
    """Number of pairs that reach each threshold in both estimates (row 0), and in one or both (row 1).

    Args:
      a, b: two estimates, int32 or float32 each. A pair takes no part where either is undefined: NaN, or the lowest int32.
      limits_a, limits_b: the value that `a` and `b` reach at each threshold, in their dtypes. The thresholds rise along a row;
        there is one row for each row of the estimate, or one row for all.
    """
    shape = jax.ShapeDtypeStruct((2, limits_a.shape[1]), jnp.int64)
    counts: Array = foreign_function(f"overlap_{a.dtype}_{b.dtype}", shape)(a, b, limits_a, limits_b)
    return counts


class Population(NamedTuple):
    """Models whose influences are compared as whole numbers."""

    masks: Bool[Given, "models train"]
    correct: Bool[Given, "models test"]
    num_in: Int32[Given, " train"]
    """Number of models that were trained on each training example."""
    num_right: Int32[Given, " test"]
    """Number of models that are right on each test example."""
    limits: Int32[Given, "train limits"]
    """The numerator that an influence has at each threshold: models * right_in - num_in * num_right. The thresholds rise."""


def overlap_of_models(a: Population, b: Population) -> Int64[Array, "2 limits"]:
    """`overlap_counts` of the influences from 0-1 scores of two populations, which are not stored; of 92,681 models at most."""
    shape = jax.ShapeDtypeStruct((2, a.limits.shape[1]), jnp.int64)
    counts: Array = foreign_function("overlap_of_models", shape)(*a, *b)
    return counts


__all__ = ["OVERLAP_DTYPES", "Population", "overlap_counts", "overlap_of_models"]
