"""A random order of examples by a native kernel, which draws the very bits that `jax.random.bits` draws.

XLA's random bits and its sort were more than half of a small model's step. With 456 examples they took 49 us an epoch on one core
of an AMD EPYC, and the kernel takes 3.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, PRNGKeyArray

from jaxinfl.native.library import foreign_function


def draws_as_jax(key: PRNGKeyArray) -> bool:
    """Whether the kernel draws what JAX draws: from keys of JAX's usual kind, counted in its usual way."""
    settings: Any = jax.config  # Some releases of JAX have no types for its settings.
    return bool(settings.jax_threefry_partitionable) and str(jax.random.key_impl(key)) == "threefry2x32"


def random_order(key: PRNGKeyArray, included: Bool[Array, " examples"]) -> Int32[Array, " examples"]:
    """Indices of the included examples in a random order, and then those of the others.

    It is the stable order of the words `bits >> 1`, with the highest bit set where an example is not included, of
    `bits = jax.random.bits(key, examples, uint32)`.
    """
    shape = jax.ShapeDtypeStruct(included.shape, jnp.int32)
    order: Array = foreign_function("random_order", shape)(jax.random.key_data(key), included)
    return order


__all__ = ["draws_as_jax", "random_order"]
