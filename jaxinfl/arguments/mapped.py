"""Arrays that lie in files which are mapped into memory, and may be larger than it."""

import mmap
from typing import Any

import numpy as np


def is_mapped(array: Any) -> bool:
    """Whether an array lies in a file that is mapped into memory, or is a view of one."""
    return _file_of(array) is not None


def release(array: Any) -> None:
    """Give back the memory of the pages of a mapped file that were read; they are read again when they are asked for."""
    file = _file_of(array)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _file_of(array: Any) -> mmap.mmap | None:
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.obj if isinstance(array, memoryview) else array.base
    return array if isinstance(array, mmap.mmap) else None


__all__ = ["is_mapped", "release"]
