"""Contenders timed in turns, so that a noisy machine is noisy for all of them."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jaxinfl import provenance
from jaxinfl.devices import num_cores

console = Console(highlight=False, soft_wrap=True)


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every contender once for warm-up, then `rounds` times in turns; what each returned, by name."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            value = contender()
            if number:
                measured[name].append(value)
            console.print(f"  {'round ' + str(number) if number else 'warm-up'}  {name}: {value:,.4g}", style="dim")
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
) -> Path:
    """Print the table of medians with our ratio to each contender, and write it as JSON."""
    medians = {contender: statistics.median(values) for contender, values in measured.items()}
    table = Table(title=title, title_justify="left")
    for heading in ("", unit, "lowest", "highest", f"{ours} is"):
        table.add_column(heading, justify="left" if not heading else "right")
    for contender, values in measured.items():
        ratio = medians[ours] / medians[contender] if higher_is_better else medians[contender] / medians[ours]
        better = "" if contender == ours else f"{ratio:.2f} x as fast"
        table.add_row(contender, *(f"{value:,.4g}" for value in (medians[contender], min(values), max(values))), better)
    console.print(table)
    console.print(
        f"{machine()['processor']}, {num_cores()} cores; medians of {len(next(iter(measured.values())))} rounds"
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    record: dict[str, Any] = {
        "benchmark": name,
        "unit": unit,
        "measured": measured,
        "median": medians,
        "machine": machine(),
        "versions": provenance.versions() | _peers(),
        "git_commit": provenance.git_commit(),
        "command": provenance.command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    console.print(f"written to {path}")
    return path


def _peers() -> dict[str, str]:
    """Version of PyTorch, where it is installed."""
    try:
        return {"torch": metadata.version("torch")}
    except metadata.PackageNotFoundError:
        return {}


def machine() -> dict[str, Any]:
    """Processor, cores and what JAX computes on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {"processor": processor, "cores": num_cores(), "device": jax.devices()[0].device_kind}
