"""Models as pairs of pure functions: the registered ones, and those that users pass to `train_ensemble(model=...)`."""

from collections.abc import Callable, Collection
from functools import lru_cache, partial

import jax
from flax import nnx

from jaxinfl.models.checks import check_output
from jaxinfl.models.factory import import_factory
from jaxinfl.models.from_nnx import assemble, model_from_nnx
from jaxinfl.models.layers import conv_norm_relu, conv_relu
from jaxinfl.models.model import Model, Output, Variables, WithAuxiliary
from jaxinfl.models.module import ModuleFactory
from jaxinfl.models.networks import MLP, InceptionV3, ResNet18, SmallCNN, SmallInception

REGISTRY: dict[str, Callable[..., nnx.Module]] = {
    "mlp": MLP,
    "small_mlp": partial(MLP, widths=(128,)),
    "small_cnn": SmallCNN,
    "small_inception": SmallInception,
    "resnet18_cifar": partial(ResNet18, stem="small"),
    "resnet18": ResNet18,
    "inception_v3": InceptionV3,
}
"""Registered architectures: `REGISTRY[name](image_shape, num_classes, rngs=rngs)` is an NNX module."""


def build_model(
    model: str | ModuleFactory | Model,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    allow: Collection[str] = (),
) -> Model:
    """Build the `Model` for images of one shape.

    Args:
      model: a name in `REGISTRY`, a callable `rngs -> nnx.Module`, or a finished `Model`.
      image_shape: (h, w, c).
      num_classes: number of classes.
      allow: the checks that a callable may fail; see `model_from_nnx`.

    Raises:
      ValueError: the name is unknown, the architecture cannot take these images, or the logits have the wrong shape; and
        whatever `model_from_nnx` refuses.
      TypeError: `model` is neither a name nor a callable.
    """
    if isinstance(model, Model):
        variables = jax.eval_shape(model.init, jax.random.key(0))
        check_output(model.apply, variables, image_shape, num_classes, model.name)
        return model
    if isinstance(model, str):
        if model not in REGISTRY:
            raise ValueError(
                f"model {model!r} is not registered. Registered are {', '.join(sorted(REGISTRY))}; "
                "any callable `rngs -> flax.nnx.Module` is taken too."
            )
        return _build_registered(model, tuple(image_shape), num_classes)
    return model_from_nnx(model, image_shape=image_shape, num_classes=num_classes, allow=allow)


# Cached, so that a second ensemble in one process finds the programs compiled for the first. A user's callable is not:
# what it closes over may have changed.
@lru_cache
def _build_registered(name: str, image_shape: tuple[int, int, int], num_classes: int) -> Model:
    def factory(rngs: nnx.Rngs) -> nnx.Module:
        return REGISTRY[name](image_shape, num_classes, rngs=rngs)

    # Tests check these models as `model_from_nnx` checks a user's: reading Inception v3 takes seconds.
    built = assemble(factory, name, image_shape)
    check_output(built.model.apply, built.variables, image_shape, num_classes, name)
    return built.model


def find_factory(name: str) -> str | ModuleFactory | None:
    """Find the model of a run by the name that it recorded: a registered name, an importable callable, or None."""
    return name if name in REGISTRY else import_factory(name)


__all__ = [
    "InceptionV3",
    "MLP",
    "REGISTRY",
    "Model",
    "ModuleFactory",
    "Output",
    "ResNet18",
    "SmallCNN",
    "SmallInception",
    "Variables",
    "WithAuxiliary",
    "build_model",
    "conv_norm_relu",
    "conv_relu",
    "find_factory",
    "model_from_nnx",
]
