"""`Dataset`: the training and test examples of one classification problem, checked once, then never changed."""

import dataclasses
import functools
import hashlib
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int32, UInt8
from numpy.typing import ArrayLike

from jaxinfl.arguments import shown

_HASHED_AT_ONCE = 64 * 2**20  # bytes; bounds the copies made of arrays that are not contiguous


@dataclasses.dataclass(frozen=True, eq=False, repr=False, init=False)
class Dataset:
    """Images and labels for training and testing, in a fixed order: example i is row i, everywhere in jaxinfl.

    Given arrays are converted where needed (see the fields), checked, and kept as read-only views: nothing is
    copied that already has the right form, and the caller's own arrays stay writable. Whoever writes to them
    afterwards changes this data set and makes its `fingerprint` wrong.

    Raises:
      TypeError: an array has a dtype that is not taken, or `name` or a class name is not a string.
      ValueError: a wrong or empty shape, images and labels of unequal length, NaN, a label outside the classes,
        a class without a training example, fewer than 2 classes, two classes of one name, or a name that cannot be
        written (control characters, bytes that are no UTF-8). A class may be missing in the test set.
    """

    train_images: UInt8[np.ndarray, "train height width channels"]
    """uint8, 0 to 255. Taken: `[train, height, width, channels]`, or without the last axis (one channel)."""
    train_labels: Int32[np.ndarray, " train"]
    """0 to `num_classes - 1`. Taken: any integer dtype, `[train]` or `[train, 1]`."""
    test_images: UInt8[np.ndarray, "test height width channels"]
    """As `train_images`, and of the same height, width and channels."""
    test_labels: Int32[np.ndarray, " test"]
    """As `train_labels`."""
    class_names: tuple[str, ...]
    """One name a class, by label. None given: "0", "1", ..., and the labels must then be exactly 0..K-1."""
    name: str
    """What to call the data in tables and plots. Not part of `fingerprint`."""

    # Written out, because it takes more than the fields hold: the generated one would have the fields' annotations.
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
        converted = {
            "train_images": _as_images("train_images", train_images),
            "train_labels": _as_labels("train_labels", train_labels),
            "test_images": _as_images("test_images", test_images),
            "test_labels": _as_labels("test_labels", test_labels),
        }
        _check_shapes(converted)
        train, test = converted["train_labels"], converted["test_labels"]
        names = _as_class_names(class_names)
        if not isinstance(name, str):
            raise TypeError(f"name is {shown(name)}. Taken: a string.")
        _check_text("name", name)
        if names:
            _check_labels_within("train_labels", train, names)
            _check_labels_within("test_labels", test, names)
        else:
            names = _number_classes(train, test)
        _check_every_class_is_trained(train, names)
        for field, array in converted.items():
            dtype = np.uint8 if field.endswith("images") else np.int32
            object.__setattr__(self, field, _read_only(array.astype(dtype, copy=False)))
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "name", name)

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
        """Number of classes, those without a test example included."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hex digits that are equal for equal content: sha256 over shapes and values, and the number of classes.

        Neither the names nor the memory layout or byte order of the arrays matter. Computed at first use
        (about a second for each gigabyte), then kept.
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


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`second` behind `first`; no copy where they lie so already, as the images of a cached data set do."""
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
    """The array whose memory this is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _contiguous_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of `array` in order, little-endian and C-contiguous, a bounded number of bytes at a time."""
    step = max(1, _HASHED_AT_ONCE // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step], dtype=array.dtype.newbyteorder("<"))


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to; the flag of `array` itself, which may be the caller's, stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def _as_array(field: str, value: ArrayLike, expected: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:  # nested lists of unequal lengths
        raise ValueError(f"{field} is not one rectangular array ({error}). Taken: {expected}.") from error
    if np.issubdtype(array.dtype, np.inexact) and np.isnan(array).any():
        raise ValueError(f"{field} contains NaN ({array.dtype}, shape {array.shape}). Taken: {expected}.")
    return array


def _as_images(field: str, value: ArrayLike) -> UInt8[np.ndarray, "n height width channels"]:
    expected = "uint8 images [n, height, width, channels] or [n, height, width]"
    images = _as_array(field, value, expected)
    if images.dtype != np.uint8:
        if np.issubdtype(images.dtype, np.floating):
            remedy = "Scale the floats to 0..255 and round: np.rint(255 * images).astype(np.uint8) if they are in 0..1"
        else:
            remedy = "Make sure that the values lie in 0..255 and convert with .astype(np.uint8)"
        raise TypeError(f"{field} has dtype {images.dtype}. Taken: {expected}. {remedy}.")
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{field} has {images.ndim} dimensions, shape {images.shape}. Taken: {expected}. Reshape it, or add an axis."
        )
    if images.size == 0:
        raise ValueError(f"{field} is empty, shape {images.shape}. Give at least one image of at least one pixel.")
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise ValueError(
            f"{field} has shape {images.shape}, which looks like channels first. Taken: {expected}. "
            "Bring the channels to the end: images.transpose(0, 2, 3, 1)."
        )
    return images[..., None] if images.ndim == 3 else images


