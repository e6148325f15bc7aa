"""Embeddings whose gradient needs no scattered sums, which a graphics card adds up in any order, or slowly in a fixed one.

XLA's gradient of a lookup scatters rows into the table. With the option for deterministic operations (`training/programs.py`) it sorts
them and adds them up in steps: 122 launches of 236 in a training step of the transformer, and an eighth of its bytes (compiled for
an H100, 128 models at once). A product with the one-hot matrix of the numbers has a fixed order at no such cost, while categories are few.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxinfl.models.layers.context import current_context

_MOST_ROWS = 4096
"""Rows of a table beyond which the one-hot matrix would take longer than the sorted sums."""


class Embed(nnx.Embed):
    """`flax.nnx.Embed`; on accelerators the gradient of a small table is a product."""

    def __call__(self, inputs: Array, *args: Any, **options: Any) -> Array:
        """Embed integers along a new last axis."""
        small = 1 < self.num_embeddings <= _MOST_ROWS and jnp.issubdtype(inputs.dtype, jnp.integer)
        if current_context().platform == "cpu" or not small or args or options:
            plain: Array = super().__call__(inputs, *args, **options)
            return plain
        (table,) = self.promote_dtype((self.embedding[...],), dtype=self.dtype, inexact=False)
        return _look_up(table, inputs)


@jax.custom_vjp
def _look_up(table: Float[Array, "rows features"], index: Int[Array, "..."]) -> Float[Array, "... features"]:
    return jnp.take(table, index, axis=0)


def _forward(table: Array, index: Array) -> tuple[Array, tuple[Array, int]]:
    return _look_up(table, index), (index, len(table))


def _backward(saved: tuple[Array, int], grad: Array) -> tuple[Array, None]:
    index, rows = saved
    one_hot = jax.nn.one_hot(index.reshape(-1), rows, dtype=grad.dtype)
    return one_hot.T @ grad.reshape(-1, grad.shape[-1]), None


_look_up.defvjp(_forward, _backward)


__all__ = ["Embed"]
