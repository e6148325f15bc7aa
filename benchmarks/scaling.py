"""This benchmark measures how cost grows with the number of models, of training and test examples, and of devices.

    python -m benchmarks.scaling            about 5 minutes on 2 cores
    python -m benchmarks.scaling --quick    small sizes, for tests

Training (small_cnn on random 8x8 images, 4 epochs, subsets of 75%; whole `train_ensemble` calls, planning apart) and
the influence kernels on random 0-1 scores, each size varied by factors of two with the others fixed. All sizes in
turns, medians; the exponent is the slope of a line through the medians on logarithmic axes: 1 is linear growth, less
than 1 growth beside a fixed cost. Devices are virtual CPU devices, each number in a process of its own; more of them
than cores cannot help. Few models may leave devices idle: a call into compiled code takes some for each device.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.table import Table

import benchmarks
import jaxinfl
from benchmarks.compare import run_in_turns
from benchmarks.figures import Panel, growth
from benchmarks.record import console, describe_machine, write
from benchmarks.scaling_worker import RATIO, RECIPE, Worker
from jaxinfl.arguments import expand_home
from jaxinfl.devices import num_cores
from jaxinfl.influence import joint_counts

Series = dict[int, list[float]]
"""Size -> values of all rounds."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    model: str = "small_cnn"
    """Registered name of the network that is trained."""
    models: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Numbers of models of one call, rising."""
    train: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Numbers of training examples, rising."""
    num_train: int = 1024
    """Number of training examples where it does not vary."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of virtual CPU devices."""
    models_per_call: int = 64
    """Number of models of one call where it does not vary; it is filled up to whole groups."""
    kernel_sizes: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Numbers of models, training examples and test examples of the kernels, each varied by itself."""
    fixed: tuple[int, int, int] = (1024, 4096, 4096)
    """Numbers of models, training examples and test examples of the kernels where they do not vary."""
    rounds: int = 3
    """Number of timed rounds after the first."""
    quick: bool = False
    """Whether to take small sizes, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


QUICK = Config(
    model="small_mlp",
    models=(2, 4),
    train=(64, 128),
    num_train=64,
    devices=(1,),
    models_per_call=4,
    kernel_sizes=(64, 128),
    fixed=(64, 64, 64),
    rounds=1,
    quick=True,
)
AXES = ("models", "training examples", "test examples")


class DeviceWorker:
    """A process with some number of virtual CPU devices, compiled and waiting."""

    def __init__(self, devices: int, models: int, train: int, model: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling_worker", str(models), str(train), model],
            cwd=Path(benchmarks.__file__).parent.parent,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Wait until it is compiled."""
        self._answer()

    def seconds_per_model(self) -> float:
        """Wall-clock seconds that a model of one run takes."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"a training process ended with status {self._process.wait()}; see above for its reasons."
            )
        return line

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = dataclasses.replace(QUICK, out=config.out)
    console.print("training, models and training examples")
    training = measure_training(config)
    console.print("training, devices")
    training["devices"] = measure_devices(config)
    console.print("influence kernels")
    kernels = measure_kernels(config)
    _print_training(config, training)
    _print_kernels(config, kernels)
    console.print(f"{describe_machine()}; medians, rounds: {config.rounds}")
    record = {
        "config": {key: value for key, value in dataclasses.asdict(config).items() if key != "out"},
        "recipe": RECIPE.to_dict(),
        "ratio": RATIO,
        "training_seconds_per_model": training,
        "kernel_seconds": kernels,
        "exponents": {
            "training": {
                "models": exponent({size: [size * s for s in series] for size, series in training["models"].items()}),
                "training examples": exponent(training["training examples"]),
            },
            "kernels": {
                name: {axis: exponent(series) for axis, series in axes.items()} for name, axes in kernels.items()
            },
        },
    }
    return write("scaling", record, _figure(config, training, kernels), config.out)


def measure_training(config: Config) -> dict[str, Series]:
    """Measure the seconds that a model takes, over the number of models and over that of training examples."""
    workers = {
        "models": {n: Worker(n, config.num_train, config.model, whole_groups=False) for n in config.models},
        "training examples": {n: Worker(config.models_per_call, n, config.model) for n in config.train},
    }
    contenders = {(axis, n): worker.seconds_per_model for axis, each in workers.items() for n, worker in each.items()}
    return _by_axis(run_in_turns(contenders, config.rounds, brief=True))


def measure_devices(config: Config) -> Series:
    """Measure the seconds that a model takes, over the number of virtual devices."""
    workers = {n: DeviceWorker(n, config.models_per_call, config.num_train, config.model) for n in config.devices}
    try:
        for worker in workers.values():
            worker.wait()
        contenders = {("devices", n): worker.seconds_per_model for n, worker in workers.items()}
        return _by_axis(run_in_turns(contenders, config.rounds, brief=True))["devices"]
    finally:
        for worker in workers.values():
            worker.close()


