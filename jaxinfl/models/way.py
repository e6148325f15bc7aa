"""The way in which a network runs on a graphics card: its kernels and the number of models at once, by what each way moves.

Small networks wait for launches, which all models of a group share: they want many models at once, whose convolutions are
products of copied windows ("gemm"). Large networks wait for memory, and copies of windows move three times what XLA's own
convolutions move ("xla"), which take one model at a time. Everything is known from shapes before anything is compiled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, PyTree

from jaxinfl.models.inputs import InputSpec
from jaxinfl.models.layers import Kernels, use_kernels
from jaxinfl.models.model import Model, Variables, count_bytes
from jaxinfl.models.traffic import measure_traffic

LAUNCH_BYTES = 7_500_000
"""Bytes that an H100 moves in the time that it takes to launch a kernel: 2.5 us at 3.0 TB/s."""
MOST_WIDTH = 128
"""Largest number of models at once that is chosen: launches hardly cost anything beyond it."""
GROUPED = 1.25
"""Factor by which XLA's own convolutions of several models at once, which are grouped ones, move more than those of one."""
GOOD_ENOUGH = 1.1
"""Factor by which a narrower group may cost more than the cheapest: it needs less memory and is padded less."""
MEMORY_SHARE = 0.8
"""Share of a card's memory that a choice may need; the rest is for what is not known before compiling."""
_OTHER_KERNELS = 6
"""Number of kernels of a step besides the network and its update: they take the inputs and draw their views."""


@dataclass(frozen=True)
class Step:
    """What one training step of one model does to a card's memory by some kernels, whatever the number of models at once."""

    moved: int
    """Bytes that it reads and writes."""
    launches: int
    """Number of kernels, which all models of a group share."""
    memory: int
    """Bytes that the model needs while it is trained or evaluated, its state included."""
    convolves: bool
    """Whether it has convolutions of XLA's own, which become one grouped convolution of several models at once."""

    def cost(self, width: int) -> float:
        """Bytes that a card could have moved in the time of a step, for each of `width` models at once."""
        grouped = GROUPED if self.convolves and width > 1 else 1.0
        return grouped * self.moved + self.launches * LAUNCH_BYTES / width


@dataclass(frozen=True)
class Batches:
    """The sizes of what goes through a network, and the type that it computes in."""

    batch_size: int
    """Number of examples of a step."""
    parts: int
    """Number of parts in which they go through the network."""
    evaluated: int
    """Number of examples that are evaluated at once."""
    dtype: str
    """Type of the activations."""


@dataclass(frozen=True)
class Way:
    """A way of running a network on a card."""

    width: int
    """Number of models at once."""
    kernels: Kernels
    memory: int
    """Bytes that it needs on the card."""
    fits: bool
    """Whether these are at most `MEMORY_SHARE` of the card's memory."""
    moved: int
    """Bytes that a step of one model moves."""
    grouped: bool
    """Whether XLA's own convolutions of several models at once are grouped ones."""


