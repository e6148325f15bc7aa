"""What many processes cost, measured here and simulated for clouds: overhead per shard, speed-up, and where the time of workers goes.

    python -m benchmarks.cluster                 workers of a local pool of Ray and the simulation: about 3 minutes on 2 cores
    python -m benchmarks.cluster --simulate      the simulation alone, with the costs that are recorded below
    python -m benchmarks.cluster --quick         few models, to see that it runs

Measured: the time of a worker between two shards, the speed-up of 2 workers over 1, the time to write the results of one model on
CIFAR-100 (50,000 + 10,000 examples) and of a checkpoint, and the time until a worker is ready.

Simulated with these costs: 2,000 small_inception of 60 s each on 1 to 256 workers, each of which is pre-empted every 30 minutes on
average and replaced at once. Target: at most 5% of the workers' time is lost at 64 workers. The waiting time of a scheduler is not counted.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import matplotlib
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.table import Table

import jaxinfl
from benchmarks.cluster_simulation import Costs, Spent, Study, average
from benchmarks.record import console, describe_machine, write
from jaxinfl.arguments import expand_home
from jaxinfl.cluster import complete_on_cluster
from jaxinfl.cluster.train import POOL_CHECKPOINT_SECONDS
from jaxinfl.datasets import Dataset
from jaxinfl.plots import COLOURS, STYLE
from jaxinfl.store import RunStore
from jaxinfl.training.agreement import Devices
from jaxinfl.training.job import Job
from jaxinfl.training.run import RunOptions, describe_run, layout_of
from jaxinfl.training.tuning import MachineChoice

RECORDED = Costs(ready=20.0, hand_over=0.03, write_model=0.01, checkpoint_bytes=13e6, bandwidth=100e6)
"""Costs of the simulation. To be ready takes 3.5 s here with compiled programs (benchmarks.startup) and took 17 s for small_inception on
an H100; a checkpoint of small_inception holds 1.6 million parameters and their momentum; the rest is rounded up from what was measured."""
WORKERS = (1, 4, 16, 64, 256)
SHARDS = (1, 2, 4, 8, 16)
"""Numbers of models of a shard."""
TARGET, AT = 0.05, 64
"""Largest share of the workers' time that may be lost, and the number of workers."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    shards: int = 60
    """Number of shards of one model each by which the overhead is measured."""
    rounds: int = 3
    """Number of rounds; the table shows medians."""
    simulate: bool = False
    """Simulate with the recorded costs, and measure nothing."""
    quick: bool = False
    """Whether to take few shards and runs, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


@dataclass(frozen=True)
class Measured:
    """Medians of what was measured."""

    hand_over: float
    """Seconds of a worker between two shards."""
    speed_up: float
    """Time of one worker over that of two, for the same shards of about half a second."""
    write_model: float
    """Seconds to write the results of one model on 50,000 + 10,000 examples."""
    bandwidth: float
    """Bytes a second of checkpoints that are written."""
    ready: float
    """Seconds from the call until the first worker of a new local pool is ready, with compiled programs in the cache."""


def main(config: Config) -> Path:
    """Measure, simulate and report; returns the JSON file."""
    config = replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = replace(config, shards=8, rounds=1)
    measured = None if config.simulate else measure(config)
    if measured is not None:
        _print_measured(measured)
    costs = RECORDED
    repeats = 2 if config.quick else 20
    study = Study(checkpoint_every=POOL_CHECKPOINT_SECONDS)
    by_workers = {workers: average(study, costs, workers, 1, repeats) for workers in WORKERS}
    by_shard = {shard: average(study, costs, AT, shard, repeats) for shard in SHARDS}
    best = min(by_shard, key=lambda shard: by_shard[shard].share_lost)
    _print_simulated(study, by_workers, by_shard, best)
    record = {
        "measured": None if measured is None else asdict(measured),
        "costs": asdict(costs),
        "study": asdict(study),
        "workers": {str(workers): asdict(spent) for workers, spent in by_workers.items()},
        "shards": {str(shard): asdict(spent) for shard, spent in by_shard.items()},
        "recommended_shard": best,
    }
    return write("cluster", record, _figure(by_workers, by_shard), config.out)


def measure(config: Config) -> Measured:
    """Measure what the engine costs on this machine."""
    here, between, ups, readies = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="jaxinfl-cluster-") as folder:
        names = (Path(folder, str(number)) for number in range(10**6))
        short, long = _job(config.shards, epochs=1), _job(config.shards // 2, epochs=600)
        for _ in range(config.rounds):
            here.append(_seconds_here(short, next(names)) / config.shards)
            ready, seconds = _seconds_in_pool(short, next(names), 1)
            readies.append(ready)
            between.append(seconds / config.shards)
            one, two = (_seconds_in_pool(long, next(names), workers)[1] for workers in (1, 2))
            ups.append(one / two)
        write_model, bandwidth = _writing(next(names))
    return Measured(
        hand_over=max(statistics.median(between) - statistics.median(here), 0.0),
        speed_up=statistics.median(ups),
        write_model=write_model,
        bandwidth=bandwidth,
        ready=statistics.median(readies),
    )


def _job(models: int, epochs: int) -> Job:
    data = jaxinfl.load_dataset("digits")
    masks = jaxinfl.draw_subsets(models, data.num_train)
    keys = jax.random.split(jax.random.key(0), models)
    return Job.make(masks, keys, data, "small_mlp", jaxinfl.Recipe(epochs=epochs))


def _seconds_here(job: Job, run_dir: Path) -> float:
    """Seconds of training in this process, one model a shard, without compilation."""
    begun: list[float] = []
    jaxinfl.train_ensemble(
        job.masks,
        job.keys,
        data=job.data,
        model="small_mlp",
        recipe=job.recipe,
        run_dir=run_dir,
        shard_size=1,
        tune=False,
        progress=False,
        on_cost=lambda cost: begun.append(time.perf_counter()),
    )
    return time.perf_counter() - begun[0]


def _seconds_in_pool(job: Job, run_dir: Path, workers: int) -> tuple[float, float]:
    """Seconds until the first worker is ready, and from then to the end, one model a shard."""
    begun: list[float] = []
    options = RunOptions(1, 30.0, 1.0, False, lambda cost: begun.append(time.perf_counter()))
    called = time.perf_counter()
    cluster, choice = jaxinfl.Cluster("ray"), MachineChoice(tune=False)
    complete_on_cluster(job, run_dir, workers, cluster, choice, options)
    return begun[0] - called, time.perf_counter() - begun[0]


def _writing(run_dir: Path) -> tuple[float, float]:
    """Seconds to write one model's results of CIFAR-100's size, and bytes a second of a checkpoint."""
    rng = np.random.default_rng(0)
    inputs = {"train": np.zeros((50_000, 1), np.float32), "test": np.zeros((10_000, 1), np.float32)}
    data = Dataset(
        train_inputs=inputs["train"],
        train_targets=np.arange(50_000) % 100,
        test_inputs=inputs["test"],
        test_targets=np.arange(10_000) % 100,
    )
    models = 8
    masks, keys = jaxinfl.draw_subsets(models, 50_000), jax.random.split(jax.random.key(0), models)
    job = Job.make(masks, keys, data, "small_mlp", jaxinfl.Recipe(epochs=1))
    cost = jaxinfl.training_cost(masks, keys, data=data, model="small_mlp", recipe=jaxinfl.Recipe(epochs=1))
    store = RunStore.create(run_dir, layout_of(job, describe_run(job, cost, Devices.here()), 1))
    seconds = []
    for model in range(models):
        rows = {name: _any_rows(spec.shape, spec.dtype, rng) for name, spec in store.row_arrays.items()}
        begun = time.perf_counter()
        store.write(slice(model, model + 1), rows, np.zeros(1, bool))
        seconds.append(time.perf_counter() - begun)
    assert store.checkpoint is not None
    state = {"state": rng.normal(size=3_200_000).astype(np.float32)}
    begun = time.perf_counter()
    store.checkpoint.write({"epoch": 0}, state)
    return statistics.median(seconds), state["state"].nbytes / (time.perf_counter() - begun)


def _any_rows(shape: Sequence[int], dtype: str, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.normal(size=(1, *shape))
    return drawn.astype(dtype) if dtype.startswith("float") else np.abs(drawn * 30).astype(dtype)


def _print_measured(measured: Measured) -> None:
    table = Table(title=f"Measured on {describe_machine()}: a local pool of Ray", title_justify="left")
    table.add_column("what")
    table.add_column("here", justify="right")
    for what, value in (
        ("time of a worker between two shards", f"{measured.hand_over * 1e3:.0f} ms"),
        (f"speed-up of 2 workers over 1, on {os.cpu_count()} cores", f"{measured.speed_up:.2f}"),
        ("writing one model of CIFAR-100", f"{measured.write_model * 1e3:.0f} ms"),
        ("writing checkpoints", f"{measured.bandwidth / 1e6:.0f} MB/s"),
        ("until the first worker of a new pool is ready", f"{measured.ready:.1f} s"),
    ):
        table.add_row(what, value)
    console.print(table)


def _print_simulated(study: Study, by_workers: dict[int, Spent], by_shard: dict[int, Spent], best: int) -> None:
    console.print(
        f"\nSimulated: {study.models} models of {study.model_seconds:.0f} s, pre-empted every {study.preempted_every / 60:.0f} minutes, "
        f"a checkpoint every {POOL_CHECKPOINT_SECONDS:.0f} s"
    )
    for title, runs, name in (
        ("One model a shard", by_workers, "workers"),
        (f"{AT} workers", by_shard, "models a shard"),
    ):
        table = Table(title=title, title_justify="left")
        for heading in (name, "hours", "lost", "done again", "getting ready", "waiting", "idle at the end"):
            table.add_column(heading, justify="right")
        for size, spent in runs.items():
            parts = (spent.lost, spent.ready, spent.waiting, spent.idle)
            shares = [f"{part / spent.total:.1%}" for part in parts]
            table.add_row(str(size), f"{spent.wall / 3600:.2f}", f"{spent.share_lost:.1%}", *shares)
        console.print(table)
    lost = by_workers[AT].share_lost
    console.print(
        f"Recommended: {best} model{'s' if best > 1 else ''} a shard. At {AT} workers {lost:.1%} of the time is lost "
        f"(target: at most {TARGET:.0%})."
    )


def _figure(by_workers: dict[int, Spent], by_shard: dict[int, Spent]) -> Figure:
    names = {"lost": "done again", "ready": "getting ready", "waiting": "waiting", "idle": "idle at the end"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        for axes, (runs, label) in zip(
            figure.subplots(1, 2, sharey=True),
            ((by_workers, "workers, one model a shard"), (by_shard, f"models a shard, {AT} workers")),
            strict=True,
        ):
            bottom = np.zeros(len(runs))
            for (field, name), colour in zip(names.items(), COLOURS, strict=False):
                heights = np.array([100 * getattr(spent, field) / spent.total for spent in runs.values()])
                axes.bar([str(size) for size in runs], heights, bottom=bottom, color=colour, label=name, width=0.7)
                bottom += heights
            axes.set_axisbelow(True)
            axes.grid(False, axis="x")
            axes.axhline(100 * TARGET, color="#333333", linestyle=":", linewidth=1.1)
            axes.set_xlabel(label)
        first = figure.axes[0]
        first.set_ylabel("% of the workers' time that is lost")
        first.annotate("target", (-0.4, 100 * TARGET), (0, 3), textcoords="offset points", fontsize=8)
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
