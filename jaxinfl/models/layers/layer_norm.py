"""Layer norm of the rows of a matrix, with its native and its plain way."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from jaxinfl import native
from jaxinfl.models.layers.context import uses_native


def layer_norm(norm: nnx.LayerNorm, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """Compute `norm(x)`, each row by itself, with its own mean and biased variance, in float32.

    Args:
      norm: layer with a scale and a bias, over the last axis.
      x: rows that are normalized.
    """
    assert norm.scale is not None and norm.bias is not None
    scale, bias = norm.scale[...].astype(jnp.float32), norm.bias[...].astype(jnp.float32)
    if uses_native(x):
        return native.layer_norm(x, scale, bias, norm.epsilon)
    values = x.astype(jnp.float32)
    # Multiply by the reciprocal: XLA divides differently on several devices (see `_share` in `norm.py`).
    share = 1 / x.shape[-1]
    centred = values - jnp.sum(values, axis=-1, keepdims=True) * share
    inverse = lax.rsqrt(jnp.sum(centred * centred, axis=-1, keepdims=True) * share + norm.epsilon)
    return (centred * inverse * scale[None] + bias[None]).astype(x.dtype)


__all__ = ["layer_norm"]
