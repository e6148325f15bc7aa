"""`train_on_cluster` trains the models of a job by many processes: on this machine, as jobs of Slurm, or in a pool of Ray."""

import logging
import os
from functools import partial
from pathlib import Path

import jax

from jaxinfl.arguments import as_path, check_switch, check_whole, quote
from jaxinfl.cluster.options import Cluster
from jaxinfl.cluster.parts import PartsOnCluster
from jaxinfl.models.layers import Kernels
from jaxinfl.store import Ensemble
from jaxinfl.store.run import check_zarr
from jaxinfl.training.interrupts import StopRequest, standing_of
from jaxinfl.training.job import Job
from jaxinfl.training.run import MAX_DIVERGED, Run, RunOptions
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.undefined import nan_is_an_answer

_log = logging.getLogger("jaxinfl")

POOL_CHECKPOINT_SECONDS = 30.0
"""Seconds between two checkpoints of a worker of a pool. In a simulation of 64 workers that are pre-empted every 30 minutes, models of
60 s each lost 4.3% of the time with 30, 5.1% with 60 (benchmarks/cluster.py)."""


def train_on_cluster(
    job: Job,
    run_dir: str | os.PathLike[str],
    *,
    jobs: int = 8,
    cluster: Cluster | str = "local",
    shard_size: int | None = None,
    width: int | None = None,
    kernels: Kernels | None = None,
    tune: bool = True,
    checkpoint_every: float | None = None,
    max_diverged: float = MAX_DIVERGED,
    mixed_devices: bool = False,
    progress: bool = True,
) -> Ensemble:
    """Train the models of a job by many processes, which may come and go, into one run directory.

    Every model has the bits that `train_ensemble` gives it on one device of the same kind: device kind, threads, width and kernels
    are decided by the worker that is ready first, recorded, and kept to by all. Who cannot keep to them gives the models back. The
    same call goes on where things stand, also after this process was killed: jobs that are still there are found again.

    On "local" and "slurm" the run is divided into as many parts as there are jobs. Each job writes its own part, saves a
    checkpoint when it is pre-empted or its time is over, and goes on from it. With "ray" the models are divided into shards, which
    workers train and send back; this process is the only writer, so that the workers need no shared folder. See docs/cluster.md.

    Args:
      job: what is trained: `jaxinfl.Job.make(masks, keys, data, model, recipe)`, with the arguments of `train_ensemble`.
      run_dir: directory of the run. On "slurm" it must be in a folder that all machines see.
      jobs: number of processes that train at the same time; each has devices of its own. A run that was begun keeps its number of
        parts. With "ray" this is the largest number of workers.
      cluster: "local", "slurm" or "ray", or a `jaxinfl.Cluster` with options.
      shard_size, width, kernels, tune, max_diverged, mixed_devices: as in `train_ensemble`. With "ray" a shard is what one worker
        trains before it gets the next one; it is as short as the width allows, as benchmarks/cluster.py recommends.
      checkpoint_every: seconds of work of a job or worker that may be lost. None takes 300 where jobs write their own checkpoints, and
        30 with "ray", whose nodes may go without a word.
      progress: show one bar for all of them, if standard error is a terminal.

    Returns:
      The finished ensemble.

    Raises:
      TypeError, ValueError: arguments do not fit; raised before anything is started.
      ClusterError: the cluster cannot be reached or does not take the jobs, or a part or shard failed again and again; the message
        has the models and the end of the log.
      RunDirectoryError: as in `train_ensemble`.
      TooManyDiverged: more than `max_diverged` of the models.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; finished work is kept, and the jobs go on or end as `on_interrupt` says.
    """
    if not isinstance(job, Job):
        raise TypeError(
            f"job is {quote(job)}; it takes a jaxinfl.Job: jaxinfl.Job.make(masks, keys, data, model, recipe)."
        )
    path = as_path(run_dir, "run_dir", "a directory")
    check_whole(jobs, "jobs", unit="processes")
    check_switch(tune, "tune")
    check_switch(mixed_devices, "mixed_devices")
    chosen = Cluster.of(cluster)
    if chosen.kind != "ray" and "%" in str(path.absolute()):
        raise ValueError(
            f"run_dir is {path.absolute()}; on a cluster it takes a path without %, by which submitit and Slurm mean the number of a job in "
            "the names of its logs."
        )
    if checkpoint_every is None:
        checkpoint_every = POOL_CHECKPOINT_SECONDS if chosen.kind == "ray" else 300.0
    options = RunOptions(shard_size, checkpoint_every, max_diverged, progress, None)
    choice = MachineChoice(width, kernels, tune, mixed_devices)
    return complete_on_cluster(job, path, jobs, chosen, choice, options)


def complete_on_cluster(
    job: Job, path: Path, jobs: int, cluster: Cluster, choice: MachineChoice, options: RunOptions
) -> Ensemble:
    """Do what `train_on_cluster` documents, with arguments that are checked."""
    check_zarr()
    if jax.default_backend() != "cpu":
        _log.warning(
            "This process holds memory of %s, which processes on this machine that train may need. Call "
            "jax.config.update('jax_platforms', 'cpu') first, before anything else of JAX: influence needs no card.",
            jax.local_devices()[0].device_kind,
        )
    with nan_is_an_answer(), StopRequest(kept=True) as stop:
        stop.standing = partial(standing_of, path, None, len(job))
        if cluster.kind != "ray":
            PartsOnCluster(job, path, cluster, jobs, choice, options, stop).complete()
            return Ensemble.open(path)
        from jaxinfl.cluster.ray_pool import RayPool

        with RayPool(cluster, jobs, choice, stop, options) as pool:
            return Run(job, pool, options, stop).ensemble(path, None)


__all__ = ["complete_on_cluster", "train_on_cluster"]
