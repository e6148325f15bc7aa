"""What the statistics accept, checked before anything is computed."""

import numbers
from typing import Any

import numpy as np
from jaxtyping import Float


def check_probabilities(**named: Any) -> list[Float[np.ndarray, "*shape"]]:
    """The arguments as float64 arrays of one shape, if they are probabilities and broadcast."""
    arrays = []
    for name, value in named.items():
        array = np.asarray(value)
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
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); it takes a number.")


def check_numbers(value: Any, name: str) -> Float[np.ndarray, "*shape"]:
    """`value` as a float64 array of finite numbers, or an error."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}; it takes numbers.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds {np.count_nonzero(~np.isfinite(array))} NaN or infinite of {array.size} values."
        )
    return array
