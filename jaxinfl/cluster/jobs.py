"""Jobs of submitit: how they are started, watched and ended, in processes of this machine or on Slurm."""

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from jaxinfl.cluster.errors import ClusterError, need_extra
from jaxinfl.cluster.options import Cluster, parse_memory, parse_minutes
from jaxinfl.cluster.train_part import TrainPart

SLURM_MINUTES = 240.0
"""Time limit of a job of Slurm where the user names none: submitit's own 5 minutes are none for training."""
_WITHOUT_LIMIT = 60.0 * 24 * 365
_REQUEUES = 10_000
"""Number of times that a job may be put back into the queue when its time is over: it always goes on from a checkpoint."""
_ASK_EVERY = 15.0
"""Seconds between two questions to Slurm what became of the jobs. submitit by itself lets up to ten minutes pass, in which a job that
was killed, and left no result, would count as running."""
_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
)
"""States in which Slurm has ended a job, and does not put it back into the queue."""
_UNCLEAR = ("PREEMPTED", "REQUEUED", "UNKNOWN")
"""States that a job has for a moment before it runs again, or for ever: Slurm's queue tells which."""
_SAME_MOMENT = 5.0
"""Seconds by which two readings of the time at which a process was created may differ: it follows the clock, which may be set."""
_KILL_AFTER = 60
"""Number of requests to stop, one a second, after which a process of this machine is killed."""


@dataclass
class LocalJob:
    """A job in processes of this machine, which may have been started by an earlier call."""

    name: str
    """Number of its controlling process."""
    created: float
    """Time at which the process was created: another one may get its number later."""
    log: Path
    submitted: Any = None
    """submitit's own value for a job that this process started; it must ask for the process, or that stays a zombie."""
    _asked: int = 0

    def ended(self) -> bool:
        """Whether its process is gone."""
        if self.submitted is not None:
            return bool(self.submitted.done())
        return self._process() is None

    def cancel(self) -> None:
        """Ask it to save its work and stop; called again every second, and in the end it is killed."""
        process = self._process()
        if process is None:
            return
        self._asked += 1
        for each in [process, *process.children(recursive=True)] if self._asked > _KILL_AFTER else [process]:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL if self._asked > _KILL_AFTER else signal.SIGTERM)

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self.name))
            other = abs(process.create_time() - self.created) > _SAME_MOMENT
            gone = other or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return None if gone else process


@dataclass
class SlurmJob:
    """A job of Slurm, which may have been submitted by an earlier call."""

    name: str
    """Slurm's number of the job, with that of the task in its array."""
    log: Path
    submitted: Any = field(repr=False, default=None)
    _cancelled: bool = False
    _searched: float = field(default_factory=time.monotonic)
    """When the queue was last searched for it."""

    def ended(self) -> bool:
        """Whether Slurm neither runs it nor keeps it in the queue."""
        if self.submitted.paths.result_pickle.exists():
            return True
        # submitit's own answer takes a suspended job for one that has ended, and a pre-empted one never.
        state = self.submitted.watcher.get_state(self.name).split()[0]
        if state not in _UNCLEAR or time.monotonic() - self._searched < _ASK_EVERY:
            return state in _ENDED
        self._searched = time.monotonic()
        return _is_gone_from_queue(self.name)

    def cancel(self) -> None:
        """Ask Slurm to end it: the job gets SIGTERM, saves its work, and is killed some time later."""
        if not self._cancelled:
            self.submitted.cancel(check=False)
            self._cancelled = True


ClusterJob = LocalJob | SlurmJob


class Launcher(Protocol):
    """Starts jobs of one kind of cluster."""

    def start(self, parts: Sequence[TrainPart]) -> list[ClusterJob]:
        """Start a job for each part."""
        ...

    def find(self, record: dict[str, Any]) -> ClusterJob | None:
        """Find a job that an earlier call started, by what `describe` gave; None where this machine cannot know of it."""
        ...

    def look(self) -> None:
        """Ask the cluster what became of the jobs, if that was some time ago; called before each look at them."""
        ...


def describe(job: ClusterJob) -> dict[str, Any]:
    """What is needed to find a job again, as JSON values."""
    if isinstance(job, LocalJob):
        return {"kind": "local", "name": job.name, "created": job.created, "host": socket.gethostname()}
    return {"kind": "slurm", "name": job.name}


@dataclass(frozen=True)
class LocalLauncher:
    """Starts jobs in processes of this machine by submitit's local executor."""

    cluster: Cluster
    folder: Path

    def start(self, parts: Sequence[TrainPart]) -> list[ClusterJob]:
        """Do what `Launcher.start` documents."""
        submitit = need_extra("submitit", "slurm", "local")
        found: list[ClusterJob] = []
        for part in parts:
            executor = submitit.LocalExecutor(self.folder, max_num_timeout=_REQUEUES)
            minutes = parse_minutes(self.cluster.time) or _WITHOUT_LIMIT
            executor.update_parameters(timeout_min=minutes, signal_delay_s=_notice(minutes))
            with _not_interrupted_with_us():
                submitted = executor.submit(part)
            try:
                created = psutil.Process(int(submitted.job_id)).create_time()
            except psutil.NoSuchProcess:
                created = 0.0
            found.append(LocalJob(submitted.job_id, created, submitted.paths.stderr, submitted))
        return found

    def find(self, record: dict[str, Any]) -> ClusterJob | None:
        """Do what `Launcher.find` documents."""
        if record["kind"] != "local" or record["host"] != socket.gethostname():
            return None
        return LocalJob(record["name"], record["created"], self.folder / f"{record['name']}_0_log.err")

    def look(self) -> None:
        """Do what `Launcher.look` documents: this machine is asked with every look at a job."""


