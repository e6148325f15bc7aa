"""Inputs that are no images, and targets that are no classes: one array or several of one length, checked and kept as they are."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxinfl.arguments import check_whole, quote
from jaxinfl.datasets.arrays import as_array, find_first, pieces
from jaxinfl.datasets.labels import check_text
from jaxinfl.tasks import BINARY, CLASSIFICATION, NEXT_TOKEN, TASK_NAMES, Regression, Task

Inputs = np.ndarray | dict[str, np.ndarray]
"""One array [examples, ...], or several by name."""
EXPECTED_INPUTS = "arrays of bool, integers or floats [n, ...], or a dict of them"


def by_name(inputs: Inputs) -> dict[str, np.ndarray]:
    """The arrays by name; "" is the name of a single one."""
    return inputs if isinstance(inputs, dict) else {"": inputs}


def looks_like_images(inputs: Any) -> bool:
    """Whether inputs are taken for images where nobody says: one uint8 array of 3 or 4 dimensions."""
    return (
        not isinstance(inputs, Mapping)
        and getattr(inputs, "dtype", None) == np.uint8
        and getattr(inputs, "ndim", 0) in (3, 4)
    )


def as_inputs(train: Any, test: Any) -> tuple[Inputs, Inputs]:
    """Both sets as one array or a dict of arrays, each with an example a row.

    Raises:
      TypeError: another dtype, or a dict in one set and an array in the other.
      ValueError: other names, shapes or dtypes in the two sets; arrays of unequal length; NaN or infinity; no example.
    """
    if isinstance(train, Mapping) != isinstance(test, Mapping):
        one, other = ("train", "test") if isinstance(train, Mapping) else ("test", "train")
        raise TypeError(
            f"{one}_inputs is a dict of arrays and {other}_inputs is not; both sets take the same. Give both in one form."
        )
    if not isinstance(train, Mapping):
        pair = _as_rows("train_inputs", train), _as_rows("test_inputs", test)
        _check_alike("", *pair)
        return pair
    if not train or set(train) != set(test) or not all(isinstance(name, str) and name for name in train):
        raise ValueError(
            f"train_inputs has the arrays {quote(list(train))} and test_inputs {quote(list(test))}; both take the same names, "
            "which are strings."
        )
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
    for name in sorted(train):
        for kept, split, given in zip(found, ("train", "test"), (train, test), strict=True):
            kept[name] = _as_rows(f"{split}_inputs[{name!r}]", given[name])
        _check_alike(f"[{name!r}]", found[0][name], found[1][name])
    for split, arrays in zip(("train", "test"), found, strict=True):
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"{split}_inputs has arrays of the lengths {lengths}; it takes one row an example in each."
            )
    return found


def _as_rows(field: str, value: Any) -> np.ndarray:
    array = as_array(field, value, EXPECTED_INPUTS, "Replace the missing values, or remove these examples")
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"{field} has dtype {array.dtype}; it takes {EXPECTED_INPUTS}. Number categories and tokens from 0, and give numbers "
            "as floats."
        )
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{field} has shape {array.shape}; it takes {EXPECTED_INPUTS}, with at least one example.")
    check_finite(field, array)
    return array


def check_finite(field: str, array: np.ndarray) -> None:
    """Raise `ValueError` for NaN and infinity, with the first example and column."""
    if array.dtype.kind != "f":
        return
    if found := find_first(array, lambda rows: ~np.isfinite(rows)):
        raise ValueError(
            f"{field} is {found[0]} {found[1]}; it takes finite numbers. Replace the missing values, or remove these examples."
        )


def _check_alike(name: str, train: np.ndarray, test: np.ndarray) -> None:
    if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"train_inputs{name} is {train.dtype} {train.shape[1:]} an example and test_inputs{name} {test.dtype} "
            f"{test.shape[1:]}; both sets take one dtype and one shape."
        )


def count_categories(
    train: Inputs,
    test: Inputs,
    declared: int | Mapping[str, int] | None,
    next_tokens: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, int]:
    """Number of categories or tokens of each integer array, declared or one more than the largest that is there.

    `next_tokens` are the targets of the task 'next_token', which are of the same vocabulary.

    Raises:
      TypeError, ValueError: a declaration for an array that holds no integers, or that is too small; negative integers.
    """
    integers = {name: array for name, array in by_name(train).items() if array.dtype.kind in "iu"}
    given = declared if isinstance(declared, Mapping) else dict.fromkeys(integers, declared)
    if isinstance(declared, int) and len(integers) != 1:
        raise ValueError(
            f"categories is {declared} for {len(integers)} integer arrays; it takes a number for one array, or a dict."
        )
    unknown = [name for name in given if name not in integers]
    if unknown:
        raise ValueError(
            f"categories names {unknown[0]!r}, which is no array of integers; these are {sorted(integers)}."
        )
    found = {}
    for name, array in integers.items():
        label = f"[{name!r}]" if name else ""
        number = given.get(name)
        most = None if number is None else check_whole(number, f"categories{label}", 1, 2**31 - 1)
        highest = 0
        for field, each in (("train_inputs", array), ("test_inputs", by_name(test)[name])):
            low, high = _extremes(each)
            if low < 0:
                raise ValueError(
                    f"{field}{label} holds {low}; integers are categories or tokens, from 0 up. Number them so, or give numbers "
                    "as floats: .astype(np.float32)."
                )
            if most is not None and most <= high:
                raise ValueError(
                    f"categories{label} is {most}, but {field}{label} holds {high}; it takes a number above every category."
                )
            highest = max(highest, high)
        found[name] = highest + 1 if most is None else most
    return found if next_tokens is None else _include_targets(found, next_tokens, declared=declared is not None)


def _include_targets(
    categories: Mapping[str, int], targets: tuple[np.ndarray, np.ndarray], *, declared: bool
) -> dict[str, int]:
    """The numbers of tokens that hold those of the targets of 'next_token', too; the largest is the vocabulary.

    Raises:
      ValueError: no inputs are tokens, or a target is no token of a vocabulary that is declared.
    """
    if not categories:
        raise ValueError("train_inputs hold no integers; the task 'next_token' takes tokens, integers from 0 up.")
    vocabulary, highest_target = max(categories.values()), 0
    for field, array in zip(("train_targets", "test_targets"), targets, strict=True):
        highest = _extremes(array)[1]
        if declared and highest >= vocabulary:
            raise ValueError(
                f"{field} holds {highest}, but categories declares {vocabulary} tokens; it takes tokens below that, and numbers below 0 "
                "for padding."
            )
        highest_target = max(highest_target, highest)
    return {name: number if declared else max(number, highest_target + 1) for name, number in categories.items()}


def _extremes(array: np.ndarray) -> tuple[int, int]:
    """Lowest and highest of integers, 0 included; read in pieces, because the array may be on disk."""
    low, high = 0, 0
    for _, rows in pieces(array):
        low, high = min(low, int(rows.min())), max(high, int(rows.max()))
    return low, high


def declare_categories(categories: Any, names: Mapping[str, Sequence[str]]) -> Any:
    """The declared numbers of categories, None where nothing is declared; names alone declare the numbers."""
    if isinstance(categories, Mapping) and not categories:
        categories = None
    if categories is None and names:
        numbers = {name: len(each) for name, each in names.items()}
        return numbers[""] if list(numbers) == [""] else numbers
    return categories


def names_by_array(field: str, given: Any) -> dict[str, tuple[str, ...]]:
    """Names of categories or of features by the name of their array, "" for a single array; empty where None is given.

    Raises:
      TypeError: neither a sequence of strings nor a mapping to such sequences.
      ValueError: a name that cannot be shown.
    """
    if given is None:
        return {}
    found = {}
    for name, names in (given if isinstance(given, Mapping) else {"": given}).items():
        if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
            raise TypeError(
                f"{field} is {quote(given)}; it takes a sequence of strings, or one for each array by its name."
            )
        found[name] = tuple(names)
        for each in found[name]:
            if not isinstance(each, str):
                raise TypeError(f"{field} holds {quote(each)}; it takes strings.")
            check_text(field, each)
    return found


def check_categories_named(names: Mapping[str, Sequence[str]], categories: Mapping[str, int]) -> None:
    """Raise `ValueError` unless each named array is one of integers, and has as many names as categories."""
    for name, each in names.items():
        if name not in categories:
            raise ValueError(
                f"category_names names {name!r}, which is no array of integers; these are {sorted(categories)}. Leave it out."
            )
        if len(each) != categories[name]:
            raise ValueError(
                f"category_names has {len(each)} names{f' for {name!r}' if name else ''}, and there are {categories[name]} categories; "
                "it takes one name each."
            )


def check_features_named(names: Mapping[str, Sequence[str]], inputs: Inputs) -> None:
    """Raise `ValueError` unless each named array is one of floats, and has as many names as numbers an example."""
    floats = {name: array for name, array in by_name(inputs).items() if array.dtype.kind not in "biu"}
    for name, each in names.items():
        if name not in floats:
            raise ValueError(
                f"feature_names names {name!r}, which is no array of floats; these are {sorted(floats)}. Leave it out."
            )
        number = int(np.prod(floats[name].shape[1:], dtype=np.int64))
        if len(each) != number:
            raise ValueError(
                f"feature_names has {len(each)} names{f' for {name!r}' if name else ''}, and an example has {number} numbers; it takes "
                "one name each, in the order of the last axis."
            )


def check_task(task: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `task` is a `Task` or the name of a built-in one."""
    if isinstance(task, Task) or (isinstance(task, str) and task in TASK_NAMES):
        return
    error = ValueError if isinstance(task, str) else TypeError
    raise error(f"task is {quote(task)}; it takes one of {', '.join(map(repr, TASK_NAMES))}, or a jaxinfl.Task.")


