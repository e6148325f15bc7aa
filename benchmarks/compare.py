"""Contenders timed in turns, so that a noisy machine is noisy for all of them."""

import statistics
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from benchmarks.figures import bars
from benchmarks.record import console, describe_machine, write

Name = TypeVar("Name", bound=Hashable)


def run_in_turns(
    contenders: Mapping[Name, Callable[[], float]], rounds: int, *, warm_up: bool = True, brief: bool = False
) -> dict[Name, list[float]]:
    """Call every contender once for warm-up, then `rounds` times in turns, and return the results by name.

    Every value is printed, or only a line for each round where that would be too many (`brief`).
    """
    measured: dict[Name, list[float]] = {name: [] for name in contenders}
    for number in range(0 if warm_up else 1, rounds + 1):
        turn = f"round {number}" if number else "warm-up"
        for name, contender in contenders.items():
            value = contender()
            if number:
                measured[name].append(value)
            if not brief:
                console.print(f"  {turn}  {name}: {value:,.4g}", style="dim")
        if brief:
            console.print(f"  {turn}  {len(contenders)} measured", style="dim")
    return measured


def report(
    name: str,
    title: str,
    unit: str,
    measured: Mapping[str, list[float]],
    *,
    ours: str,
    higher_is_better: bool,
    out: Path,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Print the table of medians with our ratio to each contender; write it and `more` as JSON, and draw the figure."""
    medians = {contender: statistics.median(values) for contender, values in measured.items()}
    table = Table(title=title, title_justify="left")
    for heading in ("", unit, "lowest", "highest", f"{ours} is"):
        table.add_column(heading, justify="left" if not heading else "right")
    for contender, values in measured.items():
        ratio = medians[ours] / medians[contender] if higher_is_better else medians[contender] / medians[ours]
        better = "" if contender == ours else f"{ratio:.2f} x as fast"
        table.add_row(contender, *(f"{value:,.4g}" for value in (medians[contender], min(values), max(values))), better)
    console.print(table)
    console.print(f"{describe_machine()}; medians, rounds: {len(measured[ours])}")
    figure = bars(measured, ours=ours, title=title, unit=unit)
    return write(name, {"unit": unit, "measured": measured, "median": medians, **(more or {})}, figure, out)
