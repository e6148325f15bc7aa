"""What a run is about to cost, from a few timed steps of the very program that will run."""

import math
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxinfl.datasets import Dataset
from jaxinfl.models import Model
from jaxinfl.training.execution import Execution
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.programs import Programs, evaluation_batch
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import DeviceData


@dataclass(frozen=True)
class RunPlan:
    """A run before it starts."""

    num_models: int
    """Models of the run."""
    finished: int
    """Of these, already in the run directory."""
    model: str
    num_params: int
    recipe: Recipe
    device: str
    execution: Execution
    compile_seconds: float
    seconds_per_model: float
    """Wall-clock time of the run divided by its models: all devices train at once."""
    seconds_per_epoch: float
    """Wall-clock time of one epoch of one call, which trains `execution.group` models."""
    disk_bytes: int
    """Upper bound for the run directory; compression takes some of it away."""

    @property
    def seconds(self) -> float:
        """Estimated time until the last model is finished, compilation (done by now) left out."""
        return (self.num_models - self.finished) * self.seconds_per_model

    def describe(self) -> str:
        """One line for each thing that a user wants to know before waiting."""
        remaining = self.num_models - self.finished
        done = f" ({self.finished} are finished, {remaining} to go)" if self.finished else ""
        execution = self.execution
        how = f"{execution.lanes * execution.width} models a device and call, {execution.width} at once"
        why = f" ({execution.reason})" if execution.reason else ""
        rate = f"{3600 / self.seconds_per_model:,.0f} models per hour"
        schedule = f"learning rate {self.recipe.learning_rate:g} {self.recipe.schedule}"
        return "\n".join(
            [
                f"models     {self.num_models} x {self.model}, {self.num_params:,} parameters each{done}",
                f"recipe     {self.recipe.epochs} epochs, batch {self.recipe.batch_size}, {self.recipe.optimizer}, {schedule}",
                f"device     {self.device}; {how}, convolutions by {execution.conv}{why}",
                f"time       about {format_seconds(self.seconds)} ({rate} by timed steps; compiled in {self.compile_seconds:.0f} s)",
                f"disk       at most {format_bytes(self.disk_bytes)}",
            ]
        )


@dataclass(frozen=True)
class Timing:
    """Measured on the compiled programs."""

    compile_seconds: float
    step: float
    """Seconds of one step of every model of a group."""
    evaluation: float
    """Seconds of the evaluation of a group."""


def time_programs(programs: Programs, data: DeviceData, recipe: Recipe) -> Timing:
    """Compile the three programs and time a step and an evaluation batch of a whole group of models."""
    num_train = data.pixel_mean.shape[0]
    group = programs.execution.group
    keys = ModelKeys.split(jax.random.split(jax.random.key(0), group))

    def run(num_examples: int) -> tuple[float, float]:
        """Seconds of one epoch on so many examples, then of one evaluation batch."""
        masks: Bool[np.ndarray, "models train"] = np.zeros((group, num_train), bool)
        masks[:, :num_examples] = True
        placed, placed_keys = programs.place(masks, keys)
        states = jax.block_until_ready(programs.start(data, placed, placed_keys))
        begun = time.perf_counter()
        states = programs.advance(data, states, placed, placed_keys, jnp.int32(0), jnp.int32(1))
        jax.block_until_ready(states)
        trained = time.perf_counter()
        jax.block_until_ready(programs.evaluate(data, states, placed, jnp.int32(1)))
        return trained - begun, time.perf_counter() - trained

    begun = time.perf_counter()
    run(min(num_train, recipe.batch_size))
    compiled = time.perf_counter() - begun
    step, evaluation = run(min(num_train, recipe.batch_size))
    if step < 0.2:
        # So short a call times its own overhead: take more steps.
        steps = min(16, -(-num_train // recipe.batch_size))
        seconds, evaluation = run(min(num_train, steps * recipe.batch_size))
        step = seconds / steps
    batches = -(-len(data.images) // evaluation_batch(data))
    return Timing(compiled - step - evaluation, step, evaluation * batches)


def plan_run(
    timing: Timing,
    *,
    programs: Programs,
    masks: Bool[np.ndarray, "models train"],
    finished: int,
    data: Dataset,
    model: Model,
    recipe: Recipe,
    device: str,
) -> RunPlan:
    """The plan of a run from the timing of its programs."""
    steps = np.ceil(masks.sum(axis=1) / recipe.batch_size).mean()
    group_seconds = recipe.epochs * steps * timing.step + timing.evaluation
    examples = data.num_train + data.num_test
    return RunPlan(
        num_models=len(masks),
        finished=finished,
        model=model.name,
        num_params=model.num_params,
        recipe=recipe,
        device=device,
        execution=programs.execution,
        compile_seconds=timing.compile_seconds,
        seconds_per_model=group_seconds / programs.execution.group,
        seconds_per_epoch=steps * timing.step,
        # Predictions of 2 bytes, margins of 4, a mask byte a training example.
        disk_bytes=len(masks) * (6 * examples + data.num_train),
    )


def format_seconds(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_bytes(size: float) -> str:
    """Decimal units: 1.2 GB."""
    power = min(int(math.log(max(size, 1), 1000)), 4)
    return f"{size / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
