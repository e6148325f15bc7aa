"""`load_dataset` of TensorFlow Datasets. Nothing is downloaded: tests/tfds_builders.py defines the data sets."""

import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxinfl.datasets import DatasetUnavailable, load_dataset
from tests.example_images import arrays, random_images
from tests.tfds_builders import JaxinflTiny, tfds

pytestmark = pytest.mark.usefixtures("no_download")


def in_preparation_order(data_dir, name, split):
    """(image, label) as TFDS itself reads them, by a path that shares nothing with jaxinfl's."""
    source = tfds.builder(name, data_dir=data_dir, file_format="array_record").as_data_source(split)
    return np.array([r["image"] for r in source]), np.array([r["label"] for r in source])


def test_tfds_returns_exactly_the_prepared_images(tmp_path):
    dataset = load_dataset("jaxinfl_tiny", tmp_path)
    assert "tensorflow" not in sys.modules
    given = arrays()
    for split in ("train", "test"):
        pixels, labels = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_targets")
        # TFDS shuffles when it prepares; the same examples must be there, each with its own label.
        order = [int(np.flatnonzero((given[f"{split}_inputs"] == image).all((1, 2, 3)))[0]) for image in pixels]
        assert sorted(order) == list(range(len(given[f"{split}_inputs"])))
        np.testing.assert_array_equal(labels, given[f"{split}_targets"][order])
        expected_images, expected_labels = in_preparation_order(tmp_path, "jaxinfl_tiny", split)
        np.testing.assert_array_equal(pixels, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)
    assert (dataset.class_names, dataset.name) == (("cat", "dog", "eel"), "jaxinfl_tiny")


def test_tfds_order_does_not_depend_on_the_preparation(tmp_path):
    first, second = (
        load_dataset("jaxinfl_tiny", tmp_path / "a"),
        load_dataset("jaxinfl_tiny:1.0.0", str(tmp_path / "b")),
    )
    assert first.fingerprint == second.fingerprint == load_dataset("jaxinfl_tiny", tmp_path / "a").fingerprint


def test_tfds_prepared_data_is_read_not_prepared_again(tmp_path, monkeypatch):
    fingerprint = load_dataset("jaxinfl_tiny", tmp_path).fingerprint
    monkeypatch.setattr(JaxinflTiny, "download_and_prepare", None)
    assert load_dataset("jaxinfl_tiny", tmp_path).fingerprint == fingerprint


def test_tfds_gray_images_keep_one_channel(tmp_path):
    assert load_dataset("jaxinfl_gray", tmp_path).image_shape == (4, 5, 1)
    assert load_dataset("jaxinfl_gray", tmp_path, image_size=3).image_shape == (3, 3, 1)


def test_tfds_varying_sizes_and_splits(tmp_path):
    assert load_dataset("jaxinfl_varying", tmp_path).image_shape == (224, 224, 3)
    dataset = load_dataset("jaxinfl_varying", tmp_path, image_size=16, splits=("train+validation", "test"))
    for text in ("train+validation:test", "train[:100%]+validation:test[:100%]"):
        same = load_dataset("jaxinfl_varying", tmp_path, image_size=16, splits=text)
        assert same.fingerprint == dataset.fingerprint
    assert (dataset.num_train, dataset.num_test) == (4, 1)
    tall = Image.fromarray(random_images(1, 60, 20)[0]).resize((16, 48), Image.Resampling.BILINEAR)
    (where,) = np.flatnonzero(dataset.train_targets == 1)
    np.testing.assert_array_equal(dataset.train_inputs[where], np.asarray(tall)[16:32])


@pytest.mark.parametrize("name", ["dtd", "oxford_flowers102"])
def test_tfds_default_splits_of_the_papers_data_sets(name):
    from jaxinfl.datasets.tfds import _DEFAULT_SPLITS

    builder = tfds.builder(name, file_format="array_record")
    assert _DEFAULT_SPLITS[builder.name] == ("train+validation", "test")


@pytest.mark.parametrize("split", ["validation", "train[:bogus]"])
def test_tfds_unknown_split(tmp_path, split):
    with pytest.raises(ValueError, match=r"(?s)of jaxinfl_tiny does not exist or is empty.*it takes train, test"):
        load_dataset("jaxinfl_tiny", tmp_path, splits=("train", split))


def test_tfds_empty_split(tmp_path):
    with pytest.raises(ValueError, match=r"split 'test\[:0\]' of jaxinfl_tiny does not exist or is empty"):
        load_dataset("jaxinfl_tiny", tmp_path, splits=("train", "test[:0]"))


def test_tfds_split_without_labels(tmp_path):
    with pytest.raises(
        ValueError, match=r"jaxinfl_unlabelled, split test contains the label -1.*splits=\(train, test\)"
    ):
        load_dataset("jaxinfl_unlabelled", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ag_news_subset", "not an image classification data set, with the features .*title: Text"),
        ("jaxinfl_depth", "images of dtype .*uint16.*it takes uint8"),
    ],
)
def test_tfds_other_kinds_of_data(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11", "'cifar11' is not a known data set. Similar names: .*cifar10"),
        ("digit", "Similar names: digits"),
        ("cifar11:3.0.2", "Similar names: .*cifar10"),
        ("not a name!", "'not a name!' is not a known data set"),
        ("cifar10:9.9.9", "cannot be built .*9.9.9"),
        ("cifar10/nosuch", "cannot be built"),
        ("huggingface:mnist", "community data set"),
    ],
)
def test_tfds_unknown_names(tmp_path, name, message):
    start = time.monotonic()
    with pytest.raises(ValueError, match=message):
        load_dataset(name, tmp_path)
    assert time.monotonic() - start < 5


def test_unknown_name_that_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "my_pets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="The folder 'my_pets' exists, but holds no data of a known kind"):
        load_dataset("my_pets", tmp_path)


def test_tfds_data_prepared_in_another_format(tmp_path):
    load_dataset("jaxinfl_tiny", tmp_path)
    path = tmp_path / "jaxinfl_tiny" / "1.0.0" / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"jaxinfl_tiny is prepared in .* in a format that TensorFlow must read"):
        load_dataset("jaxinfl_tiny", tmp_path)


def test_tfds_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DatasetUnavailable, match=r"'cifar10' is neither digits.*pip install 'jaxinfl\[tfds\]'"):
        load_dataset("cifar10")


def test_tfds_preparation_that_fails(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"jaxinfl_broken could not be .*OSError: the disk is on fire"):
        load_dataset("jaxinfl_broken", tmp_path)
