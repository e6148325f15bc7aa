"""Rates of the registered networks on the graphics card of this machine, beside the compiler's estimates.

    python -m benchmarks.gpu_report --minutes 10                 small networks first, then as many of the large ones as there is time for
    python -m benchmarks.gpu_report --minutes 5 --cases small_inception resnet18_cifar

Each network is trained on random numbers of its data's shape: a few steps by the way that jaxinfl takes by default, then by those that
the tuner tries. Rates are measured, the estimates beside them are those of `benchmarks/gpu_program.py`. The last line is made to be
pasted into an issue at the project's page. Without a card the same command measures the processor, and says so.

Expected: times near the estimates. The seven that were measured on an H100 took 1.0 to 1.45 times as long, but the transformer 2.3 times, whose
embeddings had a slow gradient then.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from rich.table import Table

import jaxinfl
from benchmarks.cards import CARDS
from benchmarks.gpu_compile import CASES, Case
from benchmarks.gpu_program import read_records
from benchmarks.record import console, origin, write
from jaxinfl import Dataset, provenance
from jaxinfl.arguments import check_choice, check_number, expand_home
from jaxinfl.models.way import MOST_WIDTH
from jaxinfl.plots import COLOURS, STYLE
from jaxinfl.training import Job
from jaxinfl.training.cost import Cost, measure_cost
from jaxinfl.training.machine import Machine, OutOfMemory, choose_execution, kernels_differ
from jaxinfl.training.tuning import MAX_SHARE, Freedom, tune
from jaxinfl.units import format_amount

_DATA_BYTES = 2**28
"""Bytes of inputs that are made up for one network, at most: the time of a step does not depend on their number."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    minutes: float = 10.0
    """Minutes that all measurements may take together; a network that was begun is finished."""
    cases: tuple[str, ...] = tuple(CASES)
    """Names of the networks to measure, in this order."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one network."""

    case: Case
    default: Cost
    """The default way."""
    chosen: Cost
    """The way that the tuner chose."""
    estimate: float | None
    """Seconds of a step of one model by the chosen way that the compiler's program is estimated to take; None where it was not compiled
    for this card."""

    @property
    def seconds(self) -> float:
        """Seconds of a step of one model by the chosen way."""
        return self.chosen.seconds_per_step

    @property
    def models_per_hour(self) -> float:
        """Models an hour by the recipe and the data that the network is meant for, without evaluation."""
        return 3600 / (self.case.steps * self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON file."""
        return {
            "case": self.case.name,
            "width": self.chosen.execution.width,
            "kernels": self.chosen.execution.kernels,
            "seconds_per_step_and_model": self.seconds,
            "estimated_seconds": self.estimate,
            "default_width": self.default.execution.width,
            "default_kernels": self.default.execution.kernels,
            "default_seconds_per_step_and_model": self.default.seconds_per_step,
            "compile_seconds": self.default.compile_seconds,
            "tuner": self.chosen.execution.reason,
            "models_per_hour_without_evaluation": self.models_per_hour,
        }


def main(config: Config) -> Path:
    """Measure, print, and write the JSON file with its figure; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    check_number(config.minutes, "--minutes", "minutes above 0", 0.0, 1e4)
    for name in config.cases:
        check_choice(name, "--cases", tuple(CASES))
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        console.print(
            "[yellow]JAX finds no graphics card here, so these are the rates of the processor. On a machine with one, install "
            "jaxinfl with its extra: pip install 'jaxinfl\\[cuda12]'.[/yellow]"
        )
    measured, left_out = _measure_all(config, kind)
    _print(kind, measured)
    for line in left_out:
        console.print(line)
    line = summary(kind, measured)
    console.print("\nTo paste into an issue, whether the estimates held or not:", style="dim")
    console.print(line)
    record = {"card": kind, "line": line, "networks": [each.to_dict() for each in measured], "left_out": left_out}
    return write("gpu_report", record, figure_of(kind, measured), config.out)


def _measure_all(config: Config, kind: str) -> tuple[list[Measured], list[str]]:
    """Measure networks until the time is over; returns them, and what was left out in words."""
    begun, measured, left_out = time.perf_counter(), [], []
    for number, name in enumerate(config.cases):
        left = 60 * config.minutes - (time.perf_counter() - begun)
        if left <= 0:
            left_out.append(f"{name} is not measured: the {config.minutes:g} minutes are over. Raise --minutes.")
            continue
        console.print(f"  measuring {name}", style="dim")
        try:
            measured.append(measure(CASES[name], left / (len(config.cases) - number), kind))
        except OutOfMemory as error:
            left_out.append(f"{name} is not measured: {error}")
        # Programs of one network are not needed for the next.
        jax.clear_caches()
    return measured, left_out


def measure(case: Case, seconds: float, kind: str) -> Measured:
    """Measure one network: the default way, and for so many seconds the ways that the tuner tries.

    Raises:
      OutOfMemory: not even one model fits.
    """
    data = made_up_data(case)
    models = MOST_WIDTH * jax.device_count()
    masks = jaxinfl.draw_subsets(models, data.num_train, min(case.ratio, 0.9), 0)
    job = Job.make(masks, jax.random.split(jax.random.key(0), models), data, case.model, case.recipe)
    begun = time.perf_counter()
    machine = Machine.for_job(job, choose_execution(job.model, job.recipe, data, steps=job.steps))
    machine, default = measure_cost(job, machine, 1, 0)
    left = max(seconds - (time.perf_counter() - begun), 0.0)
    # The tuner takes a share of a run: one of so many models gives it the seconds that are left.
    run = dataclasses.replace(default, num_models=math.ceil(left / (MAX_SHARE * default.seconds_per_model)) or 1)
    free = Freedom(True, kernels_differ(job.model, job.inputs, jax.default_backend()), devices=True, most=models)
    _, chosen = tune(job, machine, run, free)
    return Measured(case, default, chosen, estimate_of(case, chosen, kind))


def made_up_data(case: Case) -> Dataset:
    """Random numbers of the shape of a network's data, as few as keep the memory of this machine free."""
    rng = np.random.default_rng(0)
    example = math.prod(case.shape) * (1 if case.are_images else 4)
    number = int(min(case.num_train, max(2 * case.recipe.batch_size, _DATA_BYTES // example)))

    def inputs(examples: int) -> np.ndarray:
        if case.are_images:
            return rng.integers(0, 256, (examples, *case.shape), np.uint8)
        if case.tokens:
            return rng.integers(0, case.tokens, (examples, *case.shape), np.int32)
        return rng.standard_normal((examples, *case.shape), np.float32)

    tests = max(case.outputs, number // 5)
    return Dataset(
        train_inputs=inputs(number),
        train_targets=np.arange(number) % case.outputs,
        test_inputs=inputs(tests),
        test_targets=np.arange(tests) % case.outputs,
        categories={"": case.tokens} if case.tokens else None,
        name=f"made up for {case.name}",
    )


def estimate_of(case: Case, cost: Cost, kind: str) -> float | None:
    """Seconds of a step of one model by the recorded program of this way for this card, if it was compiled."""
    way = (case.name, cost.execution.kernels, cost.execution.width)
    names = [card.name for card in CARDS.values() if card.full_name == kind]
    for each in read_records():
        if each["card"] in names and (each["case"], each["kernels"], each["width"]) == way:
            return float(each["training step"]["estimated_seconds_per_model"])
    return None


def summary(kind: str, measured: Sequence[Measured]) -> str:
    """One line with card, versions and rates."""
    versions = provenance.versions()
    rates = "; ".join(
        f"{each.case.name} {each.chosen.execution.kernels} {each.chosen.execution.width}: {_format_seconds(each.seconds)}"
        + (f" (estimate {_format_seconds(each.estimate)})" if each.estimate is not None else "")
        for each in measured
    )
    return (
        f"gpu_report, {kind}, jaxinfl {versions['jaxinfl']}, jax {versions['jax']}, commit {origin()['git_commit'] or 'unknown'}, "
        f"a step of one model: {rates or 'nothing was measured'}"
    )


def _format_seconds(seconds: float) -> str:
    return format_amount(1e6 * seconds, ("us", "ms", "s"))


def _print(kind: str, measured: Sequence[Measured]) -> None:
    table = Table(title=f"{kind}: one training step of one model", title_justify="left")
    table.add_column("network", no_wrap=True)
    table.add_column("way", no_wrap=True)
    for heading in ("time", "estimate", "by default", "models an hour (without evaluation)"):
        table.add_column(heading, justify="right")
    table.add_column("tuner")
    for each in measured:
        table.add_row(
            each.case.name,
            f"{each.chosen.execution.kernels}, {each.chosen.execution.width} at once",
            _format_seconds(each.seconds),
            "-" if each.estimate is None else _format_seconds(each.estimate),
            _format_seconds(each.default.seconds_per_step),
            format_amount(each.models_per_hour),
            each.chosen.execution.reason or "nothing else was tried",
        )
    console.print(table)


def figure_of(kind: str, measured: Sequence[Measured]) -> Figure:
    """Draw the measured time of a step and model of each network, and the estimate where there is one."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 1.2 + 0.32 * max(len(measured), 1)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(measured))
        axes.plot([1e6 * each.seconds for each in measured], rows, "o", color=COLOURS[0], label="measured")
        estimated = [(1e6 * each.estimate, row) for each, row in zip(measured, rows, strict=True) if each.estimate]
        if estimated:
            axes.plot(
                *zip(*estimated, strict=True),
                "s",
                color=COLOURS[1],
                markerfacecolor="white",
                label="estimated by the compiler",
            )
        axes.set_yticks(rows, [each.case.name for each in measured])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("us a step and model")
        axes.set_title(f"One training step on {kind}", loc="left")
        if measured:
            axes.legend(loc="best")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
