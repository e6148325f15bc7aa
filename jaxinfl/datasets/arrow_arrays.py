"""Columns of Arrow tables as NumPy arrays, with the name of the column in every error."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxinfl.datasets.arrays import find_first
from jaxinfl.datasets.labels import normal_form

NUMBERS = ("number", "integer", "bool")
"""Kinds of columns with a number for each example."""
LISTS = tuple(f"list of {kind}s" for kind in NUMBERS)
"""Kinds of columns with a list for each example, or a list of lists."""


def kind_of(data_type: Any) -> str:
    """The kind of a column: one of `NUMBERS` or `LISTS`, "text", "binary", "image", or Arrow's own name of another type."""
    data_type = _plain(data_type)
    if is_list(data_type):
        inner = kind_of(data_type.value_type)
        kind = inner if inner in LISTS else f"list of {inner}s"
        return kind if kind in LISTS else str(data_type)
    checks = {
        "bool": pa.types.is_boolean,
        "integer": pa.types.is_integer,
        "number": lambda each: pa.types.is_floating(each) or pa.types.is_decimal(each),
        "text": lambda each: (
            pa.types.is_string(each) or pa.types.is_large_string(each) or pa.types.is_string_view(each)
        ),
        "binary": _is_binary,
        # The Hugging Face hub stores images so: {"bytes": ..., "path": ...}.
        "image": lambda each: pa.types.is_struct(each) and any(f.name == "bytes" and _is_binary(f.type) for f in each),
    }
    return next((kind for kind, check in checks.items() if check(data_type)), str(data_type))


def _plain(data_type: Any) -> Any:
    """The type of the values, where it is that of a dictionary or an extension."""
    if isinstance(data_type, pa.BaseExtensionType):
        return _plain(data_type.storage_type)
    return _plain(data_type.value_type) if pa.types.is_dictionary(data_type) else data_type


def _is_binary(data_type: Any) -> bool:
    return pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type)


def is_list(data_type: Any) -> bool:
    """Whether values are lists, of one length or of any."""
    return pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type)


def to_array(column: Any, label: str) -> np.ndarray:
    """A column of numbers or of lists of numbers as an array [examples, ...].

    Args:
      column: an Arrow column of a kind of `NUMBERS` or `LISTS`.
      label: name of the column in errors.

    Raises:
      ValueError: a value is missing, NaN or infinite, or lists differ in length.
    """
    shape = [len(column)]
    column = _unwrap(column)
    while is_list(column.type):
        _check_missing(column, label, math.prod(shape[1:]))
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"] or not lengths["max"]:
            raise ValueError(
                f"{label} holds lists of {lengths['min']} to {lengths['max']} values; it takes one length, of at least 1. Cut or "
                "pad them to one length."
            )
        shape.append(lengths["max"])
        column = _unwrap(pc.list_flatten(column))
    _check_missing(column, label, math.prod(shape[1:]))
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    array = column.to_numpy().reshape(shape)
    check_column(array, label)
    return array


def check_column(array: np.ndarray, label: str) -> None:
    """Raise `ValueError` for NaN and infinity, with the first example."""
    if array.dtype.kind != "f":
        return
    if found := find_first(array, lambda rows: ~np.isfinite(rows)):
        place = found[1].replace("column", "place") + (" of its list" if array.ndim > 1 else "")
        raise ValueError(
            f"{label} is {found[0]} as {array.dtype} {place}; it takes finite numbers. Replace the missing values, or remove these "
            "examples."
        )


def to_float32(column: Any, label: str) -> np.ndarray:
    """The same as float32, checked once more, because larger numbers become infinite."""
    with np.errstate(over="ignore"):
        array = to_array(column, label).astype(np.float32, copy=False)
    check_column(array, label)
    return array


def to_text(column: Any, label: str) -> tuple[np.ndarray, list[str]]:
    """A column of text as a number for each example, and the texts that the numbers stand for.

    Raises:
      ValueError: a text is missing or empty, or is no UTF-8.
    """
    column = _unwrap(column, keep_dictionary=True)
    _check_missing(column, label)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = column.unify_dictionaries().combine_chunks()
    try:
        texts = [normal_form(text) if text is not None else "" for text in coded.dictionary.to_pylist()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{label} holds bytes that are no UTF-8 ({error}). Write the file again as UTF-8.") from None
    numbers = np.asarray(coded.indices.to_numpy(), np.int64)
    empty = np.isin(numbers, [k for k, text in enumerate(texts) if not text])
    if empty.any():
        raise _missing(label, int(empty.argmax()), int(empty.sum()))
    return numbers, texts


def _unwrap(column: Any, keep_dictionary: bool = False) -> Any:
    """A column without extension types, and without dictionaries of numbers."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type) and not keep_dictionary:
        column = column.cast(column.type.value_type)
    return column


def _check_missing(column: Any, label: str, values: int = 1) -> None:
    """Raise `ValueError` where a value is missing; an example has so many `values`."""
    if column.null_count:
        raise _missing(label, pc.index(pc.is_null(column), True).as_py() // values, column.null_count)


def _missing(label: str, example: int, number: int) -> ValueError:
    return ValueError(
        f"{label} has no value at example {example} ({number} values are missing). Fill them in, or remove these examples."
    )
