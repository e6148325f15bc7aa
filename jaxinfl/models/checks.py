"""Checks of a user's model before anything is trained; they read its program, so that nothing is compiled for them."""

import contextlib
import logging
import math
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array

from jaxinfl.arguments import quote
from jaxinfl.models.dependence import Dependence, trace_dependence
from jaxinfl.models.dependence_rules import BOTH_EXAMPLES, DRAWN, FIRST_EXAMPLE, KEY, SECOND_EXAMPLE, union
from jaxinfl.models.inputs import InputSpec
from jaxinfl.models.layers.context import use_running_averages
from jaxinfl.models.model import Apply, Variables

_log = logging.getLogger("jaxinfl")

COUPLED_EXAMPLES, SAME_WEIGHTS = "coupled_examples", "same_weights"
ALLOWED = (COUPLED_EXAMPLES, SAME_WEIGHTS)
"""Words that `allow` takes. The first allows outputs for an example to depend on others in its batch, the second allows
random weights to be the same in every model of an ensemble."""


def check_allow(allow: Collection[str]) -> frozenset[str]:
    """Return the words of `allow` as a set.

    Raises:
      TypeError, ValueError: `allow` is no collection, or holds other words than `ALLOWED`.
    """
    if isinstance(allow, str) or not isinstance(allow, Collection):
        raise TypeError(f"allow is {quote(allow)}; it takes a collection of words, for example ({ALLOWED[0]!r},).")
    unknown = [word for word in allow if word not in ALLOWED]
    if unknown:
        raise ValueError(f"allow holds {quote(unknown[0])}; it takes {' and '.join(map(repr, ALLOWED))}.")
    return frozenset(allow)


def check_output(
    apply: Apply, variables: Variables, inputs: InputSpec, outputs: tuple[int, ...] | int | None, name: str
) -> None:
    """Raise `ValueError` unless each head of the model returns what the task takes, in training and in evaluation.

    `outputs` is the shape of the outputs for one example, or their number; None where the task takes any.
    """
    batch = 2
    shape = None if outputs is None else (batch, *((outputs,) if isinstance(outputs, int) else outputs))
    # One number an example may come without an axis of its own.
    allowed = () if shape is None else (shape, shape[:1]) if shape[1:] == (1,) else (shape,)
    mask = jax.ShapeDtypeStruct((batch,), np.bool_)
    for train in (True, False):

        def forward(variables: Variables, inputs: Any, mask: Array, train: bool = train) -> Any:
            return apply(variables, inputs, train=train, mask=mask)[0]

        # One head, or two.
        for head in jax.tree.leaves(jax.eval_shape(forward, variables, inputs.batch(batch), mask)):
            if allowed and head.shape not in allowed:
                raise ValueError(
                    f"model {name} maps inputs {inputs} to {head.shape} for a batch of {batch} in "
                    f"{'training' if train else 'evaluation'}; the task takes outputs of the shape {shape}."
                )


def check_repeatable(first: tuple[bytes, ...], second: tuple[bytes, ...], name: str) -> None:
    """Raise `ValueError` unless a model that is built twice from one key has the same programs twice (`spell_out`).

    A program whose numbers change from call to call draws them from a source that no key governs. All models of an ensemble
    would share one draw, and a run that was killed could never go on.
    """
    remedy = "Draw from the key that the model is given; where it is given `rngs`, `rngs.params()` is one."
    differences = (
        "start from other weights",
        "compute something else in training",
        "compute something else in evaluation",
    )
    for one, other, difference in zip(first, second, differences, strict=True):
        if one != other:
            raise ValueError(
                f"model {name} was built twice from one key, and the two {difference}: some of its numbers come from another "
                f"source than the key, np.random or a clock for instance. {remedy}"
            )


