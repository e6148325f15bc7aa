"""Data sets in one .npz file, with the keys of Keras or MedMNIST."""

import logging
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxinfl.arguments import MOST_BYTES, as_path
from jaxinfl.datasets.dataset import Dataset

REQUIRED_KEYS = ("x_train", "y_train", "x_test", "y_test")
"""Keras' keys of training images and labels, test images and labels."""
MEDMNIST_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_FIELDS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
"""The fields of `Dataset`, in the order of the keys."""
_NOT_USED = ("x_val", "y_val", "x_valid", "y_valid", "val_images", "val_labels")

_log = logging.getLogger("jaxinfl")

_MAX_HEADER_BYTES = 2**16  # an .npy header is a line
# What reading a damaged or hostile zip file can raise, beyond what `np.load` turns into ValueError.
_READ_ERRORS = (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def load_npz(path: str | os.PathLike, task: Any = None, categories: Any = None) -> Dataset:
    """Load the data set in the .npz file `path`: `REQUIRED_KEYS` or `MEDMNIST_KEYS` and, if it is there, class_names.

    A validation set is left out, and so are arrays under the other names where both are there. A warning of the logger
    "jaxinfl" says so. `task` and `categories` are those of `load_dataset`.

    Every member's declared shape is checked before anything is allocated. So a small file cannot ask for more memory than
    its directory says, and no file for more than this machine has (`memory_limit`). Pickled objects are never loaded.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no readable .npz file, a key is missing, an array is pickled or too large, or `Dataset`
        refuses the arrays.
    """
    path = as_path(path, "path", "an .npz file")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Give the path of an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:
            required = _choose_keys(path, archive)
            keys = [*required, *(["class_names"] if "class_names" in _members(archive) else [])]
            declared = {key: _check_member(path, key, archive) for key in keys}
            _check_sizes(path, declared, required)
    except (zipfile.BadZipFile, EOFError) as error:
        raise _unreadable(path, error) from error
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in keys:
                arrays[key] = archive[key]
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    class_names = _class_names(path, arrays.get("class_names"))
    try:
        fields = {field: arrays[key] for field, key in zip(_FIELDS, required, strict=True)}
        task = (
            ("regression" if fields["train_targets"].dtype.kind == "f" else "classification") if task is None else task
        )
        return Dataset(**fields, task=task, categories=categories, class_names=class_names or None, name=path.stem)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {_name_keys(str(error), required)}") from None


def _name_keys(message: str, keys: tuple[str, ...]) -> str:
    """Replace the names of `Dataset`'s fields in a message by the keys that they came from."""
    for field, key in zip(_FIELDS, keys, strict=True):
        message = message.replace(field, key)
    return message


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not a readable .npz file: it is truncated, damaged or something else ({error}). "
        "Write it again with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
    )


def _members(archive: zipfile.ZipFile) -> list[str]:
    return sorted(name.removesuffix(".npy") for name in archive.namelist())


