"""Data sets in Parquet files, as the Hugging Face hub serves tables, images and tokens. pyarrow reads them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxinfl.datasets import npz
from jaxinfl.datasets.arrow_arrays import kind_of
from jaxinfl.datasets.cache import decode_cached
from jaxinfl.datasets.columns import Schema, choose_columns, find_image, join_tables, make_dataset, make_schema
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.images import choose_layout, survey_images
from jaxinfl.datasets.kinds import Wanted
from jaxinfl.datasets.parquet_sizes import RowGroup, measure_pages, read_row_groups
from jaxinfl.datasets.split_files import SplitFiles

_READ_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError)
"""What reading a damaged file can raise."""
_ROWS_AT_ONCE = 65536
_IMAGES_AT_ONCE = 256
_REMEDY = "Name fewer columns by inputs=..., or give fewer rows."


def load_parquet(
    files: SplitFiles, wanted: Wanted, image_size: int | None = None, background: str | None = None
) -> Dataset:
    """Load Parquet files; rows keep their order, and files that of their names.

    Class names are those that the Hugging Face hub writes into the schema. Declared sizes are checked before anything is read:
    no file gets more memory than this machine has (`memory_limit`). Page checksums are compared where a file has them.
    `image_size` and `background` are those of `load_dataset`.

    Raises:
      ValueError: a file is damaged, too large or of other columns; columns are not clear, or not taken; an image cannot be read.
    """
    root = str(files.root)
    train, test = _Split(root, "train", files.train), _Split(root, "test", files.test)
    schema = make_schema(root, [*train.schemas, *test.schemas], _find_class_names([train, test]))
    choice = choose_columns(schema, wanted)
    image = find_image(schema, choice)
    read = choice.targets if image else (*choice.targets, *choice.inputs)
    tables = [split.read(read) for split in (train, test)]
    images = None
    if image is None:
        if image_size is not None or background is not None:
            raise ValueError(f"image_size or background is given, but inputs of {root} are no images. Leave it out.")
    else:
        encoded = [_Images(split, image, schema) for split in (train, test)]
        decoded, _ = decode_cached(
            {"image_size": image_size},
            encoded[0],
            encoded[1],
            lambda: choose_layout([survey_images(each, each.where) for each in encoded], image_size),
            background,
            root,
        )
        images = decoded[: len(train)], decoded[len(train) :]
    return make_dataset(schema, choice, tables, wanted, files.name, images)


class _Split:
    """The files of one split, of which only the footers are read at first."""

    def __init__(self, root: str, name: str, files: Sequence[Path]):
        self.where = f"{root}, {name} set"
        self.files = list(files)
        about = [_read_footer(path) for path in self.files]
        self.schemas = [schema for schema, _ in about]
        self.groups = [
            (path, number, group)
            for path, (_, groups) in zip(self.files, about, strict=True)
            for number, group in enumerate(groups)
        ]
        """The row groups of all files in their order, each with its file and its number in it."""
        if not len(self):
            raise ValueError(f"{self.where} holds no examples. Give files with at least one row.")

    def __len__(self) -> int:
        return sum(group.rows for *_, group in self.groups)

    def read(self, columns: Sequence[str]) -> Any:
        """The columns as one Arrow table.

        Raises:
          ValueError: they do not fit in memory, or a file is damaged.
        """
        declared = sum(
            chunk.in_memory for *_, group in self.groups for chunk in group.chunks if chunk.column in columns
        )
        npz.check_memory(declared, f"{self.where} declares", _REMEDY)
        tables, total = [], 0
        for group in range(len(self.groups)):
            for batch in self.batches(group, columns, _ROWS_AT_ONCE):
                total += batch.nbytes
                npz.check_memory(total, f"{self.where} holds", _REMEDY)
                tables.append(pa.Table.from_batches([batch]))
        return join_tables(tables, columns, self.where)

    def batches(self, group: int, columns: Sequence[str], most_rows: int, leaves: Sequence[str] = ()) -> Iterator[Any]:
        """Yield the rows of one row group, some at a time.

        Args:
          group: position of the row group in `groups`.
          columns: the columns to read.
          most_rows: largest number of rows that are read at once. A long value that is repeated takes little of a file and
            much memory, so fewer are read where each could be long.
          leaves: what to read of the columns; all of them where there is none.
        """
        path, number, about = self.groups[group]
        found = 0
        try:
            declared, longest = measure_pages(path, [chunk for chunk in about.chunks if chunk.column in columns])
            npz.check_memory(declared, f"row group {number} of {path} declares", _REMEDY)
            rows = max(1, min(most_rows, npz.memory_limit() // max(longest, 1)))
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(rows, row_groups=[number], columns=list(leaves or columns)):
                    batch.validate(full=True)
                    found += len(batch)
                    yield batch
        except npz.TooLarge:
            raise
        except _READ_ERRORS as error:
            raise _damaged(path, error) from error
        if found != about.rows:
            raise _damaged(path, f"row group {number} holds {found} rows and declares {about.rows}")


def _read_footer(path: Path) -> tuple[Any, list[RowGroup]]:
    """The schema of a file, as Arrow has it, and its row groups."""
    try:
        groups = read_row_groups(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            _ = schema.names, str(schema)  # names that are no text raise an error now
    except _READ_ERRORS as error:
        raise _damaged(path, error) from error
    return schema, groups


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(
        f"{path} is not a readable Parquet file: it is truncated, damaged or something else ({reason}). Fetch or write it again."
    )


class _Images:
    """The encoded images of one split, read again and again from the files, a few hundred at a time."""

    def __init__(self, split: _Split, column: str, schema: Schema):
        self.where = split.where
        self._split, self._column = split, column
        self._leaves = [f"{column}.bytes"] if schema.kinds[column] == "image" else [column]
        self._rest: Iterator[list[bytes | None]] = iter(())
        self._first, self._batch = 0, list[bytes | None]()
        # The images' targets are read by themselves; the cache keeps these beside the images.
        self.labels = np.zeros(len(split), np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> bytes:
        if index < self._first:  # from the start
            self._rest, self._first, self._batch = iter(()), 0, []
        while index >= self._first + len(self._batch):
            self._first += len(self._batch)
            self._batch = self._next_batch()
        found = self._batch[index - self._first]
        if found is None:
            raise ValueError(
                f"image {index} of {self.where} has no bytes in the column {self._column!r}. Store the images themselves in the "
                "files, not paths to them, or remove these rows."
            )
        return found

    def _next_batch(self) -> list[bytes | None]:
        batch = next(self._rest, None)
        if batch is not None:
            return batch
        first = 0
        for number, (*_, group) in enumerate(self._split.groups):
            if first + group.rows > self._first:
                self._rest = self._read(number)
                break
            first += group.rows
        return next(self._rest)

    def _read(self, group: int) -> Iterator[list[bytes | None]]:
        for batch in self._split.batches(group, [self._column], _IMAGES_AT_ONCE, self._leaves):
            column = batch.column(self._column)
            yield (column.field("bytes") if kind_of(column.type) == "image" else column).to_pylist()


def _find_class_names(splits: Sequence[_Split]) -> dict[str, tuple[str, ...]]:
    """Names of the classes of each column, from the schema's metadata as the Hugging Face hub writes it.

    Raises:
      ValueError: the metadata are damaged, or the files disagree.
    """
    found: dict[str, tuple[str, ...]] | None = None
    for split in splits:
        for path, schema in zip(split.files, split.schemas, strict=True):
            names = _class_names_of(path, schema)
            if found is not None and names != found:
                raise ValueError(
                    f"{path} declares other classes than {splits[0].files[0]}: {names} and {found}. Give files of one version."
                )
            found = names
    return found or {}


def _class_names_of(path: Path, schema: Any) -> dict[str, tuple[str, ...]]:
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text).get("info", {}).get("features") or {}
        labels = {
            column: feature.get("names")
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its metadata of the Hugging Face hub: {error}") from error
    found = {}
    for column, names in labels.items():
        if names is None or column not in schema.names:  # a number of classes without names
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _damaged(path, f"the names of the classes of {column!r} are no list of strings")
        found[column] = tuple(names)
    return found
