"""The host's side of a run: which models go into which call, and what comes back into the store."""

import dataclasses
import logging
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxinfl import devices
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, Variables
from jaxinfl.store import ABSENT, RunStore
from jaxinfl.store.weights import CHECKSUM, named
from jaxinfl.training.execution import Execution
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.memory import OutOfMemory, out_of_memory
from jaxinfl.training.plan import RunPlan, plan_run
from jaxinfl.training.programs import build_programs
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import Given, Scores
from jaxinfl.training.timing import time_programs, time_step
from jaxinfl.training.tuning import MAX_SECONDS, MAX_SHARE, TRIAL_SECONDS, Freedom, Notebook

_log = logging.getLogger("jaxinfl")

CALL_SECONDS = 5.0
"""A call into compiled code lasts about so long at most: until it returns, Ctrl-C waits and the bar stands still."""
SHARD_SECONDS = 10.0
"""A shard takes about so long at least, so that writing it (some 20 ms) does not show."""


Finished = tuple[Scores, Variables | None]
"""What a group of models leaves behind; its weights where they are kept."""


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
                jax.device_count(),
                devices.num_cores(),
            )
        self._masks, self._keys, self._data, self._model, self._recipe = masks, keys, data, model, recipe
        self._given, self._keep_weights = given, weights
        self._use(execution)

    def _use(self, execution: Execution) -> None:
        self._devices = tuple(jax.devices())[: execution.num_devices]
        self._programs = build_programs(self._model, self._recipe, execution, self._devices)
        self._device_data = self._programs.place_data(self._data)

    def plan(self, finished: int) -> RunPlan:
        """Compile, time a few steps, and say what the rest of the run will cost.

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
            plan = self.plan(plan.finished)
        # Ways are equal whatever their reasons, and compiled programs are kept by way.
        return dataclasses.replace(plan, execution=search.best) if search.best.reason else plan

    def _seconds_per_step(self, way: Execution) -> float:
        """Seconds of one step of one model, run that way; infinite where the memory does not suffice."""
        programs = build_programs(self._model, self._recipe, way, tuple(jax.devices())[: way.num_devices])
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

    def train(self, store: RunStore, plan: RunPlan, *, shown: bool) -> None:
        """Train the models that the store lacks, shard by shard."""
        epochs_per_call = max(1, int(CALL_SECONDS / max(plan.seconds_per_epoch, 1e-9)))
        status = store.status()
        with TrainingProgress(plan.num_models, plan.finished, shown=shown) as bar:
            for shard in store.shards():
                if (status[shard] != ABSENT).all():
                    continue
                groups = self._train_shard(shard, epochs_per_call, bar)
                rows, diverged = as_rows([scores for scores, _ in groups], self._data.num_train)
                if self._keep_weights:
                    weights = jax.tree.map(lambda *parts: np.concatenate(parts), *(kept for _, kept in groups))
                    rows[CHECKSUM] = store.weights.write(shard.start, named(weights))
                store.write(shard, rows, diverged)

    def _train_shard(self, shard: slice, epochs_per_call: int, bar: TrainingProgress) -> list[Finished]:
        """What the models of a shard leave behind; once more from the start with fewer at once, where memory ran out."""
        while True:
            done = bar.done
            try:
                return list(self._train_rows(shard, epochs_per_call, bar))
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                self._halve(error)
                bar.advance(done - bar.done)

    def _train_rows(self, rows: slice, epochs_per_call: int, bar: TrainingProgress) -> Iterator[Finished]:
        """What the models in `rows` leave behind, group by group.

        The next group is on its way before the results of the last are taken, so that the devices never wait.
        """
        group = self._programs.execution.group
        waiting: tuple[Finished, int] | None = None
        for first in range(rows.start, rows.stop, group):
            chunk = slice(first, min(first + group, rows.stop))
            started = self._start_group(chunk, epochs_per_call, bar), chunk.stop - chunk.start
            if waiting is not None:
                yield self._collect(*waiting, epochs_per_call, bar)
            waiting = started
        if waiting is not None:
            yield self._collect(*waiting, epochs_per_call, bar)

    def _start_group(self, chunk: slice, epochs_per_call: int, bar: TrainingProgress) -> Finished:
        masks, keys = self._programs.place(self._masks[chunk], self._keys[chunk])
        states = self._programs.start(self._device_data, masks, keys, self._programs.place_given(self._given, chunk))
        calls = range(0, self._recipe.epochs, epochs_per_call)
        models = chunk.stop - chunk.start
        for first in calls:
            last = min(first + epochs_per_call, self._recipe.epochs)
            states = self._programs.advance(self._device_data, states, masks, keys, jnp.int32(first), jnp.int32(last))
            if len(calls) > 1:
                jax.block_until_ready(states)
                bar.advance(models * (last - first) / self._recipe.epochs)
        scores = self._programs.evaluate(self._device_data, states, masks, jnp.int32(np.iinfo(np.int32).max))
        return scores, states.variables if self._keep_weights else None

    def _collect(self, finished: Finished, models: int, epochs_per_call: int, bar: TrainingProgress) -> Finished:
        positions = self._programs.positions(models)
        on_host: Scores
        on_host, weights = jax.tree.map(lambda part: np.asarray(part)[positions], jax.device_get(finished))
        if self._recipe.epochs <= epochs_per_call:
            bar.advance(models)
        correct = on_host.prediction[:, self._data.num_train :] == self._data.test_labels[None]
        bar.score(int(correct.sum()), correct.size)
        return on_host, weights


def as_rows(groups: list[Scores], num_train: int) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, " rows"]]:
    """What a run keeps of the scores of some groups of models, and which of them diverged."""
    prediction, margin, diverged = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    # A diverged model predicts nothing: argmax over NaN would look like class 0.
    prediction = np.where(diverged[:, None], -1, prediction)
    margin = np.where(diverged[:, None], np.float32(np.nan), margin)
    rows = {
        "train_prediction": prediction[:, :num_train],
        "train_margin": margin[:, :num_train],
        "test_prediction": prediction[:, num_train:],
        "test_margin": margin[:, num_train:],
    }
    return rows, diverged
