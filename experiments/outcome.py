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
from jaxinfl.report import Finding, Section, save_figure, write_results


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
    first = next(iter(ensembles.values()), None)
    record = {
        "experiment": experiment,
        "config": config,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "device": None if first is None else first.device,
        "results": outcome.results,
    }
    write_section(outcome.section, outcome.figures, record, out)
    if ensembles:
        console.print("and the models in", ", ".join(f"{name}/" for name in ensembles), markup=False)


def write_section(section: Section, figures: Mapping[str, Figure], record: Mapping[str, Any], out: Path) -> None:
    """Write the section with its figures and the record of numbers and options into `out`, and print the section.

    Raises:
      ValueError: the section illustrates other figures than there are.
    """
    illustrated = [illustration.name for illustration in section.illustrations]
    if sorted(illustrated) != sorted(figures):
        raise ValueError(f"the section illustrates {illustrated}; the figures are {sorted(figures)}.")
    made = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "command": provenance.command(),
        "section": dataclasses.asdict(section),
    }
    files = [write_results(out, {**record, **made})]
    for name, figure in figures.items():
        files += save_figure(figure, out, name)
    _print(section)
    console.print(f"\nResults in {out}:", *(path.name for path in files), markup=False)


def _print(section: Section) -> None:
    for table in section.tables:
        console.print_table(table)
    console.print(f"\n{section.setting}\n", markup=False)
    _print_finding(section.finding)


def _print_finding(finding: Finding) -> None:
    console.print("Finding", style="bold")
    console.print(finding.answer, markup=False)
    for evidence in finding.evidence:
        console.print(f"- {evidence}", markup=False)
    if finding.paper:
        console.print(f"The paper: {finding.paper}", markup=False)


__all__ = ["Outcome", "publish", "write_section"]
