"""A worker of a pool of Ray: one process on one device, which trains shard after shard and sends the results back."""

import dataclasses
import platform
from functools import partial
from typing import Any, NamedTuple

from jaxinfl.cluster.worker import Setting
from jaxinfl.training.agreement import Agreement, Devices
from jaxinfl.training.cost import Cost
from jaxinfl.training.job import Job
from jaxinfl.training.loop import Work, finished_shards
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import TrainedShard
from jaxinfl.undefined import nan_is_an_answer


class Begun(NamedTuple):
    """What a worker says when it is ready to train."""

    agreement: Agreement
    """What it keeps to, or has decided."""
    cost: Cost
    """Cost of all models of the job on this worker."""
    devices: Devices
    host: str
    """Name of its machine."""


class ShardWorker:
    """Trains shards of one job. Ray makes one for each device, in a process of its own, and calls its methods there."""

    _work: Work

    def begin(
        self,
        setting: Setting,
        sent: list[Any],
        choice: MachineChoice,
        agreed: Agreement | None,
        models: int,
        finished: int,
    ) -> Begun:
        """Compile the programs; keep to what was agreed on, or decide it.

        Args:
          setting: what the driving process tells all of its workers.
          sent: reference to the job, in a list, because Ray unpacks others before the call, which starts JAX.
          choice: the user's choices of width and kernels.
          agreed: what was agreed on for the run; None lets this worker decide.
          models, finished: numbers of models of the run, and of those that are finished.

        Raises:
          Disagreement: this worker cannot keep to it, or has other versions, or another job arrived than was sent.
          OutOfMemory: the width that was agreed on does not fit, or not even one model at a time.
        """
        import ray

        setting.prepare()
        job: Job = ray.get(sent[0])
        setting.check(job)
        with nan_is_an_answer():
            machine, cost = choice.machine(job, agreed, models, finished)
        if agreed is not None and not choice.mixed_devices and machine.execution.width != agreed.width:
            machine.give_up(job, MemoryError(f"width {agreed.width} does not fit"))
        self._work = Work(job, machine, cost.seconds_per_step, keeps_width=True)
        # The function that counts the bytes holds the job, which need not be sent back.
        cost = dataclasses.replace(cost, estimate_memory=partial(int, cost.memory_bytes))
        return Begun(Agreement.on(machine.execution), cost, Devices.here(), platform.node())

    def train(self, start: int, stop: int) -> TrainedShard:
        """Train the models of one shard."""
        with nan_is_an_answer(), TrainingProgress(stop - start, 0, shown=False) as bar:
            ((shard, finished),) = finished_shards(self._work, [slice(start, stop)], bar)
        return TrainedShard.of(shard, finished, self._work.job.data.num_test)


__all__ = ["Begun", "ShardWorker"]
