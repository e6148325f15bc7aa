"""What a sub-command answers, printed for people or for machines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxinfl.cli.terminal import Terminal
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
    terminal = Terminal()
    for line in answer.lines:
        if isinstance(line, Table):
            terminal.print_table(line)
        elif line.startswith("    "):  # a command, which is to be copied in one piece
            terminal.print(line, markup=False, soft_wrap=True)
        else:
            terminal.print(line, markup=False)


def format_number(value: float, digits: int = 3) -> str:
    """A number for a table, "undefined" where it is NaN."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


__all__ = ["Answer", "format_number", "print_answer"]
