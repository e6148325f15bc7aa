"""One part of a run as a function that submitit calls in a process of its own, on this machine or as a job of Slurm."""

import json
import platform
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxinfl.cluster.worker import CANNOT_HERE, Setting
from jaxinfl.files import write_atomically
from jaxinfl.store import RunDirectoryError, WriteFailed
from jaxinfl.store.lock import BeingWritten
from jaxinfl.training.interrupts import StopRequest, standing_of
from jaxinfl.training.run import Run, RunOptions
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import ThisProcess
from jaxinfl.undefined import nan_is_an_answer

GIVEN_BACK = (*CANNOT_HERE, WriteFailed, BeingWritten)
"""Errors after which another machine, or the same one later, may train the part."""
FINAL = (RunDirectoryError, TypeError, ValueError)
"""Errors that come again wherever the part is trained."""


@dataclass(frozen=True)
class Ending:
    """How a job that trains a part has ended."""

    how: Literal["finished", "given back", "failed", "hopeless"]
    """"finished"; "given back", so that another machine may train the part; "failed" in a way that nobody expected; or "hopeless",
    because it would fail anywhere."""
    message: str
    """What went wrong, in words; empty where nothing did."""
    error: str
    """Name of the exception's class; empty where nothing went wrong."""
    host: str
    """Name of the machine."""

    def write(self, path: Path) -> None:
        """Write it as JSON, all at once."""
        write_atomically(path, json.dumps(self.__dict__).encode())

    @classmethod
    def read(cls, path: Path) -> "Ending | None":
        """Read it; None where the job has left none, because it was killed or is still running."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class TrainPart:
    """Trains a part of a run when it is called; submitit pickles it, and calls it again where the job was pre-empted."""

    job_file: Path
    """File with the bytes that `pack_job` made of the job, in a folder that all machines see."""
    run_dir: Path
    part: tuple[int, int]
    """Number of the part and number of all parts."""
    setting: Setting
    choice: MachineChoice
    options: RunOptions
    outcome_file: Path
    """File to which the job writes how it ended."""

    def __call__(self) -> None:
        """Train the part, and write how that ended.

        Raises:
          Terminated, Interrupted: a signal came; everything is saved, and the same call goes on.
        """
        host = platform.node()
        try:
            self._train()
            outcome = Ending("finished", "", "", host)
        except GIVEN_BACK as error:
            outcome = Ending("given back", str(error) or type(error).__name__, type(error).__name__, host)
        except Exception as error:  # noqa: BLE001 - whatever a user's model raises
            traceback.print_exc()
            how: Literal["hopeless", "failed"] = "hopeless" if isinstance(error, FINAL) else "failed"
            outcome = Ending(how, str(error) or type(error).__name__, type(error).__name__, host)
        outcome.write(self.outcome_file)

    def checkpoint(self) -> Any:
        """Tell submitit what to put back into the queue: the same call, which goes on from the run's own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _train(self) -> None:
        self.setting.prepare()
        job = self.setting.unpack_job(self.job_file.read_bytes())
        with nan_is_an_answer(), StopRequest(kept=True) as stop:
            stop.standing = partial(standing_of, self.run_dir, self.part, len(job))
            Run(job, ThisProcess(self.choice, stop.leave_if_asked), self.options, stop).complete(
                self.run_dir, self.part
            )


__all__ = ["Ending", "TrainPart"]
