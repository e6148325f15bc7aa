"""Numbers of the recipe that differ from model to model, so that a sweep is one ensemble and one compilation."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from jaxinfl.training.recipe import Recipe, bounds

OVERRIDABLE = ("learning_rate", "weight_decay", "momentum", "label_smoothing")
"""Fields of `Recipe` that enter the step as plain factors. The others decide its shape: how many steps, what is drawn."""


def check_overrides(
    overrides: Mapping[str, Any] | None, recipe: Recipe, num_models: int
) -> dict[str, Float[np.ndarray, " models"]]:
    """The overrides as float32 arrays [models] by name, empty where there are none.

    Raises:
      TypeError: not a mapping, or values that are no numbers.
      ValueError: a field that cannot differ from model to model or is without effect, a wrong number of values, or a
        value that `Recipe` would refuse, NaN among them.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides is {type(overrides).__name__}; it takes a mapping from a field of the recipe to one value a model: "
            '{"learning_rate": [0.1, 0.2, ...]}.'
        )
    unknown = [name for name in overrides if name not in OVERRIDABLE]
    if unknown:
        raise ValueError(
            f"overrides: {unknown[0]!r} cannot differ from model to model; {', '.join(OVERRIDABLE)} can. "
            "Train one ensemble for each value of the others."
        )
    return {name: _checked(name, overrides[name], recipe, num_models) for name in sorted(overrides)}


def _checked(name: str, values: object, recipe: Recipe, num_models: int) -> Float[np.ndarray, " models"]:
    try:
        array = np.asarray(values)
    except ValueError:  # nested lists of unequal lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"overrides: {name} is {values!r}; it takes an array of numbers, one a model.")
    if array.shape != (num_models,):
        raise ValueError(
            f"overrides: {name} has shape {array.shape}; it takes one value a model, shape ({num_models},)."
        )
    low, high = bounds(name)
    wrong = np.flatnonzero(~((array >= low) & (array <= high)))  # NaN is neither
    if wrong.size:
        raise ValueError(f"overrides: {name}[{wrong[0]}] is {array[wrong[0]]}; it takes numbers from {low} to {high}.")
    if name == "momentum" and recipe.optimizer != "sgd":
        raise ValueError(
            f"overrides: momentum is without effect for {recipe.optimizer}. Leave it out, or use optimizer='sgd'."
        )
    if name == "momentum" and recipe.nesterov and not array.all():
        raise ValueError(
            f"overrides: momentum[{int(array.argmin())}] is 0, but the recipe's nesterov is a form of momentum. "
            "Give values above 0, or nesterov=False."
        )
    return array.astype(np.float32)


def with_overrides(recipe: Recipe, values: Mapping[str, Float[Array, ""]] | None) -> Recipe:
    """The recipe with one model's numbers in place of its own.

    The numbers are traced, so the result lives inside one trace: it can be neither hashed nor compared.
    """
    if not values:
        return recipe
    own = copy.copy(recipe)
    for name, value in values.items():
        object.__setattr__(own, name, value)
    return own


__all__ = ["OVERRIDABLE", "check_overrides", "with_overrides"]
