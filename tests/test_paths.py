"""Paths that a user gives, wherever they are taken, and runs that are looked for where they are not any more."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxinfl
from experiments.command_line import Mistake, results_folder
from jaxinfl import verify
from jaxinfl.arguments import as_path
from tests.small_ensembles import keys_of, subsets, train

URLS = ["s3://bucket/run", "gs://bucket/run", "https://host/run", "file:///run", Path("s3://bucket/run")]


def every_function(toy, path):
    return {
        "train_ensemble": lambda: train(subsets(), keys_of(6), toy, run_dir=path),
        "Ensemble.open": lambda: jaxinfl.Ensemble.open(path),
        "load_dataset": lambda: jaxinfl.load_dataset(path),
        "data_dir": lambda: jaxinfl.load_dataset("cifar10", path),
        "verify": lambda: verify.verify(path),
        "--out": lambda: results_folder(Path(path)),
    }


@pytest.mark.parametrize("url", URLS)
def test_urls_are_refused_by_name(toy, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in every_function(toy, url).values():
        with pytest.raises((ValueError, Mistake), match=r"begins with \w+:.*local folder"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes", "~nobody-of-this-name/run"])
def test_what_is_no_path_is_refused(toy, path):
    for name in ("train_ensemble", "Ensemble.open", "load_dataset", "data_dir", "verify"):
        with pytest.raises((ValueError, TypeError)):
            every_function(toy, path)[name]()


def test_the_home_is_found(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    runs = train(subsets(), keys_of(6), toy, run_dir="~/run")
    assert (tmp_path / "run" / "zarr.json").is_file()
    for path in ("~/run", Path("~/run")):
        assert jaxinfl.Ensemble.open(path).num_models == runs.num_models
        assert verify.verify(path) == []
    assert verify.main(["~/run"]) == 0
    assert as_path("~/run", "run_dir", "a directory") == tmp_path / "run"
    assert results_folder(Path("~/out")) == tmp_path / "out"


@pytest.mark.parametrize("name", ["c:/run", "a:b/run", "s3:run", "run//1"])
def test_other_names_are_paths(name):
    assert as_path(name, "run_dir", "a directory") == Path(name).absolute()


def test_a_run_stays_where_it_was_opened(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = train(subsets(), keys_of(6), toy, run_dir="run")
    opened = jaxinfl.Ensemble.open("run")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert (trained.test_margin == opened.test_margin).all()


@pytest.mark.parametrize("how", ["removed", "moved", "emptied"])
def test_a_run_that_is_gone_is_called_gone(toy, tmp_path, how):
    path = tmp_path / "run"
    train(subsets(), keys_of(6), toy, run_dir=path, keep_weights=True)
    runs = jaxinfl.Ensemble.open(path)
    shutil.move(path, tmp_path / "elsewhere") if how == "moved" else shutil.rmtree(path)
    if how == "emptied":
        path.mkdir()
    for read in (lambda: runs.test_margin, lambda: runs.masks, runs.weights):
        with pytest.raises(jaxinfl.RunDirectoryError, match=r"run is gone: it was moved or deleted") as caught:
            read()
        assert "--repair" not in str(caught.value)
    with pytest.raises(jaxinfl.RunDirectoryError, match="is no run directory: "):
        jaxinfl.Ensemble.open(path)


OWN_MODEL = """
import multiprocessing, sys
import jax, jaxinfl
from flax import nnx
from tests.conftest import make_data

class Net(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, images):
        return self.layer(images.reshape(len(images), -1))

def work(part):
    masks = jaxinfl.draw_subsets(4, 40)
    keys = jax.random.split(jax.random.key(0), 4)
    recipe = jaxinfl.Recipe(epochs=1, batch_size=8)
    return jaxinfl.train_ensemble(
        masks, keys, data=make_data(), model=Net, recipe=recipe, tune=False, run_dir=sys.argv[1], part=part
    ).num_models

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(work, [(1, 2), (2, 2)])
    print(work(None))
"""


@pytest.mark.slow
def test_spawned_processes_and_the_main_one_share_a_run_of_its_model(tmp_path):
    """The module of the main script has another name in each, which is no part of what the model is."""
    script = tmp_path / "own_model.py"
    script.write_text(OWN_MODEL)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "run"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split()[-1:] == ["4"], done.stderr


WITHOUT_ASSERTIONS = """
import sys
from tests.conftest import make_data
from tests.small_ensembles import keys_of, subsets, train
train(subsets(), keys_of(6), make_data(), run_dir=sys.argv[1])
"""


@pytest.mark.slow
def test_python_without_assertions_works_or_is_told(tmp_path):
    command = [sys.executable, "-O", "-c", WITHOUT_ASSERTIONS, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:  # Zarr has mended it
        assert jaxinfl.Ensemble.open(tmp_path / "run").complete
    else:
        assert "does not work under `python -O`" in done.stderr and "Start Python without" in done.stderr
        assert not (tmp_path / "run").exists()
