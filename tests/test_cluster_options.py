"""What a cluster is asked for and what its workers are told: options, cores, GPUs, and what was agreed on for a run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import types
from collections import deque

import pytest

from jaxinfl import Cluster, ClusterError
from jaxinfl.cluster import cards, jobs
from jaxinfl.cluster.options import parse_memory, parse_minutes
from jaxinfl.cluster.worker import Setting, pack_job, share_cores
from jaxinfl.training.agreement import Agreement, Devices, Disagreement
from jaxinfl.training.run import RunOptions
from jaxinfl.training.tuning import MachineChoice
from tests.cluster_child import make_job


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90m", 90),
        ("4h", 240),
        ("2d", 2880),
        ("30s", 0.5),
        ("1.5h", 90),
        ("1-12:00:00", 2160),
        ("00:20:30", 20.5),
        ("30:00", 30),
        ("1-06", 1800),
        ("1-06:30", 1830),
        ("100:00:00", 6000),
    ],
)
def test_times(text, minutes):
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize(
    "text", ["", "0h", "-1h", "4", "four hours", "4 weeks", "nan h", "1:2:3:4", "1-", "30", "1-2:3"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"cluster time is .* it takes a time above 0, such as 90m"):
        Cluster("slurm", time=text)


def test_memory():
    assert [parse_memory(text) for text in ("32GB", "500 MB", "1T", None)] == [32, 0.5, 1000, None]
    for text in ("32", "0GB", "much"):
        with pytest.raises(ValueError, match="it takes a size above 0, such as 32GB"):
            Cluster("slurm", memory=text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "pbs"}, "cluster kind is 'pbs'; it takes one of 'local', 'slurm', 'ray'"),
        ({"kind": "local", "partition": "gpu"}, "which does not belong to local; it belongs to slurm"),
        ({"partition": "gpu"}, "which is given without a cluster"),
        ({"kind": "ray", "on_interrupt": "leave"}, "which ray does not take: the driver writes"),
        ({"kind": "local", "on_interrupt": "ask"}, "it takes one of 'cancel', 'leave'"),
        ({"kind": "local", "retries": -1}, "cluster retries is -1"),
        ({"kind": "slurm", "gpus": -1}, "cluster gpus is -1"),
        ({"kind": "local", "cores": 0}, "cluster cores is 0"),
        ({"kind": "slurm", "address": "here:1"}, "it belongs to ray"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        Cluster(**options)


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        (range(8), 2, [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (range(5), 2, [(0, 1), (2, 3, 4)]),
        ((0, 3), 4, [(0,), (3,), (0,), (3,)]),
        ((7,), 1, [(7,)]),
    ],
)
def test_cores_are_shared(cores, workers, shares):
    assert share_cores(list(cores), workers) == shares


def test_workers_with_other_versions_or_another_job_are_refused():
    setting = Setting.of_job(make_job(), None)
    setting = dataclasses.replace(setting, versions=setting.versions | {"jax": "0.1"})
    with pytest.raises(Disagreement, match=r"is driven with jax 0\.1, and this worker has"):
        setting.prepare()
    with pytest.raises(Disagreement, match="the job that arrived here is not the one that was sent"):
        setting.unpack_job(pack_job(make_job(epochs=3)))


def test_a_worker_of_a_pool_keeps_to_what_an_older_run_recorded_or_says_why_not():
    """A run may be a year old: then no worker has its versions, and none may be asked again and again."""
    pytest.importorskip("ray")
    from jaxinfl.cluster.ray_worker import ShardWorker

    worker, job, choice = ShardWorker(), make_job(epochs=1), MachineChoice(tune=False)
    worker._job, models = job, (len(job), 0)
    decided = worker.begin(None, [], choice, None, *models).agreement
    other = dataclasses.replace(decided, versions=decided.versions | {"jax": "0.1"})
    with pytest.raises(Disagreement, match=r"started with jax 0\.1, .* Install jax==0\.1 here"):
        worker.begin(None, [], choice, other, *models)
    threads = dataclasses.replace(decided.devices, threads=decided.devices.threads + 1)
    other = dataclasses.replace(decided, devices=threads)
    with pytest.raises(Disagreement, match="threads of XLA"):
        worker.begin(None, [], choice, other, *models)
    worker.begin(None, [], dataclasses.replace(choice, mixed_devices=True), other, *models)
    # Runs of the first generation record neither kind nor threads.
    old = dataclasses.replace(decided, devices=dataclasses.replace(decided.devices, kind=None, threads=None))
    assert worker.begin(None, [], choice, old, *models).agreement == decided


def test_a_worker_is_told_what_to_keep_to_once():
    """One that decided otherwise gets ready once more, and then gets a shard."""
    pytest.importorskip("ray")
    from jaxinfl.cluster import ray_pool

    decided = Agreement(Devices("cpu", "this", 8, 1), 2, "gemm", 1, {"jax": "1"})
    calls = []
    actor = types.SimpleNamespace(train=types.SimpleNamespace(remote=lambda *shard: calls.append("train")))
    prepared = ray_pool.Prepared(dataclasses.replace(decided, width=1), None, None, "here")
    member = ray_pool._Member(actor, None, None, None, prepared)
    checkpoint = types.SimpleNamespace(of_shard=lambda shard: types.SimpleNamespace(read=lambda: None))
    store = types.SimpleNamespace(checkpoint=checkpoint)
    work = ray_pool._Shards(deque([slice(0, 2)]), lambda *told: calls.append("begin"), decided, store)
    options = RunOptions(None, 30.0, 0.05, False, None)
    pool = ray_pool.RayPool(Cluster("ray"), 1, MachineChoice(), None, options)
    pool._employ(member, work)
    # Versions that a run records differ from those of its workers for ever.
    pool._employ(member, work)
    assert calls == ["begin", "train"] and member.told is decided


def test_ctrl_c_while_jobs_are_started_is_for_this_process_alone_and_not_lost():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        with jobs._not_interrupted_with_us():
            os.kill(os.getpid(), signal.SIGINT)
            started = subprocess.run(
                ["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True, check=False
            )
        assert came
    finally:
        signal.signal(signal.SIGINT, before)
    if started.returncode == 0:  # on Linux
        assert int(started.stdout.split()[1], 16) & (1 << (signal.SIGINT - 1))


def test_slurm_is_asked_from_time_to_time(tmp_path, monkeypatch):
    """A job that was killed would count as running for minutes, if submitit alone decided when to ask."""
    submitit = pytest.importorskip("submitit")
    asked = []
    monkeypatch.setattr(submitit.SlurmJob.watcher, "update", lambda: asked.append(1))
    launcher = jobs.SlurmLauncher(Cluster("slurm"), tmp_path, 1)
    launcher.look()
    assert not asked
    launcher._asked -= 20
    launcher.look()
    launcher.look()
    assert len(asked) == 1


def test_gpus_are_those_that_the_user_sees(monkeypatch, tmp_path):
    """A machine may be shared: jobs divide what CUDA_VISIBLE_DEVICES names."""
    cluster = Cluster("local", gpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,GPU-a,7")
    assert [cards.cards_of(cluster, place) for place in (0, 1)] == ["4,5", "GPU-a,7"]
    cards.check_cards(cluster, 2)
    with pytest.raises(ClusterError, match="3 jobs of 2 GPUs each take 6, and CUDA_VISIBLE_DEVICES names 4"):
        cards.check_cards(cluster, 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert cards.cards_of(cluster, 1) == "2,3" and cards.cards_of(Cluster("local"), 1) is None
    monkeypatch.setattr(cards, "_DRIVER", tmp_path)
    with pytest.raises(ClusterError, match="take 2, and this machine has 0"):
        cards.check_cards(cluster, 1)
    cards.check_cards(Cluster("local"), 9)


def test_a_worker_that_finds_no_gpu_says_so_and_has_the_users_modules(tmp_path):
    """The worker is a process of its own, because a setting is for one whose JAX is not running."""
    (tmp_path / "of_the_user.py").write_text("there = True\n")
    code = (
        "import dataclasses, json, sys\n"
        "from tests.cluster_child import make_job\n"
        "from jaxinfl.cluster.worker import Setting\n"
        "from jaxinfl.training.agreement import Disagreement\n"
        "job = make_job(epochs=1)\n"
        "setting = Setting.of_job(job, None)\n"
        "setting = dataclasses.replace(setting, modules=(sys.argv[1],), cards='3')\n"
        "try:\n"
        "    setting.prepare()\n"
        "except Disagreement as error:\n"
        "    import of_the_user\n"
        "    print(json.dumps([str(error), of_the_user.there]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    message, there = json.loads(done.stdout)
    assert "was given the GPU 3, and JAX finds none there" in message and there


def make_slurm_job(state, tmp_path):
    """A job of Slurm of which sacct says this state."""
    paths = types.SimpleNamespace(result_pickle=tmp_path / "result.pkl")
    watcher = types.SimpleNamespace(get_state=lambda name: state)
    return jobs.SlurmJob("7_1", tmp_path / "log", types.SimpleNamespace(paths=paths, watcher=watcher))


@pytest.mark.parametrize(
    ("state", "ended"),
    [("RUNNING", False), ("SUSPENDED", False), ("COMPLETED", True), ("CANCELLED by 1000", True), ("NODE_FAIL", True)],
)
def test_what_slurm_calls_the_end_of_a_job(state, ended, tmp_path):
    job = make_slurm_job(state, tmp_path)
    assert job.ended() is ended
    (tmp_path / "result.pkl").touch()
    assert job.ended()


@pytest.mark.parametrize("state", ["PREEMPTED", "UNKNOWN"])
def test_the_queue_says_whether_an_unclear_job_comes_back(state, tmp_path, monkeypatch):
    """Where Slurm cancels what it pre-empts, the state stays for ever; where it requeues, for a moment."""
    squeue, said = tmp_path / "squeue", tmp_path / "said"
    squeue.write_text(f"#!/bin/sh\ncat {said}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = make_slurm_job(state, tmp_path)
    said.write_text("PENDING\n")
    assert not job.ended()
    job._searched -= 20
    assert not job.ended()
    said.write_text("")
    job._searched -= 20
    assert job.ended()
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    job._searched -= 20
    assert job.ended()
    squeue.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    job._searched -= 20
    assert not job.ended()


def test_a_clock_that_is_set_changes_no_process():
    """psutil computes when a process was created from the clock."""
    own = jobs.psutil.Process()
    assert not jobs.LocalJob(str(own.pid), own.create_time() + 1.0, None).ended()
    assert jobs.LocalJob(str(own.pid), own.create_time() + 60.0, None).ended()
