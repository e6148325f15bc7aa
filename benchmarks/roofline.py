"""Roofline: what an A100 or an H100 could reach at best, for the paper's models and recipes; nothing is trained.

    python -m benchmarks.roofline            some minutes on one core (it compiles one step of each model)
    python -m benchmarks.roofline --quick    the two smallest models, for tests

Operations and bytes of one training step and one evaluation batch of one model (`benchmarks/costs.py`), times their
number, against the peak arithmetic rate and memory bandwidth of each GPU: whichever takes longer binds. GPU-hours of
2000 models at that limit, and at 60% and 30% of it. What is taken for granted is printed below the tables.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.costs import Cost, evaluation_cost, step_cost
from benchmarks.record import console, write
from benchmarks.roofline_figure import Point, Roof, duration, roofline_figure
from experiments.cifar100_subsets import PRESETS
from experiments.presets import COLOUR
from jaxinfl import Recipe, recipes
from jaxinfl.arguments import expand_home
from jaxinfl.models import REGISTRY, build_model
from jaxinfl.training.programs import EVALUATION_BATCH
from jaxinfl.units import format_amount

Arithmetic = Literal["float32", "tf32", "bfloat16"]

NUM_MODELS = 2000
"""Models of the paper's Figure 1, for which the GPU-hours are."""
SHARES = (1.0, 0.6, 0.3)
"""Shares of the rate at the limit for which GPU-hours are given."""
ASSUMPTIONS = """\
operations: one float32 step as XLA counts it before optimization, convolutions as matrix products; whole batches, the
  padding of an epoch's last one included; the few percent outside matrix products run at the same peak
peaks: dense, without sparsity, at boost clock; TF32 is JAX's default for float32 matrix products on these GPUs
least bytes (they set the limit): each convolution and matrix product reads its operands and writes its result once,
  everything between is fused into them, and the optimizer reads and writes its state once; in bfloat16: activations
  are bfloat16, parameters and optimizer float32
fused bytes (last column): what the kernels of today's float32 program read and write, patches stored, as XLA fuses it
  for a CPU; a GPU's compiler fuses more, so that is nearer an upper bound
caches: nothing stays in one from one kernel to the next; what fits into L2 (40 MB on an A100, 50 MB on an H100), as in
  the networks for 8x8 images, could beat a limit by memory
left out: RandomResizedCrop, the parts in which a batch may be taken, the start of a model, the order of an epoch, launches of kernels, the host"""
"""Assumptions, which are printed below the tables and kept in the JSON file."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    quick: bool = False
    """Whether to count only the two smallest models."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


@dataclass(frozen=True)
class Entry:
    """A model with a recipe on a data set's shape."""

    model: str
    """Registered name; entries whose model is not registered are left out."""
    data: str
    recipe: Recipe
    image_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_test: int
    quick: bool = False
    """Whether it is part of the quick run."""
    ratio: float = 0.7

    @property
    def steps(self) -> int:
        """Optimizer steps of one model."""
        return self.recipe.epochs * math.ceil(int(self.ratio * self.num_train) / self.recipe.batch_size)

    @property
    def evaluations(self) -> int:
        """Evaluation batches of one model: all training and test examples once."""
        return math.ceil((self.num_train + self.num_test) / EVALUATION_BATCH)


