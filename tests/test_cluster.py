"""Runs that many processes train: options, errors, and the same bits from jobs on this machine."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import psutil
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import Cluster, ClusterError, Ensemble, RunDirectoryError
from jaxinfl.store import ABSENT, RunStore
from jaxinfl.store.damage import find_damage
from jaxinfl.store.lock import writing
from jaxinfl.store.parts import open_rows, part_path
from tests import fake_slurm
from tests.cluster_child import LONG, MODELS, make_job, train, train_alone

ARRAYS = ("masks", "key_data", "train_prediction", "test_prediction", "train_margin", "test_margin")


def assert_same(runs, reference):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(runs, name), getattr(reference, name), err_msg=name)
    for one, other in zip(jax.tree.leaves(runs.weights()), jax.tree.leaves(reference.weights()), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The models of the job that tests of clusters train, from one process."""
    return train_alone(run_dir=tmp_path_factory.mktemp("reference") / "run")


@pytest.fixture(scope="session")
def long_reference():
    """The models of the job that tests disturb, from one process."""
    return train_alone(LONG)


def test_arguments_are_checked_before_anything_is_started(tmp_path):
    job = make_job()
    for arguments, error, message in (
        ({"job": "job"}, TypeError, r"it takes a jaxinfl\.Job"),
        ({"jobs": 0}, ValueError, "jobs is 0"),
        ({"cluster": 3}, TypeError, 'it takes "local", "slurm", "ray"'),
        ({"cluster": Cluster()}, TypeError, 'it takes "local", "slurm", "ray"'),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every"),
        ({"run_dir": 3}, TypeError, "run_dir"),
    ):
        with pytest.raises(error, match=message):
            jaxinfl.train_on_cluster(**{"job": job, "run_dir": tmp_path / "run"} | arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_in_parts_is_not_divided(tmp_path, reference, monkeypatch):
    """One that is finished is what was asked for, and needs no jobs."""
    assert_same(train(reference._store.path, Cluster("local")), reference)
    monkeypatch.setattr(RunStore, "status", lambda self: np.zeros(MODELS, np.uint8))
    with pytest.raises(RunDirectoryError, match="holds a run that is not in parts, which jobs cannot share"):
        train(reference._store.path, Cluster("local"))


def test_a_run_that_was_extended_is_finished_and_jobs_extend_none(tmp_path):
    """One process adds models to a finished run; jobs say that they cannot, and what does."""
    whole, run = make_job(epochs=1), tmp_path / "run"

    def train_here(number):
        job = whole[:number]
        return jaxinfl.train_ensemble(
            job.masks, job.keys, data=job.data, model="small_mlp", recipe=job.recipe, run_dir=run, keep_weights=True,
            tune=False, progress=False,
        )  # fmt: skip

    train_here(4)
    with pytest.raises(
        RunDirectoryError, match=r"holds 4 of these 24 models, and jobs cannot add models .* without a cluster"
    ):
        train(run, Cluster("local"), job=whole)
    extended = train_here(MODELS)
    assert_same(train(run, Cluster("local"), job=whole), extended)
    other = dataclasses.replace(whole, masks=np.roll(whole.masks, 1, axis=1))
    with pytest.raises(RunDirectoryError, match="belongs to another run: it differs in masks"):
        train(run, Cluster("local"), job=other)
    with pytest.raises(RunDirectoryError, match="holds a run of 24 models, but masks and keys have 4"):
        train(run, Cluster("local"), job=whole[:4])


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_another_run_is_not_taken_for_this_one(kind, tmp_path, reference):
    """Finished or in parts: the job is compared with what is there before anything is started."""
    pytest.importorskip("submitit" if kind == "local" else "ray")
    job = make_job(epochs=3)
    for path in (reference._store.path, tmp_path / "parts"):
        if path.name == "parts":
            other = make_job(epochs=1)
            jaxinfl.train_ensemble(
                other.masks, other.keys, data=other.data, model="small_mlp", recipe=other.recipe, run_dir=path,
                part=(1, 2), tune=False, progress=False, keep_weights=True,
            )  # fmt: skip
        with pytest.raises(RunDirectoryError, match=r"belongs to another run: it differs in recipe \(epochs\)"):
            jaxinfl.train_on_cluster(job, path, cluster=kind, progress=False)


def test_a_machine_without_slurm_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"this machine has no sbatch, .* or take cluster='local'"):
        train(tmp_path / "run", Cluster("slurm"))