def find_task(task: Any, train_targets: Any) -> Task:
    """The task of a name, or the task itself.

    Raises:
      TypeError, ValueError: neither a `Task` nor the name of a built-in one.
    """
    check_task(task)
    if isinstance(task, Task):
        return task
    if task == "regression":
        shape = as_array("train_targets", train_targets, "numbers [n] or [n, k]", "Replace the missing values").shape
        return _regression(int(np.prod(shape[1:])) if len(shape) > 1 else 1)
    return {"classification": CLASSIFICATION, "binary": BINARY, "next_token": NEXT_TOKEN}[task]


# One task for a number of targets, so that a second ensemble finds the programs of the first.
@functools.cache
def _regression(num_targets: int) -> Task:
    return Regression(num_targets)


def as_targets(task: Task, train: Any, test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Targets of a task other than classification.

    Raises:
      TypeError, ValueError: they are not of the kind that the task takes, with the task that would fit.
    """
    pair = _as_rows("train_targets", train), _as_rows("test_targets", test)
    for field, array in zip(("train_targets", "test_targets"), pair, strict=True):
        if task is BINARY:
            if array.ndim > 2 or not np.isin(array, (0, 1)).all():
                raise ValueError(
                    f"{field} is {array.dtype} {array.shape} with values other than 0 and 1; the task 'binary' takes 0 and 1, [n] or "
                    "[n, labels]. Classes are the task 'classification', numbers the task 'regression'."
                )
        elif task is NEXT_TOKEN:
            if array.dtype.kind not in "iu" or array.ndim != 2:
                raise TypeError(
                    f"{field} is {array.dtype} {array.shape}; the task 'next_token' takes integers [n, length], below 0 for padding."
                )
        elif isinstance(task, Regression) and (array.dtype.kind not in "fiu" or array.ndim > 2):
            raise TypeError(
                f"{field} is {array.dtype} {array.shape}; the task 'regression' takes numbers [n] or [n, k]. Classes are the task "
                "'classification', 0 and 1 the task 'binary'."
            )
    if pair[0].shape[1:] != pair[1].shape[1:]:
        raise ValueError(
            f"train_targets is {pair[0].shape[1:]} an example and test_targets {pair[1].shape[1:]}; both sets take one shape."
        )
    return pair


__all__ = [
    "Inputs",
    "as_inputs",
    "as_targets",
    "by_name",
    "check_categories_named",
    "check_features_named",
    "check_finite",
    "check_task",
    "count_categories",
    "declare_categories",
    "find_task",
    "looks_like_images",
    "names_by_array",
]
