"""`python -m jaxinfl.verify`: every file of a run damaged in turn, found, and the same bits after the repair."""

import shutil

import numpy as np
import pytest

from jaxinfl import Ensemble, load_dataset
from jaxinfl.verify import main
from tests.small_run import ARRAYS, assert_same, train

SHARDS = 4


@pytest.fixture(scope="module")
def data(toy, tmp_path_factory):
    """A data set that can be loaded by its recorded name."""
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, x_train=toy.train_inputs, y_train=toy.train_targets, x_test=toy.test_inputs, y_test=toy.test_targets)
    return path, load_dataset(str(path))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(data[1], path, model="small_mlp", shard_size=SHARDS, keep_weights=True)
    return path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
def test_every_damaged_file_is_found_and_repaired(run, data, tmp_path, capsys):
    """Each file of a run in turn is found; one of each array is repaired, and the arrays are those of before."""
    before = Ensemble.open(run)
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file() and path.name != "writer.lock")
    harms = (flip, truncate, lambda path: path.unlink())
    repaired = set()
    for number, file in enumerate(files):
        damaged = tmp_path / "run"
        shutil.copytree(run, damaged)
        harms[number % 3](damaged / file)
        assert main([str(damaged)]) == 1, file
        assert str(damaged / file) in capsys.readouterr().out
        kind = (file.parts[0], file.name == "zarr.json")
        if kind not in repaired:
            repaired.add(kind)
            assert main([str(damaged), "--repair", "--data", str(data[0])]) == 0
            assert_same(Ensemble.open(damaged), before)
            assert main([str(damaged)]) == 0
        shutil.rmtree(damaged)
    assert len(files) > 50 and len(repaired) > 20


def test_only_damaged_models_are_trained_again(run, data, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    flip(tmp_path / "run" / "test_margin" / "c" / "1" / "0")
    untouched = (tmp_path / "run" / "test_margin" / "c" / "0" / "0").stat().st_mtime_ns
    assert main([str(tmp_path / "run"), "--repair", "--data", str(data[0])]) == 0
    assert "Files repaired: 1. Models trained again: 4." in capsys.readouterr().out
    assert (tmp_path / "run" / "test_margin" / "c" / "0" / "0").stat().st_mtime_ns == untouched


def test_foreign_and_unfinished_files(run, tmp_path, capsys):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    (damaged / "masks" / "notes.txt").write_text("mine")
    (damaged / "masks" / "c" / "0" / "0.0123.partial").write_text("")
    assert main([str(damaged)]) == 1
    said = capsys.readouterr().out
    assert "masks/notes.txt: foreign" in said and "0.0123.partial: unfinished" in said
    assert main([str(damaged), "--repair"]) == 0
    assert (tmp_path / "run.foreign" / "masks" / "notes.txt").read_text() == "mine" and main([str(damaged)]) == 0


def test_what_cannot_be_repaired_is_said(run, data, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    for place in ("masks", "copies/masks"):
        flip(damaged / place / "c" / "0" / "0")
    assert main([str(damaged), "--repair"]) == 2
    assert "masks in" in (said := capsys.readouterr().err) and "its copy are both damaged" in said
    shutil.rmtree(damaged)
    shutil.copytree(run, damaged)
    (damaged / "status" / "c" / "0").unlink()
    assert main([str(damaged), "--repair", "--data", "digits"]) == 2
    assert "'digits' is not the data set of the run" in (said := capsys.readouterr().err)
    assert "Name the data set by --data, with --image-size" in said
    assert "Run the command that made it once more" in said
    assert main([str(damaged)]) == 0
    assert "4 models are not trained yet" in capsys.readouterr().out
    assert_same(train(data[1], damaged, model="small_mlp"), Ensemble.open(run))


def test_parts_are_verified_too(data, tmp_path, capsys):
    for part in ((1, 2), (2, 2)):
        train(data[1], tmp_path / "run", model="small_mlp", part=part, shard_size=SHARDS)
    before = {name: getattr(Ensemble.open(tmp_path / "run"), name) for name in ARRAYS}
    flip(tmp_path / "run" / "part-2-of-2" / "train_prediction" / "c" / "1" / "0")
    assert main([str(tmp_path / "run")]) == 1
    assert "train_prediction/c/1/0: damaged, models 4 to 7" in capsys.readouterr().out
    assert main([str(tmp_path / "run"), "--repair", "--data", str(data[0])]) == 0
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(Ensemble.open(tmp_path / "run"), name), before[name])
