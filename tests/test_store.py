"""A run directory is complete or absent, model by model, and damage is found when it is read."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.store import Layout, RowArray, RunStore, WriteFailed, array_file
from jaxinfl.store.damage import find_damage, mend
from jaxinfl.store.manifest import read_manifest, write_manifest

MODELS, TRAIN, TEST, SHARD = 7, 5, 3, 3


def layout() -> Layout:
    rng = np.random.default_rng(0)
    return Layout(
        attributes={
            "data_name": "d",
            "identity": {
                "model": {"name": "m"},
                "data": {"num_train": TRAIN, "num_test": TEST, "fingerprint": "f"},
                "recipe": {"epochs": 1},
            },
            "execution": {"device": "none"},
            "versions": {"jaxinfl": "0"},
            "command": "pytest",
            "git_commit": None,
        },
        inputs={
            "masks": (rng.random((MODELS, TRAIN)) < 0.5, ("model", "train")),
            "key_data": (rng.integers(0, 9, (MODELS, 3, 2)).astype(np.uint32), ("model", "source", "word")),
            "train_targets": (np.arange(TRAIN, dtype=np.int32), ("train",)),
            "test_targets": (np.arange(TEST, dtype=np.int32), ("test",)),
        },
        row_arrays={
            "train_prediction": RowArray((TRAIN,), "int16", ("train",)),
            "test_prediction": RowArray((TEST,), "int16", ("test",)),
            "train_margin": RowArray((TRAIN,), "float32", ("train",)),
            "test_margin": RowArray((TEST,), "float32", ("test",)),
        },
        num_models=MODELS,
        shard_size=SHARD,
    )


def rows_of(shard: slice) -> dict[str, np.ndarray]:
    """Zeros in the predictions: a chunk of fill values must not look like a missing one."""
    rng, rows = np.random.default_rng(shard.start), shard.stop - shard.start
    return {
        "train_prediction": np.zeros((rows, TRAIN), np.int16),
        "test_prediction": np.zeros((rows, TEST), np.int16),
        "train_margin": rng.standard_normal((rows, TRAIN)).astype(np.float32),
        "test_margin": rng.standard_normal((rows, TEST)).astype(np.float32),
    }


def fill(store: RunStore, shards=slice(None)) -> None:
    for shard in store.shards()[shards]:
        store.write(shard, rows_of(shard), np.zeros(shard.stop - shard.start, bool))


@pytest.fixture
def run(tmp_path) -> Path:
    fill(RunStore.create(tmp_path / "run", layout()))
    return tmp_path / "run"


def read_everything(run: Path) -> Ensemble:
    ensemble = Ensemble.open(run)
    for name in ("masks", "key_data", "train_targets", "test_targets", *layout().row_arrays):
        getattr(ensemble, name)
    return ensemble


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_written_is_read(tmp_path, on_disk):
    store = RunStore.create(tmp_path / "run" if on_disk else None, layout())
    assert Ensemble(store).num_models == 0
    fill(store, slice(1, None))
    ensemble = Ensemble(store)
    assert list(ensemble.model_index) == [3, 4, 5, 6] and not ensemble.complete
    np.testing.assert_array_equal(ensemble.masks, layout().inputs["masks"][0][3:])
    expected = np.concatenate([rows_of(shard)["test_margin"] for shard in store.shards()[1:]])
    np.testing.assert_array_equal(ensemble.test_margin, expected)
    fill(store, slice(0, 1))
    assert Ensemble(store).complete


def test_every_damaged_or_missing_file_is_found(run):
    """Each file of the run in turn: a bit of it flipped, half of it lost, or all; of each array there are several files."""
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    assert len(files) > 20
    read_everything(run)
    damaged = run.with_name("damaged")
    for number, file in enumerate(files):
        harm = (flip, truncate, Path.unlink)[number % 3]
        shutil.copytree(run, damaged)
        harm(damaged / file)
        try:
            ensemble = read_everything(damaged)
        except RunDirectoryError as error:
            assert f"verify {damaged} --repair" in str(error)
        else:
            # What the group says of its arrays, they say again, and the inputs are there twice.
            assert len(file.parts) > 1 and (file.name == "zarr.json" or file.parts[0] == "copies"), (file, harm)
            for name in layout().row_arrays:
                np.testing.assert_array_equal(getattr(ensemble, name), getattr(Ensemble.open(run), name))
        assert {damage.file for damage in find_damage(damaged)} == {file.as_posix()}, (file, harm)
        shutil.rmtree(damaged)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damage_is_named_by_models(run):
    flip(run / "test_margin" / "c" / "1" / "0")
    with pytest.raises(RunDirectoryError, match=r"test_margin in .* is damaged for models 3 to 5"):
        _ = Ensemble.open(run).test_margin
    (run / "train_margin" / "c" / "2" / "0").unlink()
    with pytest.raises(RunDirectoryError, match=r"train_margin in .* missing for models 6"):
        _ = Ensemble.open(run).train_margin


def test_a_chunk_of_another_shard_is_found(run):
    chunks = run / "test_margin" / "c"
    shutil.copy(chunks / "0" / "0", chunks / "1" / "0")
    with pytest.raises(RunDirectoryError, match="damaged or missing for models 3, 4, 5"):
        _ = Ensemble.open(run).test_margin


def test_models_are_absent_until_everything_is_on_disk(tmp_path, monkeypatch):
    store = RunStore.create(tmp_path / "run", layout())
    array = store._array

    def no_space_left(name):
        if name == "row_checksum":
            raise OSError(28, "No space left on device")
        return array(name)

    monkeypatch.setattr(store, "_array", no_space_left)
    with pytest.raises(WriteFailed, match=r"No space left on device\. Free some space, and the same call goes on"):
        fill(store, slice(0, 1))
    assert Ensemble.open(tmp_path / "run").num_models == 0


def test_a_run_appears_all_at_once(tmp_path, monkeypatch):
    """A start that was cut short leaves nothing that looks like a run, and the next one begins again."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxinfl.store.run.write_descriptions", fail)
    with pytest.raises(WriteFailed, match="No space left on device"):
        RunStore.create(tmp_path / "run", layout())
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        Ensemble.open(tmp_path / "run")
    monkeypatch.undo()
    fill(RunStore.create(tmp_path / "run", layout()))
    assert Ensemble.open(tmp_path / "run").complete


