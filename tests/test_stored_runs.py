"""Runs that were written by the first version: every later one opens them, reads the same numbers, and predicts them again."""

import json
import re
import shutil

import numpy as np
import pytest

import jaxinfl
from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.store.damage import find_damage
from jaxinfl.verify import verify
from tests.stored_runs import NAMES, STORED, TASKS, describe, load_data, train

RECORDED = json.loads((STORED / "recorded.json").read_text())
KEPT = [name for name, (_, _, options) in TASKS.items() if options.get("keep_weights")]

pytestmark = pytest.mark.filterwarnings("ignore:.* diverged and are left out:RuntimeWarning")


def test_every_run_is_recorded_and_small():
    folders = {path.name for path in STORED.iterdir() if path.is_dir()}
    assert folders == set(NAMES) == set(RECORDED)
    for name in NAMES:
        assert sum(path.stat().st_size for path in (STORED / name).rglob("*") if path.is_file()) < 200_000, name


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_recorded_numbers(name):
    found, recorded = describe(Ensemble.open(STORED / name)), RECORDED[name]
    arrays, expected = found.pop("arrays"), dict(recorded)
    expected_arrays = expected.pop("arrays")
    assert json.loads(json.dumps(found)) == expected
    assert set(arrays) == set(expected_arrays) and len(arrays) >= 2
    for array, values in expected_arrays.items():
        assert (arrays[array]["shape"], arrays[array]["dtype"]) == (values["shape"], values["dtype"]), array
        assert arrays[array]["first"] == values["first"], array
        # Sums of another version of NumPy may be rounded in another order.
        np.testing.assert_allclose(arrays[array]["mean"], values["mean"], rtol=1e-12, atol=1e-15, err_msg=array)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_undamaged_and_damage_is_found(name, tmp_path):
    assert verify(STORED / name) == []
    copy = tmp_path / name
    shutil.copytree(STORED / name, copy)
    chunk = next(path for path in sorted(copy.rglob("c/*")) if path.is_file() and "copies" not in path.parts)
    chunk.write_bytes(chunk.read_bytes()[:-1] + bytes([chunk.read_bytes()[-1] ^ 1]))
    assert [path / damage.file for path, damage in verify(copy)] == [chunk]


def test_find_damage_reads_every_file():
    assert list(find_damage(STORED / "classification_images")) == []


@pytest.mark.parametrize("name", KEPT)
def test_kept_weights_predict_the_same_again(name):
    runs = Ensemble.open(STORED / name)
    again = runs.predict(data=load_data(STORED, name))
    for score in TASKS[name][0].scores if isinstance(TASKS[name][0], jaxinfl.Task) else again.task.scores:
        for split in ("train", "test"):
            now, then = (getattr(each, f"{split}_score")(score) for each in (again, runs))
            # Another processor may round otherwise.
            np.testing.assert_allclose(now.astype(float), then.astype(float), rtol=1e-3, atol=1e-4, err_msg=score)


def test_a_run_goes_on_only_with_its_own_data(tmp_path):
    """The identity of a stored job is still the one that the same arguments have: a finished run is read, and nothing is trained."""
    for path in STORED.glob("regression*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "regression").rglob("*.npz")}
    train(tmp_path, "regression")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "regression").rglob("*.npz")} == before and before
    other = dict(np.load(tmp_path / "regression.npz"))
    other["train_targets"] = other["train_targets"] + 1
    np.savez(tmp_path / "regression.npz", **other)
    with pytest.raises(RunDirectoryError, match="data"):
        train(tmp_path, "regression")


def test_a_run_of_a_newer_version_is_refused(tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(STORED / "from_scores", copy)
    text = (copy / "zarr.json").read_text()
    newer = re.sub(r'"format": (\d+)', lambda match: f'"format": {int(match[1]) + 1}', text)
    assert newer != text
    (copy / "zarr.json").write_text(newer)
    with pytest.raises(RunDirectoryError, match="Upgrade jaxinfl"):
        Ensemble.open(copy)
