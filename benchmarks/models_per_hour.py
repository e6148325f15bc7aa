"""Models per hour: a 3-conv CNN (16-32-64, strides 1-2-2) on digits, 10 epochs, batch 64, subsets of 70%.

    python -m benchmarks.models_per_hour            about 4 minutes on 2 cores
    python -m benchmarks.models_per_hour --quick    seconds, for tests

jaxinfl (whole `train_ensemble` calls, evaluation of all examples included) against the trainer that anyone would write
first (the same step under `jax.vmap` with `lax.conv`) and against PyTorch training one model after another (its best
of four settings: one process with all cores or a process a core, both memory formats; training steps only). All in one
run and in turns; compile time apart. On a GPU the same command runs there: with one, models per hour is per GPU-hour.
"""

import dataclasses
import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

import jaxinfl
from benchmarks.compare import console, interleaved, report
from benchmarks.pytorch_peer import PyTorchPeer
from jaxinfl import Dataset, Recipe
from jaxinfl.devices import num_cores
from jaxinfl.models import Model, SmallCNN, build_model
from jaxinfl.training.execution import choose_execution
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.programs import build_programs

RECIPE = Recipe(epochs=10, batch_size=64, weight_decay=0.0, schedule="constant")
OURS = "jaxinfl"


@dataclass(frozen=True)
class Config:
    """Options."""

    rounds: int = 5
    """Timed rounds; the table shows medians."""
    models: int = 128
    """Models of each of our calls."""
    seconds: float = 4.0
    """Time of each opponent in each round."""
    quick: bool = False
    """One short round, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder of the JSON file."""


def three_conv_cnn(rngs: nnx.Rngs) -> SmallCNN:
    """The network of the comparison: no batch norm, biases in the convolutions."""
    return SmallCNN((8, 8, 1), 10, batch_norm=False, rngs=rngs)


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file."""
    if config.quick:
        config = dataclasses.replace(config, rounds=1, models=4, seconds=0.2)
    data = jaxinfl.load_dataset("digits")
    model = build_model(three_conv_cnn, image_shape=data.image_shape, num_classes=data.num_classes)
    steps = RECIPE.epochs * math.ceil(int(0.7 * data.num_train) / RECIPE.batch_size)
    contenders: dict[str, Callable[[], float]] = {
        OURS: partial(_ours, config, data, model),
        "jax.vmap with lax.conv": _stock_vmap(data, model, steps),
    }
    peers = _pytorch(config, steps)
    contenders |= {name: measure for name, (_, measure) in peers.items()}
    try:
        measured = interleaved(contenders, config.rounds)
    finally:
        for peer, _ in peers.values():
            peer.close()
    title = f"Models per hour: 3-conv CNN on digits, {steps} steps of {RECIPE.batch_size}"
    return report("models_per_hour", title, "models/hour", measured, ours=OURS, higher_is_better=True, out=config.out)


def _ours(config: Config, data: Dataset, model: Model) -> float:
    """Models per hour of a whole call, from the moment when it is compiled and about to start."""
    masks = jaxinfl.draw_subsets(config.models, data.num_train)
    begun: list[float] = []
    jaxinfl.train_ensemble(
        masks,
        jax.random.split(jax.random.key(0), config.models),
        data=data,
        model=model,
        recipe=RECIPE,
        progress=False,
        on_plan=lambda plan: begun.append(time.perf_counter()),
    )
    return 3600 * config.models / (time.perf_counter() - begun[0])


def _stock_vmap(data: Dataset, model: Model, steps: int) -> Callable[[], float]:
    """One device with all threads, 8 models at once; timed for one epoch, its rate taken for all."""
    chosen = choose_execution(model, RECIPE, data)
    execution = dataclasses.replace(chosen, num_devices=1, lanes=1, width=8, conv="stock")
    programs = build_programs(model, RECIPE, execution, (jax.devices()[0],))
    device_data = programs.place_data(data)
    keys = ModelKeys.split(jax.random.split(jax.random.key(0), execution.group))
    masks, placed_keys = programs.place(jaxinfl.draw_subsets(execution.group, data.num_train), keys)

    def measure() -> float:
        states = jax.block_until_ready(programs.start(device_data, masks, placed_keys))
        begun = time.perf_counter()
        jax.block_until_ready(programs.advance(device_data, states, masks, placed_keys, jnp.int32(0), jnp.int32(1)))
        seconds_per_step = (time.perf_counter() - begun) / (steps / RECIPE.epochs)
        return 3600 * execution.group / (seconds_per_step * steps)

    return measure


def _pytorch(config: Config, steps: int) -> dict[str, tuple[PyTorchPeer, Callable[[], float]]]:
    if importlib.util.find_spec("torch") is None:
        console.print("PyTorch is not installed: left out. To compare, pip install torch.")
        return {}
    cores, peers = num_cores(), {}
    settings = {(1, cores), (1, 1) if jax.default_backend() != "cpu" else (cores, 1)}
    for processes, threads in sorted(settings):
        for memory_format in ("contiguous_format", "channels_last"):
            peer = PyTorchPeer(
                processes=processes, threads=threads, memory_format=memory_format, batch_size=RECIPE.batch_size
            )
            name = f"PyTorch, {processes} x {threads} threads, {memory_format.split('_')[0]}"
            peers[name] = peer, partial(_pytorch_rate, peer, config.seconds, steps)
    return peers


def _pytorch_rate(peer: PyTorchPeer, seconds: float, steps: int) -> float:
    return 3600 * peer.steps_per_second(seconds) / steps


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