@dataclass
class SlurmLauncher:
    """Submits jobs to Slurm by submitit, as one array."""

    cluster: Cluster
    folder: Path
    most: int
    """Number of jobs that Slurm may run at the same time."""
    _asked: float = field(default_factory=time.monotonic)
    """When Slurm was last asked for all jobs."""

    def start(self, parts: Sequence[TrainPart]) -> list[ClusterJob]:
        """Do what `Launcher.start` documents.

        Raises:
          ClusterError: Slurm does not take the jobs.
        """
        submitit = need_extra("submitit", "slurm", "slurm")
        executor = submitit.SlurmExecutor(self.folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(**self._parameters())
        try:
            with executor.batch():
                submitted = [executor.submit(part) for part in parts]
        except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
            raise ClusterError(self._explain(error)) from error
        return [SlurmJob(each.job_id, each.paths.stderr, each) for each in submitted]

    def find(self, record: dict[str, Any]) -> ClusterJob | None:
        """Do what `Launcher.find` documents."""
        submitit = need_extra("submitit", "slurm", "slurm")
        if record["kind"] != "slurm":
            return None
        job = submitit.SlurmJob(self.folder, record["name"])
        return SlurmJob(record["name"], job.paths.stderr, job)

    def look(self) -> None:
        """Do what `Launcher.look` documents."""
        if time.monotonic() - self._asked > _ASK_EVERY:
            need_extra("submitit", "slurm", "slurm").SlurmJob.watcher.update()
            self._asked = time.monotonic()

    def _parameters(self) -> dict[str, Any]:
        chosen, minutes = self.cluster, parse_minutes(self.cluster.time) or SLURM_MINUTES
        memory = parse_memory(chosen.memory)
        given = {
            "partition": chosen.partition,
            "account": chosen.account,
            "qos": chosen.qos,
            "constraint": chosen.constraint,
            "setup": list(chosen.setup) or None,
            "mem": None if memory is None else f"{round(memory * 1000)}MB",
            "gpus_per_node": 1 if chosen.gpus is None else chosen.gpus or None,
        }
        return {name: value for name, value in given.items() if value is not None} | {
            "job_name": "jaxinfl",
            "time": max(1, round(minutes)),
            "signal_delay_s": _notice(minutes),
            "cpus_per_task": chosen.cores or 4,
            "array_parallelism": self.most,
            # Slurm itself puts a job back that lost its machine before it could ask for that.
            "additional_parameters": {"requeue": True},
        }

    def _explain(self, error: Exception) -> str:
        said = str(getattr(error, "stderr", None) or error)
        what = next((line for line in said.splitlines() if "error" in line.lower()), said.strip())
        if re.search("partition", said, re.IGNORECASE):
            there = _ask("sinfo", "--noheader", "--format=%R").split()
            named = f"; it has {', '.join(sorted(set(there)))}" if there else ""
            return f"Slurm has no partition {self.cluster.partition!r} for these jobs{named}. It says: {what}"
        return f"Slurm does not take the jobs. It says: {what}"


def make_launcher(cluster: Cluster, folder: Path, most: int) -> Launcher:
    """Make what starts jobs on a cluster of submitit, at most so many at the same time.

    Raises:
      ClusterError: submitit is not installed, or this machine cannot submit to Slurm.
    """
    need_extra("submitit", "slurm", str(cluster.kind))
    if cluster.kind == "local":
        return LocalLauncher(cluster, folder)
    missing = [name for name in ("sbatch", "srun", "sacct") if shutil.which(name) is None]
    if missing:
        raise ClusterError(
            f"cluster is 'slurm', but this machine has no {missing[0]}, by which jobs are submitted and watched. Run the command on "
            "a login node of the cluster, or take cluster='local'."
        )
    return SlurmLauncher(cluster, folder, most)


def read_end(log: Path, lines: int = 20) -> str:
    """The last lines of a log; a word where there is none."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except OSError:
        return "(there is no log)"
    return "\n".join(text[-lines:]) or "(the log is empty)"


def _is_gone_from_queue(name: str) -> bool:
    """Whether Slurm no longer has a job in its queue; False where it cannot be asked."""
    try:
        asked = ["squeue", "--noheader", "--job", name, "--format", "%T"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    # It forgets the numbers of jobs that ended some time ago, and fails then.
    return not done.stdout.strip() if done.returncode == 0 else "Invalid job id" in done.stderr


def _notice(minutes: float) -> int:
    """Seconds before the time limit at which a job is asked to save its work: 90, and less where the limit is short."""
    return max(1, min(90, round(minutes * 60 / 4)))


def _ask(*command: str) -> str:
    """What a command prints; nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


@contextmanager
def _not_interrupted_with_us() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: a terminal sends it to all of its processes, and we decide what becomes of jobs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Processes inherit what is blocked. What comes to this one meanwhile is not lost: it is answered afterwards.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


__all__ = ["ClusterJob", "Launcher", "describe", "make_launcher", "read_end"]
