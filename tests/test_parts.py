"""Several processes share a run, one writes at a time, and all parts are read as one."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.store import writing
from tests.small_run import MODELS, RECIPE, assert_same, train


@pytest.fixture(scope="module")
def whole(toy):
    return train(toy, keep_weights=True)


def test_parts_are_one_run(toy, whole, tmp_path):
    """Parts are trained in any order and may be missing; each is the same to the bit."""
    run = tmp_path / "run"
    second = train(toy, run, part=(2, 3), shard_size=2, keep_weights=True)
    assert list(second.model_index) == [3, 4, 5] and not second.complete
    assert_same(second, whole, slice(3, 6))
    assert "Ensemble of 3 of 9 models" in repr(second) and "missing  part 1, 3 of 3" in repr(second)
    train(toy, run, part=(3, 3), shard_size=2, keep_weights=True)
    assert list(Ensemble.open(run).model_index) == [3, 4, 5, 6, 7, 8]
    runs = train(toy, run, part=(1, 3), shard_size=2, keep_weights=True)
    assert runs.complete and "missing" not in repr(runs)
    assert_same(runs, whole)
    for name in ("train_margin", "test_margin"):
        np.testing.assert_array_equal(getattr(Ensemble.open(run), name), getattr(whole, name))


def test_a_call_without_part_trains_what_is_missing(toy, whole, tmp_path):
    train(toy, tmp_path / "run", part=(2, 2))
    runs = train(toy, tmp_path / "run")
    assert runs.complete
    assert_same(runs, whole)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["part-1-of-2", "part-2-of-2"]


def test_parts_must_belong_together(toy, tmp_path):
    train(toy, tmp_path / "run", part=(1, 2))
    train(toy, tmp_path / "other", part=(1, 3))
    os.rename(tmp_path / "other" / "part-1-of-3", tmp_path / "run" / "part-1-of-3")
    with pytest.raises(RunDirectoryError, match="parts of a run that was divided into 2 and into 3"):
        Ensemble.open(tmp_path / "run")
    train(toy, tmp_path / "longer", part=(2, 2), recipe=dataclasses.replace(RECIPE, epochs=4))
    os.rename(tmp_path / "run" / "part-1-of-3", tmp_path / "away")
    os.rename(tmp_path / "longer" / "part-2-of-2", tmp_path / "run" / "part-2-of-2")
    with pytest.raises(RunDirectoryError, match=r"differs in recipe \(epochs\): 3 there, 4 now"):
        Ensemble.open(tmp_path / "run")


def test_a_whole_run_takes_no_part(toy, tmp_path):
    train(toy, tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"holds a run that is not in parts\. Leave out part"):
        train(toy, tmp_path / "run", part=(1, 2))


def test_a_second_writer_is_refused_by_name(toy, tmp_path):
    run = tmp_path / "run"
    with (
        writing(run),
        pytest.raises(RunDirectoryError, match=rf"is being written by process {os.getpid()} on {socket.gethostname()}"),
    ):
        train(toy, run)
    assert not run.exists()  # no run came of it
    assert train(toy, run).complete


def test_the_lock_of_a_dead_process_is_taken_over(toy, whole, tmp_path):
    """Killed while it held the lock: what it left says that it holds it, and it does not."""
    run = tmp_path / "run"
    program = (
        "import os, pathlib, sys; from jaxinfl.store import writing\n"
        "with writing(pathlib.Path(sys.argv[1])):\n"
        "    (pathlib.Path(sys.argv[1]) / 'UNFINISHED').touch(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(RunDirectoryError, match=f"process {holder.pid} on"):
        train(toy, run)
    holder.kill()
    holder.communicate()
    assert json.loads((run / "writer.json").read_text())["pid"] == holder.pid
    assert_same(train(toy, run), whole)


def test_finished_runs_are_read_while_another_process_writes(toy, whole, tmp_path):
    train(toy, tmp_path / "run")
    with writing(tmp_path / "run"):
        assert_same(train(toy, tmp_path / "run"), whole)
        assert len(Ensemble.open(tmp_path / "run")) == MODELS


IN_A_CLUSTER = """
import sys
import jax

number = int(sys.argv[2])
jax.distributed.initialize(f"localhost:{sys.argv[3]}", 2, number)
# Only now: what they make of JAX starts it.
from tests.conftest import make_data
from tests.small_run import train

assert jax.device_count() > jax.local_device_count()
runs = train(make_data(), sys.argv[1], part=(number + 1, 2), keep_weights=True, checkpoint_every=1e-9)
print(runs.num_models)
"""


@pytest.mark.slow
def test_processes_of_a_cluster_train_a_part_each_on_their_own_devices(toy, whole, tmp_path):
    """After `jax.distributed.initialize` every process sees the devices of all, and can use its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", IN_A_CLUSTER, str(tmp_path / "run")]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, number, port], **pipes) for number in ("0", "1")]
    for process in processes:
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert int(said) in (MODELS // 2, MODELS // 2 + 1, MODELS)
    runs = Ensemble.open(tmp_path / "run")
    assert runs.complete
    assert_same(runs, whole)
    for one, other in zip(jax.tree.leaves(runs.weights()), jax.tree.leaves(whole.weights()), strict=True):
        np.testing.assert_array_equal(one, other)
