"""The workers of a pool of Ray as a workforce: one for each device, on nodes that come and go.

Workers send back what they trained, and the process that the user started writes it, as the only writer of the run directory. So
the nodes need no shared folder, a node that dies leaves nothing half-written, and there is one lock to hold. A model takes 0.4 MB
on CIFAR-100, so that one writer keeps up with hundreds of workers (benchmarks/cluster.py). Checkpoints of long shards arrive here,
too, and go to another worker where the first is lost.

A worker is an actor, not a task: it compiles its programs once, and stays on the device that it was given. Ray gives a process
that runs tasks another GPU from task to task, which JAX in that process would not see.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from jaxinfl import devices
from jaxinfl.cluster.errors import ClusterError
from jaxinfl.cluster.nodes import Node, Nodes
from jaxinfl.cluster.options import Cluster
from jaxinfl.cluster.ray_local import connected, is_connected
from jaxinfl.cluster.ray_worker import Prepared, Saved, ShardWorker
from jaxinfl.cluster.worker import CANNOT_HERE, Setting, pack_job
from jaxinfl.store import RunStore
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.training.agreement import Agreement, agree
from jaxinfl.training.interrupts import StopRequest, Watch
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.run import RunOptions
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import Assignment, Ready, TrainedShard

_LOOK_EVERY = 0.5
"""Seconds between two looks at the signals that ask this process to stop."""
CHECKPOINT_SHARE = 0.2
"""Largest share of this process's time that goes into checkpoints of others; where they are large there are fewer."""


@dataclass
class _Member:
    """A worker, as the driving process sees it."""

    actor: Any
    node: Node
    call: Any
    """Reference to the result of the call that it is busy with; None while it waits for a shard."""
    told: Agreement | None
    """What it was told to keep to when it began; None where it decided for itself."""
    begun: Prepared | None = None
    """What it said when it was ready."""
    shard: slice | None = None
    """The shard that it trains; None while it gets ready or waits."""
    asked: Any = None
    """Reference to the answer to the last question for a checkpoint."""
    asked_at: float = 0.0
    saved: int = 0
    """Number of the last checkpoint of its shard that arrived."""


_Begin = Callable[[Any, Agreement | None], Any]
"""Has an actor get ready, told what to keep to or nothing, and returns the reference to what it says then."""


@dataclass(frozen=True)
class _Shards:
    """The shards that are to be trained, and what a worker is told before it trains some."""

    waiting: deque[slice]
    begin: _Begin
    agreement: Agreement
    store: RunStore

    def checkpoint(self, shard: slice) -> CheckpointFile:
        """The checkpoint of a shard, in the run directory."""
        assert self.store.checkpoint is not None  # a pool trains no run in memory
        return self.store.checkpoint.of_shard(shard)


