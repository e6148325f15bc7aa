"""This command kills a real run at random moments, some of them while it writes; not one bit of the result may differ.

    python -m tests.chaos --kills 30        about 5 minutes on 2 cores

Each process that is killed, four of five by SIGKILL and every fifth by SIGTERM, is followed by one that goes on. Whenever a
run is finished, its arrays and weights are compared with those of an undisturbed run, and all of its files are verified.
Then another run is started, until there were as many kills as asked for.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxinfl import Ensemble
from jaxinfl.store.damage import find_damage

ARRAYS = ("masks", "key_data", "train_prediction", "test_prediction", "train_margin", "test_margin")


@dataclass(frozen=True)
class Options:
    """Options of `python -m tests.chaos`."""

    kills: int = 30
    """Number of processes to kill."""
    models: int = 48
    """Number of models of each run, which are trained in three shards."""
    seed: int = 0
    """Seed of the random moments at which processes are killed."""


@dataclass
class Report:
    """Numbers of kills and runs."""

    kills: dict[str, int] = field(default_factory=lambda: {"at random": 0, "while writing": 0, "by SIGTERM": 0})
    """Number of killed processes, by the way in which they were killed."""
    runs: int = 0
    """Number of runs that were finished and compared."""
    checkpoints: int = 0
    """Number of processes that went on in the middle of a shard."""

    @property
    def total(self) -> int:
        return sum(self.kills.values())


def main(options: Options) -> Report:
    """Kill and compare runs, and return the report.

    Raises:
      AssertionError: a run differs from an undisturbed one, or is damaged.
    """
    moments, report = random.Random(options.seed), Report()
    with tempfile.TemporaryDirectory(prefix="jaxinfl-chaos-") as folder:
        reference = Path(folder, "reference")
        with _start(reference, options, folder) as process:
            assert process.wait() == 0
        while report.total < options.kills:
            run = Path(folder, f"run-{report.runs}")
            _disturb(run, options, folder, moments, report)
            _compare(Ensemble.open(run), Ensemble.open(reference))
            assert not find_damage(run)
            report.runs += 1
    return report


def _disturb(run: Path, options: Options, folder: str, moments: random.Random, report: Report) -> None:
    """Start a run again and again until it is finished, and kill its processes until there were enough kills."""
    while True:
        report.checkpoints += any((run / "checkpoint").glob("*.json"))
        with _start(run, options, folder) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "called\n", "the child failed"
            how = ("at random", "while writing")[report.total % 2] if report.total % 5 != 4 else "by SIGTERM"
            if report.total < options.kills and _kill(process, run, how, moments):
                report.kills[how] += 1
                continue
            assert process.wait() == 0
            return


def _kill(process: subprocess.Popen[str], run: Path, how: str, moments: random.Random) -> bool:
    """Kill a process some time after `train_ensemble` was called; return False if it ended before."""
    time.sleep(moments.uniform(0, 4))
    if how == "while writing":
        before = _files(run)
        while process.poll() is None and _files(run) == before:
            pass
        time.sleep(moments.choice((0, 0.001, 0.01)))
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGTERM if how == "by SIGTERM" else signal.SIGKILL)
    printed, _ = process.communicate()
    # SIGTERM ends a process whose call has returned as it ends any other.
    returned = {0, -signal.SIGTERM} if "returned\n" in printed else set()
    assert process.returncode in {-signal.SIGKILL, 128 + signal.SIGTERM, *returned}, process.returncode
    return process.returncode != 0


def _files(run: Path) -> set[str]:
    return {entry for _, folders, names in os.walk(run) for entry in (*folders, *names)}


def _start(run: Path, options: Options, folder: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.chaos_child", str(run), str(options.models), str(Path(folder, "cache"))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _compare(runs: Ensemble, reference: Ensemble) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(runs, name), getattr(reference, name), err_msg=name)
    pairs = zip(jax.tree.leaves(runs.weights()), jax.tree.leaves(reference.weights()), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)


if __name__ == "__main__":
    found = main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
    print(
        f"The runs survived {found.total} kills ({', '.join(f'{number} {how}' for how, number in found.kills.items())}). "
        f"{found.checkpoints} processes went on in the middle of a shard. {found.runs} runs are equal to the bit."
    )
