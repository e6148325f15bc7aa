"""What the estimators accept, checked on the host before anything is compiled."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32, Int

from jaxinfl.arguments import as_array, is_number, is_whole, shown
from jaxinfl.subsets import check_bool_matrix, check_matrix


def check_correct(correct: ArrayLike, num_models: int, name: str = "correct") -> Bool[np.ndarray, "models test"]:
    """`correct` as a NumPy array with one row for each of `num_models` models, or an error."""
    checked = check_bool_matrix(correct, name, "[models, test], True where the model is right on the example")
    _check_rows(checked, num_models, name)
    return checked


def check_score(
    score: ArrayLike | Sequence[Any],
    num_models: int,
    name: str = "score",
    num_columns: int | None = None,
    masks_name: str = "masks",
) -> Bool[np.ndarray, "models test"] | Float32[np.ndarray, "models test"]:
    """`score` as a bool or float32 NumPy array with one row a model, or an error.

    Floats of any other width are rounded to float32 here. `num_columns` is given where the columns are the training
    examples.
    """
    array = as_array(score, name, "bool or float scores, a row a model")
    if not (array.dtype == np.bool_ or jnp.issubdtype(array.dtype, jnp.floating)):
        raise TypeError(
            f"{name} has dtype {array.dtype}, but takes bool (right or wrong) or float (a probability, a margin); "
            f"if its values are 0 and 1, pass {name}.astype(bool)."
        )
    check_matrix(array, name, "[models, test]" if num_columns is None else "[models, train]")
    _check_rows(array, num_models, name, masks_name)
    if num_columns is not None and array.shape[1] != num_columns:
        raise ValueError(
            f"{name} has {array.shape[1]} columns, but masks has {num_columns}: both need one column a training example."
        )
    if array.dtype == np.bool_:
        return array
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is reported as such below
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name} holds NaN or inf (as float32) for {np.count_nonzero(~finite)} of {num_models} models "
            f"(first: {np.flatnonzero(~finite)[:5].tolist()}). Drop diverged models first, from masks and from {name}."
        )
    return array


def check_thresholds(thresholds: ArrayLike | Sequence[Any]) -> Float[np.ndarray, " thresholds"]:
    """`thresholds` as a 1-D float64 array in the order given; a scalar becomes one threshold."""
    array = np.atleast_1d(as_array(thresholds, "thresholds", "numbers, in the unit of the influence"))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"thresholds has dtype {array.dtype}, but takes numbers, in the unit of the influence.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"thresholds has shape {array.shape}, but takes a scalar or a 1-D array of at least one.")
    if np.isnan(array).any():
        raise ValueError(
            f"thresholds holds {np.count_nonzero(np.isnan(array))} NaN of {array.size}: nothing is >= NaN."
        )
    return array.astype(np.float64)


def check_examples(examples: ArrayLike | Sequence[Any] | None, num_train: int) -> Int[np.ndarray, " examples"] | None:
    """Indices of training examples from indices or a bool mask of length `num_train`; None stays None (all of them)."""
    if examples is None:
        return None
    array = as_array(examples, "examples", f"indices of training examples, or a bool mask of length {num_train}")
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise TypeError(
            f"examples has dtype {array.dtype} and shape {array.shape}, but takes a 1-D array of indices, "
            f"or a bool mask of length {num_train}."
        )
    if array.dtype == np.bool_:
        if array.size != num_train:
            raise ValueError(f"examples is a bool mask of length {array.size}, but masks has {num_train} columns.")
        array = np.flatnonzero(array)
    if array.size == 0:
        raise ValueError("examples selects no training example; pass at least one, or None for all of them.")
    outside = (array < 0) | (array >= num_train)
    if outside.any():
        raise ValueError(
            f"examples holds {np.count_nonzero(outside)} indices outside 0..{num_train - 1} "
            f"(first: {array[outside][0]})."
        )
    return array.astype(np.intp)


def check_positive(value: Any, name: str, high: int | None = None) -> int:
    """`value` as a positive int, at most `high`, or an error."""
    if not is_whole(value):
        raise TypeError(f"{name} is {shown(value)}, but takes a positive int.")
    if value < 1:
        raise ValueError(f"{name} is {value}, but takes a positive int.")
    if high is not None and value > high:
        raise ValueError(f"{name} is {value}, but takes at most {high}.")
    return int(value)


def check_min_memorization(min_memorization: float | None) -> None:
    """Raise unless `min_memorization` is None or a number other than NaN."""
    if min_memorization is None:
        return
    if not is_number(min_memorization):
        raise TypeError(f"min_memorization is {shown(min_memorization)}, but takes a number, or None.")
    if not -np.inf <= min_memorization <= np.inf:
        raise ValueError("min_memorization is NaN, and nothing is > NaN; pass None to switch the condition off.")
    if 1e300 < abs(min_memorization) < np.inf:  # an int may be too large for any comparison with an array
        raise ValueError(f"min_memorization is {shown(min_memorization)}, but takes a number in the unit of the score.")


def _check_rows(array: np.ndarray, num_models: int, name: str, masks_name: str = "masks") -> None:
    if len(array) != num_models:
        raise ValueError(
            f"{name} has {len(array)} rows, but {masks_name} has {num_models}: both need one row a model, in the same order."
        )
