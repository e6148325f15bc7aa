"""Data sets in one .npz file, with the keys that Keras uses."""

import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxinfl.datasets.dataset import Dataset

REQUIRED_KEYS = ("x_train", "y_train", "x_test", "y_test")

_MAX_ARRAY_BYTES = 64 * 2**30
# What reading a damaged or hostile zip file can raise, beyond what `np.load` turns into ValueError.
_READ_ERRORS = (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def load_npz(path: str | os.PathLike) -> Dataset:
    """The data set in the .npz file `path`: x_train, y_train, x_test, y_test and, if it is there, class_names.

    Every member's declared shape is checked before anything is allocated, so a small file cannot ask for more
    memory than its directory says, nor for more than 64 GiB an array. Pickled objects are never loaded.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a readable .npz file, a key is missing, an array is pickled or too large, and whatever
        `Dataset` refuses.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Give the path of an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:
            keys = _check_keys(path, archive)
            for key in keys:
                _check_member(path, key, archive)
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
        return Dataset(
            train_images=arrays["x_train"],
            train_labels=arrays["y_train"],
            test_images=arrays["x_test"],
            test_labels=arrays["y_test"],
            class_names=class_names,
            name=path.stem,
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {_in_keys_of_the_file(str(error))}") from None


def _in_keys_of_the_file(message: str) -> str:
    """A message about a `Dataset`'s fields, about the keys that they came from."""
    for split in ("train", "test"):
        message = message.replace(f"{split}_images", f"x_{split}").replace(f"{split}_labels", f"y_{split}")
    return message


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not a readable .npz file: it is truncated, damaged or something else ({error}). "
        "Write it again with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
    )


def _check_keys(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """The keys to load, once all required ones are known to be there."""
    there = sorted(name.removesuffix(".npy") for name in archive.namelist())
    missing = [key for key in REQUIRED_KEYS if key not in there]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it holds {', '.join(there) or 'nothing'}. Taken: {', '.join(REQUIRED_KEYS)} "
            "and optionally class_names. Save the arrays under these names."
        )
    return [*REQUIRED_KEYS, *(["class_names"] if "class_names" in there else [])]


def _check_member(path: Path, key: str, archive: zipfile.ZipFile) -> None:
    """Refuse an array by its header, before NumPy allocates what the header asks for."""
    # `np.savez` appends ".npy"; `np.load` takes members with and without it, the exact name first.
    info = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    try:
        shape, dtype, header_bytes = _read_header(archive, info)
    except _READ_ERRORS as error:
        raise ValueError(f"{key} in {path} is not a readable array ({error}). Write the file again.") from error
    if dtype.hasobject:
        raise ValueError(
            f"{key} in {path} holds pickled Python objects ({dtype}), which are never loaded: a pickle can run any "
            "program. Save it as a plain array; images of unequal size go into an image folder."
        )
    declared = math.prod(shape) * dtype.itemsize
    if declared > _MAX_ARRAY_BYTES:
        raise ValueError(
            f"{key} in {path} declares shape {shape} {dtype}, {declared / 2**30:.0f} GiB. "
            f"At most {_MAX_ARRAY_BYTES / 2**30:.0f} GiB are taken."
        )
    if declared != info.file_size - header_bytes:
        raise ValueError(
            f"{key} in {path} declares shape {shape} {dtype}, {declared} bytes, but the file holds "
            f"{info.file_size - header_bytes}: it is damaged. Write it again."
        )


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype, int]:
    """The shape and dtype that a member declares, and the bytes that its header takes."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
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
            f"class_names in {path} is {names.dtype}, shape {names.shape}. Taken: one-dimensional, of strings."
        )
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
