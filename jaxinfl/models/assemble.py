"""The one path on which every model of a user's becomes a `Model`: two pure functions are traced once, and then checked.

The files `from_*.py` turn what a framework calls a model into these two functions. They know nothing of the checks, and the
checks know nothing of frameworks.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from jaxinfl.models.checks import (
    COUPLED_EXAMPLES,
    SAME_WEIGHTS,
    check_allow,
    check_examples_apart,
    check_output,
    check_repeatable,
    check_weights_follow_key,
)
from jaxinfl.models.fingerprint import Traces, fingerprint_of, spell_out, trace_apply
from jaxinfl.models.inputs import InputSpec
from jaxinfl.models.layers.context import count_examples
from jaxinfl.models.model import Init, Model, Output, Variables, WithAuxiliary

Forward = Callable[..., tuple[Any, PyTree[Array]]]
"""`forward(variables, inputs, train=..., mask=..., key=...)` returns what the network returned, and the statistics after it."""


class Assembled(NamedTuple):
    """A model, and the programs that it was made from."""

    model: Model
    variables: Variables
    """Shapes and dtypes of the variables of one model."""
    traces: Traces
    texts: tuple[bytes, ...]
    """The traces as text."""
    module: Any = None
    """The module that a user's function returned; None where there is none that could be returned twice."""


def assemble(init: Init, forward: Forward, name: str, inputs: InputSpec) -> Assembled:
    """Make the model of two pure functions, without checking it; `init` is traced before `forward` is called."""
    init_trace, shapes = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0))
    variables = Variables(*shapes)

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        mask: Bool[Array, " batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Output, PyTree[Array]]:
        key = jax.random.key(0) if key is None else key
        with count_examples(mask):
            returned, stats = forward(variables, inputs, train=train, mask=mask, key=key)
        output = _as_output(returned, train, name)
        _check_same_variables(variables.stats, stats, name)
        return output, jax.tree.map(lambda new, old: new.astype(old.dtype), stats, variables.stats)

    traces = Traces(init_trace, *trace_apply(apply, variables, inputs))
    texts = tuple(map(spell_out, traces))
    model = Model(
        name=name,
        init=init,
        apply=apply,
        num_params=sum(leaf.size for leaf in jax.tree.leaves(variables.params)),
        fingerprint=fingerprint_of(texts, variables),
    )
    return Assembled(model, variables, traces, texts)


def build_checked(
    build: Callable[[], Assembled],
    *,
    inputs: InputSpec,
    outputs: tuple[int, ...] | int | None,
    allow: Collection[str],
    has_dropout: Callable[[Any], bool] = lambda module: False,
    takes_mask: bool = False,
) -> Assembled:
    """Build a user's model and check it.

    Args:
      build: function that assembles the model. It is called twice, as the next call of `train_ensemble` will do it.
      inputs, outputs, allow: as in `build_model`.
      has_dropout: function that says whether a module holds dropout.
      takes_mask: whether the model is told which examples count, so that its own statistics can leave out padding.

    Raises:
      ValueError: the outputs have another shape than the task takes, the output for an example depends on another one, or
        the initial weights are drawn from another source than the key.
    """
    allowed = check_allow(allow)
    built, again = build(), build()
    name = built.model.name
    check_output(built.model.apply, built.variables, inputs, outputs, name)
    check_repeatable(built.texts, again.texts, name)
    if SAME_WEIGHTS not in allowed:
        one_module = built.module is not None and built.module is again.module
        check_weights_follow_key(built.traces.init, built.variables, name, one_module=one_module)
    if COUPLED_EXAMPLES not in allowed:
        check_examples_apart(
            built.model.apply,
            built.variables,
            inputs,
            name,
            has_dropout=has_dropout(built.module),
            takes_mask=takes_mask,
        )
    return built


def name_of(function: Any) -> str:
    """The qualified name of a function or class, by which `find_factory` may import it; that of the class of anything else."""
    inner = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', '')}.{inner}"


def _as_output(returned: Any, train: bool, name: str) -> Output:
    """The output that a module returned, in float32."""
    if train and isinstance(returned, tuple) and len(returned) == 2:
        logits, auxiliary = returned
        return WithAuxiliary(_as_logits(logits, name), _as_logits(auxiliary, name))
    return _as_logits(returned, name)


def _as_logits(returned: Any, name: str) -> Float[Array, "batch classes"]:
    if not hasattr(returned, "astype"):
        raise TypeError(
            f"model {name} returns {type(returned).__name__}; it must return logits [batch, classes], or in training "
            "(logits, auxiliary logits)."
        )
    logits: Array = returned.astype(jnp.float32)
    return logits


def _check_same_variables(before: PyTree[Array], after: PyTree[Array], name: str) -> None:
    """Raise `ValueError` unless the forward pass keeps all variables in their shapes, and adds none."""
    old, new = (dict(jax.tree_util.tree_flatten_with_path(tree)[0]) for tree in (before, after))
    for path in (*old, *new):
        variable = jax.tree_util.keystr(path, simple=True, separator=".")
        if path not in old or path not in new:
            raise ValueError(
                f"model {name}: its forward pass {'removes' if path in old else 'adds'} the variable {variable}. Make every "
                "variable when the module is built, with its final shape; sow values that are only looked at with "
                "self.sow(nnx.Intermediate, ...)."
            )
        if old[path].shape != new[path].shape:
            raise ValueError(
                f"model {name}: its forward pass gives the variable {variable} the shape {new[path].shape} in place of "
                f"{old[path].shape}. A variable keeps the shape that it was made with."
            )


__all__ = ["Assembled", "Forward", "assemble", "build_checked", "name_of"]
