"""A simulation of a pool of workers that are pre-empted, for `benchmarks/cluster.py`: where the time of the workers goes.

It does what `jaxinfl/cluster/ray_pool.py` does: a worker gets ready, trains shard after shard, and hands each to the one process that
writes. A worker that is pre-empted is replaced at once, because a scheduler's queue is not the engine's; its shard goes on from its last
checkpoint, on the next worker that is free.
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from jaxinfl.cluster.ray_pool import CHECKPOINT_SHARE


@dataclass(frozen=True)
class Costs:
    """What the engine costs, in seconds unless said otherwise."""

    ready: float
    """Seconds from the start of a worker until it can train, for imports and compilation."""
    hand_over: float
    """Time of a worker between two shards."""
    write_model: float
    """Time of the one writer for each model."""
    checkpoint_bytes: float
    """Size of the checkpoint of one model in training, in bytes."""
    bandwidth: float
    """Bytes a second that the one writer takes."""


@dataclass(frozen=True)
class Study:
    """What is trained, and on what."""

    models: int = 2000
    model_seconds: float = 60.0
    """Seconds of one device for one model."""
    preempted_every: float = 1800.0
    """Mean time until a worker is pre-empted, in seconds; the times are exponential."""
    spread: float = 0.05
    """Standard deviation of the logarithm of a worker's speed: some are slower than others."""
    checkpoint_every: float = 60.0
    """Seconds between two checkpoints of a shard."""


@dataclass(frozen=True)
class Spent:
    """Where the time of the workers went, in seconds of one worker, but for `wall`."""

    wall: float
    """Time until the last model is written."""
    trained: float
    """Training that counts."""
    lost: float
    """Training that was done again after a worker was pre-empted."""
    ready: float
    """Imports and compilation."""
    waiting: float
    """Waiting for the next shard: the hand-over, and the one writer."""
    idle: float
    """Workers for which nothing was left to do, until the end."""

    @property
    def total(self) -> float:
        """The whole time of all workers."""
        return self.trained + self.lost + self.ready + self.waiting + self.idle

    @property
    def share_lost(self) -> float:
        """Share of the workers' time that is not training which counts."""
        return 1 - self.trained / self.total


@dataclass
class _Pool:
    """The state of a simulated pool."""

    study: Study
    costs: Costs
    workers: int
    draw: np.random.Generator
    free: list[tuple[float, int, float, float]] = field(default_factory=list)
    """Workers that wait: since when, a number that orders equal times, when they are pre-empted, and their speed."""
    busy: list[tuple[float, int, tuple[int, float], float, float, float]] = field(default_factory=list)
    """Workers that train: until when, a number, the shard, when they are pre-empted, their speed, and when they began."""
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("trained", "lost", "ready", "waiting"), 0.0))
    writer_free: float = 0.0
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def interval(self, models: int) -> float:
        """Seconds between two checkpoints of a shard; the writer spends a bounded share of its time on them."""
        each = self.workers * models * self.costs.checkpoint_bytes / self.costs.bandwidth
        return max(self.study.checkpoint_every, each / CHECKPOINT_SHARE)

    def start(self, at: float) -> None:
        """Start a worker, and another one where it is pre-empted before it is ready."""
        gone = at + self.draw.exponential(self.study.preempted_every)
        ready = at + self.costs.ready
        self.spent["ready"] += min(ready, gone) - at
        if gone < ready:
            self.start(gone)
            return
        speed = float(np.exp(self.draw.normal(0.0, self.study.spread)))
        heapq.heappush(self.free, (ready, next(self.numbers), gone, speed))

    def employ(self, waiting: list[tuple[int, float]]) -> None:
        """Give the worker that waits longest a shard: models, and seconds of them that are done."""
        now, _, gone, speed = heapq.heappop(self.free)
        if gone <= now:
            self.start(now)
            return
        models, done = waiting.pop()
        end = now + (models * self.study.model_seconds - done) * speed
        heapq.heappush(self.busy, (min(end, gone), next(self.numbers), (models, done), gone, speed, now))

    def finish(self, waiting: list[tuple[int, float]]) -> int:
        """Let the next worker end, with its shard or because it is pre-empted; returns the number of finished models."""
        now, _, (models, done), gone, speed, begun = heapq.heappop(self.busy)
        whole, reached = models * self.study.model_seconds, done + (now - begun) / speed
        if reached < whole - 1e-9:
            every = self.interval(models)
            kept = max(reached // every * every, done)
            self.spent["lost"] += (reached - kept) * speed
            self.spent["trained"] += (kept - done) * speed
            waiting.append((models, kept))
            self.start(now)
            return 0
        self.spent["trained"] += now - begun
        # The writer takes results one after another, and checkpoints between them.
        checkpoints = max(whole / self.interval(models) - 1, 0)
        work = models * (self.costs.write_model + checkpoints * self.costs.checkpoint_bytes / self.costs.bandwidth)
        begins = max(self.writer_free, now)
        self.writer_free = begins + work
        # The worker gets its next shard before the results of this one are written.
        back = begins + self.costs.hand_over
        self.spent["waiting"] += back - now
        heapq.heappush(self.free, (back, next(self.numbers), gone, speed))
        return models


def simulate(study: Study, costs: Costs, workers: int, shard_size: int, seed: int) -> Spent:
    """Simulate one run.

    Args:
      study: the models and the workers.
      costs: what the engine costs.
      workers: number of workers that are there at any time.
      shard_size: models of a shard.
      seed: seed of the pre-emptions and of the workers' speeds.
    """
    pool = _Pool(study, costs, workers, np.random.default_rng(seed))
    waiting = [(min(shard_size, study.models - first), 0.0) for first in range(0, study.models, shard_size)]
    for _ in range(workers):
        pool.start(0.0)
    left = study.models
    while left:
        if waiting and pool.free and (not pool.busy or pool.free[0][0] <= pool.busy[0][0]):
            pool.employ(waiting)
        else:
            left -= pool.finish(waiting)
    wall = pool.writer_free
    idle = max(workers * wall - sum(pool.spent.values()), 0.0)
    return Spent(wall=wall, idle=idle, **pool.spent)


def average(study: Study, costs: Costs, workers: int, shard_size: int, repeats: int = 20) -> Spent:
    """Mean over several runs with other seeds."""
    runs = [simulate(study, costs, workers, shard_size, seed) for seed in range(repeats)]
    return Spent(**{name: float(np.mean([getattr(run, name) for run in runs])) for name in Spent.__dataclass_fields__})
