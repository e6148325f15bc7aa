"""Weights that the models of an ensemble start from, checked against the model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinfl.arguments import as_array
from jaxinfl.models import Model, Variables

_SOURCE = "It takes what `Ensemble.weights()` returns for models of the same architecture."


def check_initial(
    initial: Variables | None, model: Model, num_models: int, argument: str = "initial"
) -> Variables | None:
    """The weights as host arrays [models, ...] in the structure of the model's variables; `argument` is their name.

    Raises:
      TypeError: no `Variables`.
      ValueError: other variables, shapes or dtypes than the model's, another number of models, or values that are not
        finite.
    """
    if initial is None:
        return None
    if not isinstance(initial, Variables):
        raise TypeError(f"{argument} is {type(initial).__name__}; it takes jaxinfl.models.Variables. {_SOURCE}")
    own, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    given = dict(jax.tree_util.tree_flatten_with_path(initial)[0])
    names = {path: jax.tree_util.keystr(path) for path in (*given, *dict(own))}
    missing, foreign = [path for path, _ in own if path not in given], [path for path in given if path not in dict(own)]
    if missing or foreign:
        what = f"lacks {names[missing[0]]}" if missing else f"holds {names[foreign[0]]}, which is not"
        raise ValueError(f"{argument} {what} of {model.name}. {_SOURCE}")
    leaves = [_checked(f"{argument}: {names[path]}", given[path], leaf, num_models) for path, leaf in own]
    return jax.tree.unflatten(structure, leaves)


def _checked(name: str, values: Any, leaf: jax.ShapeDtypeStruct, num_models: int) -> np.ndarray:
    array = as_array(values, name, f"{leaf.dtype} {(num_models, *leaf.shape)}")
    if array.shape != (num_models, *leaf.shape) or array.dtype != leaf.dtype:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}; it takes {leaf.dtype} {(num_models, *leaf.shape)}, the "
            "weights of one model for each row of masks. jax.tree.map(lambda w: w[rows], weights) takes rows of others."
        )
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        broken = np.flatnonzero([not np.isfinite(row).all() for row in array])
        if broken.size:
            raise ValueError(
                f"{name} is not finite for {broken.size} models (first: {broken[:5].tolist()}). "
                "Leave out the models that diverged."
            )
    return array


__all__ = ["check_initial"]
