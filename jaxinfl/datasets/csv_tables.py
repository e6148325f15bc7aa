"""Data sets as a pair of CSV files, one for training and one for testing. pyarrow reads them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from jaxinfl.datasets.columns import MOST_COLUMNS, choose_columns, join_tables, make_dataset, make_schema
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.kinds import Wanted
from jaxinfl.datasets.npz import check_memory
from jaxinfl.datasets.split_files import SplitFiles

_LARGEST_BLOCK = 2**31 - 2
_BYTES_OF_A_CELL = 8
_REMEDY = "Give fewer rows."


def load_csv(files: SplitFiles, wanted: Wanted) -> Dataset:
    """Load CSV files (RFC 4180): UTF-8, commas, the names of the columns in the first line, quotes doubled within quotes.

    A column is of integers, numbers, true and false, or text, whichever all its values are. Text stays as it is.

    Raises:
      ValueError: a file is damaged or too large; columns are not clear, or not taken; a value is missing.
    """
    root = str(files.root)
    splits = {"train": [_read(path) for path in files.train], "test": [_read(path) for path in files.test]}
    for split, parts in splits.items():
        if not sum(map(len, parts)):
            raise ValueError(
                f"{root}, {split} set, holds no examples. Give files with at least one row below the names."
            )
    schema = make_schema(root, [part.schema for parts in splits.values() for part in parts], {})
    choice = choose_columns(schema, wanted)
    chosen = (*choice.targets, *choice.inputs)
    tables = [join_tables(parts, chosen, f"{root}, {split} set") for split, parts in splits.items()]
    return make_dataset(schema, choice, tables, wanted, files.name)


def _read(path: Path) -> Any:
    check_memory(path.stat().st_size, f"{path} holds", _REMEDY)
    content = path.read_bytes()
    _check_size(path, content)
    if content.count(b'"') % 2:
        raise ValueError(
            f"{path} has a quote that is not closed: the file is truncated, or a quote within a value is not doubled. Write it again."
        )
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # One block, where it can be: the kind of a column is found from the first block alone.
            read_options=pyarrow.csv.ReadOptions(block_size=min(max(len(content), 1), _LARGEST_BLOCK)),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        )
        table.validate(full=True)
    except (pa.ArrowException, ValueError, LookupError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{path} is not a readable CSV file ({error}). It takes UTF-8, commas, the names of the columns in the first line, and "
            "as many values in each line. Write it again."
        ) from error
    return table


def _check_size(path: Path, content: bytes) -> None:
    """Raise `ValueError` before a small file of many empty values becomes a large table."""
    columns = content[: content.find(b"\n")].count(b",") + 1
    if columns > MOST_COLUMNS:
        raise ValueError(f"{path} has {columns} columns; at most {MOST_COLUMNS} are taken. Remove some.")
    size = (content.count(b",") + content.count(b"\n")) * _BYTES_OF_A_CELL + len(content)
    check_memory(size, f"{path} needs", _REMEDY, behind=" for its values")
