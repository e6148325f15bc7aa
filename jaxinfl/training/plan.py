"""What a run is about to cost, from a few timed steps of the very program that will run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
from jaxtyping import Bool

from jaxinfl.datasets import Dataset
from jaxinfl.models import Model
from jaxinfl.training.costs import memory_bytes, training_flops
from jaxinfl.training.execution import Execution
from jaxinfl.training.programs import Programs
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.timing import Timing


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
    seconds_per_step: float
    """Of it, one step."""
    seconds_per_epoch: float
    """Wall-clock time of one epoch of one call, which trains `execution.group` models."""
    disk_bytes: int
    """Upper bound for the run directory; compression takes some of it away."""
    flops_per_model: float
    """Training and evaluation; a multiplication and an addition are two."""
    estimate_memory: Callable[[], int] = field(repr=False, compare=False)
    """Gives `memory_bytes`. It traces a gradient, a fifth of a second that only those wait for who ask."""
    overridden: tuple[str, ...] = ()
    """Fields of the recipe that have a value a model in place of the recipe's."""

    @property
    def memory_bytes(self) -> int:
        """Of one device, estimated from shapes: the data set, the state of its models, what the models that it trains at
        once keep for the backward pass."""
        return self.estimate_memory()

    @property
    def seconds(self) -> float:
        """Estimated time until the last model is finished, compilation (done by now) left out."""
        return (self.num_models - self.finished) * self.seconds_per_model

    @property
    def disk_bytes_left(self) -> int:
        """Upper bound for what is still to be written."""
        return self.disk_bytes * (self.num_models - self.finished) // self.num_models

    @property
    def flops(self) -> float:
        """Of the models that are still to be trained."""
        return (self.num_models - self.finished) * self.flops_per_model

    def describe(self) -> str:
        """One line for each thing that a user wants to know before waiting."""
        remaining = self.num_models - self.finished
        done = f" ({self.finished} are finished, {remaining} to go)" if self.finished else ""
        execution = self.execution
        how = f"{execution.lanes * execution.width} models a device and call, {execution.width} at once"
        why = f" ({execution.reason})" if execution.reason else ""
        rate = f"{3600 / self.seconds_per_model:,.0f} models per hour"
        peak = "" if "learning_rate" in self.overridden else f"{self.recipe.learning_rate:g} "
        parts = f" in parts of {self.recipe.microbatch}" if self.recipe.microbatch else ""
        schedule = f"learning rate {peak}{self.recipe.schedule}"
        if self.overridden:
            schedule += f"; a value for each model: {', '.join(self.overridden).replace('_', ' ')}"
        return "\n".join(
            [
                f"models     {self.num_models} x {self.model}, {self.num_params:,} parameters each{done}",
                f"recipe     {self.recipe.epochs} epochs, batch {self.recipe.batch_size}{parts}, {self.recipe.optimizer}, {schedule}",
                f"device     {self.device}; {how}, lowering {execution.conv}{why}",
                f"time       about {format_seconds(self.seconds)} ({rate} by timed steps; compiled in {self.compile_seconds:.0f} s)",
                f"work       {self.flops_per_model:.3g} FLOPs a model, {self.flops:.3g} in all",
                f"memory     about {format_bytes(self.memory_bytes)} on each device",
                f"disk       at most {format_bytes(self.disk_bytes)}",
            ]
        )


def plan_run(
    timing: Timing,
    *,
    programs: Programs,
    masks: Bool[np.ndarray, "models train"],
    num_models: int,
    finished: int,
    data: Dataset,
    model: Model,
    recipe: Recipe,
    device: str,
    overridden: tuple[str, ...] = (),
    keep_weights: bool = False,
) -> RunPlan:
    """The plan of a run from the timing of its programs."""
    steps = np.ceil(masks.sum(axis=1) / recipe.batch_size).mean()
    group_seconds = recipe.epochs * steps * timing.step + timing.evaluation
    examples = data.num_train + data.num_test
    variables = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))) if keep_weights else []
    weight_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in variables)
    return RunPlan(
        num_models=num_models,
        finished=finished,
        model=model.name,
        num_params=model.num_params,
        recipe=recipe,
        device=device,
        execution=programs.execution,
        compile_seconds=timing.compile_seconds,
        seconds_per_model=group_seconds / programs.execution.group,
        seconds_per_step=timing.step / programs.execution.group,
        seconds_per_epoch=steps * timing.step,
        # Predictions of 2 bytes, margins of 4, a mask byte a training example, twice.
        disk_bytes=num_models * (6 * examples + weight_bytes) + 2 * len(masks) * data.num_train,
        flops_per_model=training_flops(model, recipe, data, float(masks.sum(axis=1).mean())),
        estimate_memory=partial(memory_bytes, model, recipe, data, programs.execution),
        overridden=overridden,
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
