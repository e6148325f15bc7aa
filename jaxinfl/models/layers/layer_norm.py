"""Layer norm of the rows of a matrix."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float


def layer_norm(norm: nnx.LayerNorm, x: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """Compute `norm(x)`, each row by itself, with its own mean and biased variance, in float32."""
    values = x.astype(jnp.float32)
    # Multiply by the reciprocal: XLA divides differently on several devices (see `_share` in `norm.py`).
    share = 1 / x.shape[-1]
    centred = values - jnp.sum(values, axis=-1, keepdims=True) * share
    inverse = lax.rsqrt(jnp.sum(centred * centred, axis=-1, keepdims=True) * share + norm.epsilon)
    result = centred * inverse * norm.scale[...].astype(jnp.float32)[None] + norm.bias[...].astype(jnp.float32)[None]
    return result.astype(x.dtype)


__all__ = ["layer_norm"]
