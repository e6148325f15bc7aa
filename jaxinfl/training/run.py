"""A run is a job and the directory of its results: finished models are kept, and missing ones are trained."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxinfl import provenance
from jaxinfl.arguments import check_number, check_switch, check_whole, quote
from jaxinfl.datasets import describe_data
from jaxinfl.store import (
    ABSENT,
    COMPLETE,
    DIVERGED,
    Ensemble,
    Layout,
    RowArray,
    RunDirectoryError,
    RunStore,
    WriteFailed,
    check_same_run,
    writing,
)
from jaxinfl.store.device_rows import device_rows
from jaxinfl.store.elsewhere import check_trained_here
from jaxinfl.store.failures import free_bytes
from jaxinfl.store.kept import OUTPUT_DTYPE, OUTPUTS, Kept
from jaxinfl.store.layout import OVERRIDE, target_axes
from jaxinfl.store.parts import Rows, extension_path, extensions_in, open_rows, part_models, part_path, parts_in
from jaxinfl.store.run import MANIFEST, UNFINISHED, check_free, is_run
from jaxinfl.store.weights import CHECKSUM
from jaxinfl.tasks import BOUNDED, CLASSIFICATION
from jaxinfl.training.agreement import Agreement, Devices, find_agreement, tidy_agreement
from jaxinfl.training.cost import Cost
from jaxinfl.training.interrupts import StopRequest, Watch
from jaxinfl.training.job import Job
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.workforce import Assignment, Ready, Workforce
from jaxinfl.units import format_bytes

_log = logging.getLogger("jaxinfl")

SHARD_SECONDS = 10.0
"""Seconds that a shard takes at least, roughly, so that writing it (some 20 ms) does not matter."""
MAX_DIVERGED = 0.05
"""Share of the models of a run that may diverge, by default."""


@dataclass(frozen=True)
class Folder:
    """A directory for models of a job: the run directory itself, a part of it, or an extension."""

    path: Path
    rows: slice
    """Rows of the job for which the directory is laid out."""
    part: tuple[int, int] | None = None
    """Number of the part and number of all parts, or None where the directory is no part."""
    extends: Rows | None = None
    """The run that an extension goes on from; its models are trained as those were."""


def folders(run_dir: Path, part: tuple[int, int] | None, num_models: int) -> list[Folder]:
    """List the directories of a job of so many models: those that are there, and those that are to be made."""
    if part is not None and is_run(run_dir):
        raise RunDirectoryError(f"{run_dir} holds a run that is not in parts. Leave out part, or use another run_dir.")
    there = [] if is_run(run_dir) else parts_in(run_dir)
    begun = open_rows(run_dir) if is_run(run_dir) or there else None
    if begun is not None:
        check_trained_here(begun.attributes, run_dir, "train_ensemble adds no models to them. Use another run_dir.")
    if begun is not None and begun.num_models > num_models:
        raise RunDirectoryError(
            f"{run_dir} holds a run of {begun.num_models} models, but masks and keys have {num_models}; it takes those of all "
            "its models. Give all of them, and further ones behind them to extend the run."
        )
    extensions = extensions_in(run_dir)
    first = num_models if begun is None else extensions[0][0] if extensions else begun.num_models
    if part is not None and first < num_models:
        raise RunDirectoryError(
            f"{run_dir} holds a run of {first} models in parts, which cannot be extended by parts. Leave out part."
        )
    # A run in parts has all of them, even those that nobody has begun.
    parts = [(number, there[0][1]) for number in range(1, there[0][1] + 1)] if there else []
    parts = parts if part is None else [part]
    whole = slice(0, first)
    found = [Folder(part_path(run_dir, each), whole, each) for each in parts] or [Folder(run_dir, whole)]
    if begun is not None and begun.num_models < num_models:
        extensions.append((begun.num_models, num_models))
    return found + [Folder(extension_path(run_dir, rows), slice(*rows), extends=begun) for rows in extensions]


@dataclass(frozen=True)
class RunOptions:
    """Options for keeping results and ending a run, with the units and defaults of `train_ensemble`.

    Raises:
      TypeError, ValueError: an option has a value that it does not take.
    """

    shard_size: int | None
    checkpoint_every: float
    max_diverged: float
    progress: bool
    on_cost: Callable[[Cost], None] | None

    def __post_init__(self) -> None:
        if self.shard_size is not None:
            check_whole(self.shard_size, "shard_size", unit="models")
        check_number(self.checkpoint_every, "checkpoint_every", "a number of seconds above 0", 1e-9)
        check_number(self.max_diverged, "max_diverged", "a share from 0 to 1", 0.0, 1.0)
        check_switch(self.progress, "progress")
        if self.on_cost is not None and not callable(self.on_cost):
            raise TypeError(f"on_cost is {quote(self.on_cost)}; it takes a function of a Cost, or None.")

    def of_worker(self) -> "RunOptions":
        """The options of a process that trains a part, and that the user does not see: diverged models are judged over all parts."""
        return replace(self, progress=False, on_cost=None, max_diverged=1.0)


@dataclass(frozen=True)
class Run:
    """A job with those who train it and the options by which it is run."""

    job: Job
    workforce: Workforce
    options: RunOptions
    stop: StopRequest

    def ensemble(self, run_dir: Path | None, part: tuple[int, int] | None) -> Ensemble:
        """Train the models that are missing, and return all of them."""
        if run_dir is None:
            return Ensemble(self.train(None, None))
        self.complete(run_dir, part)
        return Ensemble.open(run_dir)

    def complete(self, run_dir: Path, part: tuple[int, int] | None) -> None:
        """Train the models that are missing in a directory, or in a part of it."""
        for folder in folders(run_dir, part, len(self.job)):
            replace(self, job=self.job.only(folder.rows)).train_in(folder)

    def train_in(self, folder: Folder) -> None:
        """Train the models that are missing in a directory, as its only writer."""
        path = folder.path
        self.stop.leave_if_asked()
        store = self._existing(path)
        if store is not None and self._is_finished(store):
            return
        if store is None:
            check_free(path)
        with writing(path):
            # The directory is read once more: another process may have written until now.
            store = self._existing(path)
            if store is not None:
                store.tidy()
            self.train(store, folder)

    def train(self, store: RunStore | None, folder: Folder | None) -> RunStore:
        """Train the models that the store lacks, or a new run where it is None."""
        part = folder.part if folder else None
        begun = store if store is not None or folder is None else folder.extends
        job = self.job if begun is None else go_on_keeping(self.job, begun)
        own = range(*part_models(len(job), part or (1, 1)))
        finished = 0 if store is None else int((store.own_status() != ABSENT).sum())
        agreed = None
        if begun is not None:
            agreed = Agreement.of_run(begun.attributes)
        elif folder is not None and part is not None:
            agreed = find_agreement(folder.path.parent)  # another part may have begun
        assignment = Assignment(job, folder.path if folder else None, part, agreed, len(own), finished)
        ready = self.workforce.ready(assignment)
        if self.options.on_cost is not None:
            self.options.on_cost(ready.cost)
        if folder is not None:
            check_disk(folder.path, ready.cost)
        if store is None:
            description = describe_run(job, ready.cost, ready.devices)
            if part is not None:
                description |= {"part": part, "own_models": [own.start, own.stop]}
            if folder is not None and folder.extends is not None:
                description |= {"rows": [folder.rows.start, folder.rows.stop]}
            layout = layout_of(job, description, self.options.shard_size or _shard_size(ready.cost))
            store = RunStore.create(folder.path if folder else None, layout)
            if folder is not None and part is not None:
                tidy_agreement(folder.path.parent, part[1])
        self._fill(store, ready)
        return store

    def _fill(self, store: RunStore, ready: Ready) -> None:
        """Have the models trained that the store lacks, and write each shard when it is finished.

        Raises:
          TooManyDiverged: more than the share `max_diverged` of the models diverged.
          WriteFailed: the file system does not take the results.
          Interrupted, Terminated: a signal came, and everything is saved.
        """
        status, own = store.status(), slice(store.own_models.start, store.own_models.stop)
        absent = [shard for shard in store.shards() if (status[shard] == ABSENT).any()]
        watch = Watch(self.options.checkpoint_every, self.stop)
        with TrainingProgress(ready.cost.num_models, ready.cost.finished, shown=self.options.progress) as bar:
            for shard, rows, diverged, weights, kind in ready.train(store, absent, bar, watch):
                warn_of_large_outputs(rows, store)
                rows |= device_rows(store, kind, len(diverged))
                if weights is not None:
                    rows[CHECKSUM] = store.write_weights(shard, weights)
                store.write(shard, rows, diverged)
                if store.checkpoint:
                    store.checkpoint.clear()
                watch.restart()
                status[shard] = np.where(diverged, DIVERGED, COMPLETE)
                check_diverged(status[own], self.options.max_diverged, self.job.recipe, store.path)
                watch.leave_if_asked()

    def _existing(self, path: Path) -> RunStore | None:
        """Open the run that is there, and raise unless it is this one; None where there is none."""
        # Opening a damaged run raises an error that says what is wrong.
        if not is_run(path) and not (path / MANIFEST).exists():
            return None
        if (path / UNFINISHED).exists():
            return None
        store = RunStore.open(path)
        check_same_run(store.attributes["identity"], self.job.identity, store.path)
        return store

    def _is_finished(self, store: RunStore) -> bool:
        """Whether all models of the store are trained."""
        status = store.own_status()
        if (status == ABSENT).any():
            return False
        Kept.of_run(store.attributes).check_asked(self.job.kept, store.path)
        check_diverged(status, self.options.max_diverged, self.job.recipe, store.path)
        return True


def _shard_size(cost: Cost) -> int:
    """Choose the number of models written together: whole calls that last some seconds, at most 256 models or one group."""
    group = cost.execution.group
    calls = SHARD_SECONDS / (cost.seconds_per_model * group)
    return group * int(np.clip(calls, 1, max(1, 256 // group)))


def describe_run(job: Job, cost: Cost, devices: Devices) -> dict[str, Any]:
    """Describe a run on these devices by JSON values, which its directory keeps as attributes."""
    return {
        **describe_data(job.data),
        "allow": sorted(job.allow),
        "task": job.data.task.name,
        "identity": job.identity,
        "execution": {
            "device": cost.device,
            **devices.describe(),
            **dataclasses.asdict(cost.execution),
        },
        **({} if job.data.task is CLASSIFICATION else {"scores": _kinds_of_scores(job)}),
        **job.kept.describe(),
        **({"weights": job.describe_weights()} if job.kept.weights else {}),
        **provenance.describe(),
    }


def _kinds_of_scores(job: Job) -> list[list[str]]:
    """Names and kinds of the scores of a task that says more than classes."""
    kinds = {"bool": "0-1"}
    return [
        [name, kinds.get(dtype, "bounded" if name in BOUNDED else "real")] for name, dtype in job.recorded_types.items()
    ]


def layout_of(job: Job, description: Mapping[str, Any], shard_size: int) -> Layout:
    """Make the layout of the run on disk."""
    data, row_arrays = job.data, dict(job.row_arrays)
    inputs: dict[str, tuple[Any, tuple[str, ...]]] = {
        "masks": (job.masks, ("model", "train")),
        "key_data": (job.keys.data(), ("model", "source", "word")),
        "train_targets": (data.train_targets, ("train", *target_axes(data.train_targets))),
        "test_targets": (data.test_targets, ("test", *target_axes(data.test_targets))),
    }
    if job.kept.weights:
        row_arrays[CHECKSUM] = RowArray((), "uint32", ())
    for name, values in (job.given.overrides or {}).items():
        inputs[OVERRIDE + name] = (values, ("model",))
    return Layout(
        attributes=description,
        inputs=inputs,
        row_arrays=row_arrays,
        num_models=len(job),
        shard_size=shard_size,
    )


def check_disk(path: Path, cost: Cost) -> None:
    """Raise unless the disk has room for everything that is still to be written."""
    needed = cost.disk_bytes_left
    free = free_bytes(path)
    if needed > free:
        raise WriteFailed(
            f"{path} may need {format_bytes(needed)} more, but {format_bytes(free)} are free on its disk. Free some space, "
            "use a run_dir on another disk, or train fewer models."
        )


def go_on_keeping(job: Job, begun: Rows) -> Job:
    """Return the job that keeps what a run that was begun keeps; raise where it was asked to keep more."""
    kept = Kept.of_run(begun.attributes)
    kept.check_asked(job.kept, begun.path)
    return replace(job, kept=kept)


def warn_of_large_outputs(rows: Mapping[str, np.ndarray], store: RunStore) -> None:
    """Warn where kept outputs are too large for their type, which keeps them as infinity."""
    large = [name for name in rows if name.endswith(f"_{OUTPUTS}") and np.isinf(rows[name]).any()]
    if large:
        _log.warning(
            "%s: some outputs in %s are beyond 65,504, the largest number that %s holds, and are kept as infinity. Scores do not "
            "suffer. Scale the targets to keep such outputs.",
            store.path or "memory",
            " and ".join(large),
            OUTPUT_DTYPE,
        )


class TooManyDiverged(RuntimeError):
    """So many models diverged that the others are no fair sample."""


def check_diverged(status: UInt8[np.ndarray, " models"], most: float, recipe: Recipe, path: Path | None) -> None:
    """Raise unless at most the share `most` of the models diverged.

    Raises:
      TooManyDiverged: more models diverged; the message says what to do.
    """
    diverged, finished = int((status == DIVERGED).sum()), int((status != ABSENT).sum())
    if diverged <= most * len(status):
        return
    kept = f" Those that are finished stay in {path}." if path else ""
    raise TooManyDiverged(
        f"{diverged} of {finished} finished models diverged (a loss or logit was not finite), more than {most:.0%} of the "
        f"{len(status)} models of the run: what is left would be no fair sample.{kept} Lower learning_rate (it is "
        f"{recipe.learning_rate:g}) or warm it up (warmup_epochs is {recipe.warmup_epochs:g}), in another run_dir; or pass "
        "max_diverged=1 to go on without them."
    )


__all__ = ["MAX_DIVERGED", "Run", "RunOptions", "TooManyDiverged", "check_diverged", "folders"]
