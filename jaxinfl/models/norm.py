"""Batch norm that leaves padding out of its statistics.

The last batch of an epoch is padded to the static shape that a compiled step needs. With the padding weighted out of
the loss alone, batch norm would still average over it, and an example outside the subset could move weights.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

_batch_mask: contextvars.ContextVar[Array | None] = contextvars.ContextVar("jaxinfl_batch_mask", default=None)


@contextlib.contextmanager
def batch_mask(mask: Bool[Array, " batch"] | None) -> Iterator[None]:
    """Inside this block, batch norm counts only the examples where `mask` is true (all, where it is None)."""
    token = _batch_mask.set(mask)
    try:
        yield
    finally:
        _batch_mask.reset(token)


class MaskedBatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` that reads the mask of the current batch; `jaxinfl.models.model` puts it in its place.

    Same parameters, statistics and definition: biased variance, running averages with weight `1 - momentum`.
    """

    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        averaged = self.use_running_average if use_running_average is None else use_running_average
        current = _batch_mask.get()
        if mask is None and current is not None and not averaged:
            mask = current.reshape((-1,) + (1,) * (x.ndim - 1))
            mask = jnp.broadcast_to(mask, x.shape)
        return super().__call__(x, use_running_average, mask=mask)


__all__ = ["MaskedBatchNorm", "batch_mask"]
