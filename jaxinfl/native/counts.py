"""Joint counts by a native kernel, on all cores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32

from jaxinfl.native.library import foreign_function


def joint_counts(
    left: Bool[Array, "models rows"], right: Bool[Array, "models columns"]
) -> Int32[Array, "rows columns"]:
    """Number of models with flag i of `left` and flag j of `right`, exactly."""
    shape = jax.ShapeDtypeStruct((left.shape[1], right.shape[1]), jnp.int32)
    counts: Array = foreign_function("joint_counts", shape)(left, right)
    return counts


__all__ = ["joint_counts"]
