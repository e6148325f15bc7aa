"""A worker of a pool of Ray: one process on one device, which trains shard after shard and sends the results back."""

import dataclasses
import platform
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from jaxinfl.cluster.worker import Setting
from jaxinfl.store.array_file import Leaves
from jaxinfl.training.agreement import Agreement, Devices
from jaxinfl.training.cost import Cost
from jaxinfl.training.interrupts import StopRequest, Watch
from jaxinfl.training.job import Job
from jaxinfl.training.loop import Work, finished_shards
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import TrainedShard
from jaxinfl.undefined import nan_is_an_answer


class Prepared(NamedTuple):
    """What a worker says when it is ready to train."""

    agreement: Agreement
    """What it keeps to, or has decided."""
    cost: Cost
    """Cost of all models of the job on this worker."""
    devices: Devices
    host: str
    """Name of its machine."""


class Saved(NamedTuple):
    """A checkpoint of the shard that a worker trains."""

    number: int
    """Number of the checkpoint, counted from 1."""
    about: dict[str, Any]
    leaves: Leaves


class _Latest:
    """Keeps the latest checkpoint in memory, until the driving process asks for it."""

    def __init__(self, earlier: tuple[dict[str, Any], Leaves] | None):
        self._earlier = earlier
        self.saved: Saved | None = None

    def write(self, about: Mapping[str, Any], leaves: Leaves) -> None:
        self.saved = Saved(1 + (self.saved.number if self.saved else 0), dict(about), leaves)

    def read(self) -> tuple[dict[str, Any], Leaves] | None:
        return self._earlier


class ShardWorker:
    """Trains shards of one job. Ray makes one for each device, in a process of its own, and calls its methods there.

    Two calls may run at the same time: while one trains, `latest` answers.
    """

    _work: Work
    _job: Job | None = None
    _checkpoint = _Latest(None)

    def begin(
        self,
        setting: Setting,
        sent: list[Any],
        choice: MachineChoice,
        agreed: Agreement | None,
        models: int,
        finished: int,
    ) -> Prepared:
        """Compile the programs; keep to what was agreed on, or decide it.

        Args:
          setting: what the driving process tells all of its workers.
          sent: reference to the bytes that `pack_job` made of the job, in a list, because Ray fetches others before the call.
          choice: the user's choices of width and kernels.
          agreed: what was agreed on for the run; None lets this worker decide.
          models, finished: numbers of models of the run, and of those that are finished.

        Raises:
          Disagreement: this worker cannot keep to it, or has other versions or threads, or another job arrived than was sent.
          OutOfMemory: the width that was agreed on does not fit, or not even one model at a time.
        """
        import ray

        if self._job is None:
            setting.prepare()
            self._job = setting.unpack_job(ray.get(sent[0]))
        job = self._job
        if agreed is not None:
            for difference in agreed.differences(None, mixed_devices=choice.mixed_devices):
                raise difference
        with nan_is_an_answer():
            machine, cost = choice.machine(job, agreed, models, finished, keeps_width=True)
        self._work = Work(job, machine, cost.seconds_per_step, keeps_width=True)
        # The function that counts the bytes holds the job, which need not be sent back.
        cost = dataclasses.replace(cost, estimate_memory=partial(int, cost.memory_bytes))
        return Prepared(Agreement.on(machine.execution), cost, Devices.here(), platform.node())

    def train(
        self, start: int, stop: int, earlier: tuple[dict[str, Any], Leaves] | None, checkpoint_every: float
    ) -> TrainedShard:
        """Train the models of one shard, from a checkpoint that another worker left, if there is one."""
        self._checkpoint = _Latest(earlier)
        # Nobody sends signals to this process; the driving one ends it.
        watch = Watch(checkpoint_every, StopRequest(kept=False))
        with nan_is_an_answer(), TrainingProgress(stop - start, 0, shown=False) as bar:
            ((shard, finished),) = finished_shards(self._work, [slice(start, stop)], bar, watch, self._checkpoint)
        return TrainedShard.of(shard, finished, self._work.job.data.num_test)

    def latest(self, after: int) -> Saved | None:
        """Return the latest checkpoint of the shard in training, if its number is above `after`."""
        saved = self._checkpoint.saved
        return saved if saved is not None and saved.number > after else None


__all__ = ["Prepared", "Saved", "ShardWorker"]
