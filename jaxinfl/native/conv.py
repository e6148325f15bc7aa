"""The hand-written convolution as a differentiable function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinfl.native.library import foreign_function

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "batch out_h out_w outputs"]:
    """2D convolution in float32 on a CPU, with a gradient of first order.

    Each call runs in the thread of its device and in no other. Under `jax.vmap` the members are taken one by one.
    Its sums depend on the shapes alone, so that the same call gives the same bits.
    """
    (batch, height, width, _), (kernel_height, kernel_width, _, outputs) = images.shape, kernel.shape
    out_height = (height + sum(padding[0]) - kernel_height) // strides[0] + 1
    out_width = (width + sum(padding[1]) - kernel_width) // strides[1] + 1
    return _call("forward", (batch, out_height, out_width, outputs), images, kernel, strides, padding)


def _forward(images: Array, kernel: Array, strides: Strides, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return conv(images, kernel, strides, padding), (images, kernel)


def _backward(strides: Strides, padding: Padding, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    # Two calls: XLA drops the first where nobody needs it, as in the first layer of a network.
    images, kernel = saved
    return (
        _call("input_grad", images.shape, grad, kernel, strides, padding),
        _call("kernel_grad", kernel.shape, images, grad, strides, padding),
    )


conv.defvjp(_forward, _backward)


def _call(
    name: str, shape: tuple[int, ...], left: Array, right: Array, strides: Strides, padding: Padding
) -> Float[Array, "..."]:
    function = foreign_function(f"conv_{name}", jax.ShapeDtypeStruct(shape, jnp.float32))
    before = [padding[0][0], padding[1][0]]
    result: Array = function(left, right, strides=np.array(strides, np.int64), padding=np.array(before, np.int64))
    return result


__all__ = ["conv"]