CIFAR = recipes.CIFAR
ENTRIES = (
    Entry("small_inception", "CIFAR-100", CIFAR, (32, 32, 3), 100, 50_000, 10_000),
    Entry("resnet18_cifar", "CIFAR-100", CIFAR, (32, 32, 3), 100, 50_000, 10_000),
    Entry("resnet18", "Flowers", recipes.FINE_GRAINED_224, (224, 224, 3), 102, 2040, 6149, ratio=1.0),
    Entry("inception_v3", "Flowers", recipes.FINE_GRAINED_299, (299, 299, 3), 102, 2040, 6149, ratio=1.0),
    Entry("resnet18", "DTD", recipes.FINE_GRAINED_224, (224, 224, 3), 47, 3760, 1880, ratio=1.0),
    Entry("inception_v3", "DTD", recipes.FINE_GRAINED_299, (299, 299, 3), 47, 3760, 1880, ratio=1.0),
    Entry("resnet9", "CIFAR-10", recipes.CIFAR_FAST, (32, 32, 3), 10, 50_000, 10_000),
    Entry("small_resnet9", "12,000 of CIFAR-10", COLOUR["recipe"], (32, 32, 3), 10, 10_000, 2000, ratio=0.3),
    Entry("small_cnn", "CIFAR-10", CIFAR, (32, 32, 3), 10, 50_000, 10_000),
    Entry("mlp", "MNIST", Recipe(), (28, 28, 1), 10, 60_000, 10_000),
    Entry("small_cnn", "digits", Recipe(epochs=10), (8, 8, 1), 10, 1437, 360, quick=True),
    Entry("small_mlp", "digits", PRESETS["digits"].recipe, (8, 8, 1), 10, 1437, 360, quick=True),
)
"""The paper's networks with its recipes (Appendix A; DTD and Flowers on everything, as Section 4 has them), and the smaller
ones of this library's presets and tests."""


@dataclass(frozen=True)
class GPU:
    """Peak rates by the manufacturer's data sheet."""

    name: str
    bandwidth: float
    """Bandwidth of its memory in bytes a second."""
    float32: float
    """FLOP/s in float32."""
    tf32: float
    bfloat16: float


GPUS = (
    GPU("A100 SXM 40 GB", 1.555e12, 19.5e12, 156e12, 312e12),
    GPU("A100 SXM 80 GB", 2.039e12, 19.5e12, 156e12, 312e12),
    GPU("H100 SXM", 3.35e12, 67e12, 494.7e12, 989.4e12),
)
PRINTED = GPUS[1:]
"""GPUs that tables and figure show; the JSON file has all."""


@dataclass(frozen=True)
class Limit:
    """The best that a GPU could do for one model."""

    gpu: str
    arithmetic: Arithmetic
    binds: Literal["compute", "memory"]
    seconds_per_model: float
    gpu_hours: dict[str, float]
    """GPU-hours of `NUM_MODELS` models, by the share of the limit's rate that is reached."""
    gpu_hours_fused_traffic: float
    """GPU-hours at the whole limit, with the traffic of today's program (float32) in place of the least."""


def model_cost(entry: Entry) -> Cost:
    """Work of the whole training and the evaluation of one model."""
    model = build_model(entry.model, inputs=entry.image_shape, outputs=entry.num_classes)
    # The network alone, on images that are cropped already, and a batch in one piece.
    recipe = dataclasses.replace(entry.recipe, resized_crop=None, microbatch=None)
    step = step_cost(model, recipe, entry.image_shape)
    return step * entry.steps + evaluation_cost(model, recipe, entry.image_shape) * entry.evaluations


def limit(cost: Cost, gpu: GPU, arithmetic: Arithmetic) -> Limit:
    """The limit by compute or by memory, whichever takes longer."""
    compute = cost.flops / getattr(gpu, arithmetic)
    memory = (cost.least_bytes_bfloat16 if arithmetic == "bfloat16" else cost.least_bytes) / gpu.bandwidth
    seconds = max(compute, memory)
    hours = NUM_MODELS / 3600
    return Limit(
        gpu=gpu.name,
        arithmetic=arithmetic,
        binds="compute" if compute > memory else "memory",
        seconds_per_model=seconds,
        gpu_hours={f"{share:g}": hours * seconds / share for share in SHARES},
        gpu_hours_fused_traffic=hours * max(compute, cost.fused_bytes / gpu.bandwidth),
    )


