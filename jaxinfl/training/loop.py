"""The loop over models: shard after shard, group after group, in calls of a few seconds with checkpoints between them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from jaxinfl.models import Variables
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.store.layout import digest
from jaxinfl.store.weights import flatten
from jaxinfl.tasks import CLASSIFICATION
from jaxinfl.training.interrupts import Watch
from jaxinfl.training.job import Job
from jaxinfl.training.machine import Machine
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.step import Scores, Segment, State

CALL_SECONDS = 5.0
"""Seconds that a call into compiled code lasts at most, roughly: until it returns, Ctrl-C waits and the bar stands still."""
TO_THE_END = int(np.iinfo(np.int32).max)
"""Number of steps that is larger than any epoch has."""


class Position(NamedTuple):
    """The point that a training has reached."""

    epoch: int
    """Number of finished epochs."""
    step: int = 0
    """Number of finished steps of the next epoch."""


def make_segment(first_epoch: int, last_epoch: int, first_step: int = 0, last_step: int = TO_THE_END) -> Segment:
    """Make a segment of whole epochs, or of some steps of one epoch."""
    return Segment(*map(jnp.int32, (first_epoch, last_epoch, first_step, last_step)))


@dataclass(frozen=True)
class Segments:
    """The division of a training into segments, each of which is one call, because a call cannot be interrupted."""

    epochs: int
    """Number of epochs of the whole training."""
    steps: int
    """Number of steps of one epoch of the largest subset."""
    steps_per_call: int
    """Largest number of steps in one call, at least 1."""

    @classmethod
    def divide(cls, epochs: int, steps: int, seconds_per_step: float) -> "Segments":
        """Divide a training into segments of about `CALL_SECONDS` each."""
        return cls(epochs, steps, max(1, int(CALL_SECONDS / max(seconds_per_step, 1e-9))))

    @property
    def one_call(self) -> bool:
        """Whether the whole training is one call."""
        return self.epochs * self.steps <= self.steps_per_call

    def share(self, position: Position) -> float:
        """Share of the training that is done at a position, from 0 to 1."""
        done = position.epoch + min(position.step, self.steps) / self.steps
        return done / self.epochs if self.epochs else 1.0

    def after(self, start: Position) -> Iterator[tuple[Segment, Position]]:
        """Yield the segments that are left after `start`, each with the position that it reaches."""
        epoch, step = start
        while epoch < self.epochs:
            if step == 0 and self.steps <= self.steps_per_call:
                last = min(epoch + self.steps_per_call // self.steps, self.epochs)
                yield make_segment(epoch, last), Position(last)
                epoch = last
                continue
            reached = step + self.steps_per_call
            if reached < self.steps:
                yield make_segment(epoch, epoch + 1, step, reached), Position(epoch, reached)
                step = reached
            else:
                yield make_segment(epoch, epoch + 1, step), Position(epoch + 1)
                epoch, step = epoch + 1, 0


Finished = tuple[Scores, Variables | None]
"""Scores of finished models, and their weights where they are kept; arrays [models, ...] on the host."""
ALL_BATCHES = int(np.iinfo(np.int32).max)
"""Number of batches that is larger than any evaluation has."""


@dataclass(frozen=True)
class Work:
    """A job, the machine that runs it, and whether its models are trained or only evaluated."""

    job: Job
    machine: Machine
    seconds_per_step: float | None
    """Wall-clock seconds that one step of one model takes; None evaluates the models as they start and trains nothing."""
    keep_weights: bool = False
    """Whether the final weights are returned, too."""

    @cached_property
    def segments(self) -> Segments:
        """The division of the training into calls."""
        if self.seconds_per_step is None:
            return Segments(0, 1, 1)
        seconds = self.seconds_per_step * self.machine.execution.group
        return Segments.divide(self.job.recipe.epochs, self.job.steps_per_epoch, seconds)


class ShardTraining:
    """The training of the models `rows` of the run, which goes on from their checkpoint if there is one."""

    def __init__(
        self, work: Work, rows: slice, bar: TrainingProgress, watch: Watch | None, checkpoint: CheckpointFile | None
    ):
        self._work, self._rows, self._bar, self._watch, self._checkpoint = work, rows, bar, watch, checkpoint
        self._programs = work.machine.programs
        self._finished: list[Finished] = []
        self._waiting: tuple[Any, int] | None = None
        """Results of the last group, which the devices may still be computing, and the number of models in it."""

    def train(self) -> Finished:
        """Train the models and return their scores and weights.

        Raises:
          Interrupted, Terminated: a signal came; a checkpoint is written.
        """
        started = self._resume()
        group = self._programs.execution.group
        first = self._rows.start + sum(len(scores.diverged) for scores, _ in self._finished)
        while first < self._rows.stop:
            chunk = slice(first, min(first + group, self._rows.stop))
            on_the_way = self._train_group(chunk, started)
            # The next group is dispatched before the results of the last are taken, so that the devices never wait.
            self._collect()
            self._waiting = on_the_way, chunk.stop - chunk.start
            first, started = chunk.stop, None
            if self._work.segments.one_call and self._due and first < self._rows.stop:
                self._save()
        self._collect()
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self._finished)

    def _train_group(self, chunk: slice, started: tuple[State, Position] | None) -> Any:
        """Train some models and return their scores and weights, which stay on the devices."""
        work, models, data = self._work, chunk.stop - chunk.start, self._work.machine.data
        masks, keys = self._programs.place(work.job.masks[chunk], work.job.keys[chunk])
        states, position = started or (
            self._programs.start(data, masks, keys, self._programs.place_rows(work.job.given, chunk)),
            Position(0),
        )
        for segment, reached in work.segments.after(position):
            states = self._programs.advance(data, states, masks, keys, segment)
            if work.segments.one_call:
                continue
            jax.block_until_ready(states)
            self._bar.advance(models * (work.segments.share(reached) - work.segments.share(position)))
            position = reached
            if self._due:
                self._save((chunk, states, reached))
        scores = self._programs.evaluate(data, states, masks, jnp.int32(ALL_BATCHES))
        return scores, states.variables if work.keep_weights else None

    def _collect(self) -> None:
        """Copy the results of the previous group to the host, if there is one."""
        if self._waiting is None:
            return
        on_the_way, models = self._waiting
        self._waiting = None
        positions = self._programs.positions(models)
        scores, weights = jax.tree.map(lambda part: np.asarray(part)[positions], jax.device_get(on_the_way))
        self._finished.append((scores, weights))
        if self._work.segments.one_call:
            self._bar.advance(models)
        data = self._work.job.data
        if "prediction" in scores.recorded and data.task is CLASSIFICATION:
            correct = scores.recorded["prediction"][:, data.num_train :] == data.test_targets[None]
            self._bar.score(int(correct.sum()), correct.size)

    def _save(self, on_the_way: tuple[slice, State, Position] | None = None) -> None:
        """Write a checkpoint of the finished models and of those in training, and leave if a signal asked for it."""
        self._collect()
        finished = jax.tree.map(lambda *parts: np.concatenate(parts), *self._finished) if self._finished else None
        about = self._about() | {"finished": 0 if finished is None else len(finished[0].diverged), "chunk": None}
        state = None
        if on_the_way:
            chunk, states, reached = on_the_way
            positions = self._programs.positions(chunk.stop - chunk.start)
            state = jax.tree.map(lambda part: np.asarray(part)[positions], jax.device_get(states))
            about |= {"chunk": [chunk.start, chunk.stop], "reached": list(reached)}
        leaves = flatten({"finished": finished, "state": state})
        if leaves and self._checkpoint:
            self._checkpoint.write(about, leaves)
        if self._watch:
            self._watch.restart()
            self._watch.leave_if_asked()

    @property
    def _due(self) -> bool:
        """Whether it is time for a checkpoint, where any are kept."""
        return self._checkpoint is not None and self._watch is not None and self._watch.due

    def _about(self) -> dict[str, Any]:
        """Everything that must be the same for a checkpoint to be used: its models, and how they were grouped."""
        return {
            "rows": [self._rows.start, self._rows.stop],
            "group": self._programs.execution.group,
            "keys": digest(self._work.job.keys[self._rows].data()),
        }

    def _resume(self) -> tuple[State, Position] | None:
        """Read the checkpoint if it belongs to these rows, and return the state of the group that was in training."""
        found = self._checkpoint.read() if self._checkpoint else None
        if found is None:
            return None
        about, leaves = found
        if any(about.get(name) != value for name, value in self._about().items()):
            return None
        if about["finished"]:
            self._finished.append(self._restore("finished", leaves, self._finished_shape()))
            self._bar.advance(about["finished"])
        if about["chunk"] is None:
            return None
        chunk, reached = slice(*about["chunk"]), Position(*about["reached"])
        state = self._restore("state", leaves, self._state_shape())
        self._bar.advance((chunk.stop - chunk.start) * self._work.segments.share(reached))
        return self._programs.place_rows(state, slice(0, chunk.stop - chunk.start)), reached

    def _state_shape(self) -> Any:
        job = self._work.job
        masks, keys = self._programs.place(job.masks[:1], job.keys[:1])
        given = self._programs.place_rows(job.given, slice(0, 1))
        return jax.eval_shape(self._programs.start, self._work.machine.data, masks, keys, given)

    def _finished_shape(self) -> Any:
        anything: Any = jax.ShapeDtypeStruct((), bool)  # the structure alone counts
        scores = Scores(dict.fromkeys(self._work.job.data.task.recorded, anything), anything)
        return scores, self._state_shape().variables if self._work.keep_weights else None

    @staticmethod
    def _restore(part: str, leaves: Mapping[str, np.ndarray], structure: Any) -> Any:
        """Put the arrays of a checkpoint into the structure that they had."""
        paths, treedef = jax.tree_util.tree_flatten_with_path({part: structure})
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        return jax.tree.unflatten(treedef, [leaves[name] for name in names])[part]


def finished_shards(
    work: Work,
    shards: Iterable[slice],
    bar: TrainingProgress,
    watch: Watch | None = None,
    checkpoint: CheckpointFile | None = None,
) -> Iterator[tuple[slice, Finished]]:
    """Train the models of each shard, and yield the rows of the shard with their scores and weights.

    Where memory runs out, this shard and all later ones are trained with half as many models at once.

    Raises:
      OutOfMemory: not even one model at a time fits.
      Interrupted, Terminated: a signal came; a checkpoint is written.
    """
    for shard in shards:
        while True:
            done = bar.done
            try:
                finished = ShardTraining(work, shard, bar, watch, checkpoint).train()
                break
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                work = replace(work, machine=work.machine.halve(work.job, error))
                bar.advance(done - bar.done)
        yield shard, finished


def as_rows(scores: Scores, num_train: int) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, " rows"]]:
    """Turn the scores of some models into the rows that a run keeps, and say which models diverged."""
    diverged = np.asarray(scores.diverged)
    rows: dict[str, np.ndarray] = {}
    for name, recorded in scores.recorded.items():
        # A diverged model says nothing: argmax over NaN would look like class 0.
        values = np.asarray(recorded)
        nothing = {"f": np.float32(np.nan), "i": np.int32(-1)}.get(values.dtype.kind, np.False_)
        values = np.where(diverged[:, None], nothing, values)
        rows |= {f"train_{name}": values[:, :num_train], f"test_{name}": values[:, num_train:]}
    return rows, diverged


__all__ = [
    "CALL_SECONDS",
    "Finished",
    "Position",
    "ShardTraining",
    "Work",
    "Segments",
    "as_rows",
    "finished_shards",
    "make_segment",
]
