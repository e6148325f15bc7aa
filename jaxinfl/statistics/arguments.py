"""What the statistics accept, checked before anything is computed."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.arguments import as_array, is_number, is_whole, shown


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


def check_share(value: Any, name: str, high: float = 1.0) -> float:
    """`value` as a float strictly between 0 and `high`, or an error."""
    check_number(value, name)
    if not 0 < value < high:
        raise ValueError(f"{name} is {value}; it takes a number between 0 and {high:g}, both excluded.")
    return float(value)


def check_number(value: Any, name: str) -> None:
    """Raise unless `value` is one real number."""
    if not is_number(value):
        raise TypeError(f"{name} is {shown(value)}; it takes a number.")


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


def check_whole(value: Any, name: str, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`, or an error."""
    if not is_whole(value):
        raise TypeError(f"{name} is {shown(value)}; it takes a whole number from {low} to {high}.")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it takes a whole number from {low} to {high}.")
    return int(value)


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
