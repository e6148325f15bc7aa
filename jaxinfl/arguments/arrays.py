"""Arrays that a user gives, checked on the host before anything is compiled."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float32, Int, Shaped

from jaxinfl.arguments.values import is_number, quote

MOST_BYTES = 64 * 2**30
"""Largest array that is taken, in bytes. What asks for more is a mistake, or a file that was made to exhaust the machine."""


def as_array(value: Any, name: str, takes: str) -> np.ndarray:
    """`value` as a NumPy array.

    Raises:
      ValueError: nested lists of unequal lengths.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not one rectangular array ({error}); it takes {takes}.") from None


def check_masks(masks: ArrayLike, name: str = "masks") -> Bool[np.ndarray, "models train"]:
    """`masks` as a NumPy array, or an error that says what is wrong with it."""
    return check_bool_matrix(masks, name, "[models, train], True where the model was trained on the example")


def check_bool_matrix(value: ArrayLike, name: str, meaning: str) -> Bool[np.ndarray, "_ _"]:
    """`value` as a NumPy array, if it is bool, two-dimensional and not empty."""
    array = as_array(value, name, f"bool {meaning}")
    if array.dtype != np.bool_:
        raise TypeError(
            f"{name} has dtype {array.dtype}; it takes bool {meaning}; if its values are 0 and 1, "
            f"pass {name}.astype(bool)."
        )
    check_matrix(array, name, meaning)
    return array


def check_matrix(array: np.ndarray, name: str, meaning: str) -> None:
    """Raise `ValueError` unless `array` is two-dimensional and not empty."""
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; it takes 2 dimensions, {meaning}.")
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}: it is empty; it takes at least one model and one example.")


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
    """`score` as a bool or float32 NumPy array with one row a model and finite values, or an error.

    The arguments are those of `check_score_matrix`.
    """
    array = check_score_matrix(score, num_models, name, num_columns, masks_name)
    if array.dtype == np.bool_:
        return array
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{name} holds NaN or inf (as float32) for {np.count_nonzero(~finite)} of {num_models} models "
            f"(first: {np.flatnonzero(~finite)[:5].tolist()}). Drop diverged models first, from masks and from {name}."
        )
    return array


def check_score_matrix(
    score: ArrayLike | Sequence[Any],
    num_models: int,
    name: str = "score",
    num_columns: int | None = None,
    masks_name: str = "masks",
) -> Bool[np.ndarray, "models test"] | Float32[np.ndarray, "models test"]:
    """`score` as a bool or float32 NumPy array with one row a model, or an error; its values may be NaN or infinite.

    Floats of any other width are rounded to float32 here. `num_columns` is given where the columns are the training
    examples.
    """
    array = as_array(score, name, "bool or float scores, a row a model")
    if not (array.dtype == np.bool_ or jnp.issubdtype(array.dtype, jnp.floating)):
        raise TypeError(
            f"{name} has dtype {array.dtype}; it takes bool (right or wrong) or float (a probability, a margin); "
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
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is reported as such
        return array.astype(np.float32, copy=False)


def check_thresholds(thresholds: ArrayLike | Sequence[Any]) -> Float[np.ndarray, " thresholds"]:
    """`thresholds` as a 1-D float64 array in the order given; a scalar becomes one threshold."""
    array = np.atleast_1d(as_array(thresholds, "thresholds", "numbers, in the unit of the influence"))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"thresholds has dtype {array.dtype}; it takes numbers, in the unit of the influence.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"thresholds has shape {array.shape}; it takes a scalar or a 1-D array of at least one.")
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
            f"examples has dtype {array.dtype} and shape {array.shape}; it takes a 1-D array of indices, "
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


def check_min_memorization(min_memorization: float | None) -> None:
    """Raise unless `min_memorization` is None or a number other than NaN."""
    if min_memorization is None:
        return
    if not is_number(min_memorization):
        raise TypeError(f"min_memorization is {quote(min_memorization)}; it takes a number, or None.")
    if not -np.inf <= min_memorization <= np.inf:
        raise ValueError("min_memorization is NaN, and nothing is > NaN; pass None to switch the condition off.")
    if 1e300 < abs(min_memorization) < np.inf:  # an int may be too large for any comparison with an array
        raise ValueError(f"min_memorization is {quote(min_memorization)}; it takes a number in the unit of the score.")


def check_probabilities(**named: Any) -> list[Float[np.ndarray, "*shape"]]:
    """The arguments as float64 arrays of one shape, if they are probabilities and broadcast."""
    arrays = []
    for name, value in named.items():
        array = as_array(value, name, "probabilities, numbers from 0 to 1")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} has dtype {array.dtype}; it takes probabilities, numbers from 0 to 1.")
        array = array.astype(np.float64)
        wrong = array[~((array >= 0) & (array <= 1))]
        if wrong.size:
            raise ValueError(
                f"{name} holds {wrong.size} of {array.size} values that are no probabilities (first: {wrong[0]}); "
                "it takes numbers from 0 to 1."
            )
        arrays.append(array)
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = " and ".join(f"{name} shape {array.shape}" for name, array in zip(named, arrays, strict=True))
        raise ValueError(f"{shapes} do not broadcast; give one shape, or None-indexed axes for a grid.") from None


