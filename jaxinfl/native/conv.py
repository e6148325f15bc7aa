"""The native convolution as a differentiable function, and the parts of a normalized convolution."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxinfl.native.library import foreign_function
from jaxinfl.native.norm import Normalization

Strides = tuple[int, int]
"""Rows and columns from one window to the next."""
Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows of zeros above and below the images, columns of zeros left and right of them."""


def conv(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    strides: Strides,
    padding: Padding,
) -> Float[Array, "batch out_h out_w outputs"]:
    """Convolve images in float32 on a CPU, with a gradient of first order.

    Each call runs in the thread of its device and in no other. Under `jax.vmap` the members are taken one by one.
    Its sums depend on the shapes alone, so that the same call gives the same bits.
    """
    return _conv(images, kernel, None, strides, padding, False)


def conv_with_bias(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    bias: Float[Array, " outputs"],
    strides: Strides,
    padding: Padding,
    relu: bool,
) -> Float[Array, "batch out_h out_w outputs"]:
    """`conv` plus a bias for each channel, and its ReLU if `relu`.

    Neither the result nor the gradient takes another pass over memory.
    """
    return _conv(images, kernel, bias, strides, padding, relu)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _conv(images: Array, kernel: Array, bias: Array | None, strides: Strides, padding: Padding, relu: bool) -> Array:
    name = "forward" if bias is None else "forward_bias_relu" if relu else "forward_bias"
    arrays = (images, kernel) if bias is None else (images, kernel, bias)
    result: Array = _call(name, _result(images, kernel, strides, padding), strides, padding, *arrays)
    return result


def _forward(
    images: Array, kernel: Array, bias: Array | None, strides: Strides, padding: Padding, relu: bool
) -> tuple[Array, tuple[Array, Array, Array | None, tuple[Array, ...]]]:
    result = _conv(images, kernel, bias, strides, padding, relu)
    return result, (images, kernel, bias, (result,) if relu else ())


def _backward(
    strides: Strides,
    padding: Padding,
    relu: bool,
    saved: tuple[Array, Array, Array | None, tuple[Array, ...]],
    grad: Array,
) -> tuple[Array, Array, Array | None]:
    images, kernel, bias, cut = saved
    kernel_like = _like(kernel.shape)
    if bias is None:
        return *_grads(images, kernel, kernel_like, strides, padding, grad), None
    both = (kernel_like, _like(bias.shape))
    images_grad, (kernel_grad, bias_grad) = _grads(images, kernel, both, strides, padding, grad, *cut)
    return images_grad, kernel_grad, bias_grad


_conv.defvjp(_forward, _backward)


def dense_kernel_grad(
    inputs: Float[Array, "batch inputs"], grad: Float[Array, "batch outputs"]
) -> Float[Array, "inputs outputs"]:
    """The gradient of a dense layer's kernel, computed as that of a convolution of images of one pixel."""
    function = foreign_function("dense_kernel_grad", _like((inputs.shape[1], grad.shape[1])))
    result: Array = function(inputs, grad)
    return result


def conv_with_moments(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    counted: Bool[Array, " batch"],
    strides: Strides,
    padding: Padding,
) -> tuple[Float[Array, "batch out_h out_w outputs"], Float[Array, " outputs"], Float[Array, " outputs"]]:
    """`conv`, and the mean and biased variance of its result over the counted images, without another pass over memory."""
    result = _result(images, kernel, strides, padding)
    vector = _like(kernel.shape[-1:])
    out, mean, variance = _call("forward_moments", (result, vector, vector), strides, padding, images, kernel, counted)
    return out, mean, variance


def normalized_conv_grads(
    images: Float[Array, "batch h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    strides: Strides,
    padding: Padding,
    grad: Float[Array, "batch out_h out_w outputs"],
    norm: Normalization,
    through: tuple[Float[Array, " outputs"], Float[Array, " outputs"]],
) -> tuple[Float[Array, "batch h w inputs"], Float[Array, "kh kw inputs outputs"]]:
    """The gradients of images and kernel from `grad`, that of their normalized convolution.

    The gradient of the convolution itself is computed where it is read, part by part, and never written to memory.
    `through` is the part of it that comes through the moments, as a line over x - mean: its value at 0 and its slope.
    """
    return _grads(images, kernel, _like(kernel.shape), strides, padding, grad, *norm, *through)


def _grads(
    images: Array, kernel: Array, kernel_grads: Any, strides: Strides, padding: Padding, grad: Array, *made: Array
) -> tuple[Any, Any]:
    """The gradients of the images and of the kernel, the latter shaped as `kernel_grads`.

    `made` holds the arrays that the handlers read about the bias, ReLU or normalization behind the convolution.
    """
    # Two calls: XLA drops the first where nobody needs it, as in the first layer of a network.
    return (
        _call("input_grad", _like(images.shape), strides, padding, grad, kernel, *made),
        _call("kernel_grad", kernel_grads, strides, padding, images, grad, *made),
    )


def _result(images: Array, kernel: Array, strides: Strides, padding: Padding) -> jax.ShapeDtypeStruct:
    (batch, height, width, _), (kernel_height, kernel_width, _, outputs) = images.shape, kernel.shape
    out_height = (height + sum(padding[0]) - kernel_height) // strides[0] + 1
    out_width = (width + sum(padding[1]) - kernel_width) // strides[1] + 1
    return _like((batch, out_height, out_width, outputs))


def _like(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _call(name: str, result: Any, strides: Strides, padding: Padding, *arrays: Array) -> Any:
    before = [padding[0][0], padding[1][0]]
    function = foreign_function(f"conv_{name}", result)
    return function(*arrays, strides=np.array(strides, np.int64), padding=np.array(before, np.int64))


__all__ = ["conv", "conv_with_bias", "conv_with_moments", "dense_kernel_grad", "normalized_conv_grads"]
