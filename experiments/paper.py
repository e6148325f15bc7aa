"""Every figure and table of the paper, one after another, and one page that shows them beside the paper's numbers.

    python -m experiments.paper --preset digits      8x8 digits: under 20 minutes, 2 cores (`make paper`)
    python -m experiments.paper --preset paper       the paper's own settings: a GPU, days
    python -m experiments.paper --cost               what each would cost

Each experiment is a process of its own, as if typed by hand, with results in a folder of its own. Run again, all of them go
on where they stopped, and what is finished is only drawn again.
"""

import dataclasses
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.command_line import Mistake, console, results_folder
from jaxinfl import provenance
from jaxinfl.report import Finding, Illustration, Section, Table, read_results, write_page
from jaxinfl.units import format_seconds

EXPERIMENTS = ("cifar100_subsets", "nondeterminism", "finetune_vs_retrain", "models_needed", "leave_one_out", "sweep")
"""The experiments in the order of the paper: Sections 3, 4.1, 4.2, 4.3, Equation 1, Appendix A.3."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    preset: Literal["tiny", "digits", "paper"] = "digits"
    """Name of the preset that every experiment is run with."""
    out: Path | None = None
    """Folder of the page and of the experiments' results; None takes results/paper, or results/paper-PRESET."""
    cost: bool = False
    """Print what the training of each would cost on this machine, and train nothing."""


def main(config: Config) -> int:
    """Run all experiments; returns 0, or the exit status of the first one that failed."""
    try:
        chosen = results_folder(config.out)
    except Mistake as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    out = chosen or Path("results") / ("paper" if config.preset == "digits" else f"paper-{config.preset}")
    begun = time.perf_counter()
    for name in EXPERIMENTS:
        console.rule(name)
        command = [sys.executable, "-m", f"experiments.{name}", "--preset", config.preset, "--out", str(out / name)]
        status = subprocess.run([*command, *(["--cost"] if config.cost else [])], check=False).returncode
        if status:
            console.print(f"{name} ended with status {status}; run the same command again to go on.", style="bold red")
            return status
    if not config.cost:
        page = make_page(out)
        seconds = format_seconds(time.perf_counter() - begun)
        console.rule()
        console.print(f"all {len(EXPERIMENTS)} experiments in {seconds}; the page: {page}", markup=False)
    return 0


def make_page(out: Path) -> Path:
    """Write the page from the results of every experiment; returns its path."""
    results = {out / name: _read_finished(out / name) for name in EXPERIMENTS}
    device = next(iter(results.values()))["device"]
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return write_page(
        out / "index.html",
        "How many trained neural networks are needed for influence estimation?",
        "Every figure and table of Doubov et al., computed again by jaxinfl at a scale that fits a laptop unless said "
        "otherwise, beside what the paper found. Where the scale differs, the numbers are not comparable one to one; what "
        "can be compared is in the text of each section. Figures link to their vector graphics; all numbers with n and "
        "spread are in the results.json of each folder.",
        {folder: read_section(result["section"]) for folder, result in results.items()},
        f"{datetime.now(UTC):%Y-%m-%d}; {device}; {versions}; commit {provenance.git_commit()}",
    )


def _read_finished(folder: Path) -> dict[str, Any]:
    found = read_results(folder)
    if found is None:
        raise Mistake(f"{folder} holds no results of an experiment. Run the experiment with --out {folder} first.")
    return found


def read_section(values: dict[str, Any]) -> Section:
    """The section whose fields results.json holds as plain values."""
    tables = [Table(**table) for table in values["tables"]]
    illustrations = [Illustration(**illustration) for illustration in values["illustrations"]]
    # Results that were written before a field with a default was added do not have it.
    plain = {field.name: values[field.name] for field in dataclasses.fields(Section) if field.name in values}
    finding = Finding(**values["finding"])
    return Section(**plain | {"finding": finding, "tables": tables, "illustrations": illustrations})


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, prog="python -m experiments.paper", description=(__doc__ or "").split("\n\n")[0])))
