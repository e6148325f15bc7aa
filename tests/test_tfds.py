"""`load_dataset` of TensorFlow Datasets. Nothing is downloaded: the builders below are registered by being defined."""

import io
import json
import pathlib
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
import scipy.io
from PIL import Image

from jaxinfl.datasets import DatasetUnavailable, download, load_dataset
from jaxinfl.datasets.images import fit_square
from tests.example_images import arrays, png, random_images

tfds = pytest.importorskip("tensorflow_datasets")


class JaxinflTiny(tfds.core.GeneratorBasedBuilder):
    """6 + 4 images of one size, made from arrays: TFDS encodes them with `tf.image.encode_png`."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (4, 5, 3)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=self.shape),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train"), "test": self._generate_examples("test")}

    def _generate_examples(self, split):
        given = arrays()
        for i, (image, label) in enumerate(zip(given[f"{split}_images"], given[f"{split}_labels"], strict=True)):
            yield i, {"image": image[..., : self.shape[-1]], "label": int(label)}


class JaxinflGray(JaxinflTiny):
    """One channel, with its size not declared."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (None, None, 1)


VARYING = {"train": [(30, 40), (60, 20), (16, 16)], "validation": [(9, 9)], "test": [(8, 9)]}


class JaxinflVarying(JaxinflTiny):
    """PNG files of varying size, and a validation split."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (None, None, 3)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in VARYING}

    def _generate_examples(self, split):
        for i, (height, width) in enumerate(VARYING[split]):
            yield i, {"image": io.BytesIO(png(random_images(1, height, width)[0])), "label": i}


class JaxinflUnlabelled(JaxinflTiny):
    """A test split without labels, as in imagenet2012."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split):
        for i, example in super()._generate_examples(split):
            yield i, example | ({"label": -1} if split == "test" else {})


class JaxinflBroken(JaxinflTiny):
    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split):
        raise OSError("the disk is on fire")
        yield


class JaxinflDepth(JaxinflTiny):
    """Images of 16 bits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 1), dtype=np.uint16),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """No test of this file may reach a host."""
    import requests

    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)


def in_preparation_order(data_dir, name, split):
    """(image, label) as TFDS itself reads them, by a path that shares nothing with jaxinfl's."""
    source = tfds.builder(name, data_dir=data_dir, file_format="array_record").as_data_source(split)
    return np.array([r["image"] for r in source]), np.array([r["label"] for r in source])


def test_tfds_returns_exactly_the_prepared_images(tmp_path):
    dataset = load_dataset("jaxinfl_tiny", tmp_path)
    assert "tensorflow" not in sys.modules
    given = arrays()
    for split in ("train", "test"):
        pixels, labels = getattr(dataset, f"{split}_images"), getattr(dataset, f"{split}_labels")
        # TFDS shuffles when it prepares; the same examples must be there, each with its own label.
        order = [int(np.flatnonzero((given[f"{split}_images"] == image).all((1, 2, 3)))[0]) for image in pixels]
        assert sorted(order) == list(range(len(given[f"{split}_images"])))
        np.testing.assert_array_equal(labels, given[f"{split}_labels"][order])
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
    (where,) = np.flatnonzero(dataset.train_labels == 1)
    np.testing.assert_array_equal(dataset.train_images[where], np.asarray(tall)[16:32])


@pytest.mark.parametrize("name", ["dtd", "oxford_flowers102"])
def test_tfds_default_splits_of_the_papers_data_sets(name):
    from jaxinfl.datasets.tfds import _DEFAULT_SPLITS

    builder = tfds.builder(name, file_format="array_record")
    assert _DEFAULT_SPLITS[builder.name] == ("train+validation", "test")


@pytest.mark.parametrize("split", ["validation", "train[:bogus]"])
def test_tfds_unknown_split(tmp_path, split):
    with pytest.raises(ValueError, match=r"(?s)of jaxinfl_tiny does not exist or is empty.*there are train, test"):
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
        ("ag_news_subset", "not an image classification data set: it has the features .*title: Text"),
        ("jaxinfl_depth", "images of dtype .*uint16.*Taken: uint8"),
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
    with pytest.raises(ValueError, match="The folder 'my_pets' exists, but holds neither train nor test"):
        load_dataset("my_pets", tmp_path)


