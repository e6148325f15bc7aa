"""What decides the last bits of a run is decided once, and whoever cannot keep to it is refused."""

import dataclasses
import logging
import pickle
import re

import cloudpickle
import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Ensemble, OutOfMemory, RunDirectoryError, verify
from jaxinfl.training import agreement, cost, loop, workforce
from jaxinfl.training.agreement import FILE, Agreement, Devices, Disagreement, agree, find_agreement
from jaxinfl.training.job import Job
from tests.kinds_of_data import KINDS
from tests.small_run import MODELS, assert_same, train

HERE = Agreement(Devices("gpu", "H100", None, 8), 64, "gemm", 8, {"jax": "1"})


def test_the_first_proposal_stands(tmp_path):
    other = Agreement(Devices("gpu", "A100", None, 1), 8, "xla", 1, {"jax": "2"})
    assert find_agreement(tmp_path) is None
    assert agree(tmp_path, HERE) == HERE
    assert agree(tmp_path, other) == HERE == find_agreement(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_file_system_without_links_has_one_agreement_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    assert agree(tmp_path, HERE) == HERE
    assert find_agreement(tmp_path) == HERE


def test_parts_use_what_the_first_of_them_decided(toy, tmp_path):
    """Each part would choose another width by itself, which changes the last bits."""
    run = tmp_path / "run"
    train(toy, run, part=(2, 3))
    assert (run / FILE).exists()
    for number in (1, 3):
        train(toy, run, part=(number, 3), width=None)
    runs = Ensemble.open(run)
    assert runs.attributes["execution"]["width"] == 2
    assert_same(runs, train(toy))
    assert not (run / FILE).exists()  # every part records it
    with pytest.raises(RunDirectoryError, match="differs in width: 2 there, 1 now"):
        train(toy, tmp_path / "again", part=(1, 3)) and train(toy, tmp_path / "again", part=(2, 3), width=1)


def stop_after(shards, monkeypatch):
    """Stop a run with an error when so many shards are trained."""
    whole = loop.ShardTraining.train
    left = iter(range(shards))

    def fail(self):
        if next(left, None) is None:
            raise ZeroDivisionError
        return whole(self)

    monkeypatch.setattr(loop.ShardTraining, "train", fail)


@pytest.fixture
def begun(toy, tmp_path):
    """A run of which the first shard of three is finished."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        stop_after(1, patch)
        train(toy, tmp_path / "begun", shard_size=3)
    return tmp_path / "begun"


def test_devices_of_another_kind_are_refused_or_recorded(toy, begun, monkeypatch):
    here = agreement.device_kind()
    monkeypatch.setattr(agreement, "device_kind", lambda: "Other Card")
    monkeypatch.setattr(workforce, "device_kind", lambda: "Other Card")
    with pytest.raises(Disagreement, match=r"was started on .* this process has Other Card .* pass mixed_devices=True"):
        train(toy, begun, shard_size=3)
    runs = train(toy, begun, shard_size=3, mixed_devices=True)
    assert runs.device_kinds.tolist() == [here] * 3 + ["Other Card"] * 6
    assert runs[[0, 8]].device_kinds.tolist() == [here, "Other Card"]
    assert f"3 models on {here}, 6 models on Other Card" in repr(runs)


def test_another_number_of_threads_is_told_of_a_run_and_refused_of_a_part(toy, begun, tmp_path, monkeypatch, caplog):
    threads = agreement.num_threads()
    train(toy, tmp_path / "parts", part=(1, 2))
    monkeypatch.setenv("NPROC", "77")
    said = rf"has 77, .*Set the environment variable NPROC={threads} before"
    with pytest.raises(Disagreement, match=said):
        train(toy, tmp_path / "parts", part=(2, 2))
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        assert_same(train(toy, begun, shard_size=3), train(toy))  # this process has its threads already
    assert re.search(said, caplog.text)
    assert train(toy, tmp_path / "parts", part=(2, 2), mixed_devices=True).complete
    monkeypatch.setenv("NPROC", str(threads))
    assert_same(train(toy, tmp_path / "parts"), train(toy))


def test_other_versions_are_told_of_a_run_and_refused_of_a_part(toy, begun, tmp_path, monkeypatch, caplog):
    train(toy, tmp_path / "parts", part=(1, 2))
    monkeypatch.setattr(agreement, "own_versions", lambda: dict.fromkeys(agreement.VERSIONS, "99.0"))
    with pytest.raises(Disagreement, match=r"this process has 99\.0, .*Install jaxinfl=="):
        train(toy, tmp_path / "parts", part=(2, 2))
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        train(toy, begun, shard_size=3)
    assert "and this process has 99.0" in caplog.text


def test_a_run_from_before_devices_were_recorded_takes_no_others(toy):
    old = Devices("cpu", None, None, 2)
    old.check_kind(Devices("cpu", "any", 2, 2), None)
    assert old.other_threads(Devices("cpu", "any", 8, 2), None) is None
    assert "JAX_NUM_CPU_DEVICES=2" in str(old.other_threads(Devices("cpu", "any", 1, 1), None))
    # On another platform the kind is what differs.
    assert old.other_threads(Devices("gpu", "any", None, 1), None) is None
    with pytest.raises(Disagreement, match="too old to record the device of each model"):
        old.check_kind(Devices("gpu", "H100", None, 2), None)


def test_a_part_keeps_its_width_where_memory_runs_out(toy, tmp_path, monkeypatch):
    def run_out(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(loop.ShardTraining, "train", run_out)
    with pytest.raises(OutOfMemory, match=r"2 x small_mlp at once do not fit .* so it stays"):
        train(toy, tmp_path / "run", part=(1, 2))


def test_a_part_whose_width_does_not_fit_from_the_start_is_given_up(toy, tmp_path, monkeypatch):
    """Timing its programs runs out of memory at the width that was agreed on, and half of it would change bits."""
    train(toy, tmp_path / "run", part=(1, 2))
    cost_of = cost.cost_of

    def run_out(job, machine, models, finished):
        if machine.execution.width == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return cost_of(job, machine, models, finished)

    monkeypatch.setattr(cost, "cost_of", run_out)
    with pytest.raises(OutOfMemory, match=r"at once do not fit .* so it stays"):
        train(toy, tmp_path / "run", part=(2, 2))
    assert train(toy, tmp_path / "whole").attributes["execution"]["width"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_the_same_job_in_another_process(kind):
    data, model, recipe, _ = KINDS[kind]
    masks = jaxinfl.draw_subsets(3, data.num_train)
    job = Job.make(masks, jax.random.split(jax.random.key(0), 3), data, model, recipe)
    again = pickle.loads(cloudpickle.dumps(job))
    assert isinstance(again, Job)
    assert again.identity == job.identity
    assert (again.data.task is job.data.task) == (job.data.task.name in ("classification", "binary", "next_token"))


def test_the_device_of_every_model_is_kept(toy, tmp_path):
    runs = train(toy, tmp_path / "run")
    assert runs.device_kinds.shape == (MODELS,)
    assert set(runs.device_kinds) == {agreement.device_kind()}
    runs.save(tmp_path / "saved")
    np.testing.assert_array_equal(jaxinfl.Ensemble.open(tmp_path / "saved").device_kinds, runs.device_kinds)
    next(path for path in (tmp_path / "saved" / "device_kind" / "c" / "0").iterdir()).unlink()
    damaged = jaxinfl.Ensemble.open(tmp_path / "saved")
    assert f"Ensemble of {MODELS}" in repr(damaged)
    with pytest.raises(RunDirectoryError, match=r"device_kind in .* is damaged or missing"):
        _ = damaged.device_kinds


def test_a_repair_keeps_to_what_was_agreed_on(tmp_path, monkeypatch):
    """A repair trains nothing on another device or with other threads, unless it is told to."""
    data = jaxinfl.load_dataset("digits")
    masks, keys = jaxinfl.draw_subsets(4, data.num_train), jax.random.split(jax.random.key(0), 4)
    run = tmp_path / "run"
    arguments = {"data": data, "model": "small_mlp", "recipe": jaxinfl.Recipe(epochs=1), "tune": False}
    whole = jaxinfl.train_ensemble(masks, keys, **arguments, run_dir=run, shard_size=2, progress=False)
    margins = whole.test_margin
    next(path for path in (run / "test_margin" / "c" / "0").iterdir()).unlink()
    options = verify.Options(run_dir=run, repair=True)
    with monkeypatch.context() as patch, pytest.raises(RunDirectoryError, match=r"has 77, .* --mixed-devices"):
        patch.setenv("NPROC", "77")
        verify.repair(options)
    monkeypatch.setattr(agreement, "device_kind", lambda: "Other Card")
    with pytest.raises(RunDirectoryError, match=r"this process has Other Card .* --mixed-devices"):
        verify.repair(dataclasses.replace(options))
    verify.repair(dataclasses.replace(options, mixed_devices=True))
    np.testing.assert_array_equal(Ensemble.open(run).test_margin, margins)
