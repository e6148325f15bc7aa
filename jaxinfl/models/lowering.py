"""How the operations that take the time are lowered: by hand-written kernels, as matrix products, or as XLA does it.

A context rather than an argument, because plain Flax layers stand between the caller and the convolution.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jaxinfl import native

ConvLowering = Literal["native", "patches", "stock"]
"""Kernels written by hand for CPUs (`jaxinfl.native`), patches times a matrix, or `jax.lax.conv_general_dilated`."""

_lowering: contextvars.ContextVar[ConvLowering] = contextvars.ContextVar("jaxinfl_conv_lowering", default="patches")


def default_lowering(platform: str) -> ConvLowering:
    """The lowering used on a platform ("cpu", "gpu", "tpu") unless the caller of `train_ensemble` chooses."""
    if platform == "cpu":
        return "patches" if native.why_unavailable() else "native"
    # A TPU convolves at full rate one model at a time; a GPU is fastest with batched matrix products.
    return "stock" if platform == "tpu" else "patches"


@contextlib.contextmanager
def conv_lowering(lowering: ConvLowering) -> Iterator[None]:
    """Trace the operations inside this block with the given lowering."""
    if lowering not in get_args(ConvLowering):
        raise ValueError(f"conv lowering {lowering!r} is unknown; choose one of {', '.join(get_args(ConvLowering))}.")
    token = _lowering.set(lowering)
    try:
        yield
    finally:
        _lowering.reset(token)


def current_lowering() -> ConvLowering:
    """The lowering of the block around."""
    return _lowering.get()


def uses_native(*arrays: jax.Array) -> bool:
    """Whether an operation on these arrays goes to the hand-written kernels, which know float32 only."""
    return _lowering.get() == "native" and all(array.dtype == jnp.float32 for array in arrays)


__all__ = ["ConvLowering", "conv_lowering", "current_lowering", "default_lowering", "uses_native"]
