"""The cost of a run: its time from a few timed steps of the programs that will run, its work and memory from shapes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxinfl import devices
from jaxinfl.models import InputSpec, Model
from jaxinfl.models.model import count_bytes
from jaxinfl.training.job import Job
from jaxinfl.training.loop import make_segment
from jaxinfl.training.machine import Machine, forward_flops
from jaxinfl.training.optimizer import make_optimizer
from jaxinfl.training.per_model import ModelKeys
from jaxinfl.training.programs import Execution, evaluation_batch
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import Keys, State
from jaxinfl.units import format_bytes, format_seconds

_FILLED = 0.1
"""Seconds of a call beside which its overhead, 0.1 to 1 ms, does not matter."""


@dataclass(frozen=True)
class Cost:
    """The cost of a run, estimated before it starts."""

    num_models: int
    """Number of models of the run."""
    finished: int
    """Number of these models that are in the run directory already."""
    model: str
    """Name of the model."""
    num_params: int
    """Number of trainable parameters of one model."""
    recipe: Recipe
    device: str
    """Number and kind of the devices, in words."""
    execution: Execution
    compile_seconds: float
    """Seconds that compilation took."""
    seconds_per_model: float
    """Wall-clock seconds of the run divided by its number of models; all devices train at once."""
    seconds_per_step: float
    """Wall-clock seconds that one training step of one model takes, all devices counted."""
    seconds_per_epoch: float
    """Wall-clock seconds of one epoch of the `execution.group` models that one call trains."""
    disk_bytes: int
    """Upper bound for the bytes of the run directory; compression makes it smaller."""
    flops_per_model: float
    """FLOPs of training and evaluating one model; a multiplication and an addition count as two."""
    estimate_memory: Callable[[], int] = field(repr=False, compare=False)
    """Function that computes `memory_bytes`. It traces a gradient, which takes a fifth of a second, so it runs on demand."""
    overridden: tuple[str, ...] = ()
    """Fields of the recipe that have a value for each model in place of the recipe's."""

    @property
    def memory_bytes(self) -> int:
        """Bytes that one device needs, estimated from shapes.

        They hold the data set, the state of the device's models, and what the models that it trains at once keep for the
        backward pass.
        """
        return self.estimate_memory()

    @property
    def seconds(self) -> float:
        """Estimated seconds until the last model is finished, without compilation, which is done by now."""
        return (self.num_models - self.finished) * self.seconds_per_model

    @property
    def disk_bytes_left(self) -> int:
        """Upper bound for the bytes that are still to be written."""
        return self.disk_bytes * (self.num_models - self.finished) // self.num_models

    @property
    def flops(self) -> float:
        """FLOPs of the models that are still to be trained."""
        return (self.num_models - self.finished) * self.flops_per_model

    def describe(self) -> str:
        """Describe the cost in one line each for models, recipe, device, time, work, memory and disk."""
        remaining = self.num_models - self.finished
        done = f" ({self.finished} are finished, {remaining} to go)" if self.finished else ""
        execution = self.execution
        how = f"{execution.lanes * execution.width} models a device and call, {execution.width} at once"
        why = f" ({execution.reason})" if execution.reason else ""
        per_hour = 3600 / self.seconds_per_model
        rate = f"{per_hour:,.0f} models per hour" if per_hour >= 10 else f"{per_hour:.2g} models per hour"
        peak = "" if "learning_rate" in self.overridden else f"{self.recipe.learning_rate:g} "
        parts = f" in parts of {self.recipe.microbatch}" if self.recipe.microbatch else ""
        schedule = f"learning rate {peak}{self.recipe.schedule}"
        if self.overridden:
            schedule += f"; a value for each model: {', '.join(self.overridden).replace('_', ' ')}"
        return "\n".join(
            [
                f"models     {self.num_models} x {self.model}, {self.num_params:,} parameters each{done}",
                f"recipe     {self.recipe.epochs} epochs, batch {self.recipe.batch_size}{parts}, {self.recipe.optimizer}, {schedule}",
                f"device     {self.device}; {how}, kernels {execution.kernels}{why}",
                f"time       about {format_seconds(self.seconds)} ({rate} by timed steps; compiled in {self.compile_seconds:.0f} s)",
                f"work       {self.flops_per_model:.3g} FLOPs a model, {self.flops:.3g} in all",
                f"memory     about {format_bytes(self.memory_bytes)} on each device",
                f"disk       at most {format_bytes(self.disk_bytes)}",
            ]
        )


