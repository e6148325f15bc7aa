"""What any function may be given by mistake, and the errors that say so: the argument, what it is, what it takes."""

import numbers
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""A letter before a colon is a drive of Windows. `pathlib` makes one slash of two."""


def as_path(value: Any, name: str, takes: str) -> Path:
    """`value` as an absolute path on a mounted file system, with ~ replaced by the user's home.

    Absolute, so that it leads to the same place when the working directory changes.

    Raises:
      TypeError: it is no string and no path.
      ValueError: it is a URL, is empty, or cannot be the name of a file.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {shown(value)}; it takes {takes}, as a string or a path.")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} is {shown(text)}; it takes {takes}, as a string or a path.")
    if scheme := _URL.match(text):
        raise ValueError(
            f"{name} is {shown(text)}, but addresses that begin with {scheme[1]}: are not taken; it takes {takes} on a file "
            "system that is mounted here. Write to a local folder and copy it, or mount the bucket as a folder."
        )
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # there is no such user, or the home is not known
        raise ValueError(f"{name} is {shown(text)}: {error} Write the folder out.") from None


def as_typed(folder: Path, name: str) -> Path:
    """A folder from a command line, with ~ replaced; a relative one stays so, for what is printed.

    Raises:
      ValueError: it is a URL, or cannot be the name of a folder.
    """
    as_path(folder, name, "a folder")
    return folder.expanduser()


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
    "as_path",
    "as_typed",
    "check_choice",
    "check_seed",
    "check_switch",
    "is_number",
    "is_whole",
    "shown",
]
