"""Checks of single values, and the errors for values that are given by mistake.

Every error is one sentence about the argument: what was given, what is taken, and what to do. A value of another kind is a
`TypeError`, and a value of the right kind that is out of range or unknown is a `ValueError`, everywhere.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np


def quote(value: Any) -> str:
    """Format a value for a message, with its type, on one line."""
    text = _shorten(repr(value))
    return text if isinstance(value, str) else f"{text} ({type(value).__name__})"


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer; True and False do not count."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def is_number(value: Any) -> bool:
    """Whether `value` is a single real number; NaN counts."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def check_number(
    value: Any, name: str, takes: str, low: float = -np.inf, high: float = np.inf, *, inside: bool = False
) -> float:
    """`value` as a float from `low` to `high`, both excluded where it is to lie `inside`; `takes` says so in words.

    Raises:
      TypeError: it is no number.
      ValueError: it is NaN or out of range.
    """
    if not is_number(value):
        raise TypeError(f"{name} is {quote(value)}; it takes {takes}.")
    if not (low < value < high if inside else low <= value <= high):
        raise ValueError(f"{name} is {_shorten(str(value))}; it takes {takes}.")
    try:
        return float(value)
    except OverflowError:  # a whole number with hundreds of digits
        raise ValueError(f"{name} is {_shorten(str(value))}; it takes {takes}.") from None


def check_share(value: Any, name: str, high: float = 1.0) -> float:
    """`value` as a float strictly between 0 and `high`.

    Raises:
      TypeError: it is no number.
      ValueError: it is NaN or out of range.
    """
    return check_number(value, name, f"a number between 0 and {high:g}, both excluded", 0.0, high, inside=True)


def check_whole(value: Any, name: str, low: int = 1, high: int | None = None, unit: str = "") -> int:
    """`value` as an int from `low` to `high`, or from `low` up; `unit` says what it counts: "models".

    Raises:
      TypeError: it is no whole number.
      ValueError: it is out of range.
    """
    takes = f"a whole number{f' of {unit}' if unit else ''} from {low} {'up' if high is None else f'to {high}'}"
    if not is_whole(value):
        raise TypeError(f"{name} is {quote(value)}; it takes {takes}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {_shorten(str(value))}; it takes {takes}.")
    return int(value)


def check_seed(value: Any, name: str = "seed") -> None:
    """Raise unless `value` can seed NumPy's generators.

    Raises:
      TypeError: it is no whole number.
      ValueError: it is negative.
    """
    check_whole(value, name, 0)


def check_choice(value: Any, name: str, choices: Sequence[str]) -> None:
    """Raise unless `value` is one of some words.

    Raises:
      TypeError: it is no string.
      ValueError: it is another word.
    """
    if not isinstance(value, str) or value not in choices:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} is {quote(value)}; it takes one of {', '.join(map(repr, choices))}.")


def check_switch(value: Any, name: str) -> None:
    """Raise `TypeError` unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {quote(value)}; it takes True or False.")


__all__ = [
    "check_choice",
    "check_number",
    "check_seed",
    "check_share",
    "check_switch",
    "check_whole",
    "is_number",
    "is_whole",
    "quote",
]