def check_weights_follow_key(init: ClosedJaxpr, variables: Variables, name: str, *, one_module: bool) -> None:
    """Raise `ValueError` where random weights do not depend on the key, so that all models would start from the same.

    Constants and weights that the factory loads do not matter, because nothing is drawn for them. `one_module` says that the
    factory returned the same module twice, whose weights were drawn before.
    """
    if one_module:
        raise ValueError(
            f"model {name} returns one and the same module at every call, so all models of an ensemble would start from the "
            "same weights. Build the module inside of the function, with the `rngs` that it is given, or pass "
            f"allow=({SAME_WEIGHTS!r},) if its weights were trained before."
        )
    found = trace_dependence(init, [np.full((), KEY, np.uint8)])
    paths = jax.tree_util.tree_flatten_with_path(variables)[0]
    for (path, _), sources in zip(paths, found.outputs, strict=True):
        drawn = union([sources])
        if drawn & DRAWN and not drawn & KEY:
            variable = jax.tree_util.keystr(path[1:], simple=True, separator=".")
            raise ValueError(
                f"model {name}: {variable} is drawn from a fixed key and not from the key or `rngs` that the model is given, so all "
                "models of an ensemble would start from the same weights; nnx.Rngs(0) or jax.random.key(0) inside the model "
                "does that. Hand on what it is given, as in `nnx.Linear(..., rngs=rngs)`, or pass "
                f"allow=({SAME_WEIGHTS!r},) if this is meant."
            )


def warn_of_idle_batch_norm(train: ClosedJaxpr, variables: Variables, module: nnx.Module, name: str) -> None:
    """Warn where a model holds batch norm but its forward pass in training leaves all statistics as they are."""
    num_stats = len(jax.tree.leaves(variables.stats))
    learns = set(train.jaxpr.outvars[len(train.jaxpr.outvars) - num_stats :]) - set(train.jaxpr.invars)
    if not learns and any(isinstance(part, nnx.BatchNorm) for _, part in nnx.iter_modules(module)):
        _log.warning(
            "Model %s holds batch norm that never learns: its forward pass takes the running averages in training, too. Leave "
            "the flag to jaxinfl, which sets it.",
            name,
        )


def check_examples_apart(
    apply: Apply,
    variables: Variables,
    inputs: InputSpec,
    name: str,
    *,
    has_dropout: bool,
    takes_mask: bool = False,
) -> None:
    """Raise `ValueError` if the model's output for an example depends on another one of its batch.

    In evaluation, coupling would let an excluded example, which is evaluated as well, change the output for others. In
    training, only batch norm may couple examples, and jaxinfl tells it which ones count. The program is read first. Where
    that cannot tell, two batches that differ in one example are evaluated with random weights.

    It warns of what is allowed but hardly meant: random numbers in evaluation or from a fixed key, dropout without effect,
    and statistics of a layer's own that count padding.
    """
    for train in (False, True):
        found, num_heads = _forward_dependence(apply, variables, inputs, train)
        heads, stats = found.outputs[:num_heads], found.outputs[num_heads:]
        if any((head[0] & SECOND_EXAMPLE).any() or (head[1] & FIRST_EXAMPLE).any() for head in heads):
            change = _largest_change(apply, variables, inputs, train)
            if change != 0:
                raise ValueError(_coupling_error(name, train, change, found))
        drawn = union(heads)
        if train:
            _warn_of_training(name, drawn, 0 if takes_mask else union(stats), has_dropout)
        elif drawn & DRAWN and drawn & KEY:
            _log.warning(
                "Model %s draws random numbers in evaluation, too: what it says of an example is one draw.", name
            )


def _forward_dependence(apply: Apply, variables: Variables, inputs: InputSpec, train: bool) -> tuple[Dependence, int]:
    """Trace on what the outputs and the statistics of a forward pass of two examples depend, and count the outputs.

    In training, batch norm takes its running averages here, so that any coupling that is found is not its own.
    """
    batch = inputs.batch(2)

    def forward(variables: Variables, batch: Any, key: Array) -> Any:
        with use_running_averages() if train else contextlib.nullcontext():
            return apply(variables, batch, train=train, key=key)

    traced, (output, _) = jax.make_jaxpr(forward, return_shape=True)(variables, batch, jax.random.key(0))
    of_inputs = [_two_examples(leaf.shape) for leaf in jax.tree.leaves(batch)]
    of_variables = [np.broadcast_to(np.uint8(0), leaf.shape) for leaf in jax.tree.leaves(variables)]
    found = trace_dependence(traced, [*of_variables, *of_inputs, np.full((), KEY, np.uint8)])
    return found, len(jax.tree.leaves(output))


