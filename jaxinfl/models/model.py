"""A model as a pair of pure functions, and the variables of one model."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class Variables(NamedTuple):
    """All numbers of one model."""

    params: PyTree[Array]
    """The numbers that the optimizer changes."""
    stats: PyTree[Array]
    """The numbers that the forward pass changes: batch norm's running mean and variance."""


class WithAuxiliary(NamedTuple):
    """The output of a model with an auxiliary head in training."""

    logits: Float[Array, "batch classes"]
    auxiliary: Float[Array, "batch classes"]
    """Logits of a second head, from layers halfway; they have a share in the loss and no other use."""


Output = Float[Array, "batch classes"] | WithAuxiliary
Init = Callable[[PRNGKeyArray], Variables]
Apply = Callable[..., tuple[Any, PyTree[Array]]]


@dataclass(frozen=True, eq=False)
class Model:
    """One architecture as pure functions, for images of one shape and a number of classes.

    Attributes:
      name: the registered name, or the qualified name of the user's callable.
      init: `init(key) -> Variables`.
      apply: `apply(variables, images, train=..., mask=..., key=...) -> (logits, stats)`. `images` are normalized floats
        [batch, h, w, c] in the compute dtype, `mask` bool [batch] leaves padding out of batch norm, `key` drives
        dropout; logits are float32 [batch, classes]. A model with an auxiliary head returns `WithAuxiliary` in place of
        logits in training.
      num_params: number of trainable parameters.
      fingerprint: hash of the parameters' names and shapes and of the computation itself.
      rebuild: function that builds this model again from what the user gave, in another process too; None where nothing says how.
    """

    name: str
    init: Init
    apply: Apply
    num_params: int
    fingerprint: str = field(repr=False)
    rebuild: "Callable[[], Model] | None" = field(repr=False, default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        # The functions close over what was traced, which no other process can read.
        if self.rebuild is None:
            raise TypeError(
                f"model {self.name} cannot be sent to another process, because nothing says how to build it again."
            )
        return self.rebuild, ()


def count_bytes(tree: PyTree[Any]) -> int:
    """Number of bytes that arrays take, or that arrays of these shapes would take."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


__all__ = ["Apply", "Init", "Model", "Output", "Variables", "WithAuxiliary", "count_bytes"]