def test_rows_of_another_run_are_found(run, tmp_path):
    """All files of the same shard, checksums and status too, but trained for another run."""
    other = layout()
    fill(
        RunStore.create(tmp_path / "other", dataclasses.replace(other, attributes={**other.attributes, "command": "x"}))
    )
    for name in (*layout().row_arrays, "row_checksum", "status"):
        shutil.copytree(tmp_path / "other" / name, run / name, dirs_exist_ok=True)
    with pytest.raises(RunDirectoryError, match="damaged or missing for models 0, 1, 2, 3, 4 and 2 more"):
        _ = Ensemble.open(run).test_margin


def test_foreign_directories_are_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="is no run directory"):
        Ensemble.open(tmp_path / "nothing")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no jaxinfl run"):
        RunStore.create(tmp_path / "thesis", layout())
    with pytest.raises(RunDirectoryError, match=r"chapter1.tex is a file"):
        RunStore.create(tmp_path / "thesis" / "chapter1.tex", layout())
    xarray.Dataset({"x": ("i", [1, 2])}).to_zarr(tmp_path / "other", zarr_format=3, consolidated=False)
    with pytest.raises(RunDirectoryError, match="but no jaxinfl run"):
        Ensemble.open(tmp_path / "other")


def test_a_newer_format_is_refused(run):
    description = json.loads((run / "zarr.json").read_text())
    description["attributes"]["format"] = 99
    (run / "zarr.json").write_text(json.dumps(description))
    with pytest.raises(RunDirectoryError, match=r"format 99; this jaxinfl reads format 4\. Upgrade"):
        Ensemble.open(run)


def test_a_manifest_cannot_name_files_outside_of_the_run(run):
    """A repair writes what it names."""
    content = read_manifest(run / "manifest.json")
    for name in ("../zarr.json", "/tmp/zarr.json", "masks/../../zarr.json", "masks/c/0/0", "masks//zarr.json"):
        write_manifest(run / "manifest.json", content | {name: "mine"})
        with pytest.raises(RunDirectoryError, match=r"names '.*', which is no file of a run\. Do not trust"):
            Ensemble.open(run)
        assert [damage.file for damage in mend(run)] == ["manifest.json"]
        assert read_everything(run).complete
    assert not (run.parent / "zarr.json").exists() and not Path("/tmp/zarr.json").exists()


def test_sizes_that_no_machine_has_are_not_believed(run, monkeypatch):
    monkeypatch.setattr("jaxinfl.store.run.MOST_BYTES", 20)
    with pytest.raises(RunDirectoryError, match=r"masks in .* says that it has .* GB; at most .* GB are taken at once"):
        _ = Ensemble.open(run).masks


def test_an_edited_description_is_refused(run):
    description = json.loads((run / "zarr.json").read_text())
    description["attributes"]["identity"]["recipe"]["epochs"] = 2
    (run / "zarr.json").write_text(json.dumps(description))
    with pytest.raises(RunDirectoryError, match="damaged or was edited"):
        Ensemble.open(run)


def test_xarray_reads_it(run):
    opened = xarray.open_zarr(run)
    assert dict(opened.sizes) == {"model": MODELS, "train": TRAIN, "test": TEST, "source": 3, "word": 2, "array": 4}
    assert opened.test_margin.dims == ("model", "test")
    np.testing.assert_array_equal(opened.test_margin, Ensemble.open(run).test_margin)


def test_wrong_shards_are_refused(tmp_path):
    store = RunStore.create(None, layout())
    with pytest.raises(ValueError, match=r"rows holds .*; it takes"):
        store.write(slice(0, 3), {}, np.zeros(3, bool))
    rows = rows_of(slice(0, 3)) | {"test_margin": np.zeros((3, TEST + 1), np.float32)}
    with pytest.raises(ValueError, match="test_margin has shape"):
        store.write(slice(0, 3), rows, np.zeros(3, bool))


def test_saved_arrays_come_back_under_their_names(tmp_path):
    """Arrays have any order, names that no file system takes, and a type that NumPy does not know."""
    rng = np.random.default_rng(0)
    names = ("params.b", "params.a", "stats.('kernel', 'u')", "params.A", "params.10", "params.9", "a/../b", "file")
    leaves = {name: rng.normal(size=(3, 2)).astype(np.float32) for name in names}
    leaves["half"] = np.asarray(jnp.asarray(rng.normal(size=(3, 2)), jnp.bfloat16))
    array_file.save(tmp_path / "000001.npz", leaves, {"about": 1})
    found = array_file.restore(tmp_path / "000001.npz")
    assert found.keys() == leaves.keys() and found["half"].dtype == jnp.bfloat16
    for name, values in leaves.items():
        np.testing.assert_array_equal(found[name], values)
    assert array_file.about(tmp_path / "000001.npz") == {"about": 1} and not array_file.damage(tmp_path / "000001.npz")
