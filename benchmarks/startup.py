"""Time how long a process takes from its start to its first training step: small_cnn on digits.

    python -m benchmarks.startup            about 2 minutes on 2 cores
    python -m benchmarks.startup --quick    one round of a small network, for tests

A new process each time (`benchmarks/startup_child.py`), in turns with empty caches and with those that the process
before has filled: of compiled programs (JAX's persistent cache, as the experiments use it) and of hand-written kernels.
The operating system's file cache and Python's bytecode are warm after the first round, which is not counted.
It ends where training is about to begin: everything is compiled, and a few steps are timed. Targets: 15 s and 4 s.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.table import Table

import benchmarks
from benchmarks.compare import run_in_turns
from benchmarks.figures import stacked_bars
from benchmarks.record import console, describe_machine, write
from jaxinfl.arguments import expand_home

EMPTY, FILLED = "empty caches", "filled caches"
TARGETS = {EMPTY: 15.0, FILLED: 4.0}
"""Targets in seconds, by situation."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    model: str = "small_cnn"
    """Registered name of the network that is trained."""
    rounds: int = 5
    """Number of timed rounds; the table shows medians."""
    quick: bool = False
    """Whether to take one round of small_mlp, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


@dataclass
class Starts:
    """Processes started one after another; with empty caches first, whose caches the next one finds filled."""

    model: str
    parts: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {EMPTY: [], FILLED: []})
    """Situation -> seconds by part, of every start."""
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def contender(self, situation: str) -> Callable[[], float]:
        """A function that starts one process and returns its seconds."""

        def measure() -> float:
            if situation == EMPTY or self._folder is None:
                self.close()
                self._folder = tempfile.TemporaryDirectory(prefix="jaxinfl-startup-")
            seconds = start(self.model, Path(self._folder.name))
            self.parts[situation].append(seconds)
            return sum(seconds.values())

        return measure

    def close(self) -> None:
        """Remove the caches."""
        if self._folder is not None:
            self._folder.cleanup()


def start(model: str, cache: Path) -> dict[str, float]:
    """Start one new process that keeps its caches in a folder; returns the seconds that each part took.

    Raises:
      RuntimeError: the process failed; with what it said.
    """
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(cache)
    command = [sys.executable, "-m", "benchmarks.startup_child", model]
    done = subprocess.run(
        [*command, repr(time.time())],
        cwd=Path(benchmarks.__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = dataclasses.replace(config, model="small_mlp", rounds=1)
    starts = Starts(config.model)
    try:
        contenders = {situation: starts.contender(situation) for situation in TARGETS}
        measured = run_in_turns(contenders, config.rounds, warm_up=not config.quick)
    finally:
        starts.close()
    parts = {situation: _medians(each[-config.rounds :]) for situation, each in starts.parts.items()}
    totals = {situation: statistics.median(values) for situation, values in measured.items()}
    title = f"From the start of the process to the first training step: {config.model} on digits"
    _print(title, parts, measured)
    console.print(f"{describe_machine()}; medians of each part and of the whole, rounds: {config.rounds}")
    record = {
        "unit": "seconds",
        "model": config.model,
        "measured": measured,
        "median": totals,
        "parts": {situation: each[-config.rounds :] for situation, each in starts.parts.items()},
        "median_parts": parts,
        "targets": TARGETS,
    }
    figure = stacked_bars(parts, totals, TARGETS, title=title, unit=f"seconds (medians; rounds: {config.rounds})")
    return write("startup", record, figure, config.out)


def _medians(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(seconds[part] for seconds in each) for part in each[0]}


def _print(title: str, parts: dict[str, dict[str, float]], measured: dict[str, list[float]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("seconds")
    for situation in parts:
        table.add_column(situation, justify="right")
    for part in parts[EMPTY]:
        table.add_row(part, *(f"{parts[situation][part]:.2f}" for situation in parts))
    table.add_section()
    table.add_row("all", *(f"{statistics.median(measured[situation]):.2f}" for situation in parts), style="bold")
    table.add_row("lowest to highest", *(f"{min(values):.2f} to {max(values):.2f}" for values in measured.values()))
    table.add_row("target", *(f"at most {TARGETS[situation]:g}" for situation in parts))
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
