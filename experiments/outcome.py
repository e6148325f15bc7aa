"""The end of every experiment: its figures and numbers go to disk, its tables and its finding to the terminal."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.command_line import Options, console
from jaxinfl import Dataset, Ensemble, provenance
from jaxinfl.cli.answer import terminal_table
from jaxinfl.report import Section, save_figure, write_results


@dataclass(frozen=True)
class Outcome:
    """Results of an experiment."""

    section: Section
    """Section of the page for the experiment, with claim, setting, finding and tables."""
    results: Mapping[str, Any]
    """Every number of the tables and figures, with its n and spread."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Name of each figure's files -> the figure; the section has an illustration of each name."""


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
    _print(outcome.section)
    console.print(f"\nResults in {out}:", *(path.name for path in files), markup=False)
    if ensembles:
        console.print("and the models in", ", ".join(f"{name}/" for name in ensembles), markup=False)


def _print(section: Section) -> None:
    for table in section.tables:
        console.print()
        console.print(terminal_table(table))
        if table.note:
            console.print(table.note, style="dim", markup=False)
    console.print(f"\n{section.setting}", markup=False)
    console.print("[bold]Finding:[/bold]", end=" ")
    console.print(section.finding, markup=False)
    console.print("[bold]The paper:[/bold]", end=" ")
    console.print(section.paper, markup=False)
