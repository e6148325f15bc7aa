"""Jobs of this machine and of a stand-in for Slurm are killed, pre-empted and run out of time; not one bit may differ."""

import os
import random
import signal
import time

import pytest

from jaxinfl import Ensemble
from jaxinfl.store.damage import find_damage
from jaxinfl.store.parts import part_path
from tests import fake_slurm
from tests.cluster_child import LONG, MODELS
from tests.test_cluster import assert_same, finished, long_reference, start_child, wait_until, workers

pytestmark = pytest.mark.slow
pytest.importorskip("submitit")
__all__ = ["long_reference"]


def start_long(run, *arguments, **environment):
    """Start jobs that are at work for seconds, on whatever machine."""
    return start_child(run, *arguments, EPOCHS=str(LONG), **environment)


def saved(run):
    """The parts of a run that have a checkpoint at the moment: their jobs are in the middle of training."""
    return [number for number in (1, 2, 3, 4) if any((part_path(run, (number, 4)) / "checkpoint").glob("*.json"))]


def check(run, reference):
    assert_same(Ensemble.open(run), reference)
    assert all(not find_damage(part_path(run, (number, 4))) for number in (1, 2, 3, 4))


def test_ten_kills_of_jobs_and_drivers_change_no_bit(tmp_path, long_reference):
    """Workers are killed, the processes that control them are, and so is the process that watches all of them."""
    moments, run = random.Random(0), tmp_path / "run"
    child = start_long(run, "local")
    for kill in ("worker", "controller", "driver") * 3 + ("worker",):
        wait_until(lambda child=child, run=run: workers(run) or child.poll() is not None)
        time.sleep(moments.uniform(0, 3))
        found = workers(run)
        if kill == "driver":
            child.kill()
        elif found:
            victim = moments.choice(found)
            (victim if kill == "worker" else victim.parent() or victim).kill()
        if child.poll() is not None or kill == "driver":
            child.communicate()
            if finished(run) == MODELS:
                check(run, long_reference)
                run = tmp_path / f"after-{time.monotonic_ns()}"
            child = start_long(run, "local")
    said = child.communicate()
    assert child.returncode == 0, said
    check(run, long_reference)


@pytest.fixture
def slurm(tmp_path):
    """Variables of the environment for a stand-in for Slurm."""
    return fake_slurm.install(tmp_path / "slurm")


def test_jobs_whose_time_is_over_go_on_from_their_checkpoint(tmp_path, long_reference, slurm):
    """Slurm sends USR2 some time before it ends a job. The time of every job is over when it has trained for a moment."""
    run, state = tmp_path / "run", tmp_path / "slurm" / "state"
    child = start_long(run, "slurm", "partition=gpu", **slurm)
    left = {1, 2, 3, 4}
    while left:
        wait_until(lambda: left & set(saved(run)) or child.poll() is not None)
        assert child.poll() is None, child.communicate()
        for number in left & set(saved(run)):
            fake_slurm.trainers(state)[f"1000_{number - 1}"].send_signal(signal.SIGUSR2)
            left.remove(number)
    said = child.communicate()
    assert child.returncode == 0, said
    check(run, long_reference)
    logs = [path.read_text() for path in (run / "cluster").glob("*.err")]
    assert [log.count("Caught signal SIGUSR2") for log in logs] == [1, 1, 1, 1], logs


def test_preempted_jobs_go_on_where_slurm_puts_them(tmp_path, long_reference, slurm):
    """Slurm sends SIGTERM, which submitit lets pass, and then USR2; others die without a word."""
    run, state = tmp_path / "run", tmp_path / "slurm" / "state"
    moments = random.Random(1)
    child = start_long(run, "slurm", **slurm)
    wait_until(lambda: saved(run) or child.poll() is not None)
    for how in ("preempt", "kill", "preempt", "terminate"):
        wait_until(lambda: fake_slurm.trainers(state) or child.poll() is not None)
        assert child.poll() is None, child.communicate()
        process = next(iter(fake_slurm.trainers(state).values()))
        if how != "kill":
            process.send_signal(signal.SIGTERM)
        if how == "preempt":
            process.send_signal(signal.SIGUSR2)
        if how == "kill":
            process.kill()
        time.sleep(moments.uniform(0, 1))
    said = child.communicate()
    assert child.returncode == 0, said
    check(run, long_reference)


def test_ctrl_c_leaves_jobs_of_slurm_or_cancels_them(tmp_path, slurm):
    """The models take minutes each: whatever ends before that was ended."""
    run, state = tmp_path / "run", tmp_path / "slurm" / "state"
    child = start_child(run, "slurm", EPOCHS=str(100 * LONG), **slurm)
    wait_until(lambda: len(saved(run)) == 4 or child.poll() is not None)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate()
    assert "4 jobs go on; the same call finds them again" in said and len(fake_slurm.trainers(state)) == 4
    # The same call takes up these jobs, and submits no others. Asked to, it ends them.
    (state / fake_slurm.ASKED).unlink()
    child = start_child(run, "slurm", "on_interrupt=cancel", EPOCHS=str(100 * LONG), **slurm)
    wait_until(lambda: (state / fake_slurm.ASKED).exists() or child.poll() is not None)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode != 0 and "jobs go on" not in said
    assert [file.stem for file in state.glob("*.job")] == ["1000"] and not fake_slurm.trainers(state)
    assert {file.read_text() for file in state.glob("*.state")} == {"CANCELLED"}
    assert finished(run) == 0 and saved(run) == [1, 2, 3, 4]
