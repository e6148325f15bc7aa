"""The host's side of a run: which models go into which call, and what comes back into the store."""

import dataclasses
import logging
import math

import jax
import numpy as np
from jaxtyping import Bool

from jaxinfl import devices
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model
from jaxinfl.store import ABSENT, COMPLETE, DIVERGED, RunStore
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.store.weights import CHECKSUM, named
from jaxinfl.training.divergence import check_diverged
from jaxinfl.training.execution import Execution
from jaxinfl.training.interrupts import Watch
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.memory import OutOfMemory, check_fits, out_of_memory
from jaxinfl.training.plan import RunPlan, plan_run
from jaxinfl.training.programs import build_programs
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.shard import Finished, ShardTraining, Work, as_rows
from jaxinfl.training.spans import Cut
from jaxinfl.training.step import Given
from jaxinfl.training.timing import time_programs, time_step
from jaxinfl.training.tuning import MAX_SECONDS, MAX_SHARE, TRIAL_SECONDS, Freedom, Notebook

_log = logging.getLogger("jaxinfl")

SHARD_SECONDS = 10.0
"""A shard takes about so long at least, so that writing it (some 20 ms) does not show."""


class Trainer:
    """One run on the devices of this process."""

    def __init__(
        self,
        masks: Bool[np.ndarray, "models train"],
        keys: ModelKeys,
        *,
        data: Dataset,
        model: Model,
        recipe: Recipe,
        execution: Execution,
        given: Given = Given(),  # noqa: B008 - immutable
        weights: bool = False,
    ):
        """`weights`: keep the final weights too."""
        if devices.unused_cores() > 0:
            _log.warning(
                "JAX was started before jaxinfl was imported and has %s CPU device(s) for %s cores. "
                "Import jaxinfl first, or set JAX_NUM_CPU_DEVICES, to use them all.",
                len(devices.own_devices()),
                devices.num_cores(),
            )
        self._masks, self._keys, self._data, self._model, self._recipe = masks, keys, data, model, recipe
        self._given, self._keep_weights = given, weights
        check_fits(data, devices.own_devices()[: execution.num_devices])
        self._use(execution)

    def _use(self, execution: Execution) -> None:
        self._devices = devices.own_devices()[: execution.num_devices]
        self._programs = build_programs(self._model, self._recipe, execution, self._devices)
        self._device_data = self._programs.place_data(self._data)

    def plan(self, finished: int, num_models: int) -> RunPlan:
        """Compile, time a few steps, and say what the rest of `num_models` models will cost.

        Raises:
          OutOfMemory: not even one model at a time fits.
        """
        while True:
            try:
                timing = time_programs(self._programs, self._device_data, self._recipe, self._given)
                break
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                self._halve(error)
        return plan_run(
            timing,
            programs=self._programs,
            masks=self._masks,
            num_models=num_models,
            finished=finished,
            data=self._data,
            model=self._model,
            recipe=self._recipe,
            device=devices.describe(self._devices),
            overridden=tuple(self._given.overrides or ()),
            keep_weights=self._keep_weights,
        )

    def tune(self, plan: RunPlan, notebook: Notebook, freedom: Freedom) -> RunPlan:
        """Try other ways of running the steps, if the run is long enough, and plan it with the fastest."""
        search = notebook.read()
        if not search.seconds:
            search.seconds[plan.execution] = plan.seconds_per_step
        budget = min(MAX_SECONDS, MAX_SHARE * plan.seconds)
        if not search.complete:
            known = len(search.seconds)
            expected = max(plan.compile_seconds, TRIAL_SECONDS)
            search.go_on(freedom, self._seconds_per_step, budget, expected)
            search.confirm(self._seconds_per_step)
            if len(search.seconds) > known or search.complete:
                notebook.write(search)
        if search.best != plan.execution:
            self._use(search.best)
            plan = self.plan(plan.finished, plan.num_models)
        # Ways are equal whatever their reasons, and compiled programs are kept by way.
        return dataclasses.replace(plan, execution=search.best) if search.best.reason else plan

    def _seconds_per_step(self, way: Execution) -> float:
        """Seconds of one step of one model, run that way; infinite where the memory does not suffice."""
        programs = build_programs(self._model, self._recipe, way, devices.own_devices()[: way.num_devices])
        try:
            same_devices = way.num_devices == len(self._devices)
            data = self._device_data if same_devices else programs.place_data(self._data)
            return time_step(programs, data, self._recipe, self._given) / way.group
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return math.inf

    def _halve(self, error: Exception) -> None:
        """Go on with half as many models at once, if it was memory that ran out; else raise what was raised."""
        execution = self._programs.execution
        if not out_of_memory(error):
            raise error
        if execution.width == 1:
            raise OutOfMemory(
                f"{devices.describe(self._devices)}: not even one {self._model.name} at a time fits in memory with batches of "
                f"{self._recipe.batch_size}: {str(error).splitlines()[0]}. Use a smaller batch_size or images."
            ) from error
        half = execution.changed(execution.width // 2, execution.conv, execution.num_devices)
        _log.warning(
            "Out of memory with %s models at once on a device: going on with %s. Pass width=%s to start like that.",
            execution.width,
            half.width,
            half.width,
        )
        self._use(dataclasses.replace(half, reason=f"{execution.width} do not fit in memory"))

    def shard_size(self, plan: RunPlan) -> int:
        """Models written together: whole calls that last some seconds, not more than a few hundred models."""
        group = plan.execution.group
        calls = SHARD_SECONDS / (plan.seconds_per_model * group)
        return group * int(np.clip(calls, 1, max(1, 256 // group)))

    def train(self, store: RunStore, plan: RunPlan, *, watch: Watch, max_diverged: float, shown: bool) -> None:
        """Train the models that the store lacks, shard by shard.

        Raises:
          TooManyDiverged: more than the share `max_diverged` of the models.
          WriteFailed: the file system does not take the results.
          Interrupted, Terminated: a signal came, and everything is saved.
        """
        status, own = store.status(), slice(store.own_models.start, store.own_models.stop)
        with TrainingProgress(plan.num_models, plan.finished, shown=shown) as bar:
            for shard in store.shards():
                if (status[shard] != ABSENT).all():
                    continue
                scores, weights = self._train_shard(shard, plan, bar, watch, store.checkpoint)
                rows, diverged = as_rows(scores, self._data.num_train)
                if weights is not None:
                    rows[CHECKSUM] = store.write_weights(shard, named(weights))
                store.write(shard, rows, diverged)
                if store.checkpoint:
                    store.checkpoint.clear()
                watch.saved()
                status[shard] = np.where(diverged, DIVERGED, COMPLETE)
                check_diverged(status[own], max_diverged, self._recipe, store.path)
                watch.leave_if_asked()

    def _train_shard(
        self, shard: slice, plan: RunPlan, bar: TrainingProgress, watch: Watch, checkpoint: CheckpointFile | None
    ) -> Finished:
        """What the models of a shard leave behind; once more from the start with fewer at once, where memory ran out."""
        while True:
            done = bar.done
            steps = math.ceil(int(self._masks.sum(axis=1).max()) / self._recipe.batch_size)
            cut = Cut.of(self._recipe.epochs, steps, plan.seconds_per_step * self._programs.execution.group)
            work = Work(
                self._programs,
                self._device_data,
                self._masks,
                self._keys,
                self._given,
                self._data,
                cut,
                self._keep_weights,
            )
            try:
                return ShardTraining(work, shard, bar, watch, checkpoint).train()
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                self._halve(error)
                bar.advance(done - bar.done)


__all__ = ["SHARD_SECONDS", "Trainer"]