def cost_of(job: Job, machine: Machine, models: int, finished: int) -> Cost:
    """Estimate the cost of so many models of a job, some of them finished: compile the programs and time a few steps."""
    timing = time_programs(job, machine)
    sizes = job.masks.sum(axis=1)
    steps = machine.execution.computed_steps(job.steps).mean()
    group_seconds = job.recipe.epochs * steps * timing.step + job.evaluations * timing.evaluation
    return Cost(
        num_models=models,
        finished=finished,
        model=job.model.name,
        num_params=job.model.num_params,
        recipe=job.recipe,
        device=devices.describe(machine.devices),
        execution=machine.execution,
        compile_seconds=timing.compile_seconds,
        seconds_per_model=group_seconds / machine.execution.group,
        seconds_per_step=timing.step / machine.execution.group,
        seconds_per_epoch=steps * timing.step,
        # Masks take a byte for each training example, and are written twice.
        disk_bytes=models * kept_bytes(job) + 2 * job.masks.size,
        flops_per_model=training_flops(job, float(sizes.mean())),
        estimate_memory=partial(memory_bytes, job, machine.execution),
        overridden=tuple(job.given.overrides or ()),
    )


def measure_cost(job: Job, machine: Machine, models: int, finished: int) -> tuple[Machine, Cost]:
    """Estimate the cost of so many models of a job, on the machine or on the widest one below it whose memory suffices.

    Raises:
      OutOfMemory: not even one model at a time fits.
    """
    while True:
        try:
            return machine, cost_of(job, machine, models, finished)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            machine = machine.halve(job, error)


@dataclass(frozen=True)
class Timing:
    """Seconds that were measured on the compiled programs."""

    compile_seconds: float
    """Seconds that compiling the programs took."""
    step: float
    """Seconds that one step of every model of a group takes."""
    evaluation: float
    """Seconds that the evaluation of a group takes."""