@dataclass
class RayPool:
    """A workforce of Ray's workers; use it in a `with` block, at the end of which the pool is left."""

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
    _begun: float = field(default_factory=time.monotonic)
    _checkpointing: float = 0.0
    """Seconds that went into checkpoints since `_begun`."""
    _exit: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._dismiss()
        self._exit.close()

    def ready(self, assignment: Assignment) -> Ready:
        """Do what `Workforce.ready` documents: the worker that is ready first decides for all."""
        if self._ray is None:  # a run that is finished needs no pool
            of_ours = self.cluster.address is None and not is_connected()
            self._ray = self._exit.enter_context(connected(self.cluster.address, devices.num_cores()))
            self._nodes = Nodes(self._ray, self.cluster, of_ours=of_ours)
        job, path, part, agreed, models, finished = assignment
        threads = None if agreed is None else agreed.devices.threads
        setting = Setting.of_job(job, threads, self._nodes.cores)
        sent = [self._ray.put(pack_job(job))]

        def begin(actor: Any, told: Agreement | None) -> Any:
            return actor.begin.remote(setting, sent, self.choice, told, models, finished)

        with TrainingProgress(models, finished, shown=self.options.progress) as bar:
            first = self._first(begin, agreed, bar)
        if agreed is None:
            agreed = first.agreement if path is None or part is None else agree(path.parent, first.agreement)

        def train(
            store: RunStore, shards: Sequence[slice], bar: TrainingProgress, watch: Watch
        ) -> Iterator[TrainedShard]:
            work = _Shards(deque(shards), begin, agreed, store)
            yield from self._train(work, bar, watch)
            self._dismiss()

        return Ready(first.cost, first.devices, train)

    def _first(self, begin: _Begin, agreed: Agreement | None, bar: TrainingProgress) -> Prepared:
        """Wait for the first worker that is ready. All get ready at the same time: on like devices they decide alike."""
        while True:
            self._hire(begin, agreed, self.most, bar)
            for member, result in self._results():
                if isinstance(result, Prepared):
                    member.call, member.begun = None, result
                else:
                    self._lose(member, result)
            self.stop.leave_if_asked()
            if (first := next((member.begun for member in self._members if member.begun), None)) is not None:
                return first

    def _train(self, work: _Shards, bar: TrainingProgress, watch: Watch) -> Iterator[TrainedShard]:
        """Have the shards trained, and yield each when it arrives; a shard whose worker is lost is trained by another one."""
        while work.waiting or any(member.shard is not None for member in self._members):
            at_work = sum(member.shard is not None for member in self._members)
            self._hire(work.begin, work.agreement, min(self.most, at_work + len(work.waiting)), bar)
            for member in self._members:
                if member.call is None:
                    self._employ(member, work)
            for member, result in self._results():
                member.call = None
                if isinstance(result, TrainedShard):
                    member.shard, self._failures = None, 0
                    # Before the results are written, so that the worker does not wait for that.
                    self._employ(member, work)
                    bar.advance(len(result.diverged))
                    yield result
                    work.checkpoint(result.shard).remove()
                elif isinstance(result, Prepared):
                    member.begun = result
                else:
                    if member.shard is not None:
                        work.waiting.appendleft(member.shard)
                    self._lose(member, result)
            self._keep_checkpoints(work)
            watch.leave_if_asked()

    def _employ(self, member: _Member, work: _Shards) -> None:
        """Give a worker that waits the next shard; one that decided otherwise than the first gets ready once more."""
        assert member.begun is not None
        alike = member.told is not None or member.begun.agreement.gives_bits_of(work.agreement)
        if not alike and not self.choice.mixed_devices:
            member.call, member.told = work.begin(member.actor, work.agreement), work.agreement
        elif work.waiting:
            member.shard, member.saved, member.asked = work.waiting.popleft(), 0, None
            member.asked_at = time.monotonic()
            earlier = work.checkpoint(member.shard).read()
            member.call = member.actor.train.remote(
                member.shard.start, member.shard.stop, earlier, self.options.checkpoint_every
            )

    def _keep_checkpoints(self, work: _Shards) -> None:
        """Ask workers for the checkpoints of their shards from time to time, and write those that arrived."""
        begun = time.monotonic()
        for member in self._members:
            if member.shard is None:
                continue
            if member.asked is None:
                busy = self._checkpointing > CHECKPOINT_SHARE * (begun - self._begun)
                if not busy and time.monotonic() - member.asked_at > self.options.checkpoint_every:
                    member.asked, member.asked_at = member.actor.latest.remote(member.saved), time.monotonic()
                continue
            if not self._ray.wait([member.asked], timeout=0)[0]:
                continue
            try:
                saved = self._ray.get(member.asked)
            except self._ray.exceptions.RayError:  # its call to train tells what became of it
                saved = None
            member.asked = None
            if isinstance(saved, Saved):
                member.saved = saved.number
                work.checkpoint(member.shard).write(saved.about, saved.leaves)
        self._checkpointing += time.monotonic() - begun

    def _hire(self, begin: _Begin, told: Agreement | None, wanted: int, bar: TrainingProgress) -> None:
        """Ask for workers until there are as many as wanted, or as the nodes have devices for."""
        usable = self._nodes.look()
        for node in usable:
            there = sum(member.node.id == node.id for member in self._members)
            for _ in range(node.places - there):
                if len(self._members) >= wanted:
                    break
                actor = self._nodes.start(ShardWorker, node)
                self._members.append(_Member(actor, node, begin(actor, told), told))
        if not self._members:
            self._nodes.check_hope()
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
        if isinstance(error, (*CANNOT_HERE, exceptions.OutOfMemoryError, exceptions.OutOfDiskError, OSError)):
            self._nodes.exclude(member.node, str(error) or type(error).__name__)
            what = _models(member.shard)
            print(f"{member.node.name} gave {what} back, and gets no others: {error}", file=sys.stderr)
            return
        if not died:
            print(f"{_models(member.shard)} failed on {member.node.name}: {error}", file=sys.stderr)
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


__all__ = ["CHECKPOINT_SHARE", "RayPool"]
