"""NaN stands for what is undefined, and is no mistake."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def nan_is_an_answer() -> Iterator[None]:
    """Inside this block JAX_DEBUG_NANS and JAX_DEBUG_INFS are off.

    People look for mistakes in their own programs by them, and they would raise here for influence that is undefined and
    for models that diverge, which is documented.
    """
    with jax.debug_nans(False), jax.debug_infs(False):
        yield


__all__ = ["nan_is_an_answer"]
