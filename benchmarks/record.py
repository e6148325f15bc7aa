"""The record of a benchmark: one JSON file that says where its numbers come from, and a figure beside it."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from rich.console import Console

from jaxinfl import provenance
from jaxinfl.devices import num_cores
from jaxinfl.report.results import save_figure

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
"""Prints to the terminal. Files and pipes get 120 columns: in the 80 that rich takes for them, tables would break."""


def write(name: str, record: Mapping[str, Any], figure: Figure, out: Path) -> Path:
    """Write `record` and the figure into the folder `out` as files called `name`; returns the JSON file."""
    path = write_json(name, record, out)
    save_figure(figure, out, name)
    console.print(f"written to {path} and {path.stem}.png")
    return path


def write_json(name: str, record: Mapping[str, Any], out: Path) -> Path:
    """Write `record` as `out/name.json`, with the machine, versions, commit, command and date."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **record, **origin()}, indent=1, allow_nan=False) + "\n")
    return path


def origin() -> dict[str, Any]:
    """Where and how numbers were made: machine, versions, commit, command and date."""
    made = provenance.describe()
    return {
        "machine": machine(),
        **made,
        "versions": made["versions"] | _peers(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine() -> dict[str, Any]:
    """Name of the processor, number of cores, and the devices that JAX computes on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return {"processor": processor, "cores": num_cores(), "device": jax.devices()[0].device_kind}


def describe_machine() -> str:
    """One line about the machine, to stand below a table."""
    return f"{machine()['processor']}, {num_cores()} cores"


def _peers() -> dict[str, str]:
    """Version of PyTorch, where it is installed."""
    try:
        return {"torch": metadata.version("torch")}
    except metadata.PackageNotFoundError:
        return {}
