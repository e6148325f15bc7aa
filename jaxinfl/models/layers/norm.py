"""Batch norm that leaves padding out of its statistics, alone and as one with a convolution and a ReLU.

The last batch of an epoch is padded to the static shape that a compiled step needs. With the padding weighted out of
the loss alone, batch norm would still average over it, and an example outside the subset could move weights.

Everything about normalization is in this file. The layers read their parameters and the context, and keep running averages.
Below them are the functions that compute, each with its gradient. The kernels' sums are in `native/norm.py`.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxinfl import native
from jaxinfl.models.layers.context import current_context, uses_native
from jaxinfl.models.layers.conv import read_convolution

Sums = Literal["native", "apart", "together"]
"""How two sums over all activations of a channel are taken: by the native kernels, one after the other, or as one reduction."""
Statistics = tuple[Float[Array, " c"], Float[Array, " c"]]
"""Mean and biased variance of each channel."""


def conv_norm_relu(
    conv: nnx.Conv, norm: nnx.BatchNorm, x: Float[Array, "batch h w c"]
) -> Float[Array, "batch out_h out_w features"]:
    """`jax.nn.relu(norm(conv(x)))`, which the native kernels train in fewer passes over memory.

    A module that calls this states that the three are one. Any layers are taken. They are computed one by one where the
    native kernels do not compute the three together: for a convolution with a bias, in evaluation, with other kernels or
    dtypes, and for layers outside of jaxinfl or subclasses of `nnx.Conv`.
    """
    convolution = read_convolution(conv, x)
    if convolution is None or convolution.bias is not None or not isinstance(norm, BatchNorm):
        return jax.nn.relu(norm(conv(x)))
    if norm.takes_averages() or not norm.is_per_channel(x.ndim):
        return jax.nn.relu(norm(conv(x)))
    images, kernel, _, strides, padding = convolution
    counted = norm.counted_examples(len(images))
    scale, bias = norm.scale_and_bias(kernel.shape[-1])
    result, mean, variance = relu_of_normalized_conv(
        images, kernel, counted, scale, bias, strides, padding, norm.epsilon
    )
    norm.update_averages(mean, variance, counted, math.prod(result.shape[1:-1]))
    return result


class BatchNorm(nnx.BatchNorm):
    """Batch norm that counts only the examples that the context counts; `jaxinfl.models.module` puts it for `nnx.BatchNorm`.

    Parameters, statistics and definition are those of `nnx.BatchNorm`: biased variance, running averages with weight
    `1 - momentum`. It computes in float32; the result has the input's dtype, so that a bfloat16 network stays one.
    """

    def __call__(self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None) -> Array:
        averages = self.takes_averages(use_running_average)
        if not self.is_per_channel(x.ndim) or mask is not None:
            if mask is None and not averages and current_context().counted is not None:
                counted = self.counted_examples(len(x))
                mask = jnp.broadcast_to(counted.reshape((-1,) + (1,) * (x.ndim - 1)), x.shape)
            return super().__call__(x, averages, mask=mask)
        values = x.astype(jnp.float32)
        scale, bias = self.scale_and_bias(x.shape[-1])
        if averages:
            result = standardize(values, self.mean[...], self.var[...], scale, bias, self.epsilon)
        else:
            counted = self.counted_examples(len(x))
            result, mean, variance = normalize(values, counted, scale, bias, self.epsilon, choose_sums(x))
            self.update_averages(mean, variance, counted, math.prod(x.shape[1:-1]))
        return result.astype(x.dtype)

    def takes_averages(self, use_running_average: bool | None = None) -> bool:
        """Whether a call with this argument normalizes by the running averages, and not by the batch."""
        asked = self.use_running_average if use_running_average is None else use_running_average
        return bool(asked or current_context().running_averages)

    def is_per_channel(self, ndim: int) -> bool:
        """Whether inputs of `ndim` axes are normalized along the last one, on one device."""
        return self.axis in (-1, ndim - 1) and self.axis_name is None

    def counted_examples(self, batch: int) -> Bool[Array, " batch"]:
        """The examples of a batch of this size that count.

        Raises:
          ValueError: the batch has another size than that of the forward pass.
        """
        return check_rows(current_context().counted, batch)

    def scale_and_bias(self, channels: int) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """The learned scale and bias in float32; 1 and 0 where the layer has none."""
        scale = jnp.ones(channels) if self.scale is None else self.scale[...].astype(jnp.float32)
        bias = jnp.zeros(channels) if self.bias is None else self.bias[...].astype(jnp.float32)
        return scale, bias

    def update_averages(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        """Take the statistics of a batch, over `positions` of each counted example, into the running averages."""
        # `set_value` is faster: an assignment to [...] asks a tracer for its sharding, and JAX composes a long error message.
        self.mean.set_value(self.momentum * self.mean[...] + (1 - self.momentum) * mean)
        self.var.set_value(self.momentum * self.var[...] + (1 - self.momentum) * variance)


def check_rows(counted: Bool[Array, " batch"] | None, batch: int) -> Bool[Array, " rows"]:
    """Return the examples of a batch of this size that count; all of them where `counted` is None.

    Raises:
      ValueError: the batch has another size than that of the forward pass.
    """
    if counted is None:
        return jnp.ones(batch, bool)
    if len(counted) != batch:
        raise ValueError(
            f"batch norm gets {batch} rows in a batch of {len(counted)} images, so it cannot leave out those that "
            "only fill the batch up. Keep the batch axis first and whole: normalize before reshaping it away."
        )
    return counted


class TorchBatchNorm(BatchNorm):
    """Batch norm like `torch.nn.BatchNorm2d`, with its momentum of 0.1, which Flax calls 0.9.

    The running variance is unbiased: n / (n - 1) times the variance that normalizes, where n is the number of values of a
    channel in the batch. PyTorch refuses n = 1; here such a batch (one example, one position) has variance 0.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=0.9, epsilon=epsilon, rngs=rngs)

    def update_averages(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        """Update the running averages like `BatchNorm`, but with the unbiased variance."""
        super().update_averages(mean, unbiased_variance(variance, counted, positions), counted, positions)


class SonnetBatchNorm(BatchNorm):
    """Batch norm like `sonnet.BatchNorm`: running averages start from nothing, so their first value is the first batch's.

    After t batches the weights of the batches are `momentum^(t - k)`, divided by their sum (Kingma and Ba, 2015,
    section 3, call it bias correction). The running variance is unbiased, as TensorFlow's fused batch norm gives it.
    """

    def __init__(self, features: int, *, momentum: float = 0.999, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=momentum, epsilon=epsilon, rngs=rngs)
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.float32))

    def update_averages(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        """Weigh the batch as the class says, with the unbiased variance."""
        batches = self.batches[...] + 1
        # 1 - momentum^t without the cancellation that would make the first batch's weight 1.0001.
        weight = (1 - self.momentum) / -jnp.expm1(batches * math.log(self.momentum))
        variance = unbiased_variance(variance, counted, positions)
        self.batches.set_value(batches)
        self.mean.set_value(self.mean[...] + weight * (mean - self.mean[...]))
        self.var.set_value(self.var[...] + weight * (variance - self.var[...]))


def unbiased_variance(
    variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
) -> Float[Array, " c"]:
    """The unbiased variance from the biased one over all positions of the counted examples."""
    number = jnp.sum(counted, dtype=jnp.float32) * positions
    return variance * (number / jnp.maximum(number - 1, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def normalize(
    x: Float[Array, "batch *rest c"],
    counted: Bool[Array, " batch"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    sums: Sums,
) -> tuple[Float[Array, "batch *rest c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalize each channel over the counted examples, scale and shift it; return it with its mean and biased variance.

    The gradient is written out (Ioffe and Szegedy, 2015, section 3). It needs two sums for each channel, where the gradients
    of single operations take five passes over the activations. None flows through the returned mean and variance.
    """
    mean, variance = _moments(x, counted, sums)
    return standardize(x, mean, variance, scale, bias, epsilon), mean, variance


def _normalize_forward(
    x: Array, counted: Array, scale: Array, bias: Array, epsilon: float, sums: Sums
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    result, mean, variance = normalize(x, counted, scale, bias, epsilon, sums)
    return (result, mean, variance), (x, counted, scale, mean, variance)


def _normalize_backward(
    epsilon: float, sums: Sums, saved: tuple[Array, ...], grads: tuple[Array, Array, Array]
) -> tuple[Array, None, Array, Array]:
    x, counted, scale, mean, variance = saved
    grad, last = grads[0], (1,) * (x.ndim - 1) + (-1,)
    inverse = lax.rsqrt(variance + epsilon)
    if sums == "native":
        uncut = jnp.full_like(mean, jnp.inf)
        norm = native.Normalization(x, counted, scale * inverse, uncut, mean)
        grad_sum, product = native.channel_products(grad, norm)
    else:
        grad_sum, product = _sum_both(grad, grad * (x - mean.reshape(last)), sums)
    shift, slope = _gradient_through_moments(grad_sum, product, inverse, _share(x, counted))
    common = shift.reshape(last) + slope.reshape(last) * (x - mean.reshape(last))
    # Through mean and variance, the counted examples alone.
    common = jnp.where(counted.reshape((-1,) + (1,) * (x.ndim - 1)), common, 0)
    return (grad - common) * (scale * inverse).reshape(last), None, product * inverse, grad_sum


normalize.defvjp(_normalize_forward, _normalize_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def relu_of_normalized_conv(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs c"],
    counted: Bool[Array, " batch"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    epsilon: float,
) -> tuple[Float[Array, "batch out_h out_w c"], Float[Array, " c"], Float[Array, " c"]]:
    """The ReLU of the normalized convolution of the images by the native kernels; then the convolution's mean and variance.

    Activations of a batch do not fit in a cache, and each pass over them waits for memory. This takes five passes: the
    convolution with its moments, the normalization with ReLU, the two sums of the gradient, and the two gradients of the
    convolution. The last three also compute the gradients of ReLU and of the normalization, a part at a time. One by one the
    layers take eight passes. A training step of 32-64-128 channels on 32x32x3 images takes 9% less time (2 cores, AVX-512,
    30 turns).
    """
    return _fused_forward(images, kernel, counted, scale, bias, strides, padding, epsilon)[0]


def _fused_forward(
    images: Array,
    kernel: Array,
    counted: Array,
    scale: Array,
    bias: Array,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    epsilon: float,
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    x, mean, variance = native.conv_with_moments(images, kernel, counted, strides, padding)
    result = jax.nn.relu(standardize(x, mean, variance, scale, bias, epsilon))
    return (result, mean, variance), (images, kernel, x, counted, scale, bias, mean, variance)


def _fused_backward(
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    epsilon: float,
    saved: tuple[Array, ...],
    grads: tuple[Array, Array, Array],
) -> tuple[Array, Array, None, Array, Array]:
    images, kernel, x, counted, scale, bias, mean, variance = saved
    inverse = lax.rsqrt(variance + epsilon)
    norm = native.Normalization(x, counted, *_factor_and_offset(mean, variance, scale, bias, epsilon), mean)
    grad_sum, product = native.channel_products(grads[0], norm)
    through = _gradient_through_moments(grad_sum, product, inverse, _share(x, counted))
    images_grad, kernel_grad = native.normalized_conv_grads(images, kernel, strides, padding, grads[0], norm, through)
    return images_grad, kernel_grad, None, product * inverse, grad_sum


relu_of_normalized_conv.defvjp(_fused_forward, _fused_backward)


def _gradient_through_moments(grad_sum: Array, product: Array, inverse: Array, share: Array) -> tuple[Array, Array]:
    """The gradient through mean and variance as a line over x - mean: its value at 0 and its slope.

    Its unit is `scale * inverse`.
    """
    return grad_sum * share, product * inverse**2 * share


def standardize(x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Bring each channel of `x` from the given mean and variance to 0 and 1, then scale and shift it."""
    last = (1,) * (x.ndim - 1) + (-1,)
    factor, offset = _factor_and_offset(mean, variance, scale, bias, epsilon)
    return x * factor.reshape(last) + offset.reshape(last)


def _factor_and_offset(mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array]:
    """The factor and the offset of each channel that standardize, scale and shift it at once."""
    factor = lax.rsqrt(variance + epsilon) * scale
    return factor, bias - mean * factor


def choose_sums(x: Array) -> Sums:
    """Choose how the sums over these activations are taken in the context."""
    if uses_native(x):
        return "native"
    return "apart" if current_context().platform == "cpu" else "together"


def _moments(x: Float[Array, "batch *rest c"], counted: Bool[Array, " batch"], sums: Sums) -> Statistics:
    """Mean and biased variance of each channel over the counted examples and all positions."""
    if sums == "native":
        moments: Statistics = native.channel_moments(x, counted)
        return moments
    share, rows = _share(x, counted), counted.reshape((-1,) + (1,) * (x.ndim - 1))
    if sums == "together":
        return _moments_in_one_pass(x, rows, share)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.sum(jnp.where(rows, x, 0), axes) * share
    centred = jnp.where(rows, x - mean.reshape((1,) * (x.ndim - 1) + (-1,)), 0)
    return mean, jnp.sum(centred * centred, axes) * share


def _moments_in_one_pass(x: Float[Array, "batch *rest c"], rows: Array, share: Float[Array, ""]) -> Statistics:
    """Both moments around one value of each channel, for which the activations are read once.

    The value is the first one of a counted example. It is about as far from the mean as any other, so that the difference of the two
    squares loses few digits (Chan, Golub and LeVeque, 1983).
    """
    origin = x[jnp.argmax(rows.reshape(-1))].reshape(-1, x.shape[-1])[0]
    centred = jnp.where(rows, x - origin.reshape((1,) * (x.ndim - 1) + (-1,)), 0)
    total, square = _sum_both(centred, centred * centred, "together")
    shift = total * share
    return origin + shift, jnp.maximum(square * share - shift * shift, 0)


def _sum_both(first: Float[Array, "*rest c"], second: Float[Array, "*rest c"], sums: Sums) -> tuple[Array, Array]:
    """Sum two arrays over all but the channels.

    XLA takes a long reduction on a GPU in two kernels, and two of them in four. Together they are 80 of the kernels of a step of
    small_inception on an H100; apart they were 131. On CPUs XLA reduces numbers one at a time where it takes two sums together.
    """
    axes = tuple(range(first.ndim - 1))
    if sums == "apart":
        return jnp.sum(first, axes), jnp.sum(second, axes)
    zero = jnp.zeros((), first.dtype)
    both: tuple[Array, Array] = lax.reduce(
        (first, second), (zero, zero), lambda left, right: (left[0] + right[0], left[1] + right[1]), axes
    )
    return both


def _share(x: Float[Array, "batch *rest c"], counted: Bool[Array, " batch"]) -> Float[Array, ""]:
    """The weight of one position of one counted example in a mean over all of them.

    Sums are multiplied by it. XLA turns a division into this product for several devices and not for one, so that the last
    bits of a division would depend on the number of devices.
    """
    return 1 / (jnp.sum(counted, dtype=jnp.float32) * math.prod(x.shape[1:-1]))


__all__ = [
    "BatchNorm",
    "SonnetBatchNorm",
    "TorchBatchNorm",
    "check_rows",
    "choose_sums",
    "conv_norm_relu",
    "normalize",
    "relu_of_normalized_conv",
    "standardize",
]
