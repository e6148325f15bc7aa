"""The end of every experiment: its figures and numbers go to disk, its tables and its finding to the terminal."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import rich.table
import rich.text
from matplotlib.figure import Figure

from experiments.command_line import Options, console
from jaxinfl import Dataset, Ensemble, membership, provenance, write_explorer
from jaxinfl.report import Section, Table, save_figure, write_results

EXPLORER = "explorer.html"
"""Name of the page of all examples, beside the results."""
_RANKED = 20_000_000
"""Models times training examples up to which the membership risk is computed, which takes some arrays of this size."""


class Exploration(NamedTuple):
    """What the page of all examples is made of."""

    runs: Ensemble
    """The ensemble whose models tell of the examples."""
    score: str
    """Name of the score that memorization and influence are computed from."""


@dataclass(frozen=True)
class Outcome:
    """Results of an experiment."""

    section: Section
    """Section of the page for the experiment, with claim, setting, finding and tables."""
    results: Mapping[str, Any]
    """Every number of the tables and figures, with its n and spread."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Name of each figure's files -> the figure; the section has an illustration of each name."""
    exploration: Exploration | None = None
    """What the page of all examples is made of, which the section then names; None where there is none."""


def publish(
    outcome: Outcome, experiment: str, config: Options, data: Dataset, out: Path, ensembles: Mapping[str, Ensemble]
) -> None:
    """Write results.json and the figures into `out`, and print the section."""
    illustrated = [illustration.name for illustration in outcome.section.illustrations]
    if sorted(illustrated) != sorted(outcome.figures):
        raise ValueError(f"the section illustrates {illustrated}; the figures are {sorted(outcome.figures)}.")
    first = next(iter(ensembles.values()), None)
    files = [
        write_results(
            out,
            {
                "experiment": experiment,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": config,
                "data": {"name": data.name, "fingerprint": data.fingerprint},
                "versions": provenance.versions(),
                "git_commit": provenance.git_commit(),
                "command": provenance.command(),
                "device": None if first is None else first.device,
                "results": outcome.results,
                "section": dataclasses.asdict(outcome.section),
            },
        )
    ]
    for name, figure in outcome.figures.items():
        files += save_figure(figure, out, name)
    if outcome.exploration is not None:
        files.append(_write_explorer(outcome.exploration, data, out / EXPLORER))
    _print(outcome.section)
    console.print(f"\nResults in {out}:", *(path.name for path in files), markup=False)
    if ensembles:
        console.print("and the models in", ", ".join(f"{name}/" for name in ensembles), markup=False)
    if outcome.exploration is not None:
        console.print(
            f"To explore every example, open {out / EXPLORER} in a browser; it needs no server.", markup=False
        )


def _write_explorer(exploration: Exploration, data: Dataset, path: Path) -> Path:
    runs, score = exploration
    ranked = "margin" in runs.scores and runs.masks.size <= _RANKED
    risk = membership(runs, "margin", method="threshold") if ranked and len(runs) > 1 else None
    return write_explorer(runs, data, path, score=score, membership=risk)


def _print(section: Section) -> None:
    for table in section.tables:
        console.print()
        console.print(_terminal_table(table))
        if table.note:
            console.print(table.note, style="dim", markup=False)
    console.print(f"\n{section.setting}", markup=False)
    console.print("[bold]Finding:[/bold]", end=" ")
    console.print(section.finding, markup=False)
    console.print("[bold]The paper:[/bold]", end=" ")
    console.print(section.paper, markup=False)


def _terminal_table(table: Table) -> rich.table.Table:
    shown = rich.table.Table(title=rich.text.Text(table.title), title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(rich.text.Text, row))
    return shown
