"""Batch norm that leaves padding out of its statistics.

The last batch of an epoch is padded to the static shape that a compiled step needs. With the padding weighted out of
the loss alone, batch norm would still average over it, and an example outside the subset could move weights.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxinfl import native
from jaxinfl.models.lowering import uses_native

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
        scale = jnp.ones(x.shape[-1]) if self.scale is None else self.scale[...].astype(jnp.float32)
        bias = jnp.zeros(x.shape[-1]) if self.bias is None else self.bias[...].astype(jnp.float32)
        if averaged:
            result = _standardized(values, self.mean[...], self.var[...], scale, bias, self.epsilon)
        else:
            counted = jnp.ones(len(x), bool) if current is None else current
            result, mean, variance = normalize(values, counted, scale, bias, self.epsilon, uses_native(x))
            self._remember(mean, variance, counted, math.prod(x.shape[1:-1]))
        return result.astype(x.dtype)

    def _remember(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        """Take the statistics of a batch, over `positions` of each counted example, into the running averages."""
        # By `set_value`: an assignment to [...] asks a tracer for its sharding, and JAX composes a long error message.
        self.mean.set_value(self.momentum * self.mean[...] + (1 - self.momentum) * mean)
        self.var.set_value(self.momentum * self.var[...] + (1 - self.momentum) * variance)


Statistics = tuple[Float[Array, " c"], Float[Array, " c"]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalize(
    x: Float[Array, "batch *rest c"],
    counted: Bool[Array, " batch"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    by_hand: bool,
) -> tuple[Float[Array, "batch *rest c"], Float[Array, " c"], Float[Array, " c"]]:
    """`x` with mean 0 and variance 1 a channel over the counted examples, scaled and shifted; mean and biased variance.

    The gradient is written out (Ioffe and Szegedy, 2015, section 3): it needs two sums a channel, where the gradient of
    each operation in turn takes five passes over the activations. None flows through the returned mean and variance.
    `by_hand` takes the sums from `jaxinfl.native`.
    """
    mean, variance = native.channel_moments(x, counted) if by_hand else _moments(x, counted)
    return _standardized(x, mean, variance, scale, bias, epsilon), mean, variance


def _normalize_forward(
    x: Array, counted: Array, scale: Array, bias: Array, epsilon: float, by_hand: bool
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    result, mean, variance = normalize(x, counted, scale, bias, epsilon, by_hand)
    return (result, mean, variance), (x, counted, scale, mean, variance)


def _normalize_backward(
    epsilon: float, by_hand: bool, saved: tuple[Array, ...], grads: tuple[Array, Array, Array]
) -> tuple[Array, None, Array, Array]:
    x, counted, scale, mean, variance = saved
    grad, last = grads[0], (1,) * (x.ndim - 1) + (-1,)
    if by_hand:
        total, product = native.channel_products(grad, x, mean)
    else:
        axes = tuple(range(x.ndim - 1))
        total, product = jnp.sum(grad, axes), jnp.sum(grad * (x - mean.reshape(last)), axes)
    inverse = lax.rsqrt(variance + epsilon)
    share = _share(x, counted)
    # Through mean and variance, the counted examples alone.
    shift, slope = total * share, product * inverse**2 * share
    common = shift.reshape(last) + slope.reshape(last) * (x - mean.reshape(last))
    common = jnp.where(counted.reshape((-1,) + (1,) * (x.ndim - 1)), common, 0)
    return (grad - common) * (scale * inverse).reshape(last), None, product * inverse, total


normalize.defvjp(_normalize_forward, _normalize_backward)


def _standardized(x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    shape = (1,) * (x.ndim - 1) + (-1,)
    factor = lax.rsqrt(variance + epsilon) * scale
    return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)


def _moments(x: Float[Array, "batch *rest c"], counted: Bool[Array, " batch"]) -> Statistics:
    """Mean and biased variance of each channel over the counted examples and all positions."""
    axes = tuple(range(x.ndim - 1))
    rows = counted.reshape((-1,) + (1,) * (x.ndim - 1))
    share = _share(x, counted)
    mean = jnp.sum(jnp.where(rows, x, 0), axes) * share
    centred = jnp.where(rows, x - mean.reshape((1,) * (x.ndim - 1) + (-1,)), 0)
    return mean, jnp.sum(centred * centred, axes) * share


def _share(x: Float[Array, "batch *rest c"], counted: Bool[Array, " batch"]) -> Float[Array, ""]:
    """Of one position of one counted example in a mean over all of them.

    To multiply by: of a division by a number of the run XLA makes this itself for several devices and not for one, and the
    last bits would depend on their number.
    """
    return 1 / (jnp.sum(counted, dtype=jnp.float32) * math.prod(x.shape[1:-1]))


__all__ = ["MaskedBatchNorm", "batch_mask", "normalize"]