def _choose_keys(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Choose the four keys to load, which are all there."""
    there = _members(archive)
    complete = [keys for keys in (REQUIRED_KEYS, MEDMNIST_KEYS) if set(keys) <= set(there)]
    if not complete:
        listed = ", ".join(name if name.isprintable() else repr(name) for name in there[:10]) or "nothing"
        # The message lists the missing keys of the kind of which more are there.
        keys = max((REQUIRED_KEYS, MEDMNIST_KEYS), key=lambda keys: len(set(keys) & set(there)))
        missing = ", ".join(key for key in keys if key not in there)
        raise ValueError(
            f"{path} lacks {missing} and holds {listed}; it takes {', '.join(REQUIRED_KEYS)}, or "
            f"{', '.join(MEDMNIST_KEYS)}, and optionally class_names. Save the arrays under these names."
        )
    unused = [key for key in (*_NOT_USED, *(key for keys in complete[1:] for key in keys)) if key in there]
    if unused:
        _log.warning(
            "%s: %s are left out. The data set is made of %s.", path, ", ".join(unused), ", ".join(complete[0])
        )
    return complete[0]


def memory_limit() -> int:
    """Number of bytes that the arrays of a file may take: this machine's memory, at most 64 GiB."""
    try:
        return min(MOST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on every platform
        return MOST_BYTES


class TooLarge(ValueError):
    """The content of a file does not fit in memory."""


def check_memory(size: int, what: str, remedy: str, behind: str = "") -> None:
    """Raise `TooLarge` unless so many bytes are at most `memory_limit`.

    `what` and `behind` are the words before and behind the size in the message, and `remedy` is a sentence of what to do.
    """
    limit = memory_limit()
    if size > limit:
        raise TooLarge(
            f"{what} {size / 2**30:.3g} GiB{behind}. At most {limit / 2**30:.3g} GiB are taken, the memory of this machine. {remedy}"
        )


def _check_sizes(path: Path, declared: dict[str, tuple[tuple[int, ...], int]], required: tuple[str, ...]) -> None:
    """Raise `ValueError` where arrays together do not fit in memory, or there are more class names than labels."""
    listed = ", ".join(f"{key} {shape}" for key, (shape, _) in declared.items())
    remedy = "Save smaller images, or an image folder, which is read from disk."
    check_memory(sum(size for _, size in declared.values()), f"{path} declares {listed}:", remedy)
    examples, names = (math.prod(declared.get(key, ((0,), 0))[0]) for key in (required[1], "class_names"))
    if names > max(examples, 2):
        raise ValueError(
            f"{path} declares {names} class_names for {examples} training labels; it takes at most one name for each label, "
            "because every class needs a training example. Remove the other names."
        )


def _check_member(path: Path, key: str, archive: zipfile.ZipFile) -> tuple[tuple[int, ...], int]:
    """Check an array's header before NumPy allocates what the header asks for; return the shape and number of bytes."""
    # `np.savez` appends ".npy"; `np.load` takes members with and without it, the exact name first.
    info = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    try:
        shape, dtype, header_bytes = _read_header(archive, info)
    except _READ_ERRORS as error:
        raise ValueError(f"{key} in {path} is not a readable array ({error}). Write the file again.") from error
    if dtype.hasobject:
        raise ValueError(
            f"{key} in {path} holds pickled Python objects ({dtype}), which are never loaded: a pickle can run any "
            "program. Save it as a plain array: text with .astype(str), numbers with .astype(np.int64); images of unequal "
            "size go into an image folder."
        )
    declared = math.prod(shape) * dtype.itemsize
    check_memory(declared, f"{key} in {path} declares shape {shape} {dtype},", "Save smaller images.")
    if declared != info.file_size - header_bytes:
        raise ValueError(
            f"{key} in {path} declares shape {shape} {dtype}, {declared} bytes, but the file holds "
            f"{info.file_size - header_bytes}: it is damaged. Write it again."
        )
    return shape, declared


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype, int]:
    """Read the shape and dtype that a member declares, and the number of bytes of its header."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version == (2, 0):
            # NumPy reads as long a header as is declared, up to 4 GiB, before it finds it too long.
            (length,) = struct.unpack("<I", member.read(4))
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes is declared; at most {_MAX_HEADER_BYTES} are taken")
            member.seek(member.tell() - 4)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(member)
        else:  # 3.0 exists for structured arrays with non-ASCII field names only
            raise ValueError(f".npy version {version}; 1.0 and 2.0 are taken")
        return shape, dtype, member.tell()


def _class_names(path: Path, names: np.ndarray | None) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise ValueError(
            f"class_names in {path} has dtype {names.dtype} and shape {names.shape}; it takes a one-dimensional array of "
            "strings."
        )
    try:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"class_names in {path} are bytes that are no UTF-8 ({error}). Save them as strings."
        ) from None
