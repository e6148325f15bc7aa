"""Runs that workers of a real local cluster of Ray train, with workers, nodes and the driving process killed."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import jax
import psutil
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import Cluster, ClusterError, Ensemble
from jaxinfl.cluster import ray_local
from jaxinfl.store import RunStore
from jaxinfl.store.damage import find_damage
from jaxinfl.store.parts import part_path
from tests.cluster_child import LONG, MODELS, make_job, train
from tests.ray_nodes import RayNodes
from tests.test_cluster import PATIENCE, assert_same, finished, long_reference, reference, start_child, wait_until

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")
__all__ = ["long_reference", "reference"]


MARK = "JAXINFL_TEST_OF_RAY"
"""Variable of the environment that names the test which started a process: other tests and users have workers of Ray, too."""


@pytest.fixture(autouse=True)
def mark(monkeypatch):
    monkeypatch.setenv(MARK, uuid.uuid4().hex)


@pytest.fixture
def nodes(monkeypatch):
    # Ray replaces 127.0.0.1 by an address that other machines see, unless it is told that there are none.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = RayNodes(dict(os.environ))
    yield found
    found.close()


def workers():
    """The processes in which Ray's workers of this test are."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(MARK) == os.environ[MARK]
            if ours and any("ray::ShardWorker" in part for part in process.info["cmdline"] or ()):
                found.append(process)
    return found


def child_on(nodes, run, **environment):
    return start_child(run, "ray", f"address={nodes.address}", **environment)


def end(child):
    said = child.communicate()
    assert child.returncode == 0, said
    return said


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_same_bits_on_any_number_of_nodes(number, nodes, tmp_path, reference):
    for _ in range(number):
        nodes.add()
    end(child_on(nodes, tmp_path / "run"))
    assert_same(Ensemble.open(tmp_path / "run"), reference)


def test_killed_workers_nodes_and_drivers_change_no_bit(nodes, tmp_path, long_reference):
    """Ten kills: six workers, two nodes and two driving processes."""
    moments, run = random.Random(0), tmp_path / "run"
    there = [nodes.add() for _ in range(3)]
    child = child_on(nodes, run, EPOCHS=str(LONG))
    for kill in ("worker", "worker", "node", "driver", "worker", "worker", "node", "worker", "driver", "worker"):
        wait_until(lambda child=child: workers() or child.poll() is not None)
        time.sleep(moments.uniform(0, 3))
        if child.poll() is None:
            if kill == "worker":
                for process in moments.sample(workers(), min(1, len(workers()))):
                    process.kill()
            elif kill == "node":
                nodes.remove(there.pop(0))
                there.append(nodes.add())
            else:
                child.kill()
        if child.poll() is not None or kill == "driver":
            child.communicate()
            if finished(run) == MODELS:
                assert_same(Ensemble.open(run), long_reference)
                run = tmp_path / f"after-{kill}-{time.monotonic_ns()}"
            child = child_on(nodes, run, EPOCHS=str(LONG))
    end(child)
    assert_same(Ensemble.open(run), long_reference)
    assert not find_damage(run)


def test_a_run_that_was_begun_in_parts_keeps_to_what_was_agreed_there(nodes, tmp_path):
    """Workers would choose another width by themselves."""
    run, job = tmp_path / "run", make_job(1)[:8]
    jaxinfl.train_ensemble(
        job.masks, job.keys, data=job.data, model="small_mlp", recipe=job.recipe, run_dir=run, part=(1, 2), width=2, tune=False,
        keep_weights=True, progress=False,
    )  # fmt: skip
    nodes.add()
    command = "import sys; from tests.cluster_child import *; train(sys.argv[1], jaxinfl.Cluster('ray', address=sys.argv[2]), job=make_job(1)[:8])"
    subprocess.run([sys.executable, "-c", command, str(run), nodes.address], check=True, timeout=PATIENCE)
    parts = [RunStore.open(part_path(run, (number, 2)), writable=False) for number in (1, 2)]
    assert [part.attributes["execution"]["width"] for part in parts] == [2, 2]
    assert Ensemble.open(run).complete and not (run / "agreement.json").exists()


def test_a_long_shard_goes_on_from_its_checkpoint_on_another_worker(nodes, tmp_path, long_reference):
    """All models are one shard. Its worker is killed, and then the driving process too."""
    nodes.add()
    run, saved = tmp_path / "run", tmp_path / "run" / "checkpoint" / "shard-000000"
    command = "import sys, tests.test_cluster_ray as tests; tests.train_as_one_shard(*sys.argv[1:])"
    start = [sys.executable, "-c", command, str(run), nodes.address]

    def newest():
        return max((path.name for path in saved.glob("*.json")), default="")

    child = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: newest() or child.poll() is not None)
    assert child.poll() is None, child.communicate()
    for process in workers():
        process.kill()
    before = newest()
    wait_until(lambda: newest() > before or child.poll() is not None)
    child.kill()
    child.communicate()
    wait_until(lambda: not workers())
    subprocess.run(start, check=True, timeout=PATIENCE)
    assert_same(Ensemble.open(run), long_reference)
    assert not saved.exists() and not find_damage(run)


def train_as_one_shard(run, address):
    train(run, Cluster("ray", address=address), job=make_job(LONG), shard_size=MODELS, checkpoint_every=0.1)


