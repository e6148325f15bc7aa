"""The end of every experiment: its figures and numbers go to disk, its tables and its finding to the terminal."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.command_line import Options, console
from jaxinfl import Dataset, Ensemble, membership, provenance, write_explorer
from jaxinfl.report import Finding, Section, save_figure, write_results

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
    first = next(iter(ensembles.values()), None)
    record = {
        "experiment": experiment,
        "config": config,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "device": None if first is None else first.device,
        "results": outcome.results,
    }
    more = [] if outcome.exploration is None else [_write_explorer(outcome.exploration, data, out / EXPLORER)]
    write_section(outcome.section, outcome.figures, record, out, more)
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


def write_section(
    section: Section, figures: Mapping[str, Figure], record: Mapping[str, Any], out: Path, more: Sequence[Path] = ()
) -> None:
    """Write the section with its figures and the record of numbers and options into `out`, and print the section.

    `more` are files that were written there already, which are named with the others.

    Raises:
      ValueError: the section illustrates other figures than there are.
    """
    illustrated = [illustration.name for illustration in section.illustrations]
    if sorted(illustrated) != sorted(figures):
        raise ValueError(f"the section illustrates {illustrated}; the figures are {sorted(figures)}.")
    made = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance.describe(),
        "section": dataclasses.asdict(section),
    }
    files = [write_results(out, {**record, **made})]
    for name, figure in figures.items():
        files += save_figure(figure, out, name)
    files += more
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