def measure_kernels(config: Config) -> dict[str, dict[str, Series]]:
    """Measure the kernels: name -> axis -> seconds over size."""
    shapes = {
        (axis, size): tuple(size if other == axis else fixed for other, fixed in zip(AXES, config.fixed, strict=True))
        for axis in AXES
        for size in config.kernel_sizes
    }
    # A shape that lies on several axes is measured once.
    contenders = {
        (name, shape): kernel for shape in sorted(set(shapes.values())) for name, kernel in _kernels(*shape).items()
    }
    measured = run_in_turns(contenders, config.rounds, brief=True)
    names = dict.fromkeys(name for name, _ in contenders)
    return {
        name: {axis: {size: measured[name, shapes[axis, size]] for size in config.kernel_sizes} for axis in AXES}
        for name in names
    }


def exponent(series: Mapping[int, Sequence[float]]) -> float:
    """Exponent of the growth: slope of the logarithm of the medians over that of the sizes, by least squares."""
    medians = [statistics.median(values) for values in series.values()]
    return float(np.polyfit(np.log(list(series)), np.log(medians), 1)[0])


def _kernels(models: int, train: int, test: int) -> dict[str, Callable[[], float]]:
    """Functions that return the seconds of one call, by the kernel's name."""
    rng = np.random.default_rng(0)
    masks = rng.random((models, train), np.float32) < 0.7
    right_train, right_test = (rng.random((models, n), np.float32) < 0.8 for n in (train, test))
    calls: dict[str, Callable[[], object]] = {
        "joint_counts": lambda: joint_counts(masks, right_test),
        "influence": lambda: jaxinfl.influence(masks, right_test),
        "iou_curve": lambda: jaxinfl.iou_curve(
            masks, right_train, right_test, num_models=(models // 2,), repeats=1, min_memorization=None
        ),
        "top_pairs": lambda: jaxinfl.top_pairs(masks, right_train, right_test, k=100, min_memorization=None),
    }

    def make_timer(call: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            begun = time.perf_counter()
            jax.block_until_ready(call())
            return time.perf_counter() - begun

        return measure

    return {name: make_timer(call) for name, call in calls.items()}


def _by_axis(measured: Mapping[tuple[str, int], list[float]]) -> dict[str, Series]:
    axes: dict[str, Series] = {}
    for (axis, size), values in measured.items():
        axes.setdefault(axis, {})[size] = values
    return axes


def _print_training(config: Config, training: Mapping[str, Series]) -> None:
    table = Table(title=f"Training: {config.model}, {RECIPE.epochs} epochs", title_justify="left")
    table.add_column("what grows")
    table.add_column("sizes")
    table.add_column("models per hour")
    table.add_column("growth")
    whole = exponent({size: [size * s for s in series] for size, series in training["models"].items()})
    devices = [statistics.median(values) for values in training["devices"].values()]
    notes = {
        "models": f"time of a run: exponent {whole:.2f}",
        "training examples": f"time of a model: exponent {exponent(training['training examples']):.2f}",
        "devices": f"{', '.join(f'{devices[0] / each:.2f}' for each in devices)} x as fast as {config.devices[0]}",
    }
    for axis, series in training.items():
        rates = (f"{3600 / statistics.median(values):,.0f}" for values in series.values())
        table.add_row(axis, _join_sizes(series), " / ".join(rates), notes[axis])
    console.print(table)


def _print_kernels(config: Config, kernels: Mapping[str, Mapping[str, Series]]) -> None:
    models, train, test = config.fixed
    title = f"Influence kernels: {models} models, {train} training and {test} test examples, one of them varied"
    table = Table(title=title, title_justify="left")
    for heading in ("kernel", "what grows", "sizes", "seconds"):
        table.add_column(heading)
    table.add_column("exponent", justify="right")
    for name, axes in kernels.items():
        for axis, series in axes.items():
            seconds = " / ".join(f"{statistics.median(values):.2g}" for values in series.values())
            first, last = axis == AXES[0], axis == AXES[-1]
            table.add_row(
                name if first else "", axis, _join_sizes(series), seconds, f"{exponent(series):.2f}", end_section=last
            )
    console.print(table)


def _join_sizes(sizes: Iterable[int]) -> str:
    return " / ".join(map(str, sizes))


def _figure(config: Config, training: Mapping[str, Series], kernels: Mapping[str, Mapping[str, Series]]) -> Figure:
    def per_hour(axis: str) -> dict[str, Series]:
        return {axis: {size: [3600 / seconds for seconds in values] for size, values in training[axis].items()}}

    examples = AXES[1]
    of_training = [
        Panel("models", "models per hour", per_hour("models"), from_zero=True),
        Panel(examples, "seconds a model", {examples: training[examples]}, slope=1),
        Panel(f"virtual devices on {num_cores()} cores", "models per hour", per_hour("devices"), from_zero=True),
    ]
    of_kernels = [
        Panel(axis, "seconds", {name: axes[axis] for name, axes in kernels.items()}, slope=1) for axis in AXES
    ]
    models, train, test = config.fixed
    rounds = f"medians, lowest and highest; rounds: {config.rounds}"
    return growth(
        {
            f"Training: {config.model} on 8x8 images, {RECIPE.epochs} epochs ({rounds})": of_training,
            f"Kernels: {models} models x {train} training x {test} test examples, one of them varied": of_kernels,
        }
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
