"""A `Model` from any Flax NNX module. NNX stays inside this folder."""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from jaxinfl.models.checks import (
    COUPLED_EXAMPLES,
    SAME_WEIGHTS,
    check_allow,
    check_examples_apart,
    check_output,
    check_repeatable,
    check_weights_follow_key,
    warn_of_idle_batch_norm,
)
from jaxinfl.models.factory import as_factory
from jaxinfl.models.fingerprint import Traces, fingerprint_of, spell_out, trace_apply
from jaxinfl.models.inputs import InputSpec, as_spec
from jaxinfl.models.layers.context import count_examples
from jaxinfl.models.model import Model, Output, Variables, WithAuxiliary
from jaxinfl.models.module import Definition, ModuleFactory, build_module, split, take_apart


class Assembled(NamedTuple):
    """A model, and the programs and the module that it was made from."""

    model: Model
    variables: Variables
    """Shapes and dtypes of the variables of one model."""
    traces: Traces
    texts: tuple[bytes, ...]
    """The traces as text."""
    module: nnx.Module
    """The module that the factory returned."""


def model_from_nnx(
    factory: ModuleFactory,
    *,
    inputs: InputSpec | tuple[int, ...],
    outputs: tuple[int, ...] | int | None,
    name: str | None = None,
    allow: Collection[str] = (),
) -> Model:
    """Make a `Model` of a callable that builds a Flax NNX module.

    The module is used as it is, except that `jaxinfl.models.module` replaces its plain layers. Flags that tell a module
    whether it is trained (`train`, `training`, `is_training`, `deterministic`, `use_running_average`) are set where it has
    them, as an attribute or as a parameter of `__call__` that the caller leaves out.

    Args:
      factory: `rngs -> nnx.Module`, which takes `rngs` by position or by that keyword; the module maps float images
        [batch, h, w, c] to logits [batch, classes]. In training it may return (logits, auxiliary logits). Values that it
        sows as `nnx.Intermediate` are dropped.
      inputs: what the module takes of one example; a shape stands for one array of floats.
      outputs: number of outputs that the module must return, or their shape for one example; None takes any.
      name: name of the model in a run; by default the qualified name of `factory`.
      allow: "coupled_examples" lets in a model whose output for an example depends on others in its batch. "same_weights"
        lets in a model whose weights are drawn, but not from the key that it is given.

    Raises:
      TypeError: `factory` cannot be called with `rngs` alone, does not return an `nnx.Module`, or holds a variable that
        cannot be kept.
      ValueError: the module's output for a batch has not the shape that the task takes, the output for an example depends on
        another one, or the initial weights are drawn from another source than the key.
    """
    allowed = check_allow(allow)
    name = name or f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', type(factory).__name__)}"
    build = as_factory(factory)
    spec = as_spec(inputs)
    built = assemble(build, name, spec)
    # The model is built once more, as the next call of `train_ensemble` will do it.
    again = assemble(build, name, spec)
    check_output(built.model.apply, built.variables, spec, outputs, name)
    check_repeatable(built.texts, again.texts, name)
    if SAME_WEIGHTS not in allowed:
        check_weights_follow_key(built.traces.init, built.variables, name, one_module=built.module is again.module)
    if COUPLED_EXAMPLES not in allowed:
        has_dropout = any(isinstance(part, nnx.Dropout) and part.rate > 0 for _, part in nnx.iter_modules(built.module))
        check_examples_apart(built.model.apply, built.variables, spec, name, has_dropout=has_dropout)
    warn_of_idle_batch_norm(built.traces.train, built.variables, built.module, name)
    return built.model


def assemble(factory: ModuleFactory, name: str, inputs: InputSpec) -> Assembled:
    """Make the model of a factory that takes its argument by position, without checking the model."""
    seen: list[tuple[Definition, nnx.Module]] = []

    def init(key: PRNGKeyArray) -> Variables:
        module, original = build_module(factory, key, name)
        if not seen:
            seen.append((take_apart(module, name), original))
        _, params, _, stats = split(module)
        return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(stats))

    # One trace tells the graph of the module, the shapes of its variables and how they are drawn.
    init_trace, shapes = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0))
    variables = Variables(*shapes)
    definition, original = seen[0]

    def apply(
        variables: Variables,
        inputs: Any,
        *,
        train: bool,
        mask: Bool[Array, " batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Output, PyTree[Array]]:
        module = definition.merge(*variables, train=train, key=key)
        with count_examples(mask):
            output = _as_output(module(inputs), train, name)
        stats = nnx.to_pure_dict(split(module)[3])
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
    return Assembled(model, variables, traces, texts, original)


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


__all__ = ["Assembled", "assemble", "model_from_nnx"]
