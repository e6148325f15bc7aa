"""Who trains the missing models of a run: this process, or workers elsewhere. The run itself is written by one process."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool

from jaxinfl.devices import device_kind
from jaxinfl.store import RunStore
from jaxinfl.store.array_file import Leaves
from jaxinfl.store.weights import flatten
from jaxinfl.training.agreement import Agreement, Devices, agree
from jaxinfl.training.cost import Cost
from jaxinfl.training.interrupts import Watch
from jaxinfl.training.job import Job
from jaxinfl.training.loop import Finished, Work, as_rows, finished_shards
from jaxinfl.training.machine import Machine
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.tuning import MachineChoice

_log = logging.getLogger("jaxinfl")


class Assignment(NamedTuple):
    """The models of a job that are to be trained into one directory."""

    job: Job
    path: Path | None
    """The directory, or None for a run in memory."""
    part: tuple[int, int] | None
    """Number of the part and number of all parts, where the directory is a part of a run."""
    agreed: Agreement | None
    """What was agreed on for the run; None where nothing was yet."""
    models: int
    """Number of models that belong into the directory."""
    finished: int
    """Number of these that are finished."""


class TrainedShard(NamedTuple):
    """The results of one shard of models."""

    shard: slice
    """Rows of the shard in the run."""
    rows: dict[str, np.ndarray]
    """Values of the run's arrays for these models, by name, but for the device and the checksum of the weights."""
    diverged: Bool[np.ndarray, " rows"]
    """Whether each model diverged."""
    weights: Leaves | None
    """Weights of the models, where they are kept."""
    device_kind: str
    """Kind of the device that trained them."""

    @classmethod
    def of(cls, shard: slice, finished: Finished, num_test: int) -> "TrainedShard":
        """Make it of what the training of this process gave."""
        scores, weights = finished
        rows, diverged = as_rows(scores, num_test)
        return cls(shard, rows, diverged, None if weights is None else flatten(weights), device_kind())


@dataclass(frozen=True)
class Ready:
    """A workforce that is ready to train the models of an assignment."""

    cost: Cost
    """Cost of the assignment, estimated on the devices that train."""
    devices: Devices
    """The devices that decide the last bits of the models."""
    train: Callable[[RunStore, Sequence[slice], TrainingProgress, Watch], Iterator[TrainedShard]]
    """Function that trains the given shards of a store, and yields each when it is finished, in any order."""


class Workforce(Protocol):
    """Trains the models of an assignment."""

    def ready(self, assignment: Assignment) -> Ready:
        """Compile the programs and estimate the cost; what was agreed on for the run is kept to, or decided here.

        Raises:
          OutOfMemory: not even one model at a time fits.
          RunDirectoryError: what was agreed on cannot be kept to, or the user chose something else.
        """
        ...


@dataclass(frozen=True)
class ThisProcess:
    """This process trains the models on all of its devices."""

    choice: MachineChoice
    look: Callable[[], None]
    """Function that is called between the steps of getting ready, which take seconds."""

    def ready(self, assignment: Assignment) -> Ready:
        """Do what `Workforce.ready` documents."""
        machine, cost = self._machine(assignment)
        job, of_part = assignment.job, assignment.part is not None
        # Half the width changes the last bits, and other parts have the whole.
        work = Work(job, machine, cost.seconds_per_step, keeps_width=of_part)

        def train(
            store: RunStore, shards: Sequence[slice], bar: TrainingProgress, watch: Watch
        ) -> Iterator[TrainedShard]:
            for shard, finished in finished_shards(work, shards, bar, watch, store.checkpoint):
                yield TrainedShard.of(shard, finished, job.data.num_test)

        return Ready(cost, Devices.here(), train)

    def _machine(self, assignment: Assignment) -> tuple[Machine, Cost]:
        job, path, part, agreed, models, finished = assignment
        make = partial(
            self.choice.machine,
            job,
            models=models,
            finished=finished,
            path=path,
            keeps_width=part is not None,
            look=self.look,
        )
        if path is None or (part is None and agreed is None):
            return make(agreed=None)
        if agreed is None:
            # Parts may be begun at the same time, by processes that know nothing of each other.
            machine, cost = make(agreed=None)
            proposed = Agreement.on(machine.execution)
            agreed = agree(path.parent, proposed)
            if agreed == proposed:
                return machine, cost
        for difference in agreed.differences(path, mixed_devices=self.choice.mixed_devices):
            # Nobody watches the parts of a run, and its other parts keep to what was agreed on.
            if part is not None:
                raise difference
            _log.warning("%s", difference)
        return make(agreed=agreed)


__all__ = ["Assignment", "Ready", "ThisProcess", "TrainedShard", "Workforce"]