def main(config: Config) -> Path:
    """Count, print and write; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    chosen = [entry for entry in ENTRIES if entry.quick or not config.quick]
    for entry in chosen:
        if entry.model not in REGISTRY:
            console.print(f"{entry.model} on {entry.data} is left out: no such model is registered.", style="dim")
    entries = [entry for entry in chosen if entry.model in REGISTRY]
    costs = []
    for entry in entries:
        costs.append(model_cost(entry))
        console.print(f"  counted {entry.model} on {entry.data}", style="dim")
    arithmetics: tuple[Arithmetic, ...] = ("float32", "tf32", "bfloat16")
    limits = [[limit(cost, gpu, arithmetic) for gpu in GPUS for arithmetic in arithmetics] for cost in costs]
    _print_costs(entries, costs)
    for gpu in PRINTED:
        _print_limits(gpu, entries, limits)
    console.print(f"Taken for granted\n{ASSUMPTIONS}", style="dim")
    record = {
        "num_models": NUM_MODELS,
        "gpus": [dataclasses.asdict(gpu) for gpu in GPUS],
        "models": [_describe(*parts) for parts in zip(entries, costs, limits, strict=True)],
        "assumptions": ASSUMPTIONS.splitlines(),
    }
    return write("roofline", record, _figure(entries, costs, limits), config.out)


def _describe(entry: Entry, cost: Cost, limits: Sequence[Limit]) -> dict[str, Any]:
    counts = {"steps": entry.steps, "evaluation_batches": entry.evaluations}
    of_one = {"cost_per_model": dataclasses.asdict(cost), "limits": [dataclasses.asdict(part) for part in limits]}
    return dataclasses.asdict(entry) | counts | of_one


def _print_costs(entries: Sequence[Entry], costs: Sequence[Cost]) -> None:
    table = Table(title="One model: training and evaluation", title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("recipe", no_wrap=True)
    for heading in ("FLOP", "least bytes", "in bfloat16", "fused bytes", "FLOP/byte"):
        table.add_column(heading, justify="right")
    for entry, cost in zip(entries, costs, strict=True):
        epochs, batch_size = entry.recipe.epochs, entry.recipe.batch_size
        recipe = f"{epochs} epochs x {entry.steps // max(epochs, 1)} steps of {batch_size}"
        amounts = (cost.flops, cost.least_bytes, cost.least_bytes_bfloat16, cost.fused_bytes)
        table.add_row(_name(entry), recipe, *map(format_amount, amounts), f"{cost.flops / cost.least_bytes:.3g}")
    console.print(table)


def _print_limits(gpu: GPU, entries: Sequence[Entry], limits: Sequence[Sequence[Limit]]) -> None:
    title = f"{gpu.name}: GPU time of {NUM_MODELS} models at shares of the limit"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    table.add_column("arithmetic")
    table.add_column("limit")
    for heading in (*(f"{share:.0%}" for share in SHARES), "100%, fused bytes"):
        table.add_column(heading, justify="right")
    for entry, of_entry in zip(entries, limits, strict=True):
        here = [part for part in of_entry if part.gpu == gpu.name]
        for part in here:
            fused = "" if part.arithmetic == "bfloat16" else duration(part.gpu_hours_fused_traffic)
            name = _name(entry) if part is here[0] else ""
            last = part is here[-1]
            times = map(duration, part.gpu_hours.values())
            table.add_row(name, part.arithmetic, part.binds, *times, fused, end_section=last)
    console.print(table)


def _figure(entries: Sequence[Entry], costs: Sequence[Cost], limits: Sequence[Sequence[Limit]]) -> Figure:
    """Roofs of the A100 80 GB and the H100 in TF32 and bfloat16; the hours in TF32."""
    lines = [
        Roof(f"{gpu.name}, {label}", gpu.bandwidth, peak)
        for gpu in PRINTED
        for label, peak in (("TF32", gpu.tf32), ("bfloat16", gpu.bfloat16))
    ]
    points = []
    for entry, cost, of_entry in zip(entries, costs, limits, strict=True):
        hours = {
            part.gpu: tuple(part.gpu_hours.values())
            for part in of_entry
            if part.arithmetic == "tf32" and part.gpu in {gpu.name for gpu in PRINTED}
        }
        points.append(Point(_name(entry), cost.flops / cost.least_bytes, cost.flops / cost.fused_bytes, hours))
    return roofline_figure(lines, points, num_models=NUM_MODELS)


def _name(entry: Entry) -> str:
    return f"{entry.model}, {entry.data}"


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
