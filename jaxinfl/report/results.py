"""Results are kept on disk: one directory holds results.json and the figures, and each number has its n and its spread."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxinfl.files import write_atomically


def summarize(values: Any) -> dict[str, Any]:
    """Mean, spread and number of repeated measurements, as results.json keeps every number.

    Args:
      values: one number a repeat; NaN marks a repeat in which the quantity is undefined.

    Returns:
      `mean` and `std` (sample standard deviation; null for fewer than two values) over the `n` defined values.
    """
    defined = np.asarray(values, np.float64).ravel()
    defined = defined[~np.isnan(defined)]
    return {
        "mean": float(defined.mean()) if defined.size else None,
        "std": float(defined.std(ddof=1)) if defined.size > 1 else None,
        "n": int(defined.size),
    }


def format_mean(values: Any, digits: int = 3) -> str:
    """Mean ± sample standard deviation for a table; "none" where no value is defined."""
    number = summarize(values)
    if number["mean"] is None:
        return "none"
    deviation = "" if number["std"] is None else f" ± {number['std']:.{digits}f}"
    return f"{number['mean']:.{digits}f}{deviation}"


def format_range(values: Any, form: str = ".2f") -> str:
    """Lowest and highest of the defined values, as in "0.12 to 0.70"; one number where they look alike, "none" without any.

    Args:
      values: numbers, of which NaN are left out.
      form: format of a number, an optional sign and its digits, such as `.1%` or `+.2f`; what rounds to 0 has no minus.
    """
    defined = np.asarray(values, np.float64).ravel()
    defined = defined[~np.isnan(defined)]
    if not defined.size:
        return "none"
    signed = f"+z{form[1:]}" if form.startswith("+") else f"z{form}"
    low, high = (format(float(end), signed) for end in (defined.min(), defined.max()))
    return low if low == high else f"{low} to {high}"


def write_results(directory: Path, results: Mapping[str, Any]) -> Path:
    """Write `results.json` as `format_json` has it, in place of an older one as a whole."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "results.json"
    write_atomically(path, (format_json(results) + "\n").encode())
    return path


def format_json(values: Mapping[str, Any]) -> str:
    """A JSON document. NaN and infinity become null, arrays become lists and dataclasses objects."""
    return json.dumps(_simplify(values), indent=1, allow_nan=False)


def read_results(directory: Path) -> dict[str, Any] | None:
    """Read what `write_results` wrote into a directory, as JSON values; None where it wrote nothing."""
    path = directory / "results.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def save_figure(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Save a figure as `name.png` (200 dots an inch) and `name.svg`."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.{kind}" for kind in ("png", "svg")]
    # Text stays text, and the same figure gives the same bytes: no date, names of its parts from its own name.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        for path in paths:
            figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _simplify(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _simplify(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _simplify(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return _simplify(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_simplify(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