def test_a_partition_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match=r"no partition 'none' for these jobs; it has cpu, gpu\. It says: sbatch"):
        train(tmp_path / "run", Cluster("slurm", partition="none"))


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    for package, kind, extra in (("submitit", "local", "slurm"), ("ray", "ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ClusterError, match=rf"needs {package}, .*pip install 'jaxinfl\[{extra}\]'"):
            train(tmp_path / kind, Cluster(kind))


def test_jobs_of_slurm_give_the_same_bits(tmp_path, reference, monkeypatch):
    """Four parts are one array; one of its tasks dies and is submitted again."""
    pytest.importorskip("submitit")
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    run, state = tmp_path / "run", tmp_path / "slurm" / "state"
    child = start_child(run, "slurm", "partition=gpu", "time=1h", "memory=2GB")
    wait_until(lambda: fake_slurm.trainers(state))
    next(iter(fake_slurm.trainers(state).values())).kill()
    said = child.communicate()
    assert child.returncode == 0, said
    assert_same(Ensemble.open(run), reference)
    script = (state / "1000.job").read_text()
    for line in (
        "array=0-3%4",
        "partition=gpu",
        "time=60",
        "mem=2000MB",
        "signal=USR2@90",
        "requeue",
        "gpus-per-node=1",
    ):
        assert f"#SBATCH --{line}\n" in script, script


def make_diverging(diverged):
    """A job of eight models, some of which diverge."""
    job = make_job(epochs=1)[:8]
    rates = np.where(np.arange(8) < diverged, 1e6, 0.1)
    return jaxinfl.Job.make(job.masks, job.keys, job.data, "small_mlp", job.recipe, overrides={"learning_rate": rates})


def test_diverged_models_are_judged_over_all_parts(tmp_path):
    """One of two models of a part is half of these, and an eighth of all. Too many are told also where the last shard has them."""
    pytest.importorskip("submitit")
    options = {"jobs": 4, "tune": False, "progress": False, "shard_size": 2, "max_diverged": 0.2}
    with pytest.warns(RuntimeWarning, match="1 of 8 models diverged"):
        runs = jaxinfl.train_on_cluster(make_diverging(1), tmp_path / "one", cluster="local", **options)
    assert runs.complete and runs.num_diverged == 1
    for _ in range(2):  # also where the run is finished
        with pytest.raises(jaxinfl.TooManyDiverged, match="8 of 8 finished models diverged"):
            jaxinfl.train_on_cluster(
                make_diverging(8), tmp_path / "all", cluster="local", **options | {"jobs": 1, "shard_size": 8}
            )


def test_a_run_has_one_watching_process_and_a_call_that_starts_nothing_leaves_nothing(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    run = tmp_path / "run"
    with writing(run / "cluster"), pytest.raises(ClusterError, match=rf"are watched by process {os.getpid()} on"):
        train(run, Cluster("local"))
    for name, value in fake_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match="no partition"):
        train(run, Cluster("slurm", partition="none"))
    job = make_job(epochs=1)[:2]
    runs = jaxinfl.train_ensemble(job.masks, job.keys, data=job.data, model="small_mlp", recipe=job.recipe, run_dir=run)
    assert runs.complete
    with pytest.raises(ValueError, match="takes a path without %"):
        train(tmp_path / "20%train", Cluster("local"))


class Unwilling(nnx.Module):
    """A model that only the process which starts the jobs can build."""

    def __init__(self, rngs):
        if "SUBMITIT_EXECUTOR" in os.environ:
            raise OSError("no licence for this machine")
        self.layer = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        return self.layer(images.reshape(len(images), -1))


def test_a_part_that_fails_is_told_with_its_models_and_its_log(tmp_path):
    pytest.importorskip("submitit")
    data = jaxinfl.load_dataset("digits")
    masks, keys = jaxinfl.draw_subsets(4, data.num_train), jax.random.split(jax.random.key(0), 4)
    job = jaxinfl.Job.make(masks, keys, data, Unwilling, jaxinfl.Recipe(epochs=1))
    with pytest.raises(ClusterError) as caught:
        jaxinfl.train_on_cluster(
            job, tmp_path / "run", jobs=1, cluster=Cluster("local", retries=1), tune=False, progress=False
        )
    message = str(caught.value)
    assert message.startswith("Part 1 of 1 (models 0 to 3) failed 2 times in a row on ")
    told, log = message.split("The end of its log")
    assert "no licence for this machine" in told and "OSError: no licence for this machine" in log


def workers(run):
    """The processes that train parts of a run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if "submitit.core._submit" in command and str(run) in command:
            found.append(process)
    return found


def finished(run):
    """Number of finished models of a run that is being trained."""
    try:
        return int((open_rows(run).status() != ABSENT).sum())
    except RunDirectoryError:
        return 0


PATIENCE = 600.0
"""Seconds until a test gives up: no test depends on how fast a machine is, so this is far more than a busy one takes."""


def wait_until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < PATIENCE, "it takes too long"
        time.sleep(0.05)


class Child(subprocess.Popen):
    """A process whose output goes to files: jobs that it starts and leaves have the same, and would keep a pipe open."""

    def __init__(self, command, folder, **options):
        place = folder / f"said-{time.monotonic_ns()}"
        self._files = [place.with_suffix(suffix) for suffix in (".out", ".err")]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            super().__init__(command, stdout=out, stderr=err, **options)

    def communicate(self):
        """Wait for this process alone, and return what it has written."""
        try:
            self.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            raise AssertionError(f"it takes too long, and said: {[file.read_text() for file in self._files]}") from None
        return tuple(file.read_text() for file in self._files)


def start_child(run, *arguments, **environment):
    command = [sys.executable, "-m", "tests.cluster_child", str(run), *arguments]
    return Child(command, run.parent, env={**os.environ, **environment}, start_new_session=True)


def test_jobs_of_this_machine_give_the_same_bits_after_kills_and_ctrl_c(tmp_path, reference):
    """Ctrl-C in a terminal reaches the driving process and its jobs; jobs that are left go on, and the same call finds them."""
    pytest.importorskip("submitit")
    run = tmp_path / "run"
    child = start_child(run, "local", "on_interrupt=leave")
    # All jobs are there, and have not yet read what they train: however fast the machine is, they are at work when Ctrl-C comes.
    wait_until(lambda: len(workers(run)) == 4)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode != 0 and "jobs go on; the same call finds them again" in said
    # A job dies: it is the one that the next call starts again. It finds the others.
    assert len(workers(run)) == 4
    workers(run)[0].kill()
    copy = list((run / "cluster").glob("job-*.pkl"))
    runs = train(run, Cluster("local"))
    assert_same(runs, reference)
    assert len(list((run / "cluster").glob("*_submitted.pkl"))) == 5
    assert set(runs.device_kinds) == set(reference.device_kinds)
    assert all(not find_damage(part_path(run, (number, 4))) for number in (1, 2, 3, 4))
    # Finished: nothing is started again, so that nothing is needed for it either. The copy of the data set goes, too, which is still
    # there where jobs that were left have finished the run.
    assert copy and not copy[0].exists()
    copy[0].touch()
    assert train(run, Cluster("local")).num_models == MODELS
    assert not copy[0].exists()
    assert isinstance(Ensemble.open(run), Ensemble)
