"""What a process that trains some models of a run is told, and how it gets ready: threads, cores, versions, the job itself."""

import hashlib
import itertools
import json
import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cloudpickle
import jax

import jaxinfl
from jaxinfl import devices, provenance
from jaxinfl.cluster.errors import ClusterError
from jaxinfl.compilation_cache import MIN_COMPILE_SECONDS, chosen_folder, use_compilation_cache
from jaxinfl.store.manifest import digests
from jaxinfl.training.agreement import Disagreement, own_versions
from jaxinfl.training.job import Job
from jaxinfl.training.machine import OutOfMemory

CANNOT_HERE = (Disagreement, OutOfMemory, MemoryError)
"""Errors after which another machine may train the models, but not this one."""


@dataclass(frozen=True)
class Setting:
    """What a worker is told besides its job, by the process that the user started."""

    versions: dict[str, str]
    """Versions of jaxinfl, jax and jaxlib, and a hash of jaxinfl's code, of the process that the user started."""
    identity: str
    """Hash of the job's identity."""
    threads: int
    """Number of XLA's threads on a processor."""
    cores: tuple[int, ...] | int | None
    """Numbers of the cores to run on, or their count; None takes those that the process may use."""
    command: str
    """Command that the user started, which the run records."""
    cache: str | None
    """Folder of compiled programs that the user chose; None takes jaxinfl's own on each machine."""
    modules: tuple[str, ...]
    """Folders in which Python finds modules in the process that the user started, such as that of the user's script."""
    cards: str | None = None
    """GPUs to run on, as CUDA_VISIBLE_DEVICES names them; None takes those that the process sees."""

    @classmethod
    def of_job(cls, job: Job, threads: int | None, cores: tuple[int, ...] | int | None = None) -> "Setting":
        """Tell what this process has; `threads` are those that were agreed on for the run, if it was begun."""
        return cls(
            versions=versions_with_code(),
            identity=digest_of(job),
            threads=threads or devices.num_threads(),
            cores=cores,
            command=provenance.command(),
            cache=chosen_folder(),
            modules=tuple(dict.fromkeys(os.path.abspath(entry) for entry in sys.path)),
        )

    def prepare(self) -> None:
        """Set up this process, before JAX starts its backends.

        Raises:
          Disagreement: it has other versions, or finds no GPU where it was given one.
        """
        here = versions_with_code()
        for name, version in self.versions.items():
            if here[name] != version:
                raise Disagreement(
                    f"the run is driven with {name} {version}, and this worker has {here[name]}, which may change the last bits of a "
                    "model. Install the same versions for the workers and for the process that starts them."
                )
        if isinstance(self.cores, tuple) and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)
        provenance.work_for(self.command)
        sys.path += [entry for entry in self.modules if entry not in sys.path]
        if self.cards is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.cards
        count = self.cores if isinstance(self.cores, int) else devices.num_cores()
        devices.set_threads(self.threads, count)
        if self.cache is not None:
            jax.config.update("jax_compilation_cache_dir", self.cache)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
        use_compilation_cache()
        if self.cards is not None and jax.default_backend() == "cpu":
            raise Disagreement(
                f"this job was given the GPU {self.cards}, and JAX finds none there. Install jaxinfl[cuda12], or leave cluster gpus out to "
                "train on the processor."
            )

    def unpack_job(self, content: bytes) -> Job:
        """Make the job of the bytes that `pack_job` gave, after `prepare`.

        Raises:
          Disagreement: it is another job than was sent.
        """
        job = pickle.loads(content)
        assert isinstance(job, Job)
        if digest_of(job) != self.identity:
            raise Disagreement(
                "the job that arrived here is not the one that was sent: its data, model or recipe mean something else in this "
                "process. A model must be the same function in every process: it may not depend on what changes, such as the time, "
                "files or variables of the environment."
            )
        return job


def pack_job(job: Job) -> bytes:
    """Make bytes of a job, for other processes; functions of the user's own script go along.

    Raises:
      ClusterError: it holds what cannot be sent.
    """
    try:
        content: bytes = cloudpickle.dumps(job)
    except Exception as error:  # whatever a user's model or task holds
        raise ClusterError(
            f"the job cannot be sent to other processes: {error}. A model, task or data set that is sent must not hold open files, "
            "locks or compiled functions. Define the model as a class or function of a module."
        ) from error
    return content


def digest_of(job: Job) -> str:
    """Hash of a job's identity. The name of a model may differ: a spawned process calls the main module by another name."""
    identity = {**job.identity, "model": {**job.identity["model"], "name": None}}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@cache
def versions_with_code() -> dict[str, str]:
    """Versions that decide the last bits of a model, and a hash of jaxinfl's own code: a checkout changes more often than its version."""
    folder = Path(jaxinfl.__file__).parent
    files = sorted(path for kind in ("py", "cpp", "h") for path in folder.rglob(f"*.{kind}"))
    code = hashlib.sha256(json.dumps(digests(folder, files), sort_keys=True).encode()).hexdigest()
    return {**own_versions(), "jaxinfl's code": code[:12]}


def share_cores(cores: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Divide the cores of a machine between workers; where there are more workers than cores, some share one."""
    if workers >= len(cores):
        return [(cores[worker % len(cores)],) for worker in range(workers)]
    bounds = [len(cores) * worker // workers for worker in range(workers + 1)]
    return [tuple(cores[first:last]) for first, last in itertools.pairwise(bounds)]


__all__ = ["CANNOT_HERE", "Setting", "digest_of", "pack_job", "share_cores", "versions_with_code"]
