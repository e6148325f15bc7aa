"""Layer norm by the native kernels, with its gradient."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinfl.native.library import foreign_function


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
    x: Float[Array, "rows width"], scale: Float[Array, " width"], bias: Float[Array, " width"], epsilon: float
) -> Float[Array, "rows width"]:
    """Bring each row to mean 0 and variance 1, then scale and shift it."""
    return _forward(x, scale, bias, epsilon)[0]


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    row = _like(x.shape[:1])
    function = foreign_function("layer_norm", (_like(x.shape), row, row))
    out, mean, inverse = function(x, scale, bias, jnp.float32(epsilon))
    return out, (x, scale, mean, inverse)


def _backward(epsilon: float, saved: tuple[Array, ...], grad: Array) -> tuple[Array, Array, Array]:
    x, scale, *_ = saved
    vector = _like(scale.shape)
    x_grad, scale_grad, bias_grad = foreign_function("layer_norm_grad", (_like(x.shape), vector, vector))(*saved, grad)
    return x_grad, scale_grad, bias_grad


def _like(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


layer_norm.defvjp(_forward, _backward)

__all__ = ["layer_norm"]
