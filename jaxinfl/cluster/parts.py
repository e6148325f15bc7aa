"""A run in parts, each of which is trained by a job of its own: started, watched, and started again where it did not finish.

Every job writes its part of the run directory, as its only writer, and goes on from its part's checkpoint. What is finished is
read from the run directory itself, so that the process that watches may die: the same call finds the jobs that are still there.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxinfl.cluster.cards import cards_of, check_cards
from jaxinfl.cluster.errors import ClusterError
from jaxinfl.cluster.jobs import ClusterJob, Launcher, describe, make_launcher, read_end
from jaxinfl.cluster.options import Cluster
from jaxinfl.cluster.train_part import Ending, TrainPart
from jaxinfl.cluster.worker import Setting, digest_of, pack_job, share_cores
from jaxinfl.files import write_atomically
from jaxinfl.store import ABSENT, RunDirectoryError, RunStore, check_same_run
from jaxinfl.store.elsewhere import check_trained_here
from jaxinfl.store.kept import Kept
from jaxinfl.store.lock import BeingWritten, holder_of, writing
from jaxinfl.store.parts import extensions_in, open_rows, part_models, part_path, parts_in
from jaxinfl.store.run import is_run
from jaxinfl.training.agreement import find_agreement
from jaxinfl.training.interrupts import StopRequest
from jaxinfl.training.job import Job
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.run import RunOptions, TooManyDiverged, check_diverged, folders
from jaxinfl.training.tuning import MachineChoice

FOLDER = "cluster"
"""Name of the folder beside the parts that holds the job, and the logs and outcomes of the jobs."""
_LOOK_EVERY = {"local": 0.3, "slurm": 5.0}
"""Seconds between two looks at the jobs and at the run directory."""
_WAIT_FOR_OTHERS = 30.0
"""Seconds until a job is started again for a part that another process writes."""


@dataclass
class _Part:
    """One part, as the watching process sees it."""

    number: int
    own: range
    """Numbers of its models in the run."""
    status: UInt8[np.ndarray, " own"]
    """What became of each of its models, as far as it was written."""
    job: ClusterJob | None = None
    """The job that trains it, where there is one."""
    place: int = 0
    """Place of the job among those that run at the same time, by which it gets cores and GPUs of this machine."""
    not_before: float = 0.0
    """Time before which no other job is started for it."""
    failures: int = 0
    """Number of jobs in a row that ended without a new finished model or checkpoint."""
    finished_before: int = 0
    """Number of its models that were finished when its job started."""
    reached: tuple[str, ...] = ()
    """Names of the checkpoint files that were there when its job started."""

    @classmethod
    def of(cls, number: int, models: tuple[int, int]) -> "_Part":
        return cls(number, range(*models), np.full(models[1] - models[0], ABSENT, np.uint8))

    @property
    def finished(self) -> int:
        """Number of its finished models."""
        return int((self.status != ABSENT).sum())

    @property
    def complete(self) -> bool:
        return self.finished == len(self.own)


@dataclass
class PartsOnCluster:
    """The parts of a run and the jobs that train them."""

    job: Job
    run_dir: Path
    cluster: Cluster
    jobs: int
    choice: MachineChoice
    options: RunOptions
    stop: StopRequest
    _parts: list[_Part] = field(default_factory=list)

    def complete(self) -> None:
        """Have every part trained.

        Raises:
          ClusterError: jobs fail again and again, or cannot be started, or another process has jobs train this run.
          TooManyDiverged: more than the share `max_diverged` of all models.
          RunDirectoryError: the directory holds a run that is not in parts, or another run.
          Interrupted, Terminated: a signal came; jobs go on or were ended, as the user asked.
        """
        if self._is_finished_whole():
            self._clear()
            return
        division = self._division()
        numbers = range(1, division + 1)
        self._parts = [_Part.of(number, part_models(len(self.job), (number, division))) for number in numbers]
        self._look()
        self._check_diverged()
        if all(part.complete for part in self._parts):
            self._clear()
            return
        launcher = make_launcher(self.cluster, self.folder, self.jobs)
        check_cards(self.cluster, self._places)
        try:
            with writing(self.folder):
                self._train(launcher)
        except BeingWritten as error:
            raise ClusterError(
                f"jobs that train the models of {self.run_dir} are watched by {holder_of(self.folder)}. Wait for it, or end it first."
            ) from error
        except BaseException:
            if not self._record.exists():  # no job was ever started, and nothing is left of this call
                shutil.rmtree(self.folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    self.run_dir.rmdir()
            raise
        self._clear()

    def _train(self, launcher: Launcher) -> None:
        """Have the missing models trained, as the only process that starts jobs for this run."""
        write_atomically(self._job_file, pack_job(self.job))
        self._find_jobs(launcher)
        finished = sum(part.finished for part in self._parts)
        with TrainingProgress(len(self.job), finished, shown=self.options.progress) as bar:
            try:
                self._watch(launcher, bar)
            except BaseException as error:
                # What is left of a run in which too many models diverged is not worth waiting for.
                self._part_with_jobs(
                    launcher, bar, leave=self.cluster.leaves_jobs and not isinstance(error, TooManyDiverged)
                )
                raise

    def _check_diverged(self) -> None:
        """Raise where too many models of all parts diverged: of a few models in one part, one alone may be too many.

        Raises:
          TooManyDiverged: they did.
        """
        status = np.concatenate([part.status for part in self._parts])
        check_diverged(status, self.options.max_diverged, self.job.recipe, self.run_dir)

    @property
    def folder(self) -> Path:
        """Folder of the job, the logs and the outcomes."""
        return self.run_dir / FOLDER

    @property
    def _places(self) -> int:
        """Number of jobs that run at the same time."""
        return min(self.jobs, len(self._parts))

    @property
    def _record(self) -> Path:
        return self.folder / "jobs.json"

    def _is_finished_whole(self) -> bool:
        """Whether this very run is trained already, by one process or with models that were added later.

        Raises:
          RunDirectoryError: the directory holds another run, or one that is not finished and that jobs cannot share.
        """
        if not is_run(self.run_dir) and not parts_in(self.run_dir):
            return False
        rows = open_rows(self.run_dir)
        check_trained_here(rows.attributes, self.run_dir, "A cluster adds no models to them. Use another run_dir.")
        for each in folders(self.run_dir, None, len(self.job)):
            if is_run(each.path):
                store = RunStore.open(each.path, writable=False)
                check_same_run(store.attributes["identity"], self.job.only(each.rows).identity, each.path)
        Kept.of_run(rows.attributes).check_asked(self.job.kept, self.run_dir)
        if rows.num_models < len(self.job):
            raise RunDirectoryError(
                f"{self.run_dir} holds {rows.num_models} of these {len(self.job)} models, and jobs cannot add models to a run. Go on "
                "without a cluster or with cluster='ray', or use another run_dir."
            )
        if not is_run(self.run_dir) and not extensions_in(self.run_dir):
            return False
        check_diverged(rows.status(), self.options.max_diverged, self.job.recipe, self.run_dir)
        if (rows.status() == ABSENT).any():
            raise RunDirectoryError(
                f"{self.run_dir} holds a run that is not in parts, which jobs cannot share. Go on without a cluster or with "
                "cluster='ray', or use another run_dir."
            )
        return True

    def _division(self) -> int:
        """Number of parts: that of the run where it was begun, else one for each job."""
        there = parts_in(self.run_dir)
        recorded = self._read_record().get("parts")
        return there[0][1] if there else recorded or min(self.jobs, len(self.job))

    def _read_record(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        if found.get("identity") != digest_of(self.job):
            raise RunDirectoryError(
                f"{self.run_dir} belongs to another run: jobs were started there for other masks, keys, data, model or recipe. Use "
                "another run_dir, or delete this one to start anew."
            )
        return found

    def _write_record(self) -> None:
        jobs = {str(part.number): describe(part.job) | {"place": part.place} for part in self._parts if part.job}
        content = {"identity": digest_of(self.job), "parts": len(self._parts), "jobs": jobs}
        write_atomically(self._record, json.dumps(content, indent=1).encode())

    def _clear(self) -> None:
        """Remove the copy of the job, which holds the data set; jobs may have ended after an earlier call had left them."""
        self._job_file.unlink(missing_ok=True)

    @property
    def _job_file(self) -> Path:
        return self.folder / f"job-{digest_of(self.job)[:16]}.pkl"

    def _outcome_file(self, part: _Part) -> Path:
        return self.folder / f"part-{part.number}.json"

    def _find_jobs(self, launcher: Launcher) -> None:
        """Take up the jobs of an earlier call that are still there."""
        for number, record in self._read_record().get("jobs", {}).items():
            part, job = self._parts[int(number) - 1], launcher.find(record)
            if job is not None and not job.ended():
                part.job, part.place = job, record.get("place", 0)
                self._note_start(part)

    def _watch(self, launcher: Launcher, bar: TrainingProgress) -> None:
        while not all(part.complete and part.job is None for part in self._parts):
            self._start_missing(launcher)
            running = sum(part.job is not None for part in self._parts)
            bar.say(f"{running} of {len(self._parts)} parts have a job")
            self._wait()
            launcher.look()
            before = sum(part.finished for part in self._parts)
            self._look()
            bar.advance(sum(part.finished for part in self._parts) - before)
            for part in self._parts:
                if part.job is not None and part.job.ended():
                    self._look_at(part)
                    self._judge(part)
            self._check_diverged()

    def _start_missing(self, launcher: Launcher) -> None:
        """Start a job for each part that needs one, as far as there are places."""
        taken = {part.place for part in self._parts if part.job is not None}
        free = [place for place in range(self._places) if place not in taken]
        due = time.monotonic()
        waiting = [part for part in self._parts if part.job is None and not part.complete and part.not_before <= due]
        # Slurm has a queue of its own, and its array says how many may run at once.
        pairs = list(zip(waiting, free, strict=False)) if self.cluster.kind == "local" else [(p, 0) for p in waiting]
        if not pairs:
            return
        for part, place in pairs:
            part.place = place
            self._outcome_file(part).unlink(missing_ok=True)
            self._note_start(part)
        # Both read files, of every part and of jaxinfl.
        agreed = find_agreement(self.run_dir)
        setting = Setting.of_job(self.job, None if agreed is None else agreed.devices.threads)
        started = launcher.start([self._call(part, setting) for part, _ in pairs])
        for (part, _), job in zip(pairs, started, strict=True):
            part.job = job
        self._write_record()

    def _note_start(self, part: _Part) -> None:
        part.finished_before, part.reached = part.finished, self._checkpoints(part)

    def _call(self, part: _Part, setting: Setting) -> TrainPart:
        cores, cards = None, None
        if self.cluster.kind == "local":
            cards = cards_of(self.cluster, part.place)
        if self.cluster.kind == "local" and hasattr(os, "sched_getaffinity"):
            own = sorted(os.sched_getaffinity(0))
            shared = share_cores(own, self._places)
            cores = shared[part.place % self._places][: self.cluster.cores]
        return TrainPart(
            job_file=self._job_file.absolute(),
            run_dir=self.run_dir.absolute(),
            part=(part.number, len(self._parts)),
            setting=replace(setting, cores=cores, cards=cards),
            choice=self.choice,
            options=self.options.of_worker(),
            outcome_file=self._outcome_file(part).absolute(),
        )

    def _judge(self, part: _Part) -> None:
        """Decide what follows from the end of a part's job.

        Raises:
          ClusterError: the part cannot be finished.
        """
        job, outcome = part.job, Ending.read(self._outcome_file(part))
        assert job is not None
        part.job = None
        if part.complete:
            return
        if outcome is not None and outcome.error == BeingWritten.__name__:
            # A job of an earlier call, which this one does not know, is at work: that is no failure.
            part.not_before = time.monotonic() + _WAIT_FOR_OTHERS
            if self.options.progress:
                print(f"Part {part.number} waits: {outcome.message}", file=sys.stderr)
            return
        progressed = part.finished > part.finished_before or self._checkpoints(part) != part.reached
        part.failures = 0 if progressed else part.failures + 1
        hopeless = outcome is not None and outcome.how == "hopeless"
        if not hopeless and part.failures <= self.cluster.retries:
            if outcome is not None and outcome.how == "given back" and self.options.progress:
                print(f"Part {part.number} was given back by {outcome.host}: {outcome.message}", file=sys.stderr)
            return
        how = "its job was killed, and left no word" if outcome is None else outcome.message
        where = "" if outcome is None else f" on {outcome.host}"
        again = "" if hopeless else f" {part.failures} times in a row"
        message = (
            f"Part {part.number} of {len(self._parts)} (models {part.own.start} to {part.own.stop - 1}) failed{again}{where}: {how}\n"
            f"The end of its log, {job.log}:\n{read_end(job.log)}\n"
            f"Finished models stay in {self.run_dir}, and the same call goes on with the others."
        )
        raise ClusterError(message)

    def _look(self) -> None:
        for part in self._parts:
            if not part.complete:
                self._look_at(part)

    def _look_at(self, part: _Part) -> None:
        """Count the finished models of a part."""
        path = part_path(self.run_dir, (part.number, len(self._parts)))
        if not is_run(path):
            return
        try:
            part.status = RunStore.open(path, writable=False).own_status()
        except RunDirectoryError:
            if part.job is None:
                raise
            # It is being written. What is damaged is told when its job has ended.

    def _checkpoints(self, part: _Part) -> tuple[str, ...]:
        folder = part_path(self.run_dir, (part.number, len(self._parts))) / "checkpoint"
        return tuple(sorted(path.name for path in folder.glob("*.json")))

    def _wait(self) -> None:
        until = time.monotonic() + _LOOK_EVERY[str(self.cluster.kind)]
        while time.monotonic() < until:
            self.stop.leave_if_asked()
            time.sleep(0.1)

    def _part_with_jobs(self, launcher: Launcher, bar: TrainingProgress, *, leave: bool) -> None:
        """Leave the jobs to themselves, or end them."""
        running = [part.job for part in self._parts if part.job is not None and not part.job.ended()]
        if not running:
            self._clear()
            return
        if leave:
            print(f"\n{len(running)} jobs go on; the same call finds them again.", file=sys.stderr)
            return
        bar.say(f"ending {len(running)} jobs, which save their work")
        while running := [part.job for part in self._parts if part.job is not None and not part.job.ended()]:
            for job in running:
                job.cancel()
            time.sleep(1.0)
            launcher.look()


__all__ = ["FOLDER", "PartsOnCluster"]
