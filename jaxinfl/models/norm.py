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

from jaxinfl.models.conv import NativeConvolution, with_native_convolution
from jaxinfl.models.lowering import uses_native
from jaxinfl.models.normalize import normalize, relu_of_normalized_conv, standardized

_batch_mask: contextvars.ContextVar[Array | None] = contextvars.ContextVar("jaxinfl_batch_mask", default=None)


@contextlib.contextmanager
def batch_mask(mask: Bool[Array, " batch"] | None) -> Iterator[None]:
    """Inside this block, batch norm counts only the examples where `mask` is true (all, where it is None)."""
    token = _batch_mask.set(mask)
    try:
        yield
    finally:
        _batch_mask.reset(token)


_by_averages: contextvars.ContextVar[bool] = contextvars.ContextVar("jaxinfl_by_averages", default=False)


@contextlib.contextmanager
def batch_norm_by_averages() -> Iterator[None]:
    """Inside this block, batch norm takes its running averages in training, too, so that it couples no examples."""
    token = _by_averages.set(True)
    try:
        yield
    finally:
        _by_averages.reset(token)


class MaskedBatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` that reads the mask of the current batch; `jaxinfl.models.model` puts it in its place.

    Same parameters, statistics and definition: biased variance, running averages with weight `1 - momentum`. Computed
    in float32; the result has the input's dtype, so that a bfloat16 network stays one.
    """

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        averaged = self.use_running_average if use_running_average is None else use_running_average
        averaged = averaged or _by_averages.get()
        current = None if averaged else self._current_mask(x)
        if not self._is_plain(x) or mask is not None:
            if mask is None and current is not None:
                mask = jnp.broadcast_to(current.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape)
            return super().__call__(x, averaged, mask=mask)
        values = x.astype(jnp.float32)
        scale, bias = self._scale_and_bias(x.shape[-1])
        if averaged:
            result = standardized(values, self.mean[...], self.var[...], scale, bias, self.epsilon)
        else:
            counted = jnp.ones(len(x), bool) if current is None else current
            result, mean, variance = normalize(values, counted, scale, bias, self.epsilon, uses_native(x))
            self._remember(mean, variance, counted, math.prod(x.shape[1:-1]))
        return result.astype(x.dtype)

    def relu_of(self, conv: NativeConvolution) -> Array | None:
        """ReLU of the convolution normalized, in fewer passes over memory; None where that is not written by hand."""
        x = conv.result
        if self.use_running_average or _by_averages.get() or not self._is_plain(x):
            return None
        current = self._current_mask(x)
        counted = jnp.ones(len(x), bool) if current is None else current
        window = (conv.strides, conv.padding)
        scale_and_bias = self._scale_and_bias(x.shape[-1])
        result, mean, variance = relu_of_normalized_conv(
            conv.images, conv.kernel, counted, *scale_and_bias, *window, self.epsilon
        )
        self._remember(mean, variance, counted, math.prod(x.shape[1:-1]))
        return result

    def _is_plain(self, x: Array) -> bool:
        return self.axis in (-1, x.ndim - 1) and self.axis_name is None

    def _current_mask(self, x: Array) -> Array | None:
        current = _batch_mask.get()
        if current is not None and len(current) != len(x):
            raise ValueError(
                f"batch norm gets {len(x)} rows in a batch of {len(current)} images, so it cannot leave out those that "
                "only fill the batch up. Keep the batch axis first and whole: normalize before reshaping it away."
            )
        return current

    def _scale_and_bias(self, channels: int) -> tuple[Array, Array]:
        scale = jnp.ones(channels) if self.scale is None else self.scale[...].astype(jnp.float32)
        bias = jnp.zeros(channels) if self.bias is None else self.bias[...].astype(jnp.float32)
        return scale, bias

    def _remember(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        """Take the statistics of a batch, over `positions` of each counted example, into the running averages."""
        # By `set_value`: an assignment to [...] asks a tracer for its sharding, and JAX composes a long error message.
        self.mean.set_value(self.momentum * self.mean[...] + (1 - self.momentum) * mean)
        self.var.set_value(self.momentum * self.var[...] + (1 - self.momentum) * variance)


def conv_norm_relu(
    conv: nnx.Conv, norm: nnx.BatchNorm, x: Float[Array, "batch h w c"]
) -> Float[Array, "batch out_h out_w features"]:
    """`jax.nn.relu(norm(conv(x)))`, which trains on a CPU in fewer passes over memory (`relu_of_normalized_conv`).

    Any layers are taken: where the three are not written by hand together (a convolution with a bias, evaluation, other
    numbers than float32, a GPU), they are computed one by one.
    """
    y, convolution = with_native_convolution(lambda: conv(x))
    if isinstance(norm, MaskedBatchNorm) and convolution is not None:
        result = norm.relu_of(convolution)
        if result is not None:
            return result
    return jax.nn.relu(norm(y))


__all__ = ["MaskedBatchNorm", "batch_mask", "batch_norm_by_averages", "conv_norm_relu"]
