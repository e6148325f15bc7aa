"""The report of an experiment as plain data, which is printed on a terminal, kept in results.json and laid out on a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxinfl.report.finding import Finding


@dataclass(frozen=True)
class Table:
    """A table of text; the numbers behind it are in results.json."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """Meaning of the table's marks, and the number of repeats on which it rests."""

    def markdown(self) -> str:
        """The table in Markdown, with its title above and its note below."""
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        text = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
        return "\n\n".join(part for part in (f"**{self.title}**", text, self.note) if part)


@dataclass(frozen=True)
class Illustration:
    """A figure that was saved as `name.png` and `name.svg` beside results.json."""

    name: str
    caption: str
    """What is on the axes, which models and data are shown, and what is to be seen, for readers who see nothing but the figure."""


@dataclass(frozen=True)
class Section:
    """One experiment on the page of all of them."""

    title: str
    """Figures and tables of the paper that the experiment repeats."""
    claim: str
    """Claim of the paper, in a sentence or two, with its section."""
    setting: str
    """Data, network, number of models: what was run here, and how its scale differs from the paper's."""
    finding: Finding
    """Result of this run in words, beside that of the paper."""
    tables: Sequence[Table] = ()
    illustrations: Sequence[Illustration] = field(default=())
    explorer: str = ""
    """Name of an HTML file beside results.json in which the examples can be explored; empty where there is none."""


__all__ = ["Illustration", "Section", "Table"]
