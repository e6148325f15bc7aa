"""`load_dataset` of .npz files: what is taken, what is refused, and how a small file cannot ask for much memory."""

import io
import pathlib
import zipfile

import numpy as np
import pytest

from jaxinfl.datasets import Dataset, load_dataset, npz
from tests.example_images import arrays


@pytest.fixture
def npz_arrays():
    given = arrays()
    return {
        "x_train": given["train_inputs"],
        "y_train": given["train_targets"],
        "x_test": given["test_inputs"],
        "y_test": given["test_targets"],
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("path_type", [str, pathlib.Path])
def test_npz_round_trip(tmp_path, npz_arrays, save, path_type):
    save(tmp_path / "pets.npz", **npz_arrays)
    dataset = load_dataset(path_type(tmp_path / "pets.npz"))
    assert dataset.fingerprint == Dataset(**arrays()).fingerprint
    assert (dataset.name, dataset.class_names) == ("pets", ("0", "1", "2"))


@pytest.mark.parametrize("names", [np.array(["a", "b", "é"]), np.array([b"a", b"b", "é".encode()])])
def test_npz_with_class_names(tmp_path, npz_arrays, names):
    np.savez(tmp_path / "pets.npz", **npz_arrays, class_names=names, unrelated=np.zeros(3))
    assert load_dataset(tmp_path / "pets.npz").class_names == ("a", "b", "é")


def test_npz_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pets\.npz does not exist"):
        load_dataset(tmp_path / "pets.npz")


def test_npz_missing_keys(tmp_path, npz_arrays):
    del npz_arrays["y_train"], npz_arrays["x_test"]
    np.savez(tmp_path / "pets.npz", **npz_arrays)
    with pytest.raises(ValueError, match=r"lacks y_train, x_test and holds x_train, y_test"):
        load_dataset(tmp_path / "pets.npz")


def test_npz_truncated_or_not_a_zip_file(tmp_path, npz_arrays):
    path = tmp_path / "pets.npz"
    np.savez(path, **npz_arrays)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"pets\.npz is not a readable \.npz file.*truncated"):
        load_dataset(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"pets\.npz is not a readable \.npz file"):
        load_dataset(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_a_flipped_byte(tmp_path, npz_arrays, save):
    path = tmp_path / "pets.npz"
    save(path, **npz_arrays)
    damaged = bytearray(path.read_bytes())
    damaged[400] ^= 0xFF  # within the pixels of x_train
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"pets\.npz"):
        load_dataset(path)


def test_npz_pickles_are_never_loaded(tmp_path, npz_arrays):
    npz_arrays["x_train"] = np.array([image[: i + 1] for i, image in enumerate(npz_arrays["x_train"])], object)
    np.savez(tmp_path / "pets.npz", **npz_arrays)
    with pytest.raises(ValueError, match=r"x_train in .*pets\.npz holds pickled Python objects"):
        load_dataset(tmp_path / "pets.npz")


def write_npz_with_header(path, shape, body, npz_arrays):
    """An .npz file whose x_train declares `shape` and holds `body` bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    np.savez(path, **{key: array for key, array in npz_arrays.items() if key != "x_train"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue() + body)


def test_npz_header_that_asks_for_too_much(tmp_path, npz_arrays):
    write_npz_with_header(tmp_path / "a.npz", (10**6, 10**3, 10**3, 3), b"", npz_arrays)
    with pytest.raises(ValueError, match=r"x_train in .* GiB\. At most .* GiB are taken"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("size", [0, 359, 361])
def test_npz_header_that_does_not_match(tmp_path, npz_arrays, size):
    write_npz_with_header(tmp_path / "a.npz", (6, 4, 5, 3), bytes(size), npz_arrays)
    with pytest.raises(ValueError, match=rf"x_train in .* 360 bytes, but the file holds {size}"):
        load_dataset(tmp_path / "a.npz")


def test_npz_limit_counts_bytes(tmp_path, npz_arrays, monkeypatch):
    np.savez(tmp_path / "a.npz", **npz_arrays)
    monkeypatch.setattr(npz, "memory_limit", lambda: 359)
    with pytest.raises(ValueError, match="x_train"):
        load_dataset(tmp_path / "a.npz")


def test_npz_member_that_is_not_an_array(tmp_path, npz_arrays):
    del npz_arrays["x_test"]
    np.savez(tmp_path / "a.npz", **npz_arrays)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("x_test.npy", b"hello, world, this is not an array")
    with pytest.raises(ValueError, match=r"x_test in .* is not a readable array"):
        load_dataset(tmp_path / "a.npz")


def test_npz_class_names_must_be_strings(tmp_path, npz_arrays):
    np.savez(tmp_path / "a.npz", **npz_arrays, class_names=np.arange(3))
    with pytest.raises(ValueError, match=r"class_names in .* has dtype int64"):
        load_dataset(tmp_path / "a.npz")


def test_npz_mistakes_name_the_file_and_its_keys(tmp_path):
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels[:3], x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=r"a\.npz: x_train holds 4 examples and y_train 3"):
        load_dataset(tmp_path / "a.npz")


# --- MedMNIST --------------------------------------------------------------------------------------------------------


def medmnist(**more):
    """Arrays as in MedMNIST's files, with labels in a column and a validation set."""
    given = arrays()
    columns = {f"{split}_labels": given[f"{split}_targets"][:, None].astype(np.uint8) for split in ("train", "test")}
    images = {f"{split}_images": given[f"{split}_inputs"] for split in ("train", "test")}
    return images | columns | {"val_images": images["test_images"][:2], "val_labels": columns["test_labels"][:2]} | more


