"""How often two models say the same (Section 2.2)."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from jaxinfl.arguments import as_array


def agreement(predictions: ArrayLike) -> Float[np.ndarray, "models models"]:
    """Share of examples on which two models predict the same class, for every pair of models.

    Args:
      predictions: predicted classes, whole numbers [models, examples].

    Returns:
      float64 [models, models], symmetric, 1 on the diagonal.

    Raises:
      TypeError: predictions that are not whole numbers.
      ValueError: not two-dimensional, empty, or of models that diverged (-1).

    Source: Section 2.2 of the paper, Agreement(h1, h2, s).
    """
    classes = _check_predictions("predictions", predictions)
    # A model at a time: all pairs at once would need models^2 * examples bytes.
    return np.stack([(classes == one[None]).mean(axis=1) for one in classes])


def agreement_of_pairs(predictions: ArrayLike) -> Float[np.ndarray, " pairs"]:
    """`agreement` of the models (models - 1) / 2 different pairs, (0, 1), (0, 2), ..., (1, 2), ...: what a table averages.

    The pairs share models: their standard deviation describes them, but divided by the root of their number it
    is no standard error of the mean.
    """
    matrix = agreement(predictions)
    return matrix[np.triu_indices(len(matrix), k=1)]


def agreement_between(one: ArrayLike, other: ArrayLike) -> Float[np.ndarray, " models"]:
    """Share of examples on which model t of `one` and model t of `other` predict the same class.

    Args:
      one, other: predicted classes, whole numbers [models, examples]; row t of both is a pair of models. `Ensemble.paired` aligns
        two ensembles so.

    Returns:
      float64 [models], from 0 to 1.

    Raises:
      TypeError, ValueError: as `agreement`; different shapes.
    """
    first, second = _check_predictions("one", one), _check_predictions("other", other)
    if first.shape != second.shape:
        raise ValueError(f"one has shape {first.shape} and other {second.shape}; they take one row a model each.")
    return (first == second).mean(axis=1)


def _check_predictions(name: str, predictions: ArrayLike) -> Int[np.ndarray, "models examples"]:
    classes = as_array(predictions, name, "predicted classes, whole numbers [models, examples]")
    if classes.dtype.kind not in "iu":
        raise TypeError(
            f"{name} has dtype {classes.dtype}; it takes predicted classes as whole numbers, "
            "such as Ensemble.test_prediction."
        )
    if classes.ndim != 2 or 0 in classes.shape:
        raise ValueError(f"{name} has shape {classes.shape}; it takes [models, examples], with one of each at least.")
    silent = np.flatnonzero((classes < 0).any(axis=1))
    if silent.size:
        raise ValueError(
            f"{name} holds negative classes for {silent.size} models (first: {silent[:5].tolist()}): models that "
            "diverged predict nothing. Leave them out: runs.without_diverged().test_prediction."
        )
    return classes
