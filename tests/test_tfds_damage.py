"""Prepared copies of TensorFlow Datasets that are incomplete or damaged: named with the remedy, never fewer examples."""

import os
import pathlib
import shutil

import numpy as np
import pytest

from jaxinfl.datasets import load_dataset
from tests.example_images import arrays
from tests.tfds_builders import tfds_progress_cut_short

pytestmark = [pytest.mark.usefixtures("no_download"), tfds_progress_cut_short]

NAME = "jaxinfl_tiny"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared copy."""
    folder = tmp_path_factory.mktemp("whole")
    load_dataset(NAME, folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path, monkeypatch):
    """A copy of it, and its shard of the training set; nothing of it is in the cache of images."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(whole, tmp_path / "data")
    (shard,) = (tmp_path / "data" / NAME / "1.0.0").glob("*-train.array_record*")
    return tmp_path / "data", shard


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def first_used(path):
    """Where the first record lies: the file is padded with zeros."""
    used = np.flatnonzero(np.frombuffer(path.read_bytes(), np.uint8))
    return int(used[used > 64][0])


def flip(path):
    content = bytearray(path.read_bytes())
    content[first_used(path) + 40] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "one byte": (lambda path: cut(path, 1), "is truncated"),
    "half": (lambda path: cut(path, path.stat().st_size // 2), "is truncated"),
    "no last bytes": (lambda path: cut(path, -100), "is truncated or damaged"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is truncated or damaged"),
    "text": (lambda path: path.write_text("<html>404</html>" * 10_000), "is truncated or damaged"),
    "a changed bit": (flip, "cannot be read"),
    "other records": (
        lambda path: shutil.copy(next(path.parent.glob("*-test.*")), path),
        "holds 4 examples, but dataset_info.json says 6",
    ),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_shard_is_named_and_the_remedy_works(copy, case, cached):
    data_dir, shard = copy
    expected = load_dataset(NAME, data_dir).fingerprint
    if not cached:
        shutil.rmtree(data_dir.parent / "cache")
    harm, message = DAMAGE[case]
    harm(shard)
    with pytest.raises(ValueError, match=f"The copy of {NAME} in .* is damaged: .*{shard.name}.*{message}") as raised:
        load_dataset(NAME, data_dir)
    assert f"in {shard.parent} is damaged" in str(raised.value) and "Remove this folder" in str(raised.value)
    shutil.rmtree(shard.parent)
    assert load_dataset(NAME, data_dir).fingerprint == expected


def test_only_the_shards_of_the_splits_count(copy):
    data_dir, shard = copy
    shard.unlink()
    assert load_dataset(NAME, data_dir, splits="test:test[50%:]").num_train == 4


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(b""), lambda path: cut(path, 100)])
def test_a_damaged_description(copy, harm):
    data_dir, shard = copy
    harm(shard.with_name("dataset_info.json"))
    with pytest.raises(
        ValueError, match=r"dataset_info\.json or features\.json of its prepared copy is damaged.*Remove"
    ):
        load_dataset(NAME, data_dir)


def test_a_missing_description(copy):
    data_dir, shard = copy
    shard.with_name("dataset_info.json").unlink()
    with pytest.raises(ValueError, match=r"the file dataset_info\.json is missing\. Remove this folder"):
        load_dataset(NAME, data_dir)


def test_a_training_split_that_lacks_a_class(copy):
    with pytest.raises(
        ValueError, match=r"split train\[:1\] lacks 2 of the 3 classes.*Give splits=.* there are train, te"
    ):
        load_dataset(NAME, copy[0], splits="train[:1]:test")


# --- the cache -------------------------------------------------------------------------------------------------------


def prepare(data_dir, monkeypatch, **changes):
    """A copy prepared from other arrays, with files of one date."""
    given = arrays(**changes)
    monkeypatch.setattr("tests.tfds_builders.arrays", lambda: given)
    load_dataset(NAME, data_dir)
    for file in pathlib.Path(data_dir).rglob("*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    return load_dataset(NAME, data_dir)


def test_other_content_under_equal_names_and_dates(tmp_path, monkeypatch):
    """Two copies that differ in two labels, or in two images that change places."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    labels, images = arrays()["train_targets"].copy(), arrays()["train_inputs"].copy()
    labels[[0, 1]], images[[0, 1]] = labels[[1, 0]], images[[1, 0]]
    found = [
        prepare(tmp_path / str(k), monkeypatch, **changes)
        for k, changes in enumerate([{}, {"train_targets": labels}, {"train_inputs": images}])
    ]
    assert found[0].fingerprint != found[1].fingerprint
    for data, (given_images, given_labels) in zip(
        found,
        [(arrays()["train_inputs"], arrays()["train_targets"]), (arrays()["train_inputs"], labels), (images, arrays()["train_targets"])],
        strict=True,
    ):  # fmt: skip
        for image, label in zip(data.train_inputs, data.train_targets, strict=True):
            (row,) = np.flatnonzero((given_images == image).all((1, 2, 3)))
            assert given_labels[row] == label


def test_the_same_content_elsewhere_is_decoded_once(copy, monkeypatch):
    from jaxinfl.datasets import cache

    data_dir, _ = copy
    first = load_dataset(NAME, data_dir)

    def refuse(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "decode_images", refuse)
    moved = data_dir.rename(data_dir.with_name("moved"))
    assert load_dataset(NAME, moved).fingerprint == first.fingerprint


def test_transparent_images(tmp_path, monkeypatch):
    """A data set of 4 channels: put onto the background, and drawings in one color are warned of."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    given = arrays()
    for split in ("train", "test"):
        alpha = given[f"{split}_inputs"][..., :1]
        given[f"{split}_inputs"] = np.concatenate([np.zeros_like(alpha).repeat(3, axis=-1), alpha], axis=-1)
    monkeypatch.setattr("tests.tfds_builders.arrays", lambda: given)
    for _ in range(2):
        with pytest.warns(UserWarning, match="10 of the 10 images of jaxinfl_transparent vary in transparency"):
            white = load_dataset("jaxinfl_transparent", tmp_path)
    assert white.image_shape == (4, 5, 3)
    for image in white.train_inputs:
        assert any((255 - given_image[..., 3] == image[..., 0]).all() for given_image in given["train_inputs"])
    assert load_dataset("jaxinfl_transparent", tmp_path, background="black").train_inputs.max() == 0