def test_tfds_data_prepared_in_another_format(tmp_path):
    load_dataset("jaxinfl_tiny", tmp_path)
    path = tmp_path / "jaxinfl_tiny" / "1.0.0" / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"jaxinfl_tiny is prepared in .* in a format that TensorFlow must read"):
        load_dataset("jaxinfl_tiny", tmp_path)


def test_tfds_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        DatasetUnavailable, match=r"'cifar10' is neither digits.*pip install tensorflow-datasets array-record"
    ):
        load_dataset("cifar10")


def test_tfds_preparation_that_fails(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"jaxinfl_broken could not be .*OSError: the disk is on fire"):
        load_dataset("jaxinfl_broken", tmp_path)


def put_archive(data_dir, name, url_part, content):
    """A file where TFDS keeps the download of `name` whose address ends so."""
    from tensorflow_datasets.core.download import resource

    ((url, info),) = [
        item for item in tfds.builder(name, data_dir=data_dir).url_infos.items() if item[0].endswith(url_part)
    ]
    path = data_dir / "downloads" / name / resource.get_dl_fname(url, info.checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    pathlib.Path(f"{path}.INFO").write_text(json.dumps({"original_fname": url.rsplit("/", 1)[1]}))


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


tfds_progress_cut_short = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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
    order = [int(np.flatnonzero((pixels == image).all((1, 2, 3)))[0]) for image in dataset.train_images]
    assert sorted(order) == list(range(4, 24))
    np.testing.assert_array_equal(dataset.train_labels, np.array(order) % 10)


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
    order = [int(np.flatnonzero((pixels == image).all((1, 2, 3)))[0]) for image in dataset.test_images]
    np.testing.assert_array_equal(dataset.test_labels, np.array(order) % 100)


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
    assert dataset.class_names == tuple(names) and sorted(dataset.train_labels) == list(range(47))
    for label, image in zip(dataset.test_labels, dataset.test_images, strict=True):
        np.testing.assert_array_equal(image, fit_square(Image.fromarray(sized(3 * label)), 16))
    with pytest.raises(ValueError, match="train_labels lacks 7 of the 47 classes"):
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
    found = [next(k for k in expected if (expected[k] == image).all()) for image in dataset.test_images]
    assert sorted(found) == list(range(103, 121))
    np.testing.assert_array_equal(dataset.test_labels, labels[np.array(found) - 1] - 1)
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


# No network


def check_unavailable(tmp_path, reason):
    start = time.monotonic()
    with pytest.raises(DatasetUnavailable) as raised:
        load_dataset("cifar10", tmp_path)
    assert time.monotonic() - start < 15
    message = str(raised.value)
    assert "cifar10 could not be downloaded" in message
    assert "--preset digits" in message
    assert str(tmp_path / "cifar10" / "3.0.2") in message
    assert reason in message


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.undo()  # the probe really tries ...
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://nosuch.invalid:9")  # ... a host that exists nowhere
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    check_unavailable(tmp_path, "ProxyError")


def test_network_that_swallows_everything(tmp_path, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(download, "_probe", lambda url, seconds: released.wait(30) and None)
    monkeypatch.setattr(download, "PROBE_SECONDS", 0.3)
    check_unavailable(tmp_path, "no answer within 0.3 s")
    released.set()


def test_one_answering_host_is_enough(monkeypatch):
    monkeypatch.setattr(download, "_probe", lambda url, seconds: None if "mirror" in url else "refused")
    urls = ["https://a.invalid/x", "https://a.invalid/y", "https://mirror.invalid/x"]
    assert download.unreachable(urls, 1.0) is None
    assert download.unreachable(urls[:2], 1.0) == "a.invalid cannot be reached (refused)"
    assert download.unreachable(["ftp://a.invalid/x"], 1.0) is None


@pytest.mark.parametrize(("status", "failure"), [(200, None), (403, None), (503, "HTTP status 503")])
def test_probe_tells_a_host_from_a_broken_proxy(monkeypatch, status, failure):
    import requests

    response = requests.Response()
    response.status_code = status
    monkeypatch.setattr(requests, "head", lambda url, **options: response)
    assert download._probe("https://a.invalid/x", 1.0) == failure