@lru_cache
def estimate_step(model: Model, inputs: InputSpec, batches: Batches, kernels: Kernels, moments: int = 1) -> Step:
    """Estimate what a step moves and needs.

    Args:
      model: the network.
      inputs: what it takes of one example.
      batches: sizes of the batches.
      kernels: the kernels that compute its layers.
      moments: number of arrays that the optimizer keeps for each parameter: 1 for momentum, 2 for AdamW.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    params, stats = count_bytes(variables.params), count_bytes(variables.stats)
    gradient = measure_traffic(_trace_gradient(model, variables, inputs, batches, kernels))
    evaluation = measure_traffic(_trace_evaluation(model, variables, inputs, batches, kernels))
    state = (1 + moments) * params + stats
    # The optimizer reads and writes the state once, and reads the gradient. The parts of a batch add their gradients up.
    update = 2 * (1 + moments) * params + params
    sums = 3 * params * batches.parts if batches.parts > 1 else 0
    return Step(
        moved=batches.parts * gradient.moved + update + sums,
        launches=batches.parts * gradient.kernels + len(jax.tree.leaves(variables.params)) + _OTHER_KERNELS,
        # The loops over steps work on a copy of the state.
        memory=2 * state + max(gradient.peak + (params if batches.parts > 1 else 0), evaluation.peak),
        convolves=gradient.convolutions > 0,
    )


def list_ways(
    step_by: dict[Kernels, Step], *, memory: float, fixed: int = 0, per_model: int = 0, width: int | None = None
) -> dict[Way, float]:
    """List the ways of running a network, with what a step of one model costs by each.

    Args:
      step_by: what a step does, by the kernels that may be chosen.
      memory: bytes of the card's memory.
      fixed: bytes that are needed once for all models, such as those of the data set.
      per_model: bytes that each model needs besides those of a step.
      width: number of models at once, if that is no choice; else the powers of two up to `MOST_WIDTH`.
    """
    widths = [2**power for power in range(MOST_WIDTH.bit_length())] if width is None else [width]
    ways = {}
    for kernels, step in step_by.items():
        for number in widths:
            needed = fixed + number * (step.memory + per_model)
            fits, grouped = needed <= MEMORY_SHARE * memory, step.convolves and number > 1
            ways[Way(number, kernels, needed, fits, step.moved, grouped)] = step.cost(number)
    return ways


def choose_way(ways: Mapping[Way, float]) -> Way:
    """Choose the way that costs least among those that fit into `MEMORY_SHARE` of a card's memory.

    Patches and matrix products take any number of models at once. Where the width is a choice, XLA's own convolutions take one:
    libraries have slower programs for grouped convolutions, which no formula of bytes knows.

    Returns:
      The narrowest way that costs at most `GOOD_ENOUGH` times the cheapest; where none fits, the one that needs least.
    """
    if len({way.width for way in ways}) > 1:
        ways = {way: cost for way, cost in ways.items() if not way.grouped}
    fitting = {way: cost for way, cost in ways.items() if way.fits}
    if not fitting:
        return min(ways, key=lambda way: way.memory)
    least = min(fitting.values())
    good = [way for way, cost in fitting.items() if cost <= GOOD_ENOUGH * least]
    return min(good, key=lambda way: (way.width, fitting[way]))


def _trace_gradient(
    model: Model, variables: Variables, inputs: InputSpec, batches: Batches, kernels: Kernels
) -> ClosedJaxpr:
    """Trace the gradient of a loss over one part of a batch."""
    examples = batches.batch_size // batches.parts

    def gradient(variables: Variables, batch: PyTree[Array], counted: Array) -> Any:
        def loss(params: PyTree[Array]) -> tuple[Array, Any]:
            cast = variables._replace(params=jax.tree.map(lambda p: p.astype(batches.dtype), params))
            output, stats = model.apply(cast, batch, train=True, mask=counted)
            return sum((jnp.sum(jnp.square(each)) for each in jax.tree.leaves(output)), jnp.float32(0)), stats

        return jax.grad(loss, has_aux=True)(variables.params)

    shapes = inputs.batch(examples, batches.dtype)
    with use_kernels(kernels, "gpu"):
        return jax.make_jaxpr(gradient)(variables, shapes, jax.ShapeDtypeStruct((examples,), jnp.bool_))


def _trace_evaluation(
    model: Model, variables: Variables, inputs: InputSpec, batches: Batches, kernels: Kernels
) -> ClosedJaxpr:
    """Trace the outputs of the examples that are evaluated at once."""

    def outputs(variables: Variables, batch: PyTree[Array]) -> Any:
        cast = variables._replace(params=jax.tree.map(lambda p: p.astype(batches.dtype), variables.params))
        return model.apply(cast, batch, train=False)[0]

    with use_kernels(kernels, "gpu"):
        return jax.make_jaxpr(outputs)(variables, inputs.batch(batches.evaluated, batches.dtype))


__all__ = [
    "GOOD_ENOUGH",
    "LAUNCH_BYTES",
    "MEMORY_SHARE",
    "MOST_WIDTH",
    "Batches",
    "Step",
    "Way",
    "choose_way",
    "estimate_step",
    "list_ways",
]
