"""What an experiment has to say, as plain data: printed on a terminal, kept in results.json, laid out on a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table of text; the numbers behind it are in results.json."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """What the marks mean, and on how many repeats it rests."""


@dataclass(frozen=True)
class Illustration:
    """A figure that was saved as `name.png` and `name.svg` beside results.json."""

    name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One experiment on the page of all of them."""

    title: str
    """Which figures and tables of the paper it repeats."""
    claim: str
    """What the paper says, in a sentence or two, with its section."""
    setting: str
    """Data, network, number of models: what was run here."""
    finding: str
    """What was found here, in words."""
    paper: str
    """What the paper found, and how its scale differs from this one."""
    tables: Sequence[Table] = ()
    illustrations: Sequence[Illustration] = field(default=())


__all__ = ["Illustration", "Section", "Table"]