def test_the_keys_of_medmnist(tmp_path, caplog):
    np.savez(tmp_path / "pets.npz", **medmnist(class_names=np.array(["a", "b", "c"])))
    dataset = load_dataset(tmp_path / "pets.npz")
    assert dataset.fingerprint == Dataset(**arrays()).fingerprint and dataset.class_names == ("a", "b", "c")
    assert (
        f"{tmp_path / 'pets.npz'}: val_images, val_labels are left out. The data set is made of train_images"
        in caplog.text
    )


def test_a_validation_set_beside_keras_keys(tmp_path, npz_arrays, caplog):
    np.savez(tmp_path / "plain.npz", **npz_arrays)
    load_dataset(tmp_path / "plain.npz")
    assert not caplog.text
    np.savez(tmp_path / "pets.npz", **npz_arrays, x_val=npz_arrays["x_test"], y_val=npz_arrays["y_test"])
    assert load_dataset(tmp_path / "pets.npz").num_test == 4
    assert (
        "npz: x_val, y_val are left out." in caplog.text and "made of x_train, y_train, x_test, y_test" in caplog.text
    )


def test_both_names_in_one_file(tmp_path, npz_arrays, caplog):
    """Keras's, as ever; that others are there is said."""
    np.savez(tmp_path / "pets.npz", **npz_arrays, **medmnist(train_images=np.zeros((6, 4, 5, 3), np.uint8)))
    assert load_dataset(tmp_path / "pets.npz").fingerprint == Dataset(**arrays()).fingerprint
    assert "train_images, train_labels, test_images, test_labels are left out. The" in caplog.text


def test_mistakes_are_told_by_the_names_of_the_file(tmp_path):
    given = medmnist()
    del given["test_labels"]
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(ValueError, match=r"a\.npz lacks test_labels and holds .*it takes x_train.*, or train_images"):
        load_dataset(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **medmnist(train_labels=np.eye(6, 14, dtype=np.uint8) + np.eye(6, 14, 1, np.uint8)))
    with pytest.raises(ValueError, match=r"b\.npz: train_labels has shape \(6, 14\).*multi-label"):
        load_dataset(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **medmnist(train_labels=np.zeros((3, 1), np.uint8)))
    with pytest.raises(ValueError, match=r"c\.npz: train_images holds 6 examples and train_labels 3"):
        load_dataset(tmp_path / "c.npz")


def test_names_of_classes_as_labels(tmp_path, npz_arrays):
    names = np.array(["cat", "dog", "eel"])
    for dtype in ("U3", "S3"):
        text = {key: names[npz_arrays[key]].astype(dtype) for key in ("y_train", "y_test")}
        np.savez(tmp_path / "pets.npz", **npz_arrays | text)
        dataset = load_dataset(tmp_path / "pets.npz")
        assert dataset.class_names == ("cat", "dog", "eel")
        np.testing.assert_array_equal(dataset.test_targets, npz_arrays["y_test"])
    pickled = {key: names[npz_arrays[key]].astype(object) for key in ("y_train", "y_test")}
    np.savez(tmp_path / "pickled.npz", **npz_arrays | pickled)
    with pytest.raises(ValueError, match=r"y_train in .* holds pickled Python objects .*text with \.astype\(str\)"):
        load_dataset(tmp_path / "pickled.npz")
    np.savez(tmp_path / "plain.npz", **npz_arrays | {key: labels.astype(str) for key, labels in pickled.items()})
    assert load_dataset(tmp_path / "plain.npz").fingerprint == Dataset(**arrays()).fingerprint


