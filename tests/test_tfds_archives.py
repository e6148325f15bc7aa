"""The paper's data sets prepared by TensorFlow Datasets itself, from small archives of their form, without TensorFlow."""

import io
import sys
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from jaxinfl.datasets import load_dataset
from jaxinfl.datasets.images import fit_square
from tests.example_images import png, random_images
from tests.tfds_builders import put_archive, tfds, tfds_progress_cut_short

pytestmark = pytest.mark.usefixtures("no_download")


def tar(files, mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def mat(**matrices):
    content = io.BytesIO()
    scipy.io.savemat(content, matrices)
    return content.getvalue()


@tfds_progress_cut_short
def test_tfds_cifar10_itself_is_prepared_without_tensorflow(tmp_path):
    """The real cifar10 of TFDS, from an archive in CIFAR's format where TFDS keeps its downloads."""
    pixels = random_images(30, 32, 32)
    records = [bytes([i % 10]) + image.transpose(2, 0, 1).tobytes() for i, image in enumerate(pixels)]
    files = {f"data_batch_{k}.bin": b"".join(records[4 * k : 4 * k + 4]) for k in range(1, 6)}
    files |= {"test_batch.bin": b"".join(records[:4]), "batches.meta.txt": "\n".join("abcdefghij").encode()}
    archive = tar({f"cifar-10-batches-bin/{name}": content for name, content in files.items()}, "w:gz")
    put_archive(tmp_path, "cifar10", "cifar-10-binary.tar.gz", archive)

    dataset = load_dataset("cifar10", tmp_path)
    assert "tensorflow" not in sys.modules
    assert (dataset.num_train, dataset.num_test, dataset.class_names) == (20, 4, tuple("abcdefghij"))
    order = [int(np.flatnonzero((pixels == image).all((1, 2, 3)))[0]) for image in dataset.train_inputs]
    assert sorted(order) == list(range(4, 24))
    np.testing.assert_array_equal(dataset.train_targets, np.array(order) % 10)


@tfds_progress_cut_short
def test_tfds_cifar100_itself_is_prepared_without_tensorflow(tmp_path):
    """The real cifar100 of TFDS: fine labels, of which each class has an image."""
    pixels = random_images(110, 32, 32)
    records = [bytes([i % 20, i % 100]) + image.transpose(2, 0, 1).tobytes() for i, image in enumerate(pixels)]
    names = "\n".join(f"class{k:03d}" for k in range(100)).encode()
    files = {
        "train.bin": b"".join(records[:100]),
        "test.bin": b"".join(records[100:]),
        "fine_label_names.txt": names,
        "coarse_label_names.txt": "\n".join(f"coarse{k}" for k in range(20)).encode(),
    }
    archive = tar({f"cifar-100-binary/{name}": content for name, content in files.items()}, "w:gz")
    put_archive(tmp_path, "cifar100", "cifar-100-binary.tar.gz", archive)

    dataset = load_dataset("cifar100", tmp_path)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (100, 10, 100)
    assert dataset.class_names[7] == "class007" and dataset.image_shape == (32, 32, 3)
    order = [int(np.flatnonzero((pixels == image).all((1, 2, 3)))[0]) for image in dataset.test_inputs]
    np.testing.assert_array_equal(dataset.test_targets, np.array(order) % 100)


def sized(k):
    """Image k of a data set of varying sizes: its shorter side is its class, in no other use."""
    return random_images(1, 20 + k % 7, 24 + k % 5, seed=k)[0]


@tfds_progress_cut_short
def test_tfds_dtd_itself_trains_on_train_and_validation(tmp_path):
    """The real dtd of TFDS from a small archive of its form: 47 textures, sizes that vary."""
    names = tfds.builder("dtd", data_dir=tmp_path).info.features["label"].names
    assert len(names) == 47
    splits = {"train1": names[:40], "val1": names[40:], "test1": names[:5]}
    images = {f"{name}/{name}_{split}.jpg": 3 * k for split, own in splits.items() for k, name in enumerate(own)}
    files = {f"dtd/images/{path}": png(sized(k), file_format="PNG") for path, k in images.items()}
    for split, own in splits.items():
        files[f"dtd/labels/{split}.txt"] = "".join(f"{name}/{name}_{split}.jpg\n" for name in own).encode()
    put_archive(tmp_path, "dtd", "dtd-r1.0.1.tar.gz", tar(files, "w"))

    dataset = load_dataset("dtd", tmp_path, image_size=16)
    assert "tensorflow" not in sys.modules
    assert (dataset.num_train, dataset.num_test, dataset.image_shape) == (47, 5, (16, 16, 3))
    assert dataset.class_names == tuple(names) and sorted(dataset.train_targets) == list(range(47))
    for label, image in zip(dataset.test_targets, dataset.test_inputs, strict=True):
        np.testing.assert_array_equal(image, fit_square(Image.fromarray(sized(3 * label)), 16))
    with pytest.raises(ValueError, match="dtd, split train lacks 7 of the 47 classes"):
        load_dataset("dtd", tmp_path, image_size=16, splits="train:validation+test")


@tfds_progress_cut_short
def test_tfds_flowers_itself_trains_on_train_and_validation(tmp_path):
    """The real oxford_flowers102 of TFDS from small files of its form: 102 classes, numbers in MATLAB's format."""
    put_archive(
        tmp_path,
        "oxford_flowers102",
        "102flowers.tgz",
        tar({f"jpg/image_{k:05d}.jpg": png(sized(k)) for k in range(1, 121)}, "w:gz"),
    )
    labels = np.arange(120) % 102 + 1
    put_archive(tmp_path, "oxford_flowers102", "imagelabels.mat", mat(labels=labels[None]))
    numbers = {"trnid": np.arange(1, 61)[None], "valid": np.arange(61, 103)[None], "tstid": np.arange(103, 121)[None]}
    put_archive(tmp_path, "oxford_flowers102", "setid.mat", mat(**numbers))

    dataset = load_dataset("oxford_flowers102", tmp_path, image_size=16)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (102, 18, 102)
    expected = {k: np.asarray(fit_square(Image.fromarray(sized(k)), 16)) for k in range(1, 121)}
    found = [next(k for k in expected if (expected[k] == image).all()) for image in dataset.test_inputs]
    assert sorted(found) == list(range(103, 121))
    np.testing.assert_array_equal(dataset.test_targets, labels[np.array(found) - 1] - 1)
    assert load_dataset("oxford_flowers102", tmp_path, image_size=16, splits="train+validation:test").fingerprint == (
        dataset.fingerprint
    )


def test_the_stand_in_leaves_nothing_behind():
    from tensorflow_datasets.core.utils import lazy_imports_utils

    from jaxinfl.datasets.tensorflow_stand_in import tensorflow_stand_in

    with tensorflow_stand_in():
        assert lazy_imports_utils.tensorflow.executing_eagerly()
        with pytest.raises(ModuleNotFoundError, match="No module named 'tensorflow'"):
            _ = lazy_imports_utils.tensorflow.data
    with pytest.raises(ModuleNotFoundError):
        lazy_imports_utils.tensorflow.executing_eagerly()
