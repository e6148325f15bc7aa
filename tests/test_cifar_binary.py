"""`load_dataset` of CIFAR's own binary archives, as archives and unpacked."""

import io
import tarfile

import numpy as np
import pytest

from experiments.command_line import Options, load
from jaxinfl import load_dataset
from tests.example_tables import cifar10, cifar100, records, write_archive


def unpack(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_cifar10(tmp_path):
    """Batches in the order of their numbers, whatever their order in the archive."""
    files, images, labels = cifar10()
    path = write_archive(tmp_path / "cifar-10-binary.tar.gz", files)
    data = load_dataset(path)
    np.testing.assert_array_equal(data.train_inputs, images)
    np.testing.assert_array_equal(data.train_targets, labels)
    np.testing.assert_array_equal(data.test_inputs, images[:6])
    assert data.class_names == tuple(f"class {k}" for k in range(10)) and data.name == "cifar10"
    unpack(tmp_path / "in" / "cifar-10-batches-bin", files)
    for folder in (tmp_path / "in", tmp_path / "in" / "cifar-10-batches-bin"):
        assert load_dataset(folder).fingerprint == load_dataset(**data.source).fingerprint == data.fingerprint
    assert load_dataset(path, image_size=8).image_shape == (8, 8, 3)
    assert load(Options(data=str(path)), "x", "digits")[0].fingerprint == data.fingerprint
    assert not (tmp_path / "cifar-10-batches-bin").exists()


def test_cifar100(tmp_path):
    files, images, fine, coarse = cifar100()
    path = write_archive(tmp_path / "cifar-100-binary.tgz", files, "cifar-100-binary")
    data = load_dataset(str(path))
    np.testing.assert_array_equal(data.train_inputs, images)
    np.testing.assert_array_equal(data.train_targets, fine)
    assert data.class_names == ("a", "b", "c", "d")
    assert load_dataset(path, targets="fine").fingerprint == data.fingerprint
    of_groups = load_dataset(path, targets="coarse")
    np.testing.assert_array_equal(of_groups.train_targets, coarse)
    assert of_groups.class_names == ("early", "late") and load_dataset(**of_groups.source).num_classes == 2
    with pytest.raises(ValueError, match="targets is 'medium'; cifar100 takes 'fine' or 'coarse'"):
        load_dataset(path, targets="medium")


def change(files, **changes):
    return {name: content for name, content in (files | changes).items() if content is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_3.bin": None}, r"lacks data_batch_3\.bin; it holds batches\.meta\.txt, data_batch_1"),
        ({"test_batch.bin": None}, "is no binary version of CIFAR: .*pickles, which are never loaded"),
        ({"test.bin": bytes(3074)}, "is no binary version of CIFAR: .*exactly one"),
        ({"data_batch_1.bin": bytes(3072)}, r"data_batch_1\.bin in .* has 3072 bytes; it takes images of 3073 bytes"),
        ({"test_batch.bin": b""}, r"test_batch\.bin in .* has 0 bytes"),
        (
            {"batches.meta.txt": b"a\nb\n"},
            r"there are 2 class_names.*names of the classes are those of batches\.meta\.txt",
        ),
        ({"batches.meta.txt": b"\xff\n"}, "utf-8"),
        ({"test_batch.bin": b"\x0b" + bytes(3072)}, "test_targets contains 11"),
    ],
)
def test_refused(tmp_path, changes, message):
    files = change(cifar10()[0], **changes)
    unpack(tmp_path / "folder" / "cifar-10-batches-bin", files)
    for path in (write_archive(tmp_path / "a.tar.gz", files), tmp_path / "folder"):
        if path.is_dir() and "test_batch.bin" in changes and changes["test_batch.bin"] is None:
            continue  # a folder without any of its files is one of images
        with pytest.raises(ValueError, match=message) as caught:
            load_dataset(path)
        assert str(path) in str(caught.value)


def test_an_archive_without_names_of_classes(tmp_path):
    files = change(cifar10()[0], **{"batches.meta.txt": None})
    assert load_dataset(write_archive(tmp_path / "a.tar.gz", files)).class_names == tuple("0123456789")


def test_the_order_of_planes(tmp_path):
    """Red, green, blue, each row by row."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 1, 2] = 10, 20, 30
    content = records(image, [0])
    assert [content.index(value) for value in (10, 20, 30)] == [1 + 34, 1 + 1024 + 34, 1 + 2048 + 34]


def test_members_that_are_not_what_they_are_called(tmp_path):
    """Links, folders and names that are paths are not followed, and nothing is written."""
    files, images, _ = cifar10()
    path = tmp_path / "in" / "a.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "../../escaped"),
            (tarfile.LNKTYPE, "/etc/x"),
            (tarfile.DIRTYPE, "test_batch.bin"),
        ):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc/passwd"
            archive.addfile(about)
        for name, content in files.items():
            about = tarfile.TarInfo(f"../../../{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    np.testing.assert_array_equal(load_dataset(path).train_inputs, images)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["in", "a.tar.gz"]
    with tarfile.open(tmp_path / "twice.tar.gz", "w:gz") as archive:
        for _ in range(2):
            about = tarfile.TarInfo("test_batch.bin")
            about.size = 3073
            archive.addfile(about, io.BytesIO(bytes(3073)))
    with pytest.raises(ValueError, match=r"it holds test_batch\.bin twice"):
        load_dataset(tmp_path / "twice.tar.gz")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.tar\.gz does not exist"):
        load_dataset(tmp_path / "a.tar.gz")
    (tmp_path / "a.tar.gz").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="broken link"):
        load_dataset(tmp_path / "a.tar.gz")
