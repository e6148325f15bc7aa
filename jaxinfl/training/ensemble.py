"""train_ensemble: many models, each on its own subset with its own keys, into one run."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, ModuleFactory, Variables
from jaxinfl.models.layers import Kernels
from jaxinfl.store import ABSENT, COMPLETE, DIVERGED, Ensemble, RunDirectoryError, RunStore, check_same_run, writing
from jaxinfl.store.parts import (
    Rows,
    extension_path,
    extensions_in,
    open_rows,
    part_models,
    part_path,
    parts_in,
)
from jaxinfl.store.run import MANIFEST, UNFINISHED, check_free, is_run
from jaxinfl.store.weights import CHECKSUM, named
from jaxinfl.training.arguments import (
    check_disk,
    check_execution,
    check_limits,
    check_options,
    check_place,
    check_weights_kept,
)
from jaxinfl.training.cost import Cost, measured
from jaxinfl.training.execution import choose_execution, kernels_differ
from jaxinfl.training.interrupts import StopRequest, Watch, standing_of
from jaxinfl.training.job import Job
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.limits import MAX_DIVERGED, check_diverged
from jaxinfl.training.loop import Work, as_rows, finished_shards
from jaxinfl.training.machine import Machine, warn_of_idle_cores
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.record import describe_run, layout_of
from jaxinfl.training.tuning import Freedom, tuned
from jaxinfl.undefined import nan_is_an_answer

SHARD_SECONDS = 10.0
"""A shard takes about so long at least, so that writing it (some 20 ms) does not show."""


def train_ensemble(
    masks: ArrayLike,
    keys: ArrayLike | ModelKeys,
    *,
    data: Dataset,
    model: str | ModuleFactory | Model = "small_cnn",
    recipe: Recipe | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    shard_size: int | None = None,
    width: int | None = None,
    kernels: Kernels | None = None,
    tune: bool = True,
    overrides: Mapping[str, ArrayLike] | None = None,
    initial: Variables | None = None,
    keep_weights: bool = False,
    part: tuple[int, int] | None = None,
    allow: Collection[str] = (),
    checkpoint_every: float = 300.0,
    max_diverged: float = MAX_DIVERGED,
    progress: bool = True,
    on_cost: Callable[[Cost], None] | None = None,
) -> Ensemble:
    """Train one model on each subset and keep what each says about every training and test example.

    A model is a function of its own mask row and keys, the recipe and the data alone: an excluded example is never
    read, every included one is seen exactly once an epoch, and neighbours, position and shards do not matter (to the
    bit, on one backend and number of devices, at one `width` and `kernels`). The models are spread over all devices of JAX.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t is trained on example i. Subset sizes may differ.
      keys: one key a model, `jax.random.split(jax.random.key(0), models)`, or `ModelKeys` to hold sources of
        randomness fixed.
      data: the data set.
      model: a registered name ("mlp", "small_cnn"), or a callable `rngs -> flax.nnx.Module` whose module maps images
        [batch, h, w, c] to logits [batch, classes]. Its flags for training (`train`, `training`, `is_training`,
        `deterministic`, `use_running_average`) are set, and it is checked once: see `jaxinfl.models.model_from_nnx`.
      recipe: how each model is trained; `Recipe()` by default.
      run_dir: where finished models are kept, a shard at a time. Called again with the same arguments, training goes
        on where it stopped, killed at any moment or not, and comes to the same bits. Called with more masks and keys than
        the run has, of which the first are equal, it trains the rest; nothing of the old models is touched. Ctrl-C and
        SIGTERM save what is on the way and leave. One process at a time may write there. None keeps everything in memory.
      shard_size: models written together; by default what takes some 10 seconds. A run that exists keeps its own.
      width: models trained at once on a device (vmap); by default 1 on a CPU and 32 elsewhere.
      kernels: what computes convolutions, dense layers, pooling and batch norm. "native": kernels written by hand for CPUs.
        "gemm": XLA's, with convolutions as matrix products. "xla": XLA's own alone. By default the fast ones of the platform.
      tune: in runs of minutes, time other widths, kernels and numbers of devices first and take the fastest, if it
        beats the default by a fifth; at most 20 seconds or 5% of the run. What was found is remembered for this model,
        recipe and kind of device. What `width` and `kernels` fix stays. The run records what was taken, and why.
      overrides: fields of the recipe that differ from model to model, with one value a model:
        `{"learning_rate": [0.1, 0.2, ...]}`. Taken: learning_rate, weight_decay, momentum, label_smoothing. All models
        share one compiled program, in which these are numbers like any other: a model's bits are the same whatever the
        other models' values are, in any ensemble that overrides the same fields; those of the same values written in
        the recipe may differ in rounding.
      initial: weights and batch-norm statistics to start from, [models, ...], as `Ensemble.weights()` returns them; the
        initialization keys are then without effect. Part of what makes a run the same: other weights are another run.
      keep_weights: keep the final weights too, for `Ensemble.weights()`: 4 bytes a parameter and model, in the run
        directory as one .npz file a shard. A run that exists goes on as it was started.
      part: `(1, 4)` trains the first quarter of the models only, into a directory of its own in `run_dir`: up to four
        processes share the work. `Ensemble.open(run_dir)` reads the parts as one, and so does a call without `part`, which
        trains what is missing first.
      allow: what `model` may do that is refused otherwise. "coupled_examples": what it says of an example depends on others in
        its batch. "same_weights": its weights are drawn, but not from the key that it is given, so that all models start alike.
      checkpoint_every: seconds of work that may be lost when the process is killed: a shard that takes longer is saved on
        the way, too.
      max_diverged: the share of models that may diverge (a loss or logit that is not finite); more end the run. Those
        that do are left out of the ensemble, with a warning.
      progress: show a bar, if standard error is a terminal.
      on_cost: called with the run's size, estimated time and disk before training starts (not when nothing is left).

    Returns:
      The finished ensemble; with `part`, of the parts that are there.

    Raises:
      TypeError, ValueError: arguments that do not fit; before anything is compiled.
      RunDirectoryError: `run_dir` is damaged, foreign, being written by another process, or was made with other data, masks,
        keys, model, recipe, overrides or initial weights, or keeps no weights where they are asked for; the disk is full
        (`WriteFailed`). What was finished stays.
      OutOfMemory: the data set does not fit on a device, or not even one model at a time does.
      TooManyDiverged: more than `max_diverged` of the models.
      KeyboardInterrupt, SystemExit: passed on after Ctrl-C and SIGTERM; what was done is kept.
    """
    with nan_is_an_answer(), StopRequest(kept=run_dir is not None) as stop:
        check_limits(shard_size, checkpoint_every, max_diverged)
        check_options(on_cost, tune=tune, keep_weights=keep_weights, progress=progress)
        recipe = Recipe() if recipe is None else recipe
        job = Job.checked(masks, keys, data, model, recipe, overrides=overrides, initial=initial, allow=allow)
        path = check_place(run_dir, part, len(job))
        if path is not None:
            stop.standing = partial(standing_of, path, part, len(job))
        choice = MachineChoice(width, kernels, tune)
        run = _Run(job, choice, stop, shard_size, keep_weights, checkpoint_every, max_diverged, progress, on_cost)
        return run.ensemble(path, part)


def training_cost(
    masks: ArrayLike,
    keys: ArrayLike | ModelKeys,
    *,
    data: Dataset,
    model: str | ModuleFactory | Model = "small_cnn",
    recipe: Recipe | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, ArrayLike] | None = None,
    keep_weights: bool = False,
    tune: bool = True,
    allow: Collection[str] = (),
) -> Cost:
    """What `train_ensemble` would cost with the same arguments on this machine: time, work, memory and disk.

    Nothing is trained and nothing written. The programs are compiled and a few steps are timed; a later call of
    `train_ensemble` in this process finds them compiled.

    Args:
      run_dir: where a run may have been begun; the cost is then that of going on with it.
      masks, keys, data, model, recipe, overrides, keep_weights, tune, allow: as in `train_ensemble`.

    Raises:
      TypeError, ValueError: arguments that do not fit; before anything is compiled.
      RunDirectoryError: `run_dir` holds another run, or a damaged one.
      OutOfMemory: the data set does not fit on a device, or not even one model at a time does.
    """
    with nan_is_an_answer():
        check_options(None, tune=tune, keep_weights=keep_weights)
        recipe = Recipe() if recipe is None else recipe
        job = Job.checked(masks, keys, data, model, recipe, overrides=overrides, initial=None, allow=allow)
        path = check_place(run_dir, None, len(job))
        begun = open_rows(path) if path is not None and (is_run(path) or parts_in(path)) else None
        finished = 0
        if begun is not None:
            own = begun.attributes["identity"]
            check_same_run(own, job[: begun.attributes["num_models"]].identity, path)
            finished = int((begun.status() != ABSENT).sum())
        choice = MachineChoice(None, None, tune)
        return choice.machine(job, begun, len(job), finished, keep_weights=keep_weights)[1]


@dataclass(frozen=True)
class _Place:
    """Where models of a job lie: the run directory itself, a part of it, or what it was extended by."""

    path: Path
    rows: slice
    """The rows of the job for which the directory is laid out."""
    part: tuple[int, int] | None = None
    extends: Rows | None = None
    """What an extension goes on from: its models are trained as those were."""


def _places(run_dir: Path, part: tuple[int, int] | None, num_models: int) -> list[_Place]:
    """The directories of a job of so many models: those that are there, and those that are to be made."""
    if part is not None and is_run(run_dir):
        raise RunDirectoryError(f"{run_dir} holds a run that is not in parts. Leave out part, or use another run_dir.")
    there = [] if is_run(run_dir) else parts_in(run_dir)
    begun = open_rows(run_dir) if is_run(run_dir) or there else None
    if begun is not None and begun.num_models > num_models:
        raise RunDirectoryError(
            f"{run_dir} holds a run of {begun.num_models} models, and masks and keys are those of {num_models}. Give all that "
            "it has, and further ones behind them to extend it."
        )
    extensions = extensions_in(run_dir)
    first = num_models if begun is None else extensions[0][0] if extensions else begun.num_models
    if part is not None and first < num_models:
        raise RunDirectoryError(f"{run_dir} holds a run of {first} models in parts. It is extended without part.")
    # Every part of a run that is in parts, those too that nobody has begun.
    parts = [(number, there[0][1]) for number in range(1, there[0][1] + 1)] if there else []
    parts = parts if part is None else [part]
    whole = slice(0, first)
    places = [_Place(part_path(run_dir, each), whole, each) for each in parts] or [_Place(run_dir, whole)]
    if begun is not None and begun.num_models < num_models:
        extensions.append((begun.num_models, num_models))
    return places + [_Place(extension_path(run_dir, rows), slice(*rows), extends=begun) for rows in extensions]


@dataclass(frozen=True)
class MachineChoice:
    """What a user says of how a job is to be run; the rest is searched."""

    width: int | None
    kernels: Kernels | None
    tune: bool

    def machine(
        self,
        job: Job,
        begun: Rows | None,
        models: int,
        finished: int,
        *,
        keep_weights: bool,
        look: Callable[[], None] = lambda: None,
    ) -> tuple[Machine, Cost]:
        """The machine for a job, and what so many of its models cost on it, some of them `finished`.

        A run that is `begun` goes on as it was started: width and kernels decide the last bits. `look` is called between
        the steps, which take seconds.

        Raises:
          OutOfMemory: not even one model at a time fits.
        """
        warn_of_idle_cores()
        width, kernels, num_devices = self.width, self.kernels, None
        choice = kernels is None and kernels_differ(job.model, job.input_shape, jax.default_backend())
        freedom = Freedom(width is None, choice, devices=True, most=len(job))
        if begun is not None:
            recorded = begun.attributes["execution"]
            width, kernels, num_devices = check_execution(recorded, begun.path, width=width, kernels=kernels)
        execution = choose_execution(
            job.model, job.recipe, job.data, width=width, kernels=kernels, num_devices=num_devices
        )
        machine = Machine.for_job(job, execution)
        machine, cost = measured(job, machine, models, finished, keep_weights=keep_weights)
        look()
        if self.tune and begun is None:
            machine, cost = tuned(job, machine, cost, freedom, keep_weights=keep_weights)
            look()
        return machine, cost


@dataclass(frozen=True)
class _Run:
    """A job that is to be done, wherever its results are to lie."""

    job: Job
    choice: MachineChoice
    stop: StopRequest
    shard_size: int | None
    keep_weights: bool
    checkpoint_every: float
    max_diverged: float
    progress: bool
    on_cost: Callable[[Cost], None] | None

    def ensemble(self, run_dir: Path | None, part: tuple[int, int] | None) -> Ensemble:
        """The models, those that are missing trained."""
        if run_dir is None:
            return Ensemble(self.train(None, None))
        for place in _places(run_dir, part, len(self.job)):
            rows = range(len(self.job))[place.rows]
            # The job itself, where all of its models lie there: its identity is known already.
            run = self if len(rows) == len(self.job) else replace(self, job=self.job[place.rows])
            run.train_in(place)
        return Ensemble.open(run_dir)

    def train_in(self, place: _Place) -> None:
        """Train what is missing in a directory, as its only writer."""
        path = place.path
        self.stop.leave_if_asked()
        store = self._existing(path)
        if store is not None and self._finished(store):
            return
        if store is None:
            check_free(path)
        with writing(path):
            # Once more: another process may have written until now.
            store = self._existing(path)
            if store is not None:
                store.tidy()
            self.train(store, place)

    def train(self, store: RunStore | None, place: _Place | None) -> RunStore:
        """Train what the store lacks, or a new run."""
        job, part = self.job, place.part if place else None
        kept = {"weights": job.describe_weights()} if self.keep_weights else {}
        begun = store if store is not None or place is None else place.extends
        if begun is not None:
            kept = check_weights_kept(begun.attributes, begun.path, kept)
        own = range(*part_models(len(job), part or (1, 1)))
        finished = 0 if store is None else int((store.own_status() != ABSENT).sum())
        machine, cost = self.choice.machine(
            job, begun, len(own), finished, keep_weights=bool(kept), look=self.stop.leave_if_asked
        )
        if self.on_cost is not None:
            self.on_cost(cost)
        if place is not None:
            check_disk(place.path, cost)
        if store is None:
            description = describe_run(job, cost) | kept
            if part is not None:
                description |= {"part": part, "own_models": [own.start, own.stop]}
            if place is not None and place.extends is not None:
                description |= {"rows": [place.rows.start, place.rows.stop]}
            layout = layout_of(job, description, self.shard_size or _shard_size(cost))
            store = RunStore.create(place.path if place else None, layout)
        self._fill(store, Work(job, machine, cost.seconds_per_step, bool(kept)), cost)
        return store

    def _fill(self, store: RunStore, work: Work, cost: Cost) -> None:
        """Train the models that the store lacks, and write each shard when it is finished.

        Raises:
          TooManyDiverged: more than the share `max_diverged` of the models.
          WriteFailed: the file system does not take the results.
          Interrupted, Terminated: a signal came, and everything is saved.
        """
        status, own = store.status(), slice(store.own_models.start, store.own_models.stop)
        absent = [shard for shard in store.shards() if (status[shard] == ABSENT).any()]
        watch = Watch(self.checkpoint_every, self.stop)
        with TrainingProgress(cost.num_models, cost.finished, shown=self.progress) as bar:
            for shard, (scores, weights) in finished_shards(work, absent, bar, watch, store.checkpoint):
                rows, diverged = as_rows(scores, self.job.data.num_train)
                if weights is not None:
                    rows[CHECKSUM] = store.write_weights(shard, named(weights))
                store.write(shard, rows, diverged)
                if store.checkpoint:
                    store.checkpoint.clear()
                watch.saved()
                status[shard] = np.where(diverged, DIVERGED, COMPLETE)
                check_diverged(status[own], self.max_diverged, self.job.recipe, store.path)
                watch.leave_if_asked()

    def _existing(self, path: Path) -> RunStore | None:
        """The run that is there, if it is this one; None where there is none."""
        # Opening a damaged one says what is wrong.
        if not is_run(path) and not (path / MANIFEST).exists():
            return None
        if (path / UNFINISHED).exists():
            return None
        store = RunStore.open(path)
        check_same_run(store.attributes["identity"], self.job.identity, store.path)
        return store

    def _finished(self, store: RunStore) -> bool:
        """Whether nothing is left to train."""
        status = store.own_status()
        if (status == ABSENT).any():
            return False
        if self.keep_weights:
            check_weights_kept(store.attributes, store.path, {"weights": True})
        check_diverged(status, self.max_diverged, self.job.recipe, store.path)
        return True


def _shard_size(cost: Cost) -> int:
    """Models written together: whole calls that last some seconds, not more than a few hundred models."""
    group = cost.execution.group
    calls = SHARD_SECONDS / (cost.seconds_per_model * group)
    return group * int(np.clip(calls, 1, max(1, 256 // group)))


__all__ = ["train_ensemble", "training_cost"]