# --- arrays that are no images ---------------------------------------------------------------------------------------


def write_pair(path, keys, inputs, targets, **more):
    """Twelve training and four test examples, under the names of Keras or of MedMNIST."""
    rows = slice(0, 12), slice(12, 16)
    values = [each[row] for row in rows for each in (inputs, targets)]
    np.savez(path, **dict(zip(keys, values, strict=True)), **more)
    return path


@pytest.mark.parametrize("keys", [npz.REQUIRED_KEYS, npz.MEDMNIST_KEYS])
@pytest.mark.parametrize(
    ("inputs", "targets", "options", "task", "categories"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32).reshape(16, 4), np.arange(16) % 3, {}, "classification", {}),
        (np.linspace(0, 1, 64).reshape(16, 4), np.linspace(0, 1, 16), {}, "regression", {}),
        (np.linspace(0, 1, 96).reshape(16, 3, 2), np.linspace(0, 1, 32).reshape(16, 2), {}, "regression", {}),
        (np.arange(64).reshape(16, 4) % 5, np.arange(16) % 2, {}, "classification", {"": 5}),
        (np.arange(64, dtype=np.uint8).reshape(16, 4) % 5, np.arange(16) % 2, {"categories": 9}, "classification", {"": 9}),
        (np.arange(64).reshape(16, 2, 2) % 5, np.arange(16), {"task": "regression"}, "regression", {"": 5}),
        (np.ones((16, 4)), np.arange(16) % 2, {"task": "binary"}, "binary", {}),
        (np.arange(64).reshape(16, 4) % 5, np.arange(64).reshape(16, 4) % 5, {"task": "next_token"}, "next_token", {"": 5}),
        (np.ones((16, 4)) > 0, np.array(["é", "b"] * 8), {}, "classification", {}),
        (np.zeros((16, 2, 2), np.uint8), np.linspace(0, 1, 16), {"image_size": 4}, "regression", {}),
    ],
)  # fmt: skip
def test_any_arrays(tmp_path, keys, inputs, targets, options, task, categories):
    path = write_pair(tmp_path / "a.npz", keys, inputs, targets)
    data = load_dataset(path, **options)
    assert data.task.name == task and data.categories == categories
    assert load_dataset(**data.source).fingerprint == data.fingerprint
    if "image_size" in options:
        assert data.image_shape == (4, 4, 1)
        return
    np.testing.assert_array_equal(data.train_inputs, inputs[:12])
    expected = Dataset(train_inputs=inputs[:12], train_targets=targets[:12], test_inputs=inputs[12:],
                       test_targets=targets[12:], task=task, categories=options.get("categories"))  # fmt: skip
    assert data.fingerprint == expected.fingerprint


def test_refused_arrays_name_their_keys(tmp_path):
    table, labels = np.ones((16, 4)), np.arange(16) % 2
    table[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"x_train is inf at example 3, column 2"):
        load_dataset(write_pair(tmp_path / "a.npz", npz.REQUIRED_KEYS, table, labels))
    table[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"x_train contains NaN at example 3, column 2"):
        load_dataset(write_pair(tmp_path / "a.npz", npz.REQUIRED_KEYS, table, labels))
    path = write_pair(tmp_path / "b.npz", npz.REQUIRED_KEYS, np.ones((16, 4)), labels)
    with pytest.raises(ValueError, match="task is 'regress'"):
        load_dataset(path, task="regress")
    with pytest.raises(ValueError, match="holds no images"):
        load_dataset(path, image_size=8)
    with pytest.raises(ValueError, match="categories is 3 for 0 integer arrays"):
        load_dataset(path, categories=3)
    with pytest.raises(ValueError, match="class_names is given, which the task 'regression' does not take"):
        load_dataset(
            write_pair(path, npz.REQUIRED_KEYS, table[4:].repeat(2, 0)[:16], labels / 2, class_names=["a", "b"])
        )
