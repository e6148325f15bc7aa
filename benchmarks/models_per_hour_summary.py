"""Summary of `models_per_hour`: GFLOP/s, share of the GEMM rate, the best of each opponent, and the targets."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.networks import Network
from benchmarks.record import console, write_json

OURS = "jaxinfl"
TRAINING = "jaxinfl, training only"
GEMM_KERNELS = "jaxinfl, training, gemm kernels"
VMAP_TRAINING = "jax.vmap of training"
VMAP_STEP = "jax.vmap of a step"
PYTORCH = "PyTorch"
TORCH_FUNC = "PyTorch, torch.func"
SKLEARN = "scikit-learn"
GEMM = "float32 GEMM"

RATIOS = ("pytorch", "torch_func", "sklearn", "vmap", "vmap_step", "gemm")

TARGETS: dict[str, dict[str, float]] = {
    "digits": {"pytorch": 2.5, "vmap": 25, "gemm": 0.85},
    "cifar": {"pytorch": 1.2, "vmap": 25},
    "mnist": {"pytorch": 1.15},
    "small_mlp": {"pytorch": 6},
    "table": {"pytorch": 6, "torch_func": 3.5, "sklearn": 6},
    "transformer": {"pytorch": 1.5},
}
"""Least ratio of our rate to that of the best setting of an opponent, or of the GEMM."""


@dataclass(frozen=True)
class Result:
    """Median training steps a second on one network."""

    network: Network
    model_steps: int
    """Training steps of one model."""
    rates: dict[str, float]

    @property
    def ours(self) -> list[str]:
        """The rows that stand for jaxinfl, the first of them before all."""
        return [name for name in (OURS, TRAINING) if name in self.rates]

    @property
    def best_pytorch(self) -> str | None:
        """The fastest setting of PyTorch that trains one model after another."""
        return self._best(PYTORCH, but=TORCH_FUNC)

    def _best(self, prefix: str, but: str | None = None) -> str | None:
        """The fastest of the rows that begin with `prefix`, and not with `but`; None where there is none."""
        names = [name for name in self.rates if name.startswith(prefix) and not (but and name.startswith(but))]
        return max(names, key=self.rates.__getitem__, default=None)

    def gflops(self, name: str) -> float:
        """GFLOP/s of a contender."""
        return self.rates[name] * self.network.step_flops / 1e9

    def models_per_hour(self, name: str) -> float:
        """Models an hour of a contender."""
        return 3600 * self.rates[name] / self.model_steps

    def ratios(self, ours: str) -> dict[str, float]:
        """Our rate over the best of each opponent that took part."""
        best = {
            "pytorch": self.best_pytorch,
            "torch_func": self._best(TORCH_FUNC),
            "sklearn": self._best(SKLEARN),
            "vmap": self._best(VMAP_TRAINING),
            "vmap_step": self._best(VMAP_STEP),
            "gemm": self._best(GEMM),
        }
        return {key: self.rates[ours] / self.rates[name] for key, name in best.items() if name is not None}


def show_rates(result: Result) -> None:
    """Print GFLOP/s of every contender, and models an hour where the data are real."""
    whole = not result.network.synthetic
    table = Table(title=f"{result.network.name}: the same in FLOPs", title_justify="left")
    for heading in ("", "GFLOP/s", "of GEMM", *(["models/hour"] if whole else [])):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rate in result.rates.items():
        models = [f"{result.models_per_hour(name):,.0f}"] if whole else []
        table.add_row(name, f"{result.gflops(name):,.4g}", f"{rate / result.rates[GEMM]:.1%}", *models)
    console.print(table)


def report_summary(results: list[Result], out: Path) -> Path:
    """Print one line a network and write it as JSON; returns the file."""
    table = Table(title="Our rate beside the others", title_justify="left")
    names = (
        "best PyTorch",
        "x PyTorch",
        "x torch.func",
        "x scikit-learn",
        "x vmap, training",
        "x vmap, step",
        "of GEMM",
    )
    for heading in ("", "steps/s", "GFLOP/s", *names):
        table.add_column(heading, justify="right" if heading not in ("", "best PyTorch") else "left")
    records = []
    for result in results:
        for ours in result.ours:
            ratios = result.ratios(ours)
            records.append(_record(result, ours, ratios))
            cells = (_cell(result.network.name, key, ratios) for key in RATIOS)
            label = f"{result.network.name}{ours.removeprefix(OURS)}"
            rates = (f"{result.rates[ours]:,.4g}", f"{result.gflops(ours):,.4g}")
            table.add_row(label, *rates, (result.best_pytorch or "none").removeprefix(f"{PYTORCH}, "), *cells)
    console.print(table)
    path = write_json("models_per_hour", {"networks": records, "dattri": _dattri_version()}, out)
    console.print(f"written to {path}")
    return path


def _cell(network: str, key: str, ratios: dict[str, float]) -> str:
    """A ratio with its target and whether it is met."""
    if key not in ratios:
        return ""
    shown = "{:.0%}" if key == "gemm" else "{:.3g}"
    ratio, target = ratios[key], TARGETS[network].get(key)
    if target is None:
        return shown.format(ratio)
    return f"{shown.format(ratio)} ({'met' if ratio >= target else 'below'}: {shown.format(target)})"


def _record(result: Result, ours: str, ratios: dict[str, float]) -> dict[str, Any]:
    return {
        "network": result.network.name,
        "row": ours,
        "step_flops": result.network.step_flops,
        "model_steps": result.model_steps,
        "steps_per_second": result.rates[ours],
        "models_per_hour": result.models_per_hour(ours),
        "gflops": {name: result.gflops(name) for name in result.rates},
        "best_pytorch": result.best_pytorch,
        "ratios": ratios,
        "targets": TARGETS[result.network.name],
    }


def _dattri_version() -> str | None:
    try:
        return metadata.version("dattri")
    except metadata.PackageNotFoundError:
        return None
