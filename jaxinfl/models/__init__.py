"""Models as pairs of pure functions: the registered ones, and those that users pass to `train_ensemble(model=...)`."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
from flax import nnx

from jaxinfl.models.checks import check_output
from jaxinfl.models.factory import builds_equinox, import_factory, is_linen
from jaxinfl.models.from_functions import Functions, model_from_functions
from jaxinfl.models.from_nnx import assemble, model_from_nnx
from jaxinfl.models.inputs import ArraySpec, InputSpec, as_spec
from jaxinfl.models.layers import conv_norm_relu, conv_relu
from jaxinfl.models.model import Model, Output, Variables, WithAuxiliary
from jaxinfl.models.module import ModuleFactory
from jaxinfl.models.networks import MLP, InceptionV3, ResNet9, ResNet18, SmallCNN, SmallInception, Transformer

REGISTRY: dict[str, Callable[..., nnx.Module]] = {
    "mlp": MLP,
    "small_mlp": partial(MLP, widths=(128,)),
    "small_cnn": SmallCNN,
    "small_inception": SmallInception,
    "resnet9": ResNet9,
    "small_resnet9": partial(ResNet9, channels=16, stride=2),
    "resnet18_cifar": partial(ResNet18, stem="small"),
    "resnet18": ResNet18,
    "inception_v3": InceptionV3,
    "transformer": Transformer,
    "tiny_transformer": partial(Transformer, layers=1, width=32, heads=2),
}
"""Registered architectures: `REGISTRY[name](inputs, outputs, rngs=rngs)` is an NNX module."""
TAKES_ANY = frozenset({"mlp", "small_mlp"})
"""Registered architectures that take an `InputSpec` of any inputs."""
TAKES_SEQUENCES = frozenset({"transformer", "tiny_transformer"})
"""Registered architectures that take an `InputSpec` of sequences, and the shape of the outputs; others take that of an image."""

AnyModel = str | Callable[..., Any] | Functions | Model
"""What is taken for a model: a registered name, a callable `rngs -> flax.nnx.Module` or `key -> equinox.Module`, a Flax Linen
module, a pair of pure functions, or a finished `Model`."""


def build_model(
    model: AnyModel,
    *,
    inputs: InputSpec | tuple[int, ...],
    outputs: tuple[int, ...] | int | None,
    allow: Collection[str] = (),
) -> Model:
    """Build the `Model` for inputs of one kind.

    Args:
      model: a name in `REGISTRY`; a callable `rngs -> flax.nnx.Module`; a Flax Linen module; a callable with a parameter `key`
        that makes an `equinox.Module`; a pair of functions (init, apply), see `model_from_functions`; or a finished `Model`.
      inputs: what the model takes of one example; a shape stands for one array of floats, (h, w, c) for images.
      outputs: number of outputs, or their shape for one example; None where the task does not say.
      allow: the checks that a model of one's own may fail; see `model_from_nnx`.

    Raises:
      ValueError: the name is unknown, the architecture cannot take these inputs, or the outputs have the wrong shape; and
        whatever the checks of a model of one's own refuse.
      TypeError: `model` is nothing of these.
    """
    spec = as_spec(inputs)
    if isinstance(model, Model):
        variables = jax.eval_shape(model.init, jax.random.key(0))
        check_output(model.apply, variables, spec, outputs, model.name)
        return model
    if isinstance(model, str):
        if model not in REGISTRY:
            raise ValueError(
                f"model {model!r} is not registered. Registered are {', '.join(sorted(REGISTRY))}; "
                "models of your own are taken too, for example any callable `rngs -> flax.nnx.Module`."
            )
        return _build_registered(model, spec, outputs)
    built = _converter(model)(model, inputs=spec, outputs=outputs, allow=allow)
    return replace(built, rebuild=partial(build_model, model, inputs=spec, outputs=outputs, allow=tuple(allow)))


def _converter(model: Any) -> Callable[..., Model]:
    """The function that makes a `Model` of a model of a user's own; those of other frameworks are imported with them."""
    if isinstance(model, (tuple, list)):
        return model_from_functions
    if is_linen(model):
        from jaxinfl.models.from_linen import model_from_linen

        return model_from_linen
    if builds_equinox(model):
        from jaxinfl.models.from_equinox import model_from_equinox

        return model_from_equinox
    return model_from_nnx


# Cached, so that a second ensemble in one process finds the programs compiled for the first. A user's callable is not:
# what it closes over may have changed.
@lru_cache
def _build_registered(name: str, inputs: InputSpec, outputs: tuple[int, ...] | int | None) -> Model:
    if outputs is None:
        raise ValueError(
            f"model {name!r} is told by the task how many outputs it has, and a task of your own does not say. Pass a module of "
            "your own, a callable `rngs -> flax.nnx.Module`."
        )
    shape = (outputs,) if isinstance(outputs, int) else outputs
    takes, gives = _arguments(name, inputs, shape)

    def factory(rngs: nnx.Rngs) -> nnx.Module:
        return REGISTRY[name](takes, gives, rngs=rngs)

    # Tests check these models as `model_from_nnx` checks a user's: reading Inception v3 takes seconds.
    built = assemble(factory, name, inputs)
    check_output(built.model.apply, built.variables, inputs, outputs, name)
    return replace(built.model, rebuild=partial(build_model, name, inputs=inputs, outputs=outputs))


def _arguments(name: str, inputs: InputSpec, outputs: tuple[int, ...]) -> tuple[Any, Any]:
    """What a registered architecture is told of the inputs and of the outputs."""
    if name in TAKES_SEQUENCES:
        return inputs, outputs
    takes = inputs if name in TAKES_ANY else inputs.image_shape
    if takes is None:
        raise ValueError(
            f"model {name!r} takes images, float32 [batch, height, width, channels]; these inputs are {inputs}. Take one of "
            f"{', '.join(map(repr, sorted(TAKES_ANY)))}, or a module of your own."
        )
    return takes, outputs[-1] if outputs else 1


def find_factory(name: str) -> Any:
    """Find the model of a run by the name that it recorded: a registered name, one that can be imported, or None."""
    return name if name in REGISTRY else import_factory(name)


__all__ = [
    "AnyModel",
    "ArraySpec",
    "Functions",
    "InputSpec",
    "as_spec",
    "InceptionV3",
    "MLP",
    "REGISTRY",
    "Model",
    "ModuleFactory",
    "Output",
    "ResNet9",
    "ResNet18",
    "SmallCNN",
    "SmallInception",
    "Transformer",
    "Variables",
    "WithAuxiliary",
    "build_model",
    "conv_norm_relu",
    "conv_relu",
    "find_factory",
    "model_from_functions",
    "model_from_nnx",
]
