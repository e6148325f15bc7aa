"""Arrays that lie in files which are mapped into memory, and may be larger than it."""

import mmap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

STREAMED = 2**28
"""Bytes of mapped masks from which on some models are read at a time; smaller ones are held in memory."""


class Source(NamedTuple):
    """Models that can be read several times, some of them at a time."""

    num_models: int
    num_train: int
    num_examples: int
    """Number of examples that the score is of."""
    is_bool: bool
    """Whether the score is bool; else it is any float."""
    blocks: Callable[[int], Iterator[tuple[Bool[np.ndarray, "block train"], np.ndarray]]]
    """Function that reads masks and scores of so many models at a time."""


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


__all__ = ["STREAMED", "Source", "is_mapped", "release"]
