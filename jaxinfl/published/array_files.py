"""Arrays in files that somebody else wrote: read without ever unpickling, and refused by name where they are not what they should be."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from jaxinfl.arguments import ScoreKind
from jaxinfl.store import RunDirectoryError

NOTE = "jaxinfl.json"
"""File in which `write_run` says which score the files beside it hold."""
_NUMBERS = re.compile(r"([0-9]+)")
_KINDS = {"b": "bool", "i": "integers", "u": "integers", "f": "floats", "U": "text"}


def read_npy(path: Path, takes: str, kinds: str, ndim: int | None = None, *, mapped: bool = True) -> np.ndarray:
    """Read an .npy file.

    Args:
      path: the file.
      takes: what the file holds, in words, with the axes in brackets.
      kinds: letters of the dtypes that are taken, as in `np.dtype.kind`: "b" bool, "iu" integers, "f" floats.
      ndim: number of axes; None takes any.
      mapped: whether the array stays in its file and is read where it is used.

    Raises:
      RunDirectoryError: there is no such file; it is truncated, pickled, or of another dtype or shape.
    """
    with reading(path, takes):
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise RunDirectoryError(f"{path} is an archive of arrays (.npz); it takes one array, {takes}.")
    return check_array(array, str(path), takes, kinds, ndim)


class Archive:
    """An .npz file, of which arrays are read when they are asked for; `open_archive` opens it."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]):
        self.path, self._arrays, self.names = path, arrays, tuple(arrays)

    def read(self, name: str, takes: str, kinds: str, ndim: int = 1, *, may_be_empty: bool = False) -> np.ndarray:
        """Read one array; the arguments are those of `read_npy`.

        Raises:
          RunDirectoryError: there is none of this name, or it is not what it should be.
        """
        if name not in self.names:
            raise RunDirectoryError(
                f"{self.path} has no array {name!r} ({takes}); it has {', '.join(self.names) or 'none'}."
            )
        with reading(self.path, takes):
            array = self._arrays[name]
        if may_be_empty and array.size == 0:
            return array.astype(np.int64)
        return check_array(array, f"{name} in {self.path}", takes, kinds, ndim)


@contextmanager
def open_archive(path: Path, takes: str) -> Iterator[Archive]:
    """Open an .npz file.

    Raises:
      RunDirectoryError: there is no such file, it is truncated, or it is no .npz file.
    """
    with reading(path, takes):
        file = path.open("rb")
    with file:
        with reading(path, takes):
            found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise RunDirectoryError(f"{path} is one array (.npy); it takes an archive (.npz) with {takes}.")
        with found:
            yield Archive(path, found)


def archive_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays of an .npz file, without reading one; empty where it is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return tuple(name.removesuffix(".npy") for name in file.namelist())
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile):
        return ()


def check_array(array: np.ndarray, name: str, takes: str, kinds: str, ndim: int | None = None) -> np.ndarray:
    """Raise `RunDirectoryError` unless an array has one of the dtypes and so many axes."""
    if array.dtype.kind not in kinds:
        wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
        raise RunDirectoryError(f"{name} has dtype {array.dtype}; it takes {wanted}: {takes}.")
    if ndim is not None and array.ndim != ndim:
        raise RunDirectoryError(
            f"{name} has shape {array.shape}; it takes {ndim} {'axis' if ndim == 1 else 'axes'}: {takes}."
        )
    if 0 in array.shape:
        raise RunDirectoryError(f"{name} has shape {array.shape}: it is empty. It takes {takes}.")
    return array


def as_flags(array: np.ndarray, name: str, takes: str) -> np.ndarray:
    """Turn zeros and ones of any dtype into bool.

    Raises:
      RunDirectoryError: there is another value.
    """
    if array.dtype == np.bool_:
        return array
    if not np.isin(array, (0, 1)).all():
        other = array[~np.isin(array, (0, 1))].ravel()[0]
        raise RunDirectoryError(f"{name} holds {other!s}; it takes 0 and 1: {takes}.")
    return array.astype(np.bool_)


def check_is_permutation(indices: np.ndarray, name: str) -> None:
    """Raise `RunDirectoryError` unless the indices are each number from 0 to their count - 1 once."""
    count = len(indices)
    if indices.min() < 0 or indices.max() >= count:
        wrong = indices[(indices < 0) | (indices >= count)][0]
        raise RunDirectoryError(
            f"{name} holds {wrong}, but has {count} indices: it takes each of 0 to {count - 1} once."
        )
    times = np.bincount(indices, minlength=count)
    if times.max() > 1:
        raise RunDirectoryError(
            f"{name} holds {times.argmax()} {times.max()} times; it takes each of 0 to {count - 1} once."
        )


class Note(NamedTuple):
    """What `write_run` says of the files that it wrote; of those of another program only the usual."""

    score: str
    """Name of the score that they hold."""
    kind: ScoreKind
    """Kind of that score."""
    order: str | None = None
    """What is known of the order of the examples."""


def read_note(folder: Path, usual: Note) -> Note:
    """Read the note beside files that `write_run` wrote; `usual` of those of another program.

    Raises:
      RunDirectoryError: the note is damaged.
    """
    note = folder / NOTE
    if not note.is_file():
        return usual
    try:
        content = json.loads(note.read_text())
        found = Note(content["score"], content["kind"], content["order"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{note} is damaged: {error!r}. It says which score the files beside it hold; remove it to read them."
        ) from error
    texts = isinstance(found.score, str) and found.score.isidentifier() and isinstance(found.order, str)
    if not texts or found.kind not in get_args(ScoreKind):
        raise RunDirectoryError(
            f"{note} is damaged: it names the score {found.score!r} of kind {found.kind!r}. Remove it to read the files."
        )
    return found


@contextmanager
def reading(path: Path, takes: str) -> Iterator[None]:
    """Turn what NumPy says of a file that it cannot read into an error that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunDirectoryError(f"there is no file {path}, which holds {takes}.") from error
    except RunDirectoryError:
        raise
    except Exception as error:  # a file that somebody else wrote may make NumPy raise anything
        objects = any(word in str(error) for word in ("pickle", "Object arrays", "Python objects"))
        if objects and _is_numpy(path):
            raise RunDirectoryError(
                f"{path} holds Python objects, which only a pickle can, and a pickle can run any program when it is read, so it is not read. "
                f"It takes {takes}. Ask for a file of plain arrays."
            ) from error
        what = "is damaged or no NumPy file" if objects else f"is damaged or no NumPy file: {error}"
        raise RunDirectoryError(f"{path} {what}. It takes {takes}.") from error


def _is_numpy(path: Path) -> bool:
    """Whether a file begins as those of NumPy do."""
    try:
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY" or zipfile.is_zipfile(path)
    except OSError:
        return False


def list_folders(path: Path, takes: str) -> list[Path]:
    """Folders in a folder, sorted by the numbers in their names, then by name.

    Raises:
      RunDirectoryError: it is no folder.
    """
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is no folder; it takes {takes}.")
    folders = (each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    # run-2 before run-10: texts and numbers take turns in the parts of a name.
    return sorted(
        folders, key=lambda each: [int(part) if part.isdigit() else part for part in _NUMBERS.split(each.name)]
    )


__all__ = [
    "NOTE",
    "Note",
    "Archive",
    "archive_names",
    "as_flags",
    "check_array",
    "check_is_permutation",
    "list_folders",
    "open_archive",
    "read_note",
    "read_npy",
    "reading",
]
