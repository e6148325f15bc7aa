"""Values that differ from model to model besides the subset: random keys, numbers of the recipe, and initial weights."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinfl.arguments import as_array
from jaxinfl.models import Model, Variables
from jaxinfl.training.recipe import Recipe, bounds


@dataclass(frozen=True, eq=False)
class ModelKeys:
    """Keys of every model, by source of randomness; a source is held fixed by one key for all models (Appendix C).

    Each field is an array of keys [models], as `jax.random.split(jax.random.key(seed), models)` returns it.
    """

    init: jax.Array
    """Keys that draw the initial weights."""
    order: jax.Array
    """Keys that draw the order of the examples in each epoch."""
    augment: jax.Array
    """Keys that draw crops, flips and dropout."""

    def __post_init__(self) -> None:
        for source in fields(self):
            object.__setattr__(self, source.name, as_keys(getattr(self, source.name), f"keys.{source.name}"))
        lengths = {source.name: len(getattr(self, source.name)) for source in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"keys has different numbers of keys by source, {lengths}; each source takes one for each model."
            )

    def __len__(self) -> int:
        return len(self.init)

    def __getitem__(self, rows: slice | np.ndarray) -> "ModelKeys":
        return ModelKeys.of_data(self.data()[rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return ModelKeys.of_data, (self.data(),)

    @classmethod
    def of_data(cls, data: np.ndarray) -> "ModelKeys":
        """Make keys from the numbers that `data()` returns."""
        return cls(*(jax.random.wrap_key_data(jnp.asarray(data[:, source])) for source in range(3)))

    @classmethod
    def split(cls, keys: object) -> "ModelKeys":
        """Make the three keys of each model from one key for each model; a `ModelKeys` is returned as it is."""
        if isinstance(keys, cls):
            return keys
        init, order, augment = jax.vmap(lambda key: jax.random.split(key, 3))(as_keys(keys, "keys")).T
        return cls(init, order, augment)

    def data(self) -> np.ndarray:
        """The keys as plain numbers, uint32 [models, 3, words], as a run directory keeps them."""
        return self._data

    @cached_property
    def _data(self) -> np.ndarray:
        # The numbers are on the host, where indexing them compiles nothing: indexing arrays of keys takes six small programs.
        parts = [jax.random.key_data(getattr(self, source.name)) for source in fields(self)]
        return np.stack([np.asarray(part) for part in parts], axis=1)


def as_keys(keys: object, name: str) -> jax.Array:
    """Return typed keys [models]; raw uint32 [models, 2] of `jax.random.PRNGKey` are taken too."""
    if not isinstance(keys, (jax.Array, np.ndarray)):
        raise TypeError(
            f"{name} is {type(keys).__name__}; it takes an array of keys, one for each model: "
            "jax.random.split(jax.random.key(0), num_models)."
        )
    array: jax.Array | np.ndarray = keys
    if not jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        if array.dtype != np.uint32 or array.ndim != 2 or array.shape[1] != 2:
            raise TypeError(
                f"{name} has dtype {array.dtype} and shape {array.shape}; it takes one key for each model: "
                "jax.random.split(jax.random.key(0), num_models)."
            )
        array = jax.random.wrap_key_data(jnp.asarray(array))
    implementation = str(jax.random.key_impl(jnp.asarray(array)))
    if "fry" not in implementation:
        raise ValueError(
            f"{name} has keys of the implementation {implementation}; it takes threefry2x32, JAX's default: under vmap the "
            "draws of the others depend on the neighbours. Make them by "
            "jax.random.split(jax.random.key(seed, impl='threefry2x32'), num_models)."
        )
    if array.ndim != 1:
        raise ValueError(
            f"{name} has shape {array.shape}; it takes one key for each model, shape [models]: "
            "jax.random.split(jax.random.key(0), num_models)."
        )
    if not len(array):
        raise ValueError(f"{name} is empty; it takes one key for each model, and at least one.")
    return jnp.asarray(array)


class Given(NamedTuple):
    """Values that the user sets for one model. By default there are none, and then the compiled program takes none."""

    overrides: dict[str, Any] | None = None
    """Numbers in place of the recipe's, by field of `Recipe`."""
    initial: Variables | None = None
    """Weights to start from in place of the model's own initialization."""


