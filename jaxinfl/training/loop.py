"""The loop over models: shard after shard, group after group, in calls of a few seconds with checkpoints between them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxinfl.models import Variables
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.store.kept import OUTPUTS, name_at_epoch
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
    stops: tuple[int, ...] = ()
    """Numbers of epochs after which a call ends whatever its length, in rising order."""

    @classmethod
    def divide(
        cls, epochs: int, steps: int, seconds_per_step: float, stops: tuple[int, ...] = (), chunk: int = 1
    ) -> "Segments":
        """Divide a training into segments of about `CALL_SECONDS` each, of whole chunks of steps."""
        chunks = max(1, int(CALL_SECONDS / max(seconds_per_step * chunk, 1e-9)))
        return cls(epochs, steps, chunks * chunk, stops)

    @property
    def are_short(self) -> bool:
        """Whether the whole training takes no longer than one call may, so that nothing is waited for or saved within it."""
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
                stop = next((stop for stop in self.stops if stop > epoch), self.epochs)
                last = min(epoch + self.steps_per_call // self.steps, stop)
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
    keeps_width: bool = False
    """Whether running out of memory is an error, because other processes train models of the same run at the same width."""

    @cached_property
    def segments(self) -> Segments:
        """The division of the training into calls."""
        if self.seconds_per_step is None:
            return Segments(0, 1, 1)
        execution, job = self.machine.execution, self.job
        seconds = self.seconds_per_step * execution.group
        return Segments.divide(job.recipe.epochs, int(job.steps.max()), seconds, job.kept.epochs, execution.chunk)


class Begun(NamedTuple):
    """A group of models in the middle of its training."""

    states: State
    """States of the models, on the devices."""
    reached: Position
    earlier: tuple[Scores, ...] = ()
    """Scores after each of the kept epochs that is finished, on the devices."""


class ShardTraining:
    """The training of the models `rows` of the run, which goes on from their checkpoint if there is one."""

    def __init__(
        self, work: Work, rows: slice, bar: TrainingProgress, watch: Watch | None, checkpoint: CheckpointFile | None
    ):
        self._work, self._rows, self._bar, self._watch, self._checkpoint = work, rows, bar, watch, checkpoint
        self._programs = work.machine.programs
        # Models that are trained at once take equally many steps, as far as possible.
        own = np.arange(rows.start, rows.stop)
        self._order = own if work.machine.execution.width == 1 else own[np.argsort(work.job.steps[own], kind="stable")]
        """Numbers of the models in the run, in the order in which they are trained."""
        self._finished: list[Finished] = []
        self._waiting: tuple[Any, int] | None = None
        """Results of the last group, which the devices may still be computing, and the number of models in it."""

    def train(self) -> Finished:
        """Train the models and return their scores and weights.

        Raises:
          Interrupted, Terminated: a signal came; a checkpoint is written.
        """
        begun = self._resume()
        group = self._programs.execution.group
        first = sum(len(scores.diverged) for scores, _ in self._finished)
        while first < len(self._order):
            models = self._order[first : first + group]
            on_the_way = self._train_group(models, begun)
            # The next group is dispatched before the results of the last are taken, so that the devices never wait.
            self._collect()
            self._waiting = on_the_way, len(models)
            first, begun = first + len(models), None
            if self._work.segments.are_short and self._due and first < len(self._order):
                self._save()
        self._collect()
        places = np.argsort(self._order)
        return jax.tree.map(lambda *parts: np.concatenate(parts)[places], *self._finished)

    def _train_group(self, models: Int[np.ndarray, " models"], begun: Begun | None) -> Any:
        """Train some models and return their scores, at last and earlier, and their weights, which stay on the devices."""
        work, data, programs = self._work, self._work.machine.data, self._programs
        masks, keys = programs.place(work.job.masks[models], work.job.keys[models])
        states, position, earlier = begun or Begun(
            programs.start(data, masks, keys, programs.place_rows(work.job.given, models)), Position(0)
        )
        for segment, reached in work.segments.after(position):
            states = programs.advance(data, states, masks, keys, segment)
            if reached.step == 0 and reached.epoch in work.job.kept.epochs:
                earlier = (*earlier, programs.evaluate(data, states, masks, jnp.int32(ALL_BATCHES)))
            if work.segments.are_short:
                continue
            jax.block_until_ready(states)
            self._bar.advance(len(models) * (work.segments.share(reached) - work.segments.share(position)))
            position = reached
            if self._due:
                self._save(models, Begun(states, reached, earlier))
        if work.job.recipe.epochs in work.job.kept.epochs:
            scores = earlier[-1]
        else:
            scores = programs.evaluate(data, states, masks, jnp.int32(ALL_BATCHES))
        return scores, earlier, states.variables if work.job.kept.weights else None

    def _collect(self) -> None:
        """Copy the results of the previous group to the host, if there is one."""
        if self._waiting is None:
            return
        on_the_way, models = self._waiting
        self._waiting = None
        positions = self._programs.positions(models)
        scores, earlier, weights = jax.tree.map(lambda part: np.asarray(part)[positions], jax.device_get(on_the_way))
        self._finished.append((_join_epochs(scores, earlier, self._work.job.kept.epochs), weights))
        if self._work.segments.are_short:
            self._bar.advance(models)
        data = self._work.job.data
        if "prediction" in scores.recorded and data.task is CLASSIFICATION:
            correct = scores.recorded["prediction"][:, data.num_train :] == data.test_targets[None]
            self._bar.score(int(correct.sum()), correct.size)

    def _save(self, models: Int[np.ndarray, " models"] | None = None, begun: Begun | None = None) -> None:
        """Write a checkpoint of the finished models and of those in training, and leave if a signal asked for it."""
        self._collect()
        finished = jax.tree.map(lambda *parts: np.concatenate(parts), *self._finished) if self._finished else None
        about = self._about() | {"finished": 0 if finished is None else len(finished[0].diverged), "in_training": 0}
        in_training = None
        if models is not None and begun is not None:
            positions = self._programs.positions(len(models))
            in_training = jax.tree.map(
                lambda part: np.asarray(part)[positions], jax.device_get((begun.states, begun.earlier))
            )
            about |= {"in_training": len(models), "reached": list(begun.reached)}
        leaves = flatten({"finished": finished, "in_training": in_training})
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
            "chunk": self._programs.execution.chunk,
            "keys": digest(self._work.job.keys[self._rows].data()),
        }

    def _resume(self) -> Begun | None:
        """Read the checkpoint if it belongs to these rows, and return the group that was in training."""
        found = self._checkpoint.read() if self._checkpoint else None
        if found is None:
            return None
        about, leaves = found
        if any(about.get(name) != value for name, value in self._about().items()):
            return None
        if about["finished"]:
            self._finished.append(self._restore("finished", leaves, self._finished_shape()))
            self._bar.advance(about["finished"])
        models = about["in_training"]
        if not models:
            return None
        reached = Position(*about["reached"])
        earlier = [epoch for epoch in self._work.job.kept.epochs if epoch <= reached.epoch]
        shape = self._state_shape(), tuple(self._scores_shape() for _ in earlier)
        states, scores = self._programs.place_rows(self._restore("in_training", leaves, shape), np.arange(models))
        self._bar.advance(models * self._work.segments.share(reached))
        return Begun(states, reached, scores)

    def _state_shape(self) -> Any:
        job = self._work.job
        masks, keys = self._programs.place(job.masks[:1], job.keys[:1])
        given = self._programs.place_rows(job.given, np.zeros(1, int))
        return jax.eval_shape(self._programs.start, self._work.machine.data, masks, keys, given)

    def _scores_shape(self) -> Scores:
        anything: Any = np.False_  # the structure alone counts
        outputs = [] if self._work.job.kept.outputs is None else [OUTPUTS]
        return Scores(dict.fromkeys([*self._work.job.data.task.recorded, *outputs], anything), anything)

    def _finished_shape(self) -> Any:
        job, scores = self._work.job, self._scores_shape()
        scores = _join_epochs(scores, (scores,) * len(job.kept.epochs), job.kept.epochs)
        return scores, self._state_shape().variables if job.kept.weights else None

    @staticmethod
    def _restore(part: str, leaves: Mapping[str, np.ndarray], structure: Any) -> Any:
        """Put the arrays of a checkpoint into the structure that they had."""
        paths, treedef = jax.tree_util.tree_flatten_with_path({part: structure})
        names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        return jax.tree.unflatten(treedef, [leaves[name] for name in names])[part]


def _join_epochs(last: Scores, earlier: Iterable[Scores], epochs: Iterable[int]) -> Scores:
    """Put the scores after earlier epochs beside those after the last one, under names of their own.

    A model that was not finite after one of these epochs has diverged. Outputs are kept of the last epoch alone.
    """
    recorded: dict[str, Array] = dict(last.recorded)
    diverged: Any = last.diverged
    for epoch, scores in zip(epochs, earlier, strict=True):
        recorded |= {name_at_epoch(name, epoch): values for name, values in scores.recorded.items() if name != OUTPUTS}
        diverged = diverged | scores.diverged
    return last._replace(recorded=recorded, diverged=diverged)


def finished_shards(
    work: Work,
    shards: Iterable[slice],
    bar: TrainingProgress,
    watch: Watch | None = None,
    checkpoint: CheckpointFile | None = None,
) -> Iterator[tuple[slice, Finished]]:
    """Train the models of each shard, and yield the rows of the shard with their scores and weights.

    Where memory runs out, this shard and all later ones are trained with half as many models at once, unless the width is kept.

    Raises:
      OutOfMemory: not even one model at a time fits, or not the width that is kept.
      Interrupted, Terminated: a signal came; a checkpoint is written.
    """
    for shard in shards:
        while True:
            done = bar.done
            try:
                finished = ShardTraining(work, shard, bar, watch, checkpoint).train()
                break
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if work.keeps_width:
                    work.machine.give_up(work.job, error)
                work = replace(work, machine=work.machine.halve(work.job, error))
                bar.advance(done - bar.done)
        yield shard, finished


def as_rows(scores: Scores, num_test: int) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, " rows"]]:
    """Turn the scores of some models into the rows that a run keeps, and say which models diverged."""
    diverged = np.asarray(scores.diverged)
    rows: dict[str, np.ndarray] = {}
    for name, recorded in scores.recorded.items():
        # A diverged model says nothing: argmax over NaN would look like class 0.
        values = np.asarray(recorded)
        nothing: Any = {"f": np.float16(np.nan), "i": np.int32(-1)}.get(values.dtype.kind, np.False_)
        values = np.where(diverged.reshape(-1, *[1] * (values.ndim - 1)), nothing, values)
        num_train = values.shape[1] - num_test
        rows[f"test_{name}"] = values[:, num_train:]
        # Outputs may be kept of the test examples alone.
        if num_train:
            rows[f"train_{name}"] = values[:, :num_train]
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
