"""Paths that a user gives."""

import os
import re
from pathlib import Path
from typing import Any

from jaxinfl.arguments.values import quote

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
        raise TypeError(f"{name} is {quote(value)}; it takes {takes}, as a string or a path.")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name} is {quote(text)}; it takes {takes}, as a string or a path.")
    if scheme := _URL.match(text):
        raise ValueError(
            f"{name} is {quote(text)}; it takes {takes} on a file system that is mounted here, "
            f"and no address that begins with {scheme[1]}:. Write to a local folder and copy it, or mount the bucket as a folder."
        )
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # there is no such user, or the home is not known
        raise ValueError(f"{name} is {quote(text)}: {error} Write the folder out.") from None


def expand_home(folder: Path, name: str) -> Path:
    """Replace ~ in a folder from a command line; a relative folder stays relative, so that it is printed as it was typed.

    Raises:
      ValueError: it is a URL, or cannot be the name of a folder.
    """
    as_path(folder, name, "a folder")
    return folder.expanduser()


__all__ = ["as_path", "expand_home"]