def check_numbers(value: Any, name: str) -> Float[np.ndarray, "*shape"]:
    """`value` as a float64 array of finite numbers, or an error."""
    array = as_array(value, name, "numbers")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}; it takes numbers.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} NaN or infinite of {array.size} values."
        )
    return array


def check_indices(value: Any, name: str, size: int) -> Int[np.ndarray, " indices"]:
    """`value` as indices [indices] from 0 to `size - 1`, or an error."""
    array = as_array(value, name, "indices of examples")
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} has dtype {array.dtype} and shape {array.shape}; it takes indices of examples [pairs]."
        )
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise ValueError(f"{name} holds {outside.size} indices outside 0..{size - 1} (first: {outside[0]}).")
    return array.astype(np.intp)


def check_attribution(
    value: ArrayLike, num_train: int, num_test: int, name: str = "attribution"
) -> Shaped[np.ndarray, "train test"]:
    """`value` as an array of finite numbers [train, test], or an error."""
    array = as_array(value, name, "numbers [train, test]")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}; it takes numbers [train, test].")
    if array.shape != (num_train, num_test):
        raise ValueError(
            f"{name} has shape {array.shape}; it takes {(num_train, num_test)}, a number for each training and test example."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(array))} NaN or infinite values.")
    return array


def check_values(value: Any, name: str, takes: str) -> np.ndarray:
    """`value` as an array of bool or finite floats of any width, or an error; `takes` says what its axes are.

    Floats are those whose squares are finite in float64: 1e150 at most.
    """
    array = as_array(value, name, takes)
    if array.dtype.kind not in "bf":
        raise TypeError(f"{name} has dtype {array.dtype}; it takes bool (right or wrong) or float {takes}.")
    # Not `<=` of absolute values in float16, in which 1e150 is infinite.
    wrong = ~np.isfinite(array) if array.dtype.itemsize < 8 else ~(np.abs(array) <= 1e150)
    if array.dtype != np.bool_ and wrong.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(wrong)} of {array.size} values that are NaN, infinite or above 1e150; leave out "
            "the models that diverged."
        )
    return array


def _check_rows(array: np.ndarray, num_models: int, name: str, masks_name: str = "masks") -> None:
    if len(array) != num_models:
        raise ValueError(
            f"{name} has {len(array)} rows, but {masks_name} has {num_models}: both need one row a model, in the same order."
        )


def check_rows(models: Any) -> np.ndarray:
    """Return rows of an ensemble, or a bool mask of them; raise where they are neither.

    A float index would lose its fraction, and a mask of another type would be taken for rows 0 and 1.
    """
    array = as_array(models, "models", "rows of the ensemble")
    if array.size == 0:
        return np.zeros(0, np.intp)
    if array.dtype.kind not in "biu" or array.ndim > 1:
        raise TypeError(
            f"models has dtype {array.dtype} and shape {array.shape}; it takes rows of the ensemble, or a bool mask of them."
        )
    return array if array.dtype == np.bool_ else array.reshape(-1).astype(np.intp)


__all__ = [
    "MOST_BYTES",
    "as_array",
    "check_attribution",
    "check_bool_matrix",
    "check_correct",
    "check_examples",
    "check_indices",
    "check_masks",
    "check_matrix",
    "check_min_memorization",
    "check_numbers",
    "check_probabilities",
    "check_rows",
    "check_score",
    "check_score_matrix",
    "check_thresholds",
    "check_values",
]
