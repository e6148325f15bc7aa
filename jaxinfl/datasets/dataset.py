"""`Dataset`: the training and test examples of one classification problem, checked once, then never changed."""

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from numpy.typing import ArrayLike

from jaxinfl.arguments import quote
from jaxinfl.datasets.arrays import as_images, check_same_shape
from jaxinfl.datasets.labels import check_text, code_labels, label_rows

_HASHED_AT_ONCE = 64 * 2**20  # bytes; bounds the copies made of arrays that are not contiguous


@dataclasses.dataclass(frozen=True, eq=False, repr=False, init=False)
class Dataset:
    """Images and labels for training and testing, in a fixed order: example i is row i, everywhere in jaxinfl.

    Arrays are converted where needed (see the fields), checked, and kept as read-only views. Arrays of the right form are
    not copied, and the caller's own arrays stay writable. Whoever writes to them afterwards changes this data set and makes
    its `fingerprint` wrong.

    Raises:
      TypeError: an array has a dtype that is not taken, one set has text as labels and the other numbers, or `name` or
        a class name is not a string.
      ValueError: a shape is wrong or empty, images and labels have unequal length, or values are NaN or masked. A label
        lies outside the classes, a class has no training example, there are fewer than 2 classes, or two have one name. A
        name cannot be written, because of control characters or bytes that are no UTF-8. The test set may lack classes.
    """

    train_images: UInt8[np.ndarray, "train height width channels"]
    """Training images, 0 to 255, given as `[train, height, width, channels]` or without the last axis (one channel)."""
    train_labels: Int32[np.ndarray, " train"]
    """Training labels, 0 to `num_classes - 1`, given as any integer dtype or as text, `[train]` or `[train, 1]`.

    Text is `str`, or `bytes` as UTF-8, in a list or an array, which may be of objects. Both sets get one coding: the label
    is the position of the text in `class_names`."""
    test_images: UInt8[np.ndarray, "test height width channels"]
    """Test images, in the form of `train_images` and of the same height, width and channels."""
    test_labels: Int32[np.ndarray, " test"]
    """Test labels, in the form of `train_labels`."""
    class_names: tuple[str, ...]
    """Name of each class, by label.

    Where none are given and labels are text, these are the sorted names of both sets together. Where none are given and
    labels are numbers, they are "0", "1", ..., and the labels must be exactly 0..K-1."""
    name: str
    """Name of the data in tables and plots, which does not enter `fingerprint`."""

    # This method is written out, because it takes more than the fields hold: a generated one has the fields' annotations.
    def __init__(
        self,
        *,
        train_images: ArrayLike,
        train_labels: ArrayLike,
        test_images: ArrayLike,
        test_labels: ArrayLike,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
    ):
        train_pixels, test_pixels = as_images(train_images, test_images)
        labels = label_rows(train_labels, test_labels)
        _check_lengths("train", train_pixels, labels["train_labels"])
        _check_lengths("test", test_pixels, labels["test_labels"])
        check_same_shape(train_pixels, test_pixels)
        train, test, names = code_labels(labels, class_names)
        if not isinstance(name, str):
            raise TypeError(f"name is {quote(name)}; it takes a string.")
        check_text("name", name)
        arrays = {
            "train_images": train_pixels,
            "train_labels": train.astype(np.int32, copy=False),
            "test_images": test_pixels,
            "test_labels": test.astype(np.int32, copy=False),
        }
        for field, array in arrays.items():
            object.__setattr__(self, field, _view_read_only(array))
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "name", name)

    def with_source(self, **arguments: Any) -> "Dataset":
        """The data set, with the arguments by which `load_dataset` finds it again."""
        loaded = copy.copy(self)
        object.__setattr__(loaded, "_source", arguments)
        return loaded

    @property
    def source(self) -> Mapping[str, Any] | None:
        """The arguments with which `load_dataset` finds the data again, as JSON values; None for data made from arrays."""
        found: Mapping[str, Any] | None = self.__dict__.get("_source")
        return found

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return len(self.train_labels)

    @property
    def num_test(self) -> int:
        """Number of test examples."""
        return len(self.test_labels)

    @property
    def num_classes(self) -> int:
        """Number of classes, including those without a test example."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the content in 64 hex digits: sha256 over shapes and values, and the number of classes.

        Neither the names nor the memory layout or byte order of the arrays matter. It is computed at first use, which takes
        about a second for each gigabyte, and then kept.
        """
        digest = hashlib.sha256(f"jaxinfl dataset 1, {self.num_classes} classes\n".encode())
        for field in ("train_images", "train_labels", "test_images", "test_labels"):
            array = getattr(self, field)
            digest.update(f"{field} {array.dtype.name} {array.shape}\n".encode())
            for rows in _contiguous_pieces(array):
                digest.update(rows.data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return (
            f"Dataset(name={self.name!r}, num_train={self.num_train}, num_test={self.num_test}, "
            f"num_classes={self.num_classes}, image_shape={self.image_shape})"
        )


def join_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Put `second` behind `first`, without a copy where memory holds them so, as for the images of a cached data set."""
    adjacent = (
        _owner(first) is _owner(second)
        and first.flags.c_contiguous
        and second.flags.c_contiguous
        and first.ctypes.data + first.nbytes == second.ctypes.data
    )
    if not adjacent:
        return np.concatenate([first, second])
    shape = (len(first) + len(second), *first.shape[1:])
    return np.lib.stride_tricks.as_strided(first, shape, first.strides, writeable=False)


def _owner(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory of this view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _contiguous_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of `array` in order, little-endian and C-contiguous, a bounded number of bytes at a time."""
    step = max(1, _HASHED_AT_ONCE // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step], dtype=array.dtype.newbyteorder("<"))


def _view_read_only(array: np.ndarray) -> np.ndarray:
    """Make a view that cannot be written to; the flag of `array` itself, which may be the caller's, stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_lengths(split: str, images: np.ndarray, labels: np.ndarray) -> None:
    if len(images) != len(labels):
        raise ValueError(
            f"{split}_images holds {len(images)} examples and {split}_labels {len(labels)}. Give every image one label."
        )
