"""What the layers of a model have to know of a forward pass, and what no argument of a plain Flax layer can tell them.

Plain Flax layers, and modules that users wrote, stand between a model and its layers. So the three things that every layer
must agree on are read from one context, which is in force while a forward pass is traced.
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
"""Which kernels compute convolutions, dense layers, pooling and batch norm.

"native": kernels written by hand for CPUs (`jaxinfl.native`). "gemm": XLA's, where a convolution is a product of patches and
a matrix. "xla": XLA's own alone, its convolution included.
"""


@dataclass(frozen=True)
class Context:
    """What holds for all layers of the forward pass that is being traced."""

    kernels: Kernels = "gemm"
    """The kernels that compute it."""
    counted: Bool[Array, " batch"] | None = None
    """The examples of the batch that count in batch norm, those that are no padding; None where all of them do."""
    running_averages: bool = False
    """Whether batch norm takes its running averages in training, too, so that it couples no examples."""


_OUTSIDE = Context()
_context: contextvars.ContextVar[Context] = contextvars.ContextVar("jaxinfl_context", default=_OUTSIDE)


def current_context() -> Context:
    """The context of the forward pass that is being traced; `Context()` outside of any."""
    return _context.get()


@contextlib.contextmanager
def _changed_context(**changes: Any) -> Iterator[None]:
    token = _context.set(replace(_context.get(), **changes))
    try:
        yield
    finally:
        _context.reset(token)


def use_kernels(kernels: Kernels) -> contextlib.AbstractContextManager[None]:
    """Inside this block, layers are traced with the given kernels.

    Raises:
      ValueError: there are no kernels of this name.
    """
    check_choice(kernels, "kernels", get_args(Kernels))
    return _changed_context(kernels=kernels)


def count_examples(counted: Bool[Array, " batch"] | None) -> contextlib.AbstractContextManager[None]:
    """Inside this block, batch norm counts only the examples where `counted` is true; all of them where it is None."""
    return _changed_context(counted=counted)


def use_running_averages() -> contextlib.AbstractContextManager[None]:
    """Inside this block, batch norm takes its running averages in training, too, so that it couples no examples."""
    return _changed_context(running_averages=True)


def default_kernels(platform: str) -> Kernels:
    """The kernels used on a platform ("cpu", "gpu", "tpu") unless the caller of `train_ensemble` chooses."""
    if platform == "cpu":
        return "gemm" if native.why_unavailable() else "native"
    # A TPU convolves at full rate one model at a time; a GPU is fastest with batched matrix products.
    return "xla" if platform == "tpu" else "gemm"


def uses_native(*arrays: Array) -> bool:
    """Whether the native kernels compute with these arrays: they were chosen, and they know float32 only."""
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
