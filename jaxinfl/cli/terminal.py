"""What commands print: prose that wraps between words, and tables no wider than the terminal."""

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import rich.box
import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from jaxinfl.report import Table

WIDTH = 80
"""Number of columns of files and pipes, and the widest that prose is on a terminal."""
_LABEL = re.compile(r"\s*(?:- |\S+ {2,})?")
_SHORT = 28
"""Longest cell with a number that stays on one line."""
_GAP = 2
"""Blank columns between those of a table."""


class Terminal(Console):
    """A console that breaks lines between words, so that no word is cut, however narrow the terminal is.

    A word that is wider than the terminal, such as a path, stays in one piece, so that it can be copied.
    """

    def __init__(self, width: int | None = None) -> None:
        if width is None and not sys.stdout.isatty():
            width = WIDTH
        super().__init__(highlight=False, width=width)

    def print(self, *objects: Any, markup: bool | None = None, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print like rich's console. Strings are wrapped, unless `soft_wrap` or a rarer option leaves their lines to rich."""
        strings = objects and all(isinstance(each, str) for each in objects)
        if soft_wrap or not strings or options.keys() - {"sep", "style"}:
            super().print(*objects, markup=markup, soft_wrap=soft_wrap, **options)
            return
        joined = options.pop("sep", " ").join(objects)
        text = Text(joined) if markup is False else Text.from_markup(joined)
        for line in text.split("\n", allow_blank=True):
            for part in wrap(line, min(self.width, WIDTH)):
                super().print(part, soft_wrap=True, **options)

    def print_table(self, table: Table) -> None:
        """Print a table; one that is too wide in several pieces, each with the first column."""
        self.print()
        if table.title:
            self.print(table.title, markup=False, style="bold")
        for number, (columns, widths) in enumerate(arrange_columns(table, min(self.width, WIDTH))):
            if number:
                self.print()
            shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
            for column, width in zip(columns, widths, strict=True):
                numbers = column and _holds_numbers(table, column)
                justify: Literal["left", "right"] = "right" if numbers else "left"
                shown.add_column(Text(table.columns[column]), justify=justify, width=width, overflow="fold")
            for row in table.rows:
                shown.add_row(*(Text(row[column]) for column in columns))
            super().print(shown)
        if table.note:
            self.print(table.note, markup=False, style="dim")


def wrap(line: Text, width: int) -> list[Text]:
    """Pieces of a line that are no wider than `width` unless they are one word.

    Later pieces are indented to where the text of the first one begins: behind its label, as in "recipe     2 epochs", or its dash.
    """
    plain = line.plain
    label = _LABEL.match(plain)
    indent = label.end() if label and label.end() < width // 2 else 0
    pieces = textwrap.wrap(
        plain[indent:],
        max(width - indent, 1),
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    if not pieces:
        return [line]
    wrapped: list[Text] = []
    position = indent
    for piece in pieces:
        position = plain.index(piece, position)
        start = line[:indent] if not wrapped else Text(" " * indent)
        wrapped.append(start + line[position : position + len(piece)])
        position += len(piece)
    return wrapped


def arrange_columns(table: Table, width: int) -> list[tuple[list[int], list[int]]]:
    """Divide the columns of a table into pieces that fit; returns the columns of each piece and their widths.

    Numbers stay on one line. Other cells and headings are wrapped between words. Every piece begins with the first column.
    """
    least = [_least_width(table, column, width) for column in range(len(table.columns))]
    pieces, current = [], [0]
    for column in range(1, len(table.columns)):
        if len(current) > 1 and _total([least[each] for each in [*current, column]]) > width:
            pieces.append(current)
            current = [0]
        current.append(column)
    return [(piece, _widen(table, piece, least, width)) for piece in [*pieces, current]]


def _holds_numbers(table: Table, column: int) -> bool:
    return any(re.search(r"\d", row[column]) for row in table.rows)


def _least_width(table: Table, column: int, width: int) -> int:
    cells = [row[column] for row in table.rows]
    words = [word for text in (table.columns[column], *cells) for word in text.split()]
    # A number stays beside its spread. The first column names the rows, and may take several lines where others need the room.
    whole = [cell for cell in cells if len(cell) <= _SHORT and re.search(r"\d", cell)] if column else []
    # A longer word, such as the name of a class, is folded: beside it nothing else would fit.
    return min(max(map(cell_len, [*words, *whole]), default=1), (width - _GAP) // 2)


def _widen(table: Table, piece: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Widths of the columns of one piece: as wide as their texts, or the room that is left is shared evenly."""
    widths = [least[column] for column in piece]
    longest = [
        max(cell_len(text) for text in (table.columns[column], *(row[column] for row in table.rows)))
        for column in piece
    ]
    while _total(widths) < width:
        lacking = [place for place in range(len(piece)) if widths[place] < longest[place]]
        if not lacking:
            break
        widths[min(lacking, key=lambda place: widths[place] / longest[place])] += 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


__all__ = ["WIDTH", "Terminal", "arrange_columns", "wrap"]
