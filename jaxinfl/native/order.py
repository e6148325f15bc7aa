"""The order of random words by a native kernel.

It takes 2 us for 456 words, 5 for 1437 and 175 for 50,000 on one core of an AMD EPYC. XLA's sort takes 45, 325 and 10,000.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt32

from jaxinfl.native.library import foreign_function


def stable_order(words: UInt32[Array, " words"]) -> Int32[Array, " words"]:
    """Indices of the words from the lowest to the highest; equal words keep their order."""
    order: Array = foreign_function("stable_order", jax.ShapeDtypeStruct(words.shape, jnp.int32))(words)
    return order


__all__ = ["stable_order"]
