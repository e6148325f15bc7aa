"""The one loop over models: shard after shard, group after group, in calls of a few seconds with checkpoints between them."""

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
from jaxinfl.training.interrupts import Watch
from jaxinfl.training.job import Job
from jaxinfl.training.machine import Machine
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.step import Scores, Segment, State

CALL_SECONDS = 5.0
"""A call into compiled code lasts about so long at most: until it returns, Ctrl-C waits and the bar stands still."""
TO_THE_END = int(np.iinfo(np.int32).max)
"""More steps than an epoch has."""


class Position(NamedTuple):
    """How far a training has come."""

    epoch: int
    """Epochs that are finished."""
    step: int = 0
    """Steps of the next one that are done."""


def make_segment(first_epoch: int, last_epoch: int, first_step: int = 0, last_step: int = TO_THE_END) -> Segment:
    """Whole epochs, or some steps of one."""
    return Segment(*map(jnp.int32, (first_epoch, last_epoch, first_step, last_step)))


@dataclass(frozen=True)
class Segments:
    """How a training is divided into segments, each of which is one call: a call cannot be interrupted."""

    epochs: int
    """Epochs of the whole training."""
    steps: int
    """Steps of one epoch of the largest subset."""
    steps_per_call: int
    """The most steps of one call, and one step at least."""

    @classmethod
    def divide(cls, epochs: int, steps: int, seconds_per_step: float) -> "Segments":
        """Segments of about `CALL_SECONDS`."""
        return cls(epochs, steps, max(1, int(CALL_SECONDS / max(seconds_per_step, 1e-9))))

    @property
    def one_call(self) -> bool:
        """The whole training is one call."""
        return self.epochs * self.steps <= self.steps_per_call

    def share(self, position: Position) -> float:
        """The part of the training that is done, from 0 to 1."""
        done = position.epoch + min(position.step, self.steps) / self.steps
        return done / self.epochs if self.epochs else 1.0

    def after(self, start: Position) -> Iterator[tuple[Segment, Position]]:
        """The segments that are left after `start`, each with the position that it reaches."""
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
"""What models leave behind, on the host [models, ...]; their weights where they are kept."""
ALL_BATCHES = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Work:
    """What is done with the models of a shard, on which machine."""

    job: Job
    machine: Machine
    seconds_per_step: float | None
    """Wall-clock seconds of one step of one model; None evaluates the models as they start and trains nothing."""
    keep_weights: bool = False

    @cached_property
    def segments(self) -> Segments:
        """How the training is divided into calls."""
        if self.seconds_per_step is None:
            return Segments(0, 1, 1)
        seconds = self.seconds_per_step * self.machine.execution.group
        return Segments.divide(self.job.recipe.epochs, self.job.steps_per_epoch, seconds)


class ShardTraining:
    """Trains the models `rows` of the run; goes on from the checkpoint, if there is one of theirs."""

    def __init__(
        self, work: Work, rows: slice, bar: TrainingProgress, watch: Watch | None, checkpoint: CheckpointFile | None
    ):
        self._work, self._rows, self._bar, self._watch, self._checkpoint = work, rows, bar, watch, checkpoint
        self._programs = work.machine.programs
        self._finished: list[Finished] = []
        self._waiting: tuple[Any, int] | None = None
        """What the evaluation of the last group will give, on the devices, and the number of models in it."""

    def train(self) -> Finished:
        """What the models leave behind.

        Raises:
          Interrupted, Terminated: a signal came; a checkpoint is written.
        """
        started = self._resume()
        group = self._programs.execution.group
        first = self._rows.start + sum(len(scores.diverged) for scores, _ in self._finished)
        while first < self._rows.stop:
            chunk = slice(first, min(first + group, self._rows.stop))
            on_the_way = self._train_group(chunk, started)
            # The next group is on its way before the results of the last are taken, so that the devices never wait.
            self._collect()
            self._waiting = on_the_way, chunk.stop - chunk.start
            first, started = chunk.stop, None
            if self._work.segments.one_call and self._due and first < self._rows.stop:
                self._save()
        self._collect()
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self._finished)

    def _train_group(self, chunk: slice, started: tuple[State, Position] | None) -> Any:
        """Scores and weights of some models, as they lie on the devices."""
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
        """Take the results of the group before, if there is one."""
        if self._waiting is None:
            return
        on_the_way, models = self._waiting
        self._waiting = None
        positions = self._programs.positions(models)
        scores, weights = jax.tree.map(lambda part: np.asarray(part)[positions], jax.device_get(on_the_way))
        self._finished.append((scores, weights))
        if self._work.segments.one_call:
            self._bar.advance(models)
        correct = scores.prediction[:, self._work.job.data.num_train :] == self._work.job.data.test_targets[None]
        self._bar.score(int(correct.sum()), correct.size)

    def _save(self, on_the_way: tuple[slice, State, Position] | None = None) -> None:
        """Write a checkpoint of what is finished and what is on the way; leave, if a signal asked for it."""
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
        """What must be the same for a checkpoint to be taken up: whose it is, and how its models were grouped."""
        return {
            "rows": [self._rows.start, self._rows.stop],
            "group": self._programs.execution.group,
            "keys": digest(self._work.job.keys[self._rows].data()),
        }

    def _resume(self) -> tuple[State, Position] | None:
        """Take up the checkpoint, if it is of these rows; the state of a group that was on the way."""
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
        scores = Scores(anything, anything, anything)
        return scores, self._state_shape().variables if self._work.keep_weights else None

    @staticmethod
    def _restore(part: str, leaves: Mapping[str, np.ndarray], structure: Any) -> Any:
        """The arrays of a checkpoint in the structure that they had."""
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
    """Train the models of each shard, and give what they leave behind.

    Where memory runs out, the shard begins once more with half as many models at once, and the others go on so.

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
    """What a run keeps of the scores of some models, and which of them diverged."""
    prediction, margin, diverged = map(np.asarray, scores)
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
