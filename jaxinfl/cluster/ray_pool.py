"""The workers of a pool of Ray as a workforce: one for each device, on nodes that come and go.

Workers send back what they trained, and the process that the user started writes it, as the only writer of the run directory. So
the nodes need no shared folder, a node that dies leaves nothing half-written, and there is one lock to hold. A shard takes 0.4 MB
for each model on CIFAR-100, so that one writer keeps up with hundreds of workers (benchmarks/cluster.py).

A worker is an actor, not a task: it compiles its programs once, and stays on the device that it was given. Ray gives a process
that runs tasks another GPU from task to task, which JAX in that process would not see.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from jaxinfl import devices
from jaxinfl.cluster.errors import ClusterError, cannot_be_sent
from jaxinfl.cluster.nodes import Node, Nodes
from jaxinfl.cluster.options import Cluster
from jaxinfl.cluster.ray_local import connected
from jaxinfl.cluster.ray_worker import Begun, ShardWorker
from jaxinfl.cluster.worker import Setting
from jaxinfl.store import RunStore
from jaxinfl.training.agreement import Agreement, Disagreement
from jaxinfl.training.interrupts import StopRequest, Watch
from jaxinfl.training.job import Job
from jaxinfl.training.machine import OutOfMemory
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.run import RunOptions
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import Assignment, Ready, TrainedShard

_LOOK_EVERY = 0.5
"""Seconds between two looks at the signals that ask this process to stop."""
_GIVEN_BACK = (Disagreement, OutOfMemory, MemoryError)
"""Errors after which another node may train the shard, but not this one."""


@dataclass
class _Member:
    """A worker, as the driving process sees it."""

    actor: Any
    node: Node
    call: Any
    """Reference to the result of the call that it is busy with."""
    shard: slice | None = None
    """The shard that it trains; None while it gets ready."""


@dataclass
class RayPool:
    """A workforce of Ray's workers; use it in a `with` block, which connects to the pool and leaves it."""

    cluster: Cluster
    most: int
    """Largest number of workers."""
    choice: MachineChoice
    stop: StopRequest
    options: RunOptions
    _ray: Any = None
    _nodes: Any = None
    _members: list[_Member] = field(default_factory=list)
    _failures: int = 0
    """Number of failures in a row, without any finished shard between them."""
    _exit: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self._ray = self._exit.enter_context(connected(self.cluster.address, devices.num_cores()))
        self._nodes = Nodes(self._ray, self.cluster)
        return self

    def __exit__(self, *error: object) -> None:
        self._dismiss()
        self._exit.close()

    def ready(self, assignment: Assignment) -> Ready:
        """Do what `Workforce.ready` documents: the worker that is ready first decides for all."""
        job, _, _, agreed, models, finished = assignment
        threads = None if agreed is None else agreed.devices.threads
        setting = Setting.of_job(job, threads, self._nodes.cores)
        sent = [self._put(job)]

        def begin(agreement: Agreement | None) -> tuple[Any, ...]:
            return setting, sent, self.choice, agreement, models, finished

        with TrainingProgress(models, finished, shown=self.options.progress) as bar:
            begun = self._first(begin(agreed), bar)

        def train(
            store: RunStore, shards: Sequence[slice], bar: TrainingProgress, watch: Watch
        ) -> Iterator[TrainedShard]:
            yield from self._train(begin(agreed or begun.agreement), deque(shards), bar, watch)
            self._dismiss()

        return Ready(begun.cost, begun.devices, train)

    def _put(self, job: Job) -> Any:
        """Send the job to the pool, once for all workers.

        Raises:
          ClusterError: it cannot be sent.
        """
        try:
            return self._ray.put(job)
        except Exception as error:  # whatever a user's model or task holds
            raise ClusterError(cannot_be_sent(error)) from error

    def _first(self, begin: tuple[Any, ...], bar: TrainingProgress) -> Begun:
        """Wait for the first worker that is ready; while none is, there is one at a time on each usable kind of node."""
        while True:
            self._hire(begin, 1, bar)
            for member, result in self._results():
                if isinstance(result, Begun):
                    member.call = None
                    return result
                self._lose(member, result)
            self.stop.leave_if_asked()

    def _train(
        self, begin: tuple[Any, ...], waiting: deque[slice], bar: TrainingProgress, watch: Watch
    ) -> Iterator[TrainedShard]:
        """Have the shards trained, and yield each when it arrives; a shard whose worker is lost is trained by another one."""
        while waiting or any(member.shard is not None for member in self._members):
            at_work = sum(member.shard is not None for member in self._members)
            self._hire(begin, min(self.most, at_work + len(waiting)), bar)
            for member in self._members:
                if member.call is None and waiting:
                    member.shard = waiting.popleft()
                    member.call = member.actor.train.remote(member.shard.start, member.shard.stop)
            for member, result in self._results():
                member.call = None
                if isinstance(result, TrainedShard):
                    member.shard, self._failures = None, 0
                    bar.advance(len(result.diverged))
                    yield result
                elif isinstance(result, Exception):
                    if member.shard is not None:
                        waiting.appendleft(member.shard)
                    self._lose(member, result)
            watch.leave_if_asked()

    def _hire(self, begin: tuple[Any, ...], wanted: int, bar: TrainingProgress) -> None:
        """Ask for workers until there are as many as wanted, or as the nodes have devices for."""
        usable = self._nodes.look()
        for node in usable:
            there = sum(member.node.id == node.id for member in self._members)
            for _ in range(node.places - there):
                if len(self._members) >= wanted:
                    break
                actor = self._nodes.start(ShardWorker, node)
                self._members.append(_Member(actor, node, actor.begin.remote(*begin)))
        self._nodes.ask_for(wanted)
        at_work = sum(member.shard is not None for member in self._members)
        bar.say(
            f"{at_work} workers train, {len(self._members) - at_work} get ready" if self._members else "no node is free"
        )

    def _results(self) -> Iterator[tuple[_Member, Any]]:
        """Wait a moment, and yield each worker whose call has ended, with its result or error."""
        busy = {member.call: member for member in self._members if member.call is not None}
        if not busy:
            time.sleep(_LOOK_EVERY)
            return
        done, _ = self._ray.wait(list(busy), num_returns=1, timeout=_LOOK_EVERY)
        if done:
            done, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        for call in done:
            try:
                result = self._ray.get(call)
            except Exception as error:  # noqa: BLE001 - whatever a user's model raises, and whatever Ray does
                result = getattr(error, "cause", None) or error
            yield busy[call], result

    def _lose(self, member: _Member, error: Any) -> None:
        """Take a worker out, whose call has failed.

        Raises:
          ClusterError: calls fail again and again, or no node can train these models.
        """
        self._members.remove(member)
        self._ray.kill(member.actor)
        exceptions = self._ray.exceptions
        died = isinstance(error, (exceptions.RayActorError, exceptions.NodeDiedError))
        if isinstance(error, (*_GIVEN_BACK, exceptions.OutOfMemoryError, exceptions.OutOfDiskError, OSError)):
            self._nodes.exclude(member.node, str(error) or type(error).__name__)
            what = _models(member.shard)
            print(f"{member.node.name} gave {what} back, and gets no others: {error}", file=sys.stderr)
            return
        # The workers of a node that died are one failure.
        self._failures += self._nodes.note_loss(member.node) if died else 1
        if self._failures > self.cluster.retries and not (died and not self._nodes.is_alive(member.node)):
            raise ClusterError(
                f"{_models(member.shard)} failed on {member.node.name}, and {self._failures} calls in a row failed without any new "
                f"finished model: {error}\nFinished models stay, and the same call goes on with the others."
            ) from (error if isinstance(error, BaseException) else None)

    def _dismiss(self) -> None:
        """End all workers."""
        for member in self._members:
            self._ray.kill(member.actor)
        self._members = []
        if self._nodes is not None:
            self._nodes.ask_for(0)


def _models(shard: slice | None) -> str:
    return "its models" if shard is None else f"models {shard.start} to {shard.stop - 1}"


__all__ = ["RayPool"]
