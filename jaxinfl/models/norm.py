"""Batch norm that leaves padding out of its statistics.

The last batch of an epoch is padded to the static shape that a compiled step needs. With the padding weighted out of
the loss alone, batch norm would still average over it, and an example outside the subset could move weights.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

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

    Same parameters, statistics and definition: biased variance, running averages with weight `1 - momentum`. Computed
    in float32; the result has the input's dtype, so that a bfloat16 network stays one.
    """

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        averaged = self.use_running_average if use_running_average is None else use_running_average
        current = None if averaged else _batch_mask.get()
        if current is not None and len(current) != len(x):
            raise ValueError(
                f"batch norm gets {len(x)} rows in a batch of {len(current)} images, so it cannot leave out those that "
                "only fill the batch up. Keep the batch axis first and whole: normalize before reshaping it away."
            )
        if self.axis not in (-1, x.ndim - 1) or self.axis_name is not None or mask is not None:
            if mask is None and current is not None:
                mask = jnp.broadcast_to(current.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape)
            return super().__call__(x, use_running_average, mask=mask)
        values = x.astype(jnp.float32)
        if averaged:
            mean, variance = self.mean[...], self.var[...]
        else:
            mean, variance = _moments(values, current)
            self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
            self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * variance
        factor = jax.lax.rsqrt(variance + self.epsilon)
        if self.scale is not None:
            factor = factor * self.scale[...].astype(jnp.float32)
        offset = -mean * factor
        if self.bias is not None:
            offset = offset + self.bias[...].astype(jnp.float32)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return (values * factor.reshape(shape) + offset.reshape(shape)).astype(x.dtype)


def _moments(
    x: Float[Array, "batch *rest c"], mask: Bool[Array, " batch"] | None
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of each channel over the counted examples and all positions."""
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        return jnp.mean(x, axes), jnp.var(x, axes)
    counted = mask.reshape((-1,) + (1,) * (x.ndim - 1))
    number = jnp.sum(mask, dtype=jnp.float32) * math.prod(x.shape[1:-1])
    mean = jnp.sum(jnp.where(counted, x, 0), axes) / number
    centred = jnp.where(counted, x - mean.reshape((1,) * (x.ndim - 1) + (-1,)), 0)
    return mean, jnp.sum(centred * centred, axes) / number


__all__ = ["MaskedBatchNorm", "batch_mask"]
