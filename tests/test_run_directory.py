"""Whole trainings into run directories: stopped and gone on with, read again, refused where they are another run's."""

import dataclasses

import pytest

import jaxinfl
from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.store import RunStore
from jaxinfl.training.job import Job
from tests.conftest import make_data
from tests.small_ensembles import RECIPE, assert_same, keys_of, stop_after_one_shard, subsets, train


def test_interrupted_and_continued_equals_uninterrupted(toy, base, tmp_path, monkeypatch, capsys):
    """Rule 4: Ctrl-C while a shard is on its way; the same call goes on and trains only what is missing."""
    write, written = RunStore.write, []

    def interrupted_write(store, shard, rows, diverged):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(shard)
        write(store, shard, rows, diverged)

    monkeypatch.setattr(RunStore, "write", interrupted_write)
    with pytest.raises(KeyboardInterrupt):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", shard_size=2)
    assert "2 of 6 models are finished and kept in" in capsys.readouterr().err
    partial = Ensemble.open(tmp_path / "run")
    assert not partial.complete and list(partial.model_index) == [0, 1]
    assert_same(partial, base, other_rows=slice(0, 2))

    monkeypatch.setattr(
        RunStore, "write", lambda store, shard, *rest: (written.append(shard), write(store, shard, *rest))
    )
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert [(shard.start, shard.stop) for shard in written] == [(0, 2), (2, 4), (4, 6)]
    assert_same(runs, base)
    assert_same(Ensemble.open(tmp_path / "run"), base)


def test_a_finished_run_is_read_and_not_trained(toy, tmp_path, monkeypatch):
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    monkeypatch.setattr("jaxinfl.training.tuning.Machine", None)
    costs = []
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", on_cost=costs.append), runs)
    assert not costs


def test_width_and_kernels_of_a_run_stay(toy, tmp_path, compiled_quickly):
    with stop_after_one_shard():
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", shard_size=2, width=4)
    for change in ({"width": 1}, {"kernels": "xla"}):
        with pytest.raises(RunDirectoryError, match=f"differs in {next(iter(change))}"):
            train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", **change)
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert_same(runs, train(subsets(), keys_of(6), toy, width=4))


def test_a_run_in_an_empty_directory_that_is_there(toy, base, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "link"), base)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert_same(train(subsets(), keys_of(6), toy, run_dir="."), base)
    assert_same(Ensemble.open(tmp_path / "here"), base)


def test_the_same_data_under_another_name_goes_on(toy, tmp_path):
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    renamed = jaxinfl.Dataset(
        train_inputs=toy.train_inputs,
        train_targets=toy.train_targets,
        test_inputs=toy.test_inputs,
        test_targets=toy.test_targets,
        name="moved",
    )
    assert_same(train(subsets(), keys_of(6), renamed, run_dir=tmp_path / "run"), runs)


def test_a_run_from_before_a_field_of_the_recipe_goes_on(toy, base, tmp_path, monkeypatch):
    """Its description lacks the field, which then has its default."""

    whole = Job.identity.func

    def older(job):
        identity = whole(job)
        for field in ("microbatch", "resized_crop"):
            del identity["recipe"][field]
        return identity

    with monkeypatch.context() as patch:
        patch.setattr(Job, "identity", property(older))
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run"), base)
    other = dataclasses.replace(RECIPE, microbatch=4)
    with pytest.raises(RunDirectoryError, match=r"differs in recipe \(microbatch\): None there, 4 now"):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", recipe=other)


def test_a_foreign_directory_is_refused(toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no jaxinfl run"):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path)


def test_the_plan_is_announced(toy, tmp_path):
    costs = []
    train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", on_cost=costs.append)
    (plan,) = costs
    assert plan.num_models == 6 and plan.finished == 0 and plan.seconds > 0
    assert plan.num_params == sum(9 * a * b + 2 * b for a, b in ((1, 4), (4, 8))) + 8 * 3 + 3
    used = sum(file.stat().st_size for file in (tmp_path / "run").rglob("c/**/*") if file.is_file())
    assert used <= plan.disk_bytes + 4096  # keys, labels and checksums of so small a run
    for word in ("6 x", "parameters", "models per hour", "disk"):
        assert word in plan.describe()


def test_the_run_says_how_it_was_made(toy, tmp_path):
    text = repr(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run"))
    for word in ("6 of 6 models", "tiny_cnn", "toy: 40 train, 12 test", "epochs=2", "jax 0.", "pytest", "2 x cpu"):
        assert word in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": make_data(seed=3)}, r"differs in data \(fingerprint\)"),
        ({"masks": subsets(seed=2)}, "differs in masks"),
        ({"keys": keys_of(6, seed=2)}, "differs in keys"),
        ({"model": "mlp"}, r"differs in model \(name\)"),
        ({"recipe": dataclasses.replace(RECIPE, epochs=3)}, r"differs in recipe \(epochs\): 2 there, 3 now"),
        ({"recipe": dataclasses.replace(RECIPE, crop_padding=0)}, r"differs in recipe \(crop_padding\)"),
    ],
)
def test_another_run_is_refused_by_name(toy, tmp_path, change, message):
    arguments = {"masks": subsets(), "keys": keys_of(6), "data": toy, "run_dir": tmp_path / "run"}
    train(**arguments)
    with pytest.raises(RunDirectoryError, match=message + ".*Use another run_dir"):
        train(**arguments | change)
