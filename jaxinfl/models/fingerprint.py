"""The programs of a model, and the hash that tells one model from another.

Parameter names and shapes alone would not tell ReLU from GELU, nor one initialization from another.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxinfl.models.inputs import InputSpec
from jaxinfl.models.model import Apply, Variables


class Traces(NamedTuple):
    """A model's three programs, with the arrays that they close over."""

    init: ClosedJaxpr
    train: ClosedJaxpr
    evaluate: ClosedJaxpr


def trace_apply(apply: Apply, variables: Variables, inputs: InputSpec) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """Trace the forward pass of two examples in training and in evaluation."""
    batch = inputs.batch(2)
    return (
        jax.make_jaxpr(lambda v, x: apply(v, x, train=True))(variables, batch),
        jax.make_jaxpr(lambda v, x: apply(v, x, train=False))(variables, batch),
    )


def fingerprint_of(texts: Iterable[bytes], variables: Variables) -> str:
    """Hash a model to 64 hex digits, which are equal for models whose programs have equal texts."""
    content = hashlib.sha256(str(jax.tree.map(lambda leaf: leaf.shape, variables)).encode())
    for text in texts:
        content.update(text)
    return content.hexdigest()


def spell_out(traced: ClosedJaxpr) -> bytes:
    """Write a program as text, and the bytes of its constants behind it."""
    # `str` would colour it on a terminal, and a run begun there could not go on elsewhere.
    text = traced.pretty_print(use_color=False, source_info=False)
    parts = [re.sub(r" at 0x[0-9a-f]+", "", text).encode()]
    for constant in traced.consts:
        is_key = jnp.issubdtype(getattr(constant, "dtype", None) or np.result_type(constant), jax.dtypes.prng_key)
        parts.append(np.asarray(jax.random.key_data(constant) if is_key else constant).tobytes())
    return b"".join(parts)


__all__ = ["Traces", "fingerprint_of", "spell_out", "trace_apply"]
