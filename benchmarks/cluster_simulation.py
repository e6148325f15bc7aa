"""A simulation of a pool of workers that are pre-empted, for `benchmarks/cluster.py`: where the time of the workers goes.

It does what `jaxinfl/cluster/ray_pool.py` does: a worker gets ready, trains shard after shard, and hands each to the one process that
writes. A worker that is pre-empted is replaced at once, because a scheduler's queue is not the engine's; its shard goes on from its last
checkpoint, on the next worker that is free.
"""

import heapq
import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What the engine costs, in seconds unless said otherwise."""

    ready: float
    """From the start of a worker until it can train: imports and compilation."""
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
    def share_lost(self) -> float:
        """Share of the workers' time that is not training which counts."""
        total = self.trained + self.lost + self.ready + self.waiting + self.idle
        return 1 - self.trained / total


def simulate(study: Study, costs: Costs, workers: int, shard_size: int, seed: int) -> Spent:
    """Simulate one run.

    Args:
      study: the models and the workers.
      costs: what the engine costs.
      workers: number of workers that are there at any time.
      shard_size: models of a shard.
      seed: seed of the pre-emptions and of the workers' speeds.
    """
    draw = np.random.default_rng(seed)
    bounds = range(0, study.models, shard_size)
    waiting = [(first, min(shard_size, study.models - first), 0.0) for first in reversed(bounds)]
    spent = dict.fromkeys(("trained", "lost", "ready", "waiting"), 0.0)
    writer_free, left, wall = 0.0, study.models, 0.0
    order = itertools.count()
    # Each worker: when it is free, when it is pre-empted, and its speed.
    free: list[tuple[float, int, float, float]] = []

    def start(at: float) -> None:
        gone = at + draw.exponential(study.preempted_every)
        ready = at + costs.ready
        spent["ready"] += min(ready, gone) - at
        if gone < ready:
            start(gone)
            return
        heapq.heappush(free, (ready, next(order), gone, float(np.exp(draw.normal(0.0, study.spread)))))

    for _ in range(workers):
        start(0.0)
    busy: list[tuple[float, int, tuple[int, int, float], float, float, float]] = []
    while left:
        # The next event: a worker that is free takes a shard, or a shard ends.
        if waiting and free and (not busy or free[0][0] <= busy[0][0]):
            now, _, gone, speed = heapq.heappop(free)
            if gone <= now:
                start(now)
                continue
            shard = waiting.pop()
            need = (shard[1] * study.model_seconds - shard[2]) * speed
            heapq.heappush(busy, (min(now + need, gone), next(order), shard, gone, speed, now))
            continue
        now, _, shard, gone, speed, begun = heapq.heappop(busy)
        worked = (now - begun) / speed
        first, models, done = shard
        if done + worked < models * study.model_seconds - 1e-9:
            kept = (done + worked) // study.checkpoint_every * study.checkpoint_every
            kept = max(kept, done)
            spent["lost"] += (done + worked - kept) * speed
            spent["trained"] += (kept - done) * speed
            waiting.append((first, models, kept))
            start(now)
            continue
        spent["trained"] += worked * speed
        left -= models
        # The writer takes results one after another, and checkpoints between them.
        checkpoints = models * study.model_seconds / study.checkpoint_every - 1
        work = models * costs.write_model + max(checkpoints, 0) * models * costs.checkpoint_bytes / costs.bandwidth
        writer_free = max(writer_free, now) + work
        wall = max(wall, writer_free)
        back = max(writer_free - work, now) + costs.hand_over
        spent["waiting"] += back - now
        heapq.heappush(free, (back, next(order), gone, speed))
    idle = max(workers * wall - sum(spent.values()), 0.0)
    return Spent(wall=wall, idle=idle, **spent)


def average(study: Study, costs: Costs, workers: int, shard_size: int, repeats: int = 20) -> Spent:
    """Mean over several runs with other seeds."""
    runs = [simulate(study, costs, workers, shard_size, seed) for seed in range(repeats)]
    return Spent(**{name: float(np.mean([getattr(run, name) for run in runs])) for name in Spent.__dataclass_fields__})
