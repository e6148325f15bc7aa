"""Checks of the arrays that a user gives as images, with advice for those that are not taken."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike

EXPECTED_IMAGES = "uint8 images [n, height, width, channels] or [n, height, width]"
_AT_ONCE = 64 * 2**20  # bytes


def as_array(field: str, value: ArrayLike, expected: str, remedy: str) -> np.ndarray:
    """Return `value` as an array that is neither ragged, nor masked, nor NaN; `remedy` says what to do with gaps."""
    if np.ma.is_masked(value):
        raise ValueError(
            f"{field} is a masked array, whose {np.ma.count_masked(value)} masked values would be taken for real ones; "
            f"it takes {expected}. {remedy}."
        )
    try:
        array = np.asarray(value)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"{field} is not one rectangular array ({error}); it takes {expected}.") from error
    if np.issubdtype(array.dtype, np.inexact) and (found := find_first(array, np.isnan)):
        place = found[1]
        raise ValueError(
            f"{field} contains NaN {place} ({array.dtype}, shape {array.shape}); it takes {expected}. {remedy}."
        )
    return array


def find_first(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> tuple[object, str] | None:
    """The first value that is `wrong`, and its place in words; None where there is none."""
    for start, rows in pieces(np.atleast_1d(array)):
        places = wrong(rows)
        if places.any():
            example, *column = (int(index) for index in np.unravel_index(places.argmax(), places.shape))
            where = f", column {column[0] if len(column) == 1 else tuple(column)}" if column else ""
            return rows[(example, *column)], f"at example {start + example}{where}"
    return None


def pieces(array: np.ndarray, at_once: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield some rows at a time, `at_once` bytes, with the number of the first: a mapped array may be larger than memory."""
    step = max(1, (at_once or _AT_ONCE) // max(array[:1].nbytes, 1))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def as_images(train: ArrayLike, test: ArrayLike) -> tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "..."]]:
    """Return both sets as uint8 [n, height, width, channels].

    Raises:
      TypeError: the dtype of one set is not uint8. The remedy depends on its values.
      ValueError: the shape is wrong or empty, or values are NaN.
    """
    remedy = "Replace the missing values, or remove these examples from images and labels"
    given = {
        field: as_array(field, value, EXPECTED_IMAGES, remedy)
        for field, value in (("train_inputs", train), ("test_inputs", test))
    }
    for field, other in (("train_inputs", "test_inputs"), ("test_inputs", "train_inputs")):
        if given[field].dtype != np.uint8:
            raise TypeError(
                f"{field} has dtype {given[field].dtype}; it takes {EXPECTED_IMAGES}. "
                f"{_conversion(field, given[field], given[other])}"
            )
    return _with_channels("train_inputs", given["train_inputs"]), _with_channels("test_inputs", given["test_inputs"])


def _with_channels(field: str, images: np.ndarray) -> UInt8[np.ndarray, "n height width channels"]:
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{field} has {images.ndim} dimensions, shape {images.shape}; it takes {EXPECTED_IMAGES}. Bring every image to "
            "[height, width] or [height, width, channels], in the order in which its pixels were written: rows of "
            "CIFAR's files, for instance, are .reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)."
        )
    if images.size == 0:
        raise ValueError(f"{field} is empty, with shape {images.shape}. Give at least one image of at least one pixel.")
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise ValueError(
            f"{field} has shape {images.shape}, which looks like channels first; it takes {EXPECTED_IMAGES}. "
            "Bring the channels to the end: images.transpose(0, 2, 3, 1)."
        )
    return images[..., None] if images.ndim == 3 else images


def check_same_shape(train: np.ndarray, test: np.ndarray) -> None:
    """Raise `ValueError` unless the images of both sets have one height, width and number of channels."""
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"train_inputs are {train.shape[1:]} (height, width, channels) and test_inputs {test.shape[1:]}. "
            "Bring them to one shape."
        )


def _conversion(field: str, images: np.ndarray, other: np.ndarray) -> str:
    """Say how to make uint8 images of exactly these values beside the uint8 images of the `other` set."""
    kind = images.dtype.kind
    if kind not in "buif" or not images.size:
        return (
            "Give decoded pixels as numbers from 0 to 255. Images of different sizes are taken as files, in one folder for "
            "each class, by jaxinfl.load_dataset."
        )
    if kind == "b":
        # Zeros and ones of the other set keep their values, so this one must as well.
        factor = "" if other.size and other.max() <= 1 else "255 * "
        return f"Convert with {factor}{field}.astype(np.uint8)."
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        return "It contains infinite values. Replace them, or remove these examples from images and labels."
    if kind == "f" and 0 <= low and high <= 1:
        return f"The values lie in 0..1. Scale them: np.rint(255 * {field}).astype(np.uint8)."
    if kind == "f" and 0 <= low and 2 < high <= 255:
        return f"The values lie in 0..255. Round them: np.rint({field}).astype(np.uint8)."
    if kind != "f" and 0 <= low and high <= 255:
        return f"The values lie in 0..255. Convert with {field}.astype(np.uint8)."
    return (
        f"Its values lie in {low:g}..{high:g}, while the other set is uint8 already. Scale them to 0..255 by the "
        "formula by which the other set was made, so that one value means one brightness in both."
    )