def test_a_pool_of_this_machine_is_started_without_a_fork_and_ended(tmp_path, reference):
    child = start_child(tmp_path / "run", "ray", PYTHONWARNINGS="error")
    said, warned = end(child)
    assert "returned" in said and "fork" not in warned
    assert_same(Ensemble.open(tmp_path / "run"), reference)
    wait_until(lambda: not workers())


def test_ctrl_c_ends_the_workers_and_the_same_call_goes_on(nodes, tmp_path, long_reference):
    nodes.add()
    run = tmp_path / "run"
    child = child_on(nodes, run, EPOCHS=str(LONG))
    wait_until(lambda: finished(run) > 0)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 1 and "models are finished and kept in" in said and "The same call goes on" in said
    wait_until(lambda: not workers())
    end(child_on(nodes, run, EPOCHS=str(LONG)))
    assert_same(Ensemble.open(run), long_reference)


def test_an_address_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_local, "PATIENCE", 2.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address, message in (
        (f"127.0.0.1:{port}", f"does not answer at 127.0.0.1:{port} .* by `ray start --head --port={port}`"),
        ("192.0.2.77:6379", "does not answer at 192.0.2.77:6379"),
        ("somewhere", "it takes host:port of the head node"),
    ):
        begun = time.monotonic()
        with pytest.raises(ClusterError, match=message):
            train(tmp_path / "run", Cluster("ray", address=address))
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_an_address_of_something_else(answer, tmp_path, monkeypatch):
    """It hangs up, answers something else, or takes the connection and says nothing."""
    monkeypatch.setattr(ray_local, "PATIENCE", 2.0)
    taken = []

    def serve():
        taken.append(server.accept()[0])
        if answer is not None:
            taken[0].sendall(answer)
            taken[0].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(ClusterError, match="Ray does not answer at"):
            train(tmp_path / "run", Cluster("ray", address=f"127.0.0.1:{server.getsockname()[1]}"))
        assert time.monotonic() - begun < 10
        thread.join()
        taken[0].close()


class Once(nnx.Module):
    """A model that the first worker which tries cannot build, for a reason that the environment names."""

    def __init__(self, rngs):
        marker, reason = os.environ["ONCE"].split("|")
        at_work = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
        if at_work and not os.path.exists(marker):
            open(marker, "w").close()
            raise MemoryError(reason) if reason == "no room" else OSError(28, reason)
        self.layer = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        return self.layer(images.reshape(len(images), -1))


def train_once(run, address):
    """Train four such models, one a shard; a process of its own calls it."""
    data = jaxinfl.load_dataset("digits")
    masks, keys = jaxinfl.draw_subsets(4, data.num_train), jax.random.split(jax.random.key(0), 4)
    job = jaxinfl.Job.make(masks, keys, data, Once, jaxinfl.Recipe(epochs=1))
    return jaxinfl.train_on_cluster(job, run, cluster=Cluster("ray", address=address), tune=False, shard_size=1)


@pytest.mark.parametrize("reason", ["no room", "No space left on device"])
def test_a_node_without_memory_or_disk_gives_its_models_back(reason, tmp_path, monkeypatch, nodes):
    monkeypatch.setenv("ONCE", f"{tmp_path / 'marker'}|{reason}")
    other = RayNodes(dict(os.environ))  # its nodes know the variable
    try:
        other.add()
        other.add()
        command = "import sys, tests.test_cluster_ray as tests; tests.train_once(*sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", command, str(tmp_path / "run"), other.address],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        other.close()
    assert done.returncode == 0, done.stderr
    assert "gave its models back, and gets no others" in done.stderr and reason in done.stderr
    assert Ensemble.open(tmp_path / "run").complete


def test_a_node_of_another_kind_gives_its_models_back_or_is_recorded(nodes, tmp_path, monkeypatch):
    """A node says that it has another processor."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sitecustomize.py").write_text(
        "import pathlib\n"
        "read = pathlib.Path.read_text\n"
        "def read_text(self, *args, **options):\n"
        "    text = read(self, *args, **options)\n"
        "    return 'model name : Other\\n' if str(self) == '/proc/cpuinfo' else text\n"
        "pathlib.Path.read_text = read_text\n"
    )
    first = nodes.add()
    run = tmp_path / "run"
    child = child_on(nodes, run, EPOCHS=str(LONG))  # so that models are left when the first node is gone
    wait_until(lambda: finished(run) > 0)
    nodes.remove(first)  # before the other one is added, which takes seconds
    nodes.add(str(tmp_path / "other"))
    _, said = child.communicate()
    assert child.returncode == 1 and "No node of the pool can train these models" in said
    assert "this process has Other" in said and "mixed_devices=True" in said
    before = finished(run)
    assert 0 < before < MODELS
    command = "import sys; from tests.cluster_child import *; train(sys.argv[1], jaxinfl.Cluster('ray', address=sys.argv[2]), job=make_job(LONG), mixed_devices=True)"
    subprocess.run([sys.executable, "-c", command, str(run), nodes.address], check=True, timeout=PATIENCE)
    kinds = Ensemble.open(run).device_kinds
    assert sum(kind == "Other" for kind in kinds) == MODELS - before