OVERRIDABLE = ("learning_rate", "weight_decay", "momentum", "label_smoothing")
"""Fields of `Recipe` that may differ from model to model, because they enter the step as plain factors.

The other fields decide the program itself: how many steps it takes, and what it draws.
"""


def check_overrides(
    overrides: Mapping[str, Any] | None, recipe: Recipe, num_models: int
) -> dict[str, Float[np.ndarray, " models"]]:
    """Return the overrides as float32 arrays [models] by name, empty where there are none.

    Raises:
      TypeError: `overrides` is no mapping, or its values are no numbers.
      ValueError: a field cannot differ from model to model or is without effect, has a wrong number of values, or has a
        value that `Recipe` would refuse, such as NaN.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides is {type(overrides).__name__}; it takes a mapping from a field of the recipe to one value for each model: "
            '{"learning_rate": [0.1, 0.2, ...]}.'
        )
    unknown = [name for name in overrides if name not in OVERRIDABLE]
    if unknown:
        raise ValueError(
            f"overrides: {unknown[0]!r} cannot differ from model to model; {', '.join(OVERRIDABLE)} can. "
            "Train one ensemble for each value of the others."
        )
    return {name: _check_override(name, overrides[name], recipe, num_models) for name in sorted(overrides)}


def _check_override(name: str, values: object, recipe: Recipe, num_models: int) -> Float[np.ndarray, " models"]:
    try:
        array = np.asarray(values)
    except ValueError:  # nested lists of unequal lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"overrides: {name} is {values!r}; it takes an array of numbers, one for each model.")
    if array.shape != (num_models,):
        raise ValueError(
            f"overrides: {name} has shape {array.shape}; it takes one value for each model, shape ({num_models},)."
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
    """Put one model's numbers in place of the recipe's own.

    The numbers are traced, so the result is valid inside one trace only; it can be neither hashed nor compared.
    """
    if not values:
        return recipe
    own = copy.copy(recipe)
    for name, value in values.items():
        object.__setattr__(own, name, value)
    return own


_SOURCE = "It takes what `Ensemble.weights()` returns for models of the same architecture."


def check_weights(weights: object, model: Model, num_models: int, argument: str) -> Variables:
    """Return the weights as host arrays [models, ...] in the structure of the model's variables.

    `argument` is the user's name for the weights in errors.

    Raises:
      TypeError: `weights` are no `Variables`.
      ValueError: the variables, shapes or dtypes are not the model's, the number of models is another one, or values are
        not finite.
    """
    if not isinstance(weights, Variables):
        raise TypeError(f"{argument} is {type(weights).__name__}; it takes jaxinfl.models.Variables. {_SOURCE}")
    own, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    given = dict(jax.tree_util.tree_flatten_with_path(weights)[0])
    names = {path: jax.tree_util.keystr(path) for path in (*given, *dict(own))}
    missing, foreign = [path for path, _ in own if path not in given], [path for path in given if path not in dict(own)]
    if missing or foreign:
        what = f"lacks {names[missing[0]]}" if missing else f"holds {names[foreign[0]]}, which is not"
        raise ValueError(f"{argument} {what} of {model.name}. {_SOURCE}")
    leaves = [_check_leaf(f"{argument}: {names[path]}", given[path], leaf, num_models) for path, leaf in own]
    return jax.tree.unflatten(structure, leaves)


def _check_leaf(name: str, values: Any, leaf: jax.ShapeDtypeStruct, num_models: int) -> np.ndarray:
    array = as_array(values, name, f"{leaf.dtype} {(num_models, *leaf.shape)}")
    if array.shape != (num_models, *leaf.shape) or array.dtype != leaf.dtype:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}; it takes {leaf.dtype} {(num_models, *leaf.shape)}, the "
            "weights of one model for each row of masks. Choose rows with jax.tree.map(lambda w: w[rows], weights)."
        )
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        broken = np.flatnonzero([not np.isfinite(row).all() for row in array])
        if broken.size:
            raise ValueError(
                f"{name} is not finite for {broken.size} models (first: {broken[:5].tolist()}). "
                "Leave out the models that diverged."
            )
    return array


__all__ = ["ModelKeys", "OVERRIDABLE", "as_keys", "Given", "check_overrides", "check_weights", "with_overrides"]