def couples_examples(traced: ClosedJaxpr, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether a function of arrays [2, ...] that returns [2] lets one example's number depend on the other example."""
    (found,) = trace_dependence(traced, [_two_examples(shape) for shape in shapes]).outputs
    return bool(found[0] & SECOND_EXAMPLE) or bool(found[1] & FIRST_EXAMPLE)


def _two_examples(shape: tuple[int, ...]) -> np.ndarray:
    """Mark an array [2, ...] as made of the first and the second example."""
    sources = np.empty(shape, np.uint8)
    sources[0], sources[1] = FIRST_EXAMPLE, SECOND_EXAMPLE
    return sources


def _warn_of_training(name: str, heads: int, stats: int, has_dropout: bool) -> None:
    if heads & DRAWN and not heads & KEY:
        _log.warning(
            "Model %s draws random numbers from a fixed key in its forward pass, the same ones in every step and every model. "
            "Draw from the key or the `rngs` that it is given.",
            name,
        )
    elif has_dropout and not heads & KEY:
        _log.warning(
            "Model %s holds dropout that never acts: its forward pass switches it off in training, too. Leave the flag to "
            "jaxinfl, which sets it, or remove the layer.",
            name,
        )
    if stats & BOTH_EXAMPLES:
        _log.warning(
            "Model %s keeps statistics of the examples in variables of its own. They count the copies that fill up the last "
            "batch of an epoch, too, which the frameworks' own BatchNorm leaves out here.",
            name,
        )


_SCALES = (1.0, 0.1, 0.01)
"""Scales of random weights that are tried in turn: large weights saturate later layers, a softmax for instance, which hides a
change."""


def _largest_change(apply: Apply, variables: Variables, inputs: InputSpec, train: bool) -> float:
    """Largest change of the outputs for one example when the other one of its batch is replaced; 0 where no bit changes."""
    rng = np.random.default_rng(0)

    @jax.jit
    def forward(variables: Variables, inputs: Any) -> list[Array]:
        with use_running_averages() if train else contextlib.nullcontext():
            return jax.tree.leaves(apply(variables, inputs, train=train, key=jax.random.key(0))[0])

    # Weights of 0, with which many networks begin, would hide the change.
    def draw_weights(leaf: Any) -> np.ndarray:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        inputs = max(1, math.prod(leaf.shape[:-1]))
        return np.abs(rng.normal(0.5, 0.5, leaf.shape) / math.sqrt(inputs)).astype(leaf.dtype)

    values = jax.tree.map(draw_weights, variables)
    batch = inputs.draw(2, rng)
    for scale in _SCALES:
        scaled = jax.tree.map(lambda leaf, by=scale: (leaf * by).astype(leaf.dtype), values)
        before = forward(scaled, batch)
        largest = 0.0
        for other in (0, 1):
            changed = jax.tree.map(np.copy, batch)
            for rows, drawn in zip(jax.tree.leaves(changed), jax.tree.leaves(inputs.draw(1, rng)), strict=True):
                rows[other] = drawn[0]
            for old, new in zip(before, forward(scaled, changed), strict=True):
                largest = max(largest, _difference(np.asarray(old)[1 - other], np.asarray(new)[1 - other]))
        if largest > 0:
            return largest
    return 0.0


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    difference = np.abs(one - other)
    return float(difference.max()) if np.isfinite(difference).all() else math.inf


def _coupling_error(name: str, train: bool, change: float, found: Dependence) -> str:
    mode = "training" if train else "evaluation"
    where = f" The examples meet at {found.meeting}." if found.meeting else ""
    why = (
        "in training only batch norm may couple examples, and jaxinfl leaves padding out of its means"
        if train
        else "an excluded example, which is evaluated too, would change what a model says of the others"
    )
    return (
        f"model {name}: in {mode} the outputs for one example change by up to {change:.3g} when another example of the batch is "
        f"replaced; {why}.{where} Compute each example by itself (normalize over its own axes, use nnx.BatchNorm, do not fix "
        f"a flag for training), or pass allow=({COUPLED_EXAMPLES!r},) if this is meant."
    )


__all__ = [
    "ALLOWED",
    "COUPLED_EXAMPLES",
    "SAME_WEIGHTS",
    "check_allow",
    "check_examples_apart",
    "check_output",
    "check_repeatable",
    "check_weights_follow_key",
    "couples_examples",
    "warn_of_idle_batch_norm",
]
