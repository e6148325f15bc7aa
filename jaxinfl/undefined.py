"""NaN stands for what is undefined, so JAX's search for NaN is switched off where undefined values are expected."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def nan_is_an_answer() -> Iterator[None]:
    """Switch JAX_DEBUG_NANS and JAX_DEBUG_INFS off inside this block.

    People find mistakes in their own programs by them. Here they would raise for undefined influence and for models that
    diverge, both of which are documented.
    """
    with jax.debug_nans(False), jax.debug_infs(False):
        yield


__all__ = ["nan_is_an_answer"]
