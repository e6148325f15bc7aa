"""Training steps a second of many small models, all cores together: CNNs, MLPs and a transformer, against what people use.

    python -m benchmarks.models_per_hour                       about 45 minutes on 2 cores
    python -m benchmarks.models_per_hour --networks table transformer      about 10 minutes
    python -m benchmarks.models_per_hour --networks digits     about 8 minutes; this one says models per hour, too
    python -m benchmarks.models_per_hour --quick               about a minute, most of it compilation; for tests

jaxinfl, training only (on the digits also whole `train_ensemble` calls with evaluation of all examples), against
- JAX as anyone would write it first, with stock layers on one device with all threads: `jax.vmap` of a whole training,
  of a jitted step in a Python loop, and that step for one model after another;
- PyTorch: one model after another (one process with all cores and a process a core, both memory formats), many at once
  by `torch.func`, and dattri's helper for retraining, each only where it is installed and without evaluation;
- scikit-learn's `MLPClassifier`, one perceptron after another, in the same processes;
- one float32 GEMM, the rate that no network can exceed.
All in one run and in turns, with new models in each measurement; compilation and warm-up apart.
On a GPU the same command runs there: with one, models per hour is per GPU-hour.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
import tyro
from jaxtyping import Array

import jaxinfl
from benchmarks.compare import report, run_in_turns
from benchmarks.models_per_hour_summary import (
    GEMM,
    GEMM_KERNELS,
    OURS,
    PYTORCH,
    SKLEARN,
    TORCH_FUNC,
    TRAINING,
    VMAP_STEP,
    VMAP_TRAINING,
    Result,
    report_summary,
    show_rates,
)
from benchmarks.networks import NETWORKS, Network, prepare_inputs
from benchmarks.peers_jax import Gemm, StockTrainer, steps_per_second
from benchmarks.record import console
from benchmarks.workers import Kind, Workers, why_missing
from jaxinfl import Dataset
from jaxinfl.arguments import expand_home
from jaxinfl.devices import num_cores
from jaxinfl.models import Model, build_model
from jaxinfl.training.loop import make_segment
from jaxinfl.training.machine import choose_execution
from jaxinfl.training.per_model import ModelKeys
from jaxinfl.training.programs import build_programs
from jaxinfl.training.step import Training

NetworkName = Literal["digits", "cifar", "mnist", "small_mlp", "table", "transformer"]


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    networks: tuple[NetworkName, ...] = get_args(NetworkName)
    """Names of the networks; each gets one table and one JSON file."""
    rounds: int = 5
    """Number of timed rounds; the tables show medians."""
    seconds: float = 4.0
    """Seconds that each contender trains in each round; a slow one makes one step at least."""
    models: int = 128
    """Number of models of each whole call of `train_ensemble` on the digits."""
    quick: bool = False
    """Whether to take one short round of tiny networks, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON files are written to."""


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file of the summary."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = dataclasses.replace(config, rounds=1, seconds=0.05, models=4)
    workers = _start_workers(config)
    results = []
    try:
        for name in config.networks:
            network = NETWORKS[name].tiny() if config.quick else NETWORKS[name]
            results.append(_compare(config, network, workers))
    finally:
        for pool in workers:
            pool.close()
    return report_summary(results, config.out)


def _start_workers(config: Config) -> list[Workers]:
    """One process with all cores and a process a core; on a GPU, one process with all cores and one with one."""
    missing = why_missing("torch") or why_missing("dattri")
    if missing is not None:
        console.print(missing)
    cores = min(num_cores(), 2) if config.quick else num_cores()
    settings = {(1, cores), (1, 1) if jax.default_backend() != "cpu" else (cores, 1)}
    return [Workers(processes=processes, threads=threads) for processes, threads in sorted(settings)]


def _compare(config: Config, network: Network, workers: list[Workers]) -> Result:
    data = network.load()
    measured = run_in_turns(contenders(config, network, data, workers), config.rounds)
    steps = network.steps(data.num_train)
    ours = OURS if OURS in measured else TRAINING
    title = f"{network.description}, batch {network.batch_size}: {network.step_flops / 1e9:.3g} GFLOP a step"
    if ours == OURS:
        title += f", {steps} steps a model"
    file = f"models_per_hour_{network.name}"
    report(file, title, "steps/s", measured, ours=ours, higher_is_better=True, out=config.out)
    result = Result(network, steps, {name: float(np.median(rates)) for name, rates in measured.items()})
    show_rates(result)
    return result


def contenders(
    config: Config, network: Network, data: Dataset, workers: list[Workers]
) -> dict[str, Callable[[], float]]:
    """The functions that measure training steps a second, by name of the contender."""
    model = build_model(network.module, inputs=network.spec, outputs=network.classes)
    found: dict[str, Callable[[], float]] = {}
    if network.name == "digits":
        found[OURS] = partial(_whole_calls, config, network, data, model)
    ours = OurTraining(network, data, model)
    found[TRAINING] = steps_per_second(ours, config.seconds)
    if network.strides and ours.kernels != "gemm":
        found[GEMM_KERNELS] = steps_per_second(OurTraining(network, data, model, kernels="gemm"), config.seconds)
    # A slow step is a call of its own.
    looped = StockTrainer(network, data, models=network.vmapped, looped=16 if network.dense else 1)
    stepped = StockTrainer(network, data, models=network.vmapped)
    found[f"{VMAP_TRAINING}, {network.vmapped} models"] = steps_per_second(looped, config.seconds)
    found[f"{VMAP_STEP}, {network.vmapped} models"] = steps_per_second(stepped, config.seconds)
    found["plain JAX, one by one"] = steps_per_second(StockTrainer(network, data), config.seconds)
    found |= _in_workers(config, network, data, workers)
    found[GEMM] = steps_per_second(Gemm(network.step_flops), config.seconds / 4)
    return found


def _whole_calls(config: Config, network: Network, data: Dataset, model: Model) -> float:
    """Steps a second of a whole call, from the moment when it is compiled and about to start."""
    masks = jaxinfl.draw_subsets(config.models, data.num_train)
    begun: list[float] = []
    jaxinfl.train_ensemble(
        masks,
        jax.random.split(jax.random.key(0), config.models),
        data=data,
        model=model,
        recipe=network.recipe,
        progress=False,
        on_cost=lambda cost: begun.append(time.perf_counter()),
    )
    return config.models * network.steps(data.num_train) / (time.perf_counter() - begun[0])


class OurTraining:
    """The compiled program with which `train_ensemble` trains one group of models, without evaluation."""

    def __init__(self, network: Network, data: Dataset, model: Model, *, kernels: Literal["gemm"] | None = None):
        execution = choose_execution(model, network.recipe, data, kernels=kernels)
        self.kernels, self.steps = execution.kernels, float(execution.group * network.steps(data.num_train))
        training = Training(model, network.recipe, data.task, data.are_images)
        self._programs = build_programs(training, execution, tuple(jax.devices()))
        self._data = self._programs.place_data(data)
        self._whole = make_segment(0, network.epochs)
        keys = ModelKeys.split(jax.random.split(jax.random.key(0), execution.group))
        masks = jaxinfl.draw_subsets(execution.group, data.num_train)
        self._masks, self._keys = self._programs.place(masks, keys)

    def restart(self) -> None:
        """New models, from the same keys."""
        self._states: Any = jax.block_until_ready(self._programs.start(self._data, self._masks, self._keys))

    def run(self) -> Array:
        """All epochs of every model of the group; a second call goes on training."""
        self._states = self._programs.advance(self._data, self._states, self._masks, self._keys, self._whole)
        return self._states.loss


def _in_workers(
    config: Config, network: Network, data: Dataset, workers: list[Workers]
) -> dict[str, Callable[[], float]]:
    """The contenders that train in processes of their own, those that are installed."""
    kinds: list[tuple[str, Kind, str]] = []
    if not why_missing("torch"):
        formats: tuple[Kind, ...] = (
            ("contiguous_format", "channels_last") if network.strides else ("contiguous_format",)
        )
        for layout in formats:
            kinds.append((PYTORCH, layout, f", {layout.split('_format')[0]}" if network.strides else ""))
        kinds.append((TORCH_FUNC, "torch.func", f", {network.stacked} models"))
    if not (why_missing("torch") or why_missing("dattri")):
        kinds.append(("dattri", "dattri", ""))
    if network.dense:
        kinds.append((SKLEARN, "scikit-learn", ""))
    found: dict[str, Callable[[], float]] = {}
    for pool in workers:
        pool.load(network, prepare_inputs(data), data.train_targets)
        for name, kind, suffix in kinds:
            found[f"{name}, {pool.setting}{suffix}"] = partial(pool.steps_per_second, kind, config.seconds)
    return found


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
