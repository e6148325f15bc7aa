"""What a sub-command answers, printed for people or for machines."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from jaxinfl.report import Table, format_json


@dataclass(frozen=True)
class Answer:
    """What a sub-command answers."""

    lines: Sequence[str | Table]
    """Lines and tables for people, from the first to the last."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines: numbers, text, arrays and dataclasses by name. NaN becomes null."""
    status: int = 0
    """Exit status of the process."""


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """Print the answer on standard output: one JSON document, or text."""
    if as_json:
        print(format_json(answer.values))
        return
    # Files and pipes get 120 columns: in the 80 that rich takes for them, tables would break.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    for line in answer.lines:
        if isinstance(line, Table):
            console.print(terminal_table(line))
            if line.note:
                console.print(line.note, style="dim", markup=False)
        else:
            console.print(line, markup=False)


def terminal_table(table: Table) -> rich.table.Table:
    """A table as the terminal shows it; all text stays text."""
    shown = rich.table.Table(title=Text(table.title) if table.title else None, title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown


def format_number(value: float, digits: int = 3) -> str:
    """A number for a table, "undefined" where it is NaN."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


__all__ = ["Answer", "format_number", "print_answer", "terminal_table"]