def time_programs(job: Job, machine: Machine) -> Timing:
    """Compile the three programs and time a step and an evaluation batch of a whole group of models."""
    bench = _Bench(job, machine)
    programs, data = machine.programs, machine.data
    begun = time.perf_counter()
    states, placed = bench.start(1)
    states, _ = bench.advance(states, placed)
    _time(lambda: programs.evaluate(data, states, placed[0], jnp.int32(1)))
    compiled = time.perf_counter() - begun
    states, step = bench.advance(states, placed)
    _, evaluation = _time(lambda: programs.evaluate(data, states, placed[0], jnp.int32(1)))
    compiled -= step + evaluation
    step = bench.seconds(step / machine.execution.computed_steps(1))
    batches = -(-data.num_examples // evaluation_batch(job.recipe, data))
    if evaluation * batches < _FILLED:
        _, whole = _time(lambda: programs.evaluate(data, states, placed[0], jnp.int32(batches)))
        return Timing(compiled, step, whole)
    return Timing(compiled, step, evaluation * batches)


def time_step(job: Job, machine: Machine) -> float:
    """Measure the seconds that one step of every model of a group takes; compilation is excluded."""
    bench = _Bench(job, machine)
    states, placed = bench.start(1)
    bench.advance(states, placed)
    return bench.seconds(bench.advance(*bench.start(1))[1] / machine.execution.computed_steps(1))


class _Bench:
    """Steps of a whole group of made-up models, for timing."""

    def __init__(self, job: Job, machine: Machine):
        self._programs, self._data, self._batch_size = machine.programs, machine.data, job.recipe.batch_size
        self._execution = machine.execution
        self._keys = ModelKeys.of_data(np.zeros((machine.execution.group, 3, 2), np.uint32))
        self._given = machine.programs.place_rows(job[:1].given, np.zeros(1, int))
        self._num_train, self._epochs = job.data.num_train, max(job.recipe.epochs, 1)

    def start(self, batches: int) -> tuple[State, tuple[Array, Keys]]:
        """Start untrained models on subsets of so many batches, or of the whole training set if that is smaller."""
        masks: Bool[np.ndarray, "models train"] = np.zeros((self._programs.execution.group, self._num_train), bool)
        masks[:, : batches * self._batch_size] = True
        placed = self._programs.place(masks, self._keys)
        return jax.block_until_ready(self._programs.start(self._data, *placed, self._given)), placed

    def advance(self, states: State, placed: tuple[Array, Keys], epochs: int = 1) -> tuple[State, float]:
        """Train the models for so many epochs, and return them with the seconds that it took."""
        return _time(lambda: self._programs.advance(self._data, states, *placed, make_segment(0, epochs)))

    def seconds(self, step: float) -> float:
        """Improve the estimated seconds of one step, which was timed alone, if the step was short.

        So many steps are taken that they fill `_FILLED` seconds, if training has as many.
        """
        whole = -(-self._num_train // self._batch_size)
        while step < _FILLED:
            wanted = math.ceil(_FILLED / max(step, 1e-7))
            batches, epochs = min(wanted, whole), int(np.clip(wanted // whole, 1, self._epochs))
            _, seconds = self.advance(*self.start(batches), epochs)
            step = seconds / (epochs * self._execution.computed_steps(batches))
            if seconds >= _FILLED / 2 or (batches, epochs) == (whole, self._epochs):
                break
        return step


def _time(function: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - begun


def training_flops(job: Job, subset_size: float) -> float:
    """FLOPs of training one model on so many examples and evaluating it on all; a backward pass counts as two forward."""
    evaluated = job.evaluations * (job.data.num_train + job.data.num_test)
    return forward_flops(job.model, job.inputs) * (3 * job.recipe.epochs * subset_size + evaluated)


def kept_bytes(job: Job) -> int:
    """Bytes that a run keeps of one model, before compression."""
    rows = sum(np.dtype(array.dtype).itemsize * math.prod(array.shape) for array in job.row_arrays.values())
    return rows + (count_bytes(jax.eval_shape(job.model.init, jax.random.key(0))) if job.kept.weights else 0)


def memory_bytes(job: Job, execution: Execution) -> int:
    """Bytes that one device needs for the data set, the state of the models of a call, and the largest step.

    The estimate is right to within a factor of two: what XLA fuses away or holds besides is not known before compiling.
    """
    variables = jax.eval_shape(job.model.init, jax.random.key(0))
    optimizer = jax.eval_shape(make_optimizer(job.recipe).init, variables.params)
    state = count_bytes((variables, optimizer))
    step = count_bytes(variables.params) + _activation_bytes(job.model, job.recipe, job.inputs)
    rows = kept_bytes(replace(job, kept=replace(job.kept, weights=False)))
    return job.data.nbytes + execution.lanes * execution.width * (state + rows) + execution.width * step


@lru_cache
def _activation_bytes(model: Model, recipe: Recipe, inputs: InputSpec) -> int:
    """Bytes of the activations that the gradient of one batch, or of one microbatch, keeps for the backward pass."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    batch = recipe.microbatch or recipe.batch_size
    shapes = inputs.batch(batch, recipe.compute_dtype)
    mask = jax.ShapeDtypeStruct((batch,), jnp.bool_)

    def backward(params: Any, stats: Any, batch: Any, mask: jax.Array) -> Any:
        cast = jax.tree.map(lambda p: p.astype(recipe.compute_dtype), params)
        return jax.vjp(
            lambda p: model.apply(variables._replace(params=p, stats=stats), batch, train=True, mask=mask), cast
        )[1]

    return count_bytes(jax.eval_shape(backward, variables.params, variables.stats, shapes, mask))


__all__ = ["Cost", "Timing", "cost_of", "measure_cost", "memory_bytes", "time_programs", "time_step", "training_flops"]
