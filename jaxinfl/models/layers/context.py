"""The context of a forward pass, which tells the layers of a model what no argument of a plain Flax layer can tell them.

Plain Flax layers, and modules that users wrote, stand between a model and its layers. So the values on which all
layers must agree are read from one context, which holds while a forward pass is traced.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxinfl import native
from jaxinfl.arguments import check_choice

Kernels = Literal["native", "gemm", "xla"]
"""Kernels that compute convolutions, dense layers, pooling and batch norm.

"native": kernels written by hand for CPUs (`jaxinfl.native`). "gemm": XLA's, where a convolution is a product of windows and
a matrix. "xla": XLA's own alone, its convolution included.
"""


@dataclass(frozen=True)
class Context:
    """The values that hold for all layers of the forward pass that is being traced."""

    kernels: Kernels = "gemm"
    """The kernels that compute the layers."""
    platform: str = "cpu"
    """Name of JAX's platform that computes them, such as "cpu" or "gpu"."""
    counted: Bool[Array, " batch"] | None = None
    """Whether each example of the batch counts in batch norm, as all but padding do; None where all of them count."""
    running_averages: bool = False
    """Whether batch norm takes its running averages in training, too, so that it couples no examples."""


_OUTSIDE = Context()
_context: contextvars.ContextVar[Context] = contextvars.ContextVar("jaxinfl_context", default=_OUTSIDE)


def current_context() -> Context:
    """The context of the forward pass that is being traced; `Context()` outside of any."""
    return _context.get()


@contextlib.contextmanager
def _change_context(**changes: Any) -> Iterator[None]:
    token = _context.set(replace(_context.get(), **changes))
    try:
        yield
    finally:
        _context.reset(token)


def use_kernels(kernels: Kernels, platform: str = "cpu") -> contextlib.AbstractContextManager[None]:
    """Trace layers for a platform with the given kernels inside this block.

    Raises:
      ValueError: there are no kernels of this name.
    """
    check_choice(kernels, "kernels", get_args(Kernels))
    return _change_context(kernels=kernels, platform=platform)


def count_examples(counted: Bool[Array, " batch"] | None) -> contextlib.AbstractContextManager[None]:
    """Let batch norm count only the examples where `counted` is true inside this block; all of them where it is None."""
    return _change_context(counted=counted)


def use_running_averages() -> contextlib.AbstractContextManager[None]:
    """Let batch norm take its running averages in training, too, inside this block, so that it couples no examples."""
    return _change_context(running_averages=True)


def default_kernels(platform: str) -> Kernels:
    """Choose the kernels of a platform ("cpu", "gpu", "tpu") for callers of `train_ensemble` who do not choose."""
    if platform == "cpu":
        return "gemm" if native.why_unavailable() else "native"
    # A TPU convolves at full rate one model at a time; a GPU is fastest with batched matrix products.
    return "xla" if platform == "tpu" else "gemm"


def uses_native(*arrays: Array) -> bool:
    """Whether the native kernels compute with these arrays, which takes that choice and float32."""
    return current_context().kernels == "native" and all(array.dtype == jnp.float32 for array in arrays)


__all__ = [
    "Context",
    "Kernels",
    "count_examples",
    "current_context",
    "default_kernels",
    "use_kernels",
    "use_running_averages",
    "uses_native",
]
