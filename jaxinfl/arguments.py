"""What any function may be given by mistake, and the errors that say so: the argument, what it is, what it takes."""

import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_BYTES = 64 * 2**30
"""Of one array in memory. What asks for more is a mistake, or a file that was made to exhaust the machine."""


def as_array(value: Any, name: str, takes: str) -> np.ndarray:
    """`value` as a NumPy array.

    Raises:
      ValueError: nested lists of unequal lengths.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not one rectangular array ({error}); it takes {takes}.") from None


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer; True and False are none here."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def is_number(value: Any) -> bool:
    """Whether `value` is one real number."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def check_choice(value: Any, name: str, choices: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is one of some words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}; it takes one of {', '.join(map(repr, choices))}.")


def check_switch(value: Any, name: str) -> None:
    """Raise `TypeError` unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}; it takes True or False.")


def check_path(value: Any, name: str, takes: str) -> None:
    """Raise `TypeError` unless `value` is a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {shown(value)}; it takes {takes}, as a string or a path.")


def check_seed(value: Any, name: str = "seed") -> None:
    """Raise unless `value` can seed NumPy's generators."""
    if not is_whole(value):
        raise TypeError(f"{name} is {shown(value)}; it takes a whole number from 0 up.")
    if value < 0:
        raise ValueError(f"{name} is {value}; it takes a whole number from 0 up.")


def shown(value: Any) -> str:
    """A value in a message: with its type, and not longer than a line."""
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return text if isinstance(value, str) else f"{text} ({type(value).__name__})"


__all__ = [
    "MOST_BYTES",
    "as_array",
    "check_choice",
    "check_path",
    "check_seed",
    "check_switch",
    "is_number",
    "is_whole",
    "shown",
]
