"""Dense layers with the native kernels: they compute the gradient of a narrow weight matrix.

XLA's CPU code reads the left factor of that one product across its rows. The table has the batch, inputs and outputs of a
layer, the microseconds that XLA takes on one core of an Intel Xeon (AVX-512), and those of `native.dense_kernel_grad`. Each
runs in a loop by itself. In a training step of the digits' network the first layer takes XLA 11 to 20 us, and the kernel 3.

    64,  64,   10     3.7   2.3
    64,  64,   128    11    9
    128, 256,  10     54    14
    128, 512,  100    268   130
    64,  2048, 100    376   336
    128, 512,  256    378   376
    128, 784,  512    663   841

XLA is as fast or faster forward, and backward to the inputs, so it keeps these products.

Modules of plain Flax layers use it by themselves: `jaxinfl.models.module` hands it to every `nnx.Linear` of a module.
"""

from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

from jaxinfl import native
from jaxinfl.models.layers.context import uses_native

_MOST_OUTPUTS = 128
"""Columns of the weight matrix above which XLA is as fast."""
_ROWS_BY_COLUMNS = (((1,), (0,)), ((), ()))


def dot_general(lhs: Array, rhs: Array, dimension_numbers: Any, **options: Any) -> Array:
    """Compute `jax.lax.dot_general`; the native kernels take its gradient for a narrow matrix `rhs`, equal up to rounding.

    All but plain products of two float32 matrices go to XLA's operation. The native kernels have a gradient of first order
    only.
    """
    matrices = lhs.ndim == rhs.ndim == 2 and dimension_numbers == _ROWS_BY_COLUMNS
    plain = matrices and all(value is None for value in options.values())
    if plain and rhs.shape[1] <= _MOST_OUTPUTS and uses_native(lhs, rhs):
        return _product(lhs, rhs)
    return lax.dot_general(lhs, rhs, dimension_numbers, **options)


@jax.custom_vjp
def _product(inputs: Float[Array, "batch inputs"], kernel: Float[Array, "inputs outputs"]) -> Array:
    return inputs @ kernel


def _forward(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(inputs, kernel), (inputs, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    inputs, kernel = saved
    return grad @ kernel.T, native.dense_kernel_grad(inputs, grad)


_product.defvjp(_forward, _backward)

__all__ = ["dot_general"]
