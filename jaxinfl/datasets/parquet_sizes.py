"""What the parts of a Parquet file declare to hold, so that a small file cannot ask for more memory than there is.

This reads Thrift's compact protocol by itself, because pyarrow 26 does not show the headers of pages. And where a footer is
damaged, showing the sizes of a column ends the process: an error of C++ is not caught.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_MAGIC = b"PAR1"
_MOST_NESTED = 32
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""Bytes of a value in memory, by the number of its physical type; the others are of any length."""


class Chunk(NamedTuple):
    """The values of one column in one row group."""

    column: str
    """Name of the outermost column."""
    width: int | None
    """Bytes of a value; None where values are of any length."""
    values: int
    stored: int
    """Bytes of its pages when they are unpacked."""
    start: int
    length: int
    """Bytes in the file."""

    @property
    def in_memory(self) -> int:
        """Bytes that the values take at least."""
        return self.values * (self.width or 4) if self.width else max(self.stored, self.values * 4)


class RowGroup(NamedTuple):
    """Some rows of a file."""

    rows: int
    chunks: list[Chunk]


def read_row_groups(path: Path) -> list[RowGroup]:
    """The row groups by the footer of a file.

    Raises:
      ValueError: the footer is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        size = len(content)
        if size < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC:
            raise ValueError("it does not begin and end with PAR1")
        (length,) = struct.unpack("<I", content[-8:-4])
        if length > size - 12:
            raise ValueError(f"a footer of {length} bytes is declared in a file of {size}")
        footer = _Compact(content[size - 8 - length : size - 8], 0).read_struct()
        groups = [_as_group(group, size) for group in _field(footer, 4, list)]
        if sum(group.rows for group in groups) != _field(footer, 3, int):
            raise ValueError("the rows of its row groups are not those of the file")
    return groups


def _as_group(group: Any, size: int) -> RowGroup:
    rows, chunks = _field(group, 3, int), []
    for column in _field(group, 1, list):
        about = _field(column, 3, dict)
        path = _field(about, 3, list)
        start = min(_field(about, 9, int), about.get(11) or size)
        chunk = Chunk(
            column=path[0].decode() if path and isinstance(path[0], bytes) else "",
            width=_WIDTHS.get(_field(about, 1, int)),
            values=_field(about, 5, int),
            stored=_field(about, 6, int),
            start=start,
            length=_field(about, 7, int),
        )
        if min(chunk.values, chunk.stored, chunk.start, chunk.length) < 0 or start + chunk.length > size:
            raise ValueError(f"column {chunk.column!r} lies outside of the file")
        chunks.append(chunk)
    if rows < 0:
        raise ValueError("a row group has fewer than no rows")
    return RowGroup(rows, chunks)


def measure_pages(path: Path, chunks: list[Chunk]) -> tuple[int, int]:
    """Bytes that columns of one row group take in memory, and their longest value can have, by the headers of their pages.

    Raises:
      ValueError: pages are damaged, or hold more values than the footer declares.
    """
    total = longest = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for chunk in chunks:
            values = stored = 0
            for size, number in _pages(content, chunk):
                values, stored = values + number, stored + size
                longest = max(longest, 0 if chunk.width else size)
            if values != chunk.values:
                raise ValueError(f"pages of {chunk.column!r} hold {values} values, and {chunk.values} are declared")
            total += max(stored, chunk._replace(stored=stored).in_memory)
    return total, longest


def _pages(content: Any, chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Yield the unpacked size of every page, and its number of values."""
    position, end = chunk.start, chunk.start + chunk.length
    while position < end:
        reader = _Compact(content, position)
        header = reader.read_struct()
        kind, unpacked, packed = (_field(header, number, int) for number in (1, 2, 3))
        if unpacked < 0 or packed < 0 or reader.position + packed > end:
            raise ValueError(f"a page of {chunk.column!r} declares {packed} bytes, more than there are")
        about = header.get({_DATA_PAGE: 5, _DATA_PAGE_V2: 8}.get(kind, -1))
        number = _field(about, 1, int) if kind in (_DATA_PAGE, _DATA_PAGE_V2) else 0
        if number < 0:
            raise ValueError(f"a page of {chunk.column!r} declares {number} values")
        yield unpacked, number
        position = reader.position + packed


def _field(values: Any, number: int, kind: type) -> Any:
    """A field of a struct, which must be there."""
    found = values.get(number) if isinstance(values, dict) else None
    if not isinstance(found, kind):
        # The file is damaged; no argument has a wrong type.
        raise ValueError(f"field {number} of its description is missing or of another kind")  # noqa: TRY004
    return found


class _Compact:
    """Reads values of Thrift's compact protocol: structs as dicts by the numbers of their fields."""

    def __init__(self, content: Any, position: int):
        self.content, self.position = content, position

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """The struct at this position."""
        found: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = self._value(head & 15, depth + 1)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MOST_NESTED:
            raise ValueError(f"it is nested more than {_MOST_NESTED} deep")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (7, 8):
            return self._bytes(8 if kind == 7 else self._unsigned())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.read_struct(depth)
        raise ValueError(f"it holds a value of the unknown kind {kind}")  # maps do not occur in Parquet

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        number = head >> 4 if head >> 4 < 15 else self._unsigned()
        if number > len(self.content) - self.position:  # each takes at least a byte
            raise ValueError(f"a list of {number} values is declared, more than there are bytes")
        kind = head & 15
        return [self._byte() if kind in (1, 2) else self._value(kind, depth + 1) for _ in range(number)]

    def _byte(self) -> int:
        if self.position >= len(self.content):
            raise ValueError("it ends in the middle of a value")
        value: int = self.content[self.position]
        self.position += 1
        return value

    def _bytes(self, number: int) -> bytes:
        if number > len(self.content) - self.position:
            raise ValueError("it ends in the middle of a value")
        self.position += number
        found: bytes = self.content[self.position - number : self.position]
        return found

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("it holds a number of more than 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


__all__ = ["Chunk", "RowGroup", "measure_pages", "read_row_groups"]
