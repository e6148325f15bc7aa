"""`Dataset`: the training and test examples of one classification problem, checked once, then never changed."""

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike

from jaxinfl.arguments import quote
from jaxinfl.datasets.arrays import as_images, check_same_shape, pieces
from jaxinfl.datasets.inputs import (
    Inputs,
    as_inputs,
    as_targets,
    by_name,
    check_categories_named,
    check_features_named,
    count_categories,
    declare_categories,
    find_task,
    looks_like_images,
    names_by_array,
)
from jaxinfl.datasets.labels import check_text, code_labels, label_rows
from jaxinfl.datasets.preview import preview
from jaxinfl.tasks import BINARY, CLASSIFICATION, NEXT_TOKEN, Regression, Task

_HASHED_AT_ONCE = 64 * 2**20  # bytes; bounds the copies made of arrays that are not contiguous


@dataclasses.dataclass(frozen=True, eq=False, repr=False, init=False)
class Dataset:
    """Inputs and targets for training and testing, in a fixed order: example i is row i, everywhere in jaxinfl.

    Given arrays are converted where needed (see the fields), checked, and kept as read-only views: nothing is
    copied that already has the right form, and the caller's own arrays stay writable. Whoever writes to them
    afterwards changes this data set and makes its `fingerprint` wrong.

    Raises:
      TypeError: an array has a dtype that is not taken, or is of the wrong kind for the task; one set has text as labels and the
        other numbers; `name` or a class name is not a string.
      ValueError: a wrong or empty shape, inputs and targets of unequal length, NaN or infinity, masked values, a label outside the
        classes, a class without a training example, fewer than 2 classes, two classes of one name, or a name that cannot
        be written (control characters, bytes that are no UTF-8). A class may be missing in the test set.
    """

    train_inputs: Inputs
    """Images, arrays or a dict of arrays, an example a row.

    One uint8 array `[train, height, width, channels]`, or without the last axis (one channel), holds images of pixels from 0 to
    255, unless `categories` is given, by which it holds categories. Any other array of bool, integers or floats goes to the model as it is: integers are
    numbers of categories or tokens, and numbers are given as floats. Several arrays are given as a dict."""
    train_targets: np.ndarray
    """What the model is to predict, as the task takes it.

    Of classification, int32 from 0 to `num_classes - 1`. Labels are given as any integer dtype, or as text, `[train]` or
    `[train, 1]`. Text is `str`, or `bytes` as UTF-8, in a list or an array (of objects, too). Both sets get one coding: the label
    is the position of the text in `class_names`."""
    test_inputs: Inputs
    """Test inputs, in the form of `train_inputs`."""
    test_targets: np.ndarray
    """Test targets, in the form of `train_targets`."""
    task: Task
    """What targets mean: loss and scores."""
    class_names: tuple[str, ...]
    """One name a class, by label. None given: the sorted names of both sets together where labels are text; else "0",
    "1", ..., and the labels must then be exactly 0..K-1. Empty where the task is not classification."""
    categories: Mapping[str, int]
    """Number of categories or tokens of each integer array by its name ("" for a single array), declared or inferred."""
    category_names: Mapping[str, tuple[str, ...]]
    """A name for each category or token of integer arrays, by the array's name; empty by default. Naming them declares their number.
    Not part of `fingerprint`."""
    feature_names: Mapping[str, tuple[str, ...]]
    """A name for each number of an example in arrays of floats, by the array's name; empty by default. Tables from files have the names
    of their columns. Not part of `fingerprint`."""
    name: str
    """What to call the data in tables and plots. Not part of `fingerprint`."""

    # Written out, because it takes more than the fields hold: the generated one would have the fields' annotations.
    def __init__(
        self,
        *,
        train_inputs: ArrayLike | Mapping[str, ArrayLike],
        train_targets: ArrayLike,
        test_inputs: ArrayLike | Mapping[str, ArrayLike],
        test_targets: ArrayLike,
        task: Any = "classification",
        class_names: Sequence[str] | None = None,
        categories: int | Mapping[str, int] | None = None,
        category_names: Any = None,
        feature_names: Any = None,
        name: str = "arrays",
    ):
        found = find_task(task, train_targets)
        spelled = names_by_array("category_names", category_names)
        features = names_by_array("feature_names", feature_names)
        categories = declare_categories(categories, spelled)
        images = categories is None and (looks_like_images(train_inputs) or looks_like_images(test_inputs))
        check: Any = as_images if images else as_inputs
        given = check(train_inputs, test_inputs)
        targets, names = _check_targets(found, given, (train_targets, test_targets), class_names)
        if images:
            check_same_shape(*given)
        if not isinstance(name, str):
            raise TypeError(f"name is {quote(name)}; it takes a string.")
        check_text("name", name)
        fields = {
            "train_inputs": given[0],
            "train_targets": targets[0],
            "test_inputs": given[1],
            "test_targets": targets[1],
        }
        for field, array in fields.items():
            object.__setattr__(self, field, _view_read_only(array))
        tokens = targets if found is NEXT_TOKEN else None
        counted = {} if images else count_categories(given[0], given[1], categories, tokens)
        check_categories_named(spelled, counted)
        check_features_named(features, given[0])
        about = {"task": found, "class_names": names, "categories": counted, "name": name, "_images": images}
        for field, value in {**about, "category_names": spelled, "feature_names": features}.items():
            object.__setattr__(self, field, value)

    def with_source(self, **arguments: Any) -> "Dataset":
        """The data set, with the arguments by which `load_dataset` finds it again."""
        loaded = copy.copy(self)
        object.__setattr__(loaded, "_source", arguments)
        return loaded

    def select(self, train: np.ndarray, test: np.ndarray) -> "Dataset":
        """Some of the examples: indices or bool masks of both sets. What is declared stays."""
        return self._with(
            {name: array[train] for name, array in by_name(self.train_inputs).items()},
            self.train_targets[train],
            {name: array[test] for name, array in by_name(self.test_inputs).items()},
            self.test_targets[test],
        )

    def with_test(self, inputs: ArrayLike | Mapping[str, ArrayLike], targets: ArrayLike) -> "Dataset":
        """The same training examples with other test examples."""
        return self._with(
            by_name(self.train_inputs), self.train_targets, inputs, targets, name=f"{self.name}, other examples"
        )

    def _with(
        self,
        train: Mapping[str, np.ndarray],
        train_targets: np.ndarray,
        test: Any,
        targets: Any,
        name: str | None = None,
    ) -> "Dataset":
        single = not isinstance(self.train_inputs, dict)
        return Dataset(
            train_inputs=train[""] if single else train,
            train_targets=train_targets,
            test_inputs=test[""] if single and isinstance(test, Mapping) else test,
            test_targets=targets,
            task=self.task,
            class_names=self.class_names or None,
            categories=(self.categories.get("", None) if single else self.categories) if self.categories else None,
            category_names=self.category_names or None,
            feature_names=self.feature_names or None,
            name=self.name if name is None else name,
        )

    def spell(self, name: str, values: np.ndarray) -> str:
        """Values of the inputs `name` ("" for a single array) as text: names of categories or tokens, where they have any."""
        names = self.category_names.get(name)
        return " ".join(str(value) if names is None else names[value] for value in np.ravel(values).tolist())

    def images(self, split: str) -> UInt8[np.ndarray, "examples height width channels"]:
        """The images of "train" or "test".

        Raises:
          ValueError: the inputs are no images.
        """
        found = getattr(self, f"{split}_inputs")
        if not self.are_images or isinstance(found, dict):
            raise ValueError(f"{self.name} holds no images; this takes uint8 images [n, height, width, channels].")
        return found

    @property
    def source(self) -> Mapping[str, Any] | None:
        """The arguments with which `load_dataset` finds the data again, as JSON values; None for data made from arrays."""
        found: Mapping[str, Any] | None = self.__dict__.get("_source")
        return found

    @property
    def are_images(self) -> bool:
        """Whether the inputs are images, which are augmented, and normalized by the statistics of their channels."""
        images: bool = self.__dict__["_images"]
        return images

    @property
    def has_floats(self) -> bool:
        """Whether some inputs are floats, which `Recipe.standardize` scales."""
        return any(array.dtype.kind == "f" for array in by_name(self.train_inputs).values())

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return len(self.train_targets)

    @property
    def num_test(self) -> int:
        """Number of test examples."""
        return len(self.test_targets)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without a test example included; 0 where the task is not classification."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int | None:
        """Number of outputs an example, or a place of a sequence, that the task takes; None where the task is a user's own."""
        if self.task is CLASSIFICATION:
            return self.num_classes
        if self.task is NEXT_TOKEN:
            return max(self.categories.values())
        if self.task is BINARY or isinstance(self.task, Regression):
            return int(np.prod(self.train_targets.shape[1:]))
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs of both sets."""
        return sum(each.nbytes for inputs in (self.train_inputs, self.test_inputs) for each in by_name(inputs).values())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image.

        Raises:
          ValueError: the inputs are no images.
        """
        height, width, channels = self.images("train").shape[1:]
        return height, width, channels

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hex digits that are equal for equal content: sha256 over shapes and values, the task, and what is declared.

        Neither the names nor the memory layout or byte order of the arrays matter. Computed at first use
        (about a second for each gigabyte), then kept.
        """
        if self.are_images and self.task is CLASSIFICATION:
            digest = hashlib.sha256(f"jaxinfl dataset 1, {self.num_classes} classes\n".encode())
            names = {"train_inputs": "train_images", "test_inputs": "test_images"}
            names |= {"train_targets": "train_labels", "test_targets": "test_labels"}
        else:
            declared = f"{self.task.name}, {self.num_classes} classes, categories {sorted(self.categories.items())}"
            digest = hashlib.sha256(f"jaxinfl dataset 2, {declared}, images {self.are_images}\n".encode())
            names = {}
        for field in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
            for part, array in by_name(getattr(self, field)).items():
                digest.update(
                    f"{names.get(field, field)}{part and ' '}{part} {array.dtype.name} {array.shape}\n".encode()
                )
                for rows in _contiguous_pieces(array):
                    digest.update(rows.data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        what = f"num_classes={self.num_classes}" if self.num_classes else f"task={self.task.name!r}"
        shapes = {part: array.shape[1:] for part, array in by_name(self.train_inputs).items()}
        inputs = f"image_shape={self.image_shape}" if self.are_images else f"input_shape={shapes.get('', shapes)}"
        return f"Dataset(name={self.name!r}, num_train={self.num_train}, num_test={self.num_test}, {what}, {inputs})"

    def _repr_html_(self) -> str:
        return preview(self)


def describe_data(data: Dataset | None) -> dict[str, Any]:
    """What a run records of its data beside their content, as JSON values; None each where nothing is known.

    None of this is in the identity of a run: the same content may be found under another path, and have other names.
    """
    if data is None:
        return {"data_name": None, "data_source": None, "class_names": None}
    source = None if data.source is None else dict(data.source)
    return {"data_name": data.name, "data_source": source, "class_names": list(data.class_names)}


def join_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
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
    for _, rows in pieces(array, _HASHED_AT_ONCE):
        yield np.ascontiguousarray(rows, dtype=array.dtype.newbyteorder("<"))


def _view_read_only(array: Any) -> Any:
    """A view that cannot be written to; the flag of `array` itself, which may be the caller's, stays as it is."""
    if isinstance(array, dict):
        return {name: _view_read_only(each) for name, each in array.items()}
    view = array.view()
    view.flags.writeable = False
    return view


def _check_targets(
    task: Task, inputs: tuple[Inputs, Inputs], given: tuple[Any, Any], class_names: Sequence[str] | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[str, ...]]:
    """The targets of both sets, one for each example, and the names of the classes, if the task has classes."""
    if task is CLASSIFICATION:
        labels = label_rows(*given)
        _check_lengths("train", inputs[0], labels["train_targets"])
        _check_lengths("test", inputs[1], labels["test_targets"])
        train, test, names = code_labels(labels, class_names)
        return (train.astype(np.int32, copy=False), test.astype(np.int32, copy=False)), names
    if class_names is not None:
        raise ValueError(f"class_names is given, which the task {task.name!r} does not take. Leave it out.")
    targets = as_targets(task, *given)
    _check_lengths("train", inputs[0], targets[0])
    _check_lengths("test", inputs[1], targets[1])
    return targets, ()


def _check_lengths(split: str, inputs: Inputs, targets: np.ndarray) -> None:
    length = len(next(iter(by_name(inputs).values())))
    if length != len(targets):
        raise ValueError(
            f"{split}_inputs holds {length} examples and {split}_targets {len(targets)}. Give every example one target."
        )