def _as_labels(field: str, value: ArrayLike) -> np.ndarray:
    """`value` as an integer array [n], still in its own dtype, so that no value wraps before it is checked."""
    expected = "integer labels [n] or [n, 1]"
    labels = _as_array(field, value, expected)
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[1] == 1):
        raise ValueError(
            f"{field} has shape {labels.shape}. Taken: {expected}. Turn one-hot rows into labels with .argmax(axis=1)."
        )
    if labels.size == 0:
        raise ValueError(f"{field} is empty, shape {labels.shape}. Give at least one example.")
    if labels.dtype.kind not in "iu":
        remedy = "np.unique(labels, return_inverse=True)[1]" if labels.dtype.kind in "SU" else ".astype(np.int32)"
        raise TypeError(f"{field} has dtype {labels.dtype}. Taken: {expected}. Convert with {remedy}.")
    if labels.min() < 0:
        raise ValueError(
            f"{field} contains the negative label {labels.min()} at example {int(labels.argmin())}. Taken: labels from 0 "
            "on. Remove the examples that have no label."
        )
    return labels.reshape(-1)


def _check_shapes(arrays: dict[str, np.ndarray]) -> None:
    for split in ("train", "test"):
        num_images, num_labels = len(arrays[f"{split}_images"]), len(arrays[f"{split}_labels"])
        if num_images != num_labels:
            raise ValueError(
                f"{split}_images holds {num_images} examples and {split}_labels {num_labels}. Give one label an image."
            )
    train, test = arrays["train_images"].shape[1:], arrays["test_images"].shape[1:]
    if train != test:
        raise ValueError(
            f"train_images are {train} (height, width, channels) and test_images {test}. Bring them to one shape."
        )


def _as_class_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """`names` as a tuple, empty when none are given."""
    if names is None:
        return ()
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"class_names is {shown(names)}. Taken: a sequence of strings, one a class.")
    given = list(names)
    if not all(isinstance(name, str) for name in given):
        raise TypeError(f"class_names is {shown(names)}. Taken: a sequence of strings, one a class.")
    taken = tuple(str(name) for name in given)
    for name in taken:
        _check_text("class_names", name)
    repeated = sorted(name for name, number in Counter(taken).items() if number > 1)
    if repeated:
        raise ValueError(f"class_names repeats {repeated[:5]}, so a name does not identify a class. Rename them.")
    if len(taken) == 1:
        raise ValueError(f"class_names holds 1 class, {taken[0]!r}. At least 2 classes are needed to classify.")
    return taken


def _check_text(field: str, text: str) -> None:
    """Refuse what no terminal, page or file may be made to show: names come from data sets, and end in all of them."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(
            f"{field} holds {text!r}, which has control characters or is no valid text. Rename it; of a folder, its name."
        )


def _check_labels_within(field: str, labels: np.ndarray, names: tuple[str, ...]) -> None:
    outside = labels[labels >= len(names)]
    if outside.size:
        raise ValueError(
            f"{field} contains {outside[0]}, but there are {len(names)} class_names, for labels 0..{len(names) - 1} "
            f"({outside.size} labels are too large). Give a name for every class, or correct the labels."
        )


def _number_classes(train_labels: np.ndarray, test_labels: np.ndarray) -> tuple[str, ...]:
    """Names "0".."K-1", when the labels are exactly 0..K-1."""
    present = set(np.unique(train_labels).tolist()) | set(np.unique(test_labels).tolist())
    num_classes = max(present) + 1
    if len(present) < num_classes:
        # Lazily: a label may be as large as 2**63, while only few labels are looked at before 10 missing are found.
        missing = list(itertools.islice((k for k in range(num_classes) if k not in present), 10))
        raise ValueError(
            f"train_labels and test_labels are not contiguous: the largest is {max(present)}, but "
            f"{num_classes - len(present)} smaller ones are missing, {missing} first. Renumber them to 0..K-1, "
            "np.unique(labels, return_inverse=True)[1], or give class_names for all classes."
        )
    if num_classes < 2:
        raise ValueError("train_labels and test_labels hold 1 class, 0. At least 2 classes are needed to classify.")
    return tuple(str(k) for k in range(num_classes))


def _check_every_class_is_trained(train_labels: np.ndarray, names: tuple[str, ...]) -> None:
    untrained = np.flatnonzero(np.bincount(train_labels.astype(np.int64), minlength=len(names)) == 0)
    if untrained.size:
        listed = ", ".join(f"{k} ({names[k]!r})" for k in untrained[:10])
        raise ValueError(
            f"train_labels lacks {untrained.size} of the {len(names)} classes, so they have no training example: "
            f"{listed}. Add examples, or remove the classes from class_names and test_labels and renumber."
        )
