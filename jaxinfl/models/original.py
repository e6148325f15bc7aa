"""Layers as the originals of our networks have them, where PyTorch's and Sonnet's differ from Flax's.

They differ in two things: the averages that batch norm keeps for evaluation, and initial weights.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxinfl.models.norm import MaskedBatchNorm


class TorchBatchNorm(MaskedBatchNorm):
    """`torch.nn.BatchNorm2d` with its momentum of 0.1, which Flax calls 0.9: the running variance is unbiased.

    That is n / (n - 1) times the variance that normalizes, n the numbers of a channel in the batch. PyTorch refuses
    n = 1; here such a batch (one example, one position) has variance 0.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=0.9, epsilon=epsilon, rngs=rngs)

    def _remember(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        super()._remember(mean, unbiased(variance, counted, positions), counted, positions)


class SonnetBatchNorm(MaskedBatchNorm):
    """`sonnet.BatchNorm`: running averages start from nothing, so that their first value is the first batch's.

    After t batches the weights of the batches are `momentum^(t - k)`, divided by their sum (Kingma and Ba, 2015,
    section 3, call it bias correction). The running variance is unbiased, as TensorFlow's fused batch norm gives it.
    """

    def __init__(self, features: int, *, momentum: float = 0.999, epsilon: float = 1e-5, rngs: nnx.Rngs):
        super().__init__(features, momentum=momentum, epsilon=epsilon, rngs=rngs)
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.float32))

    def _remember(
        self, mean: Float[Array, " c"], variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int
    ) -> None:
        batches = self.batches[...] + 1
        # 1 - momentum^t without the cancellation that would make the first batch's weight 1.0001.
        weight = (1 - self.momentum) / -jnp.expm1(batches * math.log(self.momentum))
        variance = unbiased(variance, counted, positions)
        self.batches.set_value(batches)
        self.mean.set_value(self.mean[...] + weight * (mean - self.mean[...]))
        self.var.set_value(self.var[...] + weight * (variance - self.var[...]))


def unbiased(variance: Float[Array, " c"], counted: Bool[Array, " batch"], positions: int) -> Float[Array, " c"]:
    """The unbiased variance from the biased one over all positions of the counted examples."""
    number = jnp.sum(counted, dtype=jnp.float32) * positions
    return variance * (number / jnp.maximum(number - 1, 1))


def torch_linear(
    inputs: int, outputs: int, *, kernel_init: nnx.Initializer | None = None, rngs: nnx.Rngs
) -> nnx.Linear:
    """`nnx.Linear` with the initial weights of `torch.nn.Linear`: all uniform within 1 / sqrt(inputs), the bias too."""
    bound = inputs**-0.5

    def uniform(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(inputs, outputs, kernel_init=kernel_init or uniform, bias_init=uniform, rngs=rngs)


def draw_kernels(
    module: nnx.Module, deviation: Callable[[nnx.Conv], float], *, cut: float | None = None, rngs: nnx.Rngs
) -> None:
    """Fill the kernels of all convolutions of a module with normal numbers, in one draw.

    XLA compiles every draw anew: of Inception v3's 94 kernels one by one in 70 s, in one draw in 2.

    Args:
      module: the network, its convolutions' kernels still anything.
      deviation: standard deviation of a layer's kernel, before any cut.
      cut: numbers lie within so many standard deviations; drawn anew until they do. None cuts nothing.
      rngs: the key is taken from here.
    """
    layers = [part for _, part in nnx.iter_modules(module) if isinstance(part, nnx.Conv)]
    sizes = [layer.kernel.size for layer in layers]
    key, shape = rngs.params(), (sum(sizes),)
    numbers = jax.random.normal(key, shape) if cut is None else jax.random.truncated_normal(key, -cut, cut, shape)
    for layer, piece in zip(layers, jnp.split(numbers, list(itertools.accumulate(sizes))[:-1]), strict=True):
        layer.kernel.set_value(deviation(layer) * piece.reshape(layer.kernel.shape))


__all__ = ["SonnetBatchNorm", "TorchBatchNorm", "draw_kernels", "torch_linear", "unbiased"]
