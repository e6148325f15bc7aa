"""A `Model` from any Flax NNX module. NNX stays inside this folder."""

from collections.abc import Collection
from typing import Any

from flax import nnx
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from jaxinfl.models import assemble as functions
from jaxinfl.models.assemble import Assembled, build_checked, name_of
from jaxinfl.models.checks import warn_of_idle_batch_norm
from jaxinfl.models.factory import as_factory
from jaxinfl.models.inputs import InputSpec, as_spec
from jaxinfl.models.model import Model, Variables
from jaxinfl.models.module import Definition, ModuleFactory, build_module, split, take_apart


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
    name = name or name_of(factory)
    build = as_factory(factory)
    spec = as_spec(inputs)
    built = build_checked(
        lambda: assemble(build, name, spec), inputs=spec, outputs=outputs, allow=allow, has_dropout=_has_dropout
    )
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

    def forward(
        variables: Variables, inputs: Any, *, train: bool, mask: Bool[Array, " batch"] | None, key: PRNGKeyArray
    ) -> tuple[Any, PyTree[Array]]:
        module = seen[0][0].merge(*variables, train=train, key=key)
        returned = module(inputs)
        return returned, nnx.to_pure_dict(split(module)[3])

    # One trace tells the graph of the module, the shapes of its variables and how they are drawn.
    assembled = functions.assemble(init, forward, name, inputs)
    return assembled._replace(module=seen[0][1])


def _has_dropout(module: nnx.Module) -> bool:
    return any(isinstance(part, nnx.Dropout) and part.rate > 0 for _, part in nnx.iter_modules(module))


__all__ = ["assemble", "model_from_nnx"]
