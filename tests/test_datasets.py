"""`load_dataset` and `Dataset`: what they take, what they refuse and how they say so. Nothing is downloaded."""

import dataclasses
import io
import json
import pathlib
import sys
import tarfile
import threading
import time
import warnings
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from jaxinfl.datasets import Dataset, DatasetUnavailable, download, images, load_dataset, npz
from jaxinfl.datasets.digits import stratified_test_mask

tfds = pytest.importorskip("tensorflow_datasets")

CHECKED_BEFORE = "Type-check error"  # jaxtyping's, a TypeError too, when the tests run with annotations checked


def random_images(n, height=4, width=5, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def arrays(**changes):
    """Valid arguments of `Dataset`: 6 training and 4 test examples of 3 classes."""
    valid = {
        "train_images": random_images(6),
        "train_labels": np.array([0, 1, 2, 2, 1, 0]),
        "test_images": random_images(4, seed=1),
        "test_labels": np.array([2, 1, 0, 1]),
    }
    return valid | changes


def png(image, mode=None, file_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode).save(file, file_format)
    return file.getvalue()


# Dataset


def test_dataset_keeps_order_values_and_names():
    given = arrays()
    dataset = Dataset(**given, class_names=["cat", "dog", "eel"], name="pets")
    np.testing.assert_array_equal(dataset.train_images, given["train_images"])
    np.testing.assert_array_equal(dataset.train_labels, given["train_labels"])
    np.testing.assert_array_equal(dataset.test_images, given["test_images"])
    np.testing.assert_array_equal(dataset.test_labels, given["test_labels"])
    assert dataset.class_names == ("cat", "dog", "eel")
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (6, 4, 3)
    assert dataset.image_shape == (4, 5, 3)
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert repr(dataset) == "Dataset(name='pets', num_train=6, num_test=4, num_classes=3, image_shape=(4, 5, 3))"


def test_class_names_and_name_have_defaults():
    dataset = Dataset(**arrays())
    assert (dataset.class_names, dataset.name) == (("0", "1", "2"), "arrays")


def test_arrays_are_read_only_views_and_the_callers_stay_writable():
    given = arrays(train_labels=np.array([0, 1, 2, 2, 1, 0], np.int32))
    dataset = Dataset(**given)
    for field, array in given.items():
        assert array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            getattr(dataset, field)[0] = 1
    assert np.shares_memory(dataset.train_images, given["train_images"])
    assert np.shares_memory(dataset.train_labels, given["train_labels"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"


def test_images_without_channels_and_labels_in_columns_are_taken():
    given = arrays()
    gray = {field: given[field][..., 0] for field in ("train_images", "test_images")}
    columns = {field: given[field][:, None].astype(np.uint8) for field in ("train_labels", "test_labels")}
    dataset = Dataset(**gray, **columns)
    assert dataset.train_images.shape == (6, 4, 5, 1)
    np.testing.assert_array_equal(dataset.train_images[..., 0], gray["train_images"])
    np.testing.assert_array_equal(dataset.train_labels, given["train_labels"])


def test_a_class_may_be_missing_in_the_test_set():
    assert Dataset(**arrays(test_labels=np.zeros(4, int))).num_classes == 3


REFUSED = {
    "images have 2 dimensions": ({"train_images": np.zeros((6, 4), np.uint8)}, ValueError, "train_images has 2 dim"),
    "images have 5 dimensions": ({"test_images": np.zeros((4, 1, 1, 1, 1), np.uint8)}, ValueError, "test_images has 5"),
    "float images": (
        {"train_images": np.zeros((6, 4, 5, 3))},
        TypeError,
        r"train_images has dtype float64.*0\.\.255 and r",
    ),
    "int images": ({"test_images": np.zeros((4, 4, 5, 3), int)}, TypeError, "test_images has dtype int64.*uint8"),
    "NaN images": ({"train_images": np.full((6, 4, 5, 3), np.nan)}, ValueError, "train_images contains NaN"),
    "ragged images": ({"train_images": [[[0]], [[0, 1]]]}, ValueError, "train_images is not one rectangular array"),
    "float labels": ({"train_labels": np.zeros(6)}, TypeError, "train_labels has dtype float64.*integer"),
    "bool labels": ({"train_labels": np.zeros(6, bool)}, TypeError, "train_labels has dtype bool"),
    "NaN labels": ({"test_labels": np.full(4, np.nan)}, ValueError, "test_labels contains NaN"),
    "one-hot labels": ({"train_labels": np.eye(6, dtype=int)}, ValueError, r"train_labels has shape \(6, 6\).*argmax"),
    "shapes differ": ({"test_images": random_images(4, 4, 4)}, ValueError, r"\(4, 5, 3\).*test_images \(4, 4, 3\)"),
    "lengths differ": ({"train_labels": np.array([0, 1, 2])}, ValueError, "train_images holds 6 .*train_labels 3"),
    "test lengths differ": ({"test_labels": np.array([0, 1, 2])}, ValueError, "test_images holds 4 .*test_labels 3"),
    "no images": ({"train_images": random_images(0)}, ValueError, "train_images is empty"),
    "no pixels": ({"train_images": random_images(6, 0)}, ValueError, "train_images is empty"),
    "no labels": ({"test_labels": np.array([], int)}, ValueError, "test_labels is empty"),
    "negative label": ({"test_labels": np.array([0, 1, -1, 2])}, ValueError, "test_labels contains .* -1 at example 2"),
    "label beyond names": ({"class_names": ("a", "b")}, ValueError, r"train_labels contains 2.*2 class_names.*0\.\.1"),
    "test label beyond names": (
        {"class_names": ("a", "b", "c"), "test_labels": np.array([0, 1, 2, 9])},
        ValueError,
        "test_labels contains 9",
    ),
    "labels with gaps": ({"train_labels": np.array([0, 5, 5, 2, 1, 0])}, ValueError, r"not contiguous.*\[3, 4\]"),
    "a huge label": ({"train_labels": np.array([0, 2**40, 1, 2, 1, 0])}, ValueError, "not contiguous.*109951162777"),
    "labels from 1": (
        {"train_labels": np.array([1, 2, 3, 3, 2, 1]), "test_labels": np.array([1, 2, 3, 1])},
        ValueError,
        r"not contiguous.*\[0\]",
    ),
    "untrained class": ({"test_labels": np.array([0, 1, 2, 3])}, ValueError, r"no training example: 3 \('3'\)"),
    "untrained named class": ({"class_names": tuple("abcd")}, ValueError, r"no training example: 3 \('d'\)"),
    "one class": ({"train_labels": np.zeros(6, int), "test_labels": np.zeros(4, int)}, ValueError, "hold 1 class"),
    "one class name": ({"class_names": ("a",)}, ValueError, "class_names holds 1 class"),
    "repeated names": ({"class_names": ("a", "b", "a")}, ValueError, r"class_names repeats \['a'\]"),
    "names are a string": ({"class_names": "abc"}, TypeError, "class_names is 'abc'"),
    "names are numbers": ({"class_names": (0, 1, 2)}, TypeError, rf"class_names is \(0, 1, 2\)|{CHECKED_BEFORE}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_dataset_refuses(case):
    changes, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        Dataset(**arrays(**changes))


def test_fingerprint_depends_on_content_only():
    given = arrays()
    fingerprint = Dataset(**given).fingerprint
    assert len(fingerprint) == 64
    assert int(fingerprint, 16) >= 0
    same = {field: np.asfortranarray(array) for field, array in given.items()}
    same["train_labels"] = given["train_labels"].astype(">i2")
    assert Dataset(**same, class_names=("a", "b", "c"), name="other").fingerprint == fingerprint


@pytest.mark.parametrize("field", ["train_images", "train_labels", "test_images", "test_labels"])
def test_fingerprint_sees_one_value(field):
    changed = arrays()
    fingerprint = Dataset(**changed).fingerprint
    flat = changed[field].copy().reshape(-1)
    flat[-1] = (flat[-1] + 1) % 3
    changed[field] = flat.reshape(changed[field].shape)
    assert Dataset(**changed, class_names=tuple("abc")).fingerprint != fingerprint


def test_fingerprint_sees_shapes_and_the_split():
    given = arrays()
    others = [
        arrays(
            train_images=given["train_images"].reshape(6, 5, 4, 3), test_images=given["test_images"].reshape(4, 5, 4, 3)
        ),
        arrays(train_images=given["train_images"][::-1]),
        {  # the last training example becomes the first test example
            "train_images": given["train_images"][:5],
            "train_labels": given["train_labels"][:5],
            "test_images": np.concatenate([given["train_images"][5:], given["test_images"]]),
            "test_labels": np.concatenate([given["train_labels"][5:], given["test_labels"]]),
        },
    ]
    fingerprints = {Dataset(**arguments).fingerprint for arguments in [given, *others]}
    assert len(fingerprints) == 4


def test_fingerprint_is_the_same_in_pieces(monkeypatch):
    fingerprint = Dataset(**arrays()).fingerprint
    monkeypatch.setattr("jaxinfl.datasets.dataset._HASHED_AT_ONCE", 130)  # 2 images
    assert Dataset(**arrays()).fingerprint == fingerprint


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(st.data())
def test_any_valid_arrays_come_back(data):
    num_classes, num_test = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 4))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
    extra = data.draw(st.lists(st.integers(0, num_classes - 1), max_size=4))
    train_labels = np.array(data.draw(st.permutations([*range(num_classes), *extra])))
    dtype = data.draw(hnp.integer_dtypes() | hnp.unsigned_integer_dtypes())
    test_labels = data.draw(hnp.arrays(dtype, num_test, elements=st.integers(0, num_classes - 1)))
    train_images = data.draw(hnp.arrays(np.uint8, (len(train_labels), *shape)))
    test_images = data.draw(hnp.arrays(np.uint8, (num_test, *shape)))
    dataset = Dataset(
        train_images=train_images, train_labels=train_labels, test_images=test_images, test_labels=test_labels
    )
    np.testing.assert_array_equal(dataset.train_images, train_images)
    np.testing.assert_array_equal(dataset.train_labels, train_labels)
    np.testing.assert_array_equal(dataset.test_images, test_images)
    np.testing.assert_array_equal(dataset.test_labels, test_labels)
    assert dataset.num_classes == num_classes
    again = dataclasses.replace(dataset, name="again")
    assert again.fingerprint == dataset.fingerprint


# load_dataset: digits


def test_digits_are_split_in_a_stratified_and_fixed_way():
    digits = load_dataset("digits")
    assert (digits.num_train, digits.num_test, digits.num_classes) == (1437, 360, 10)
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    assert digits.name == "digits"
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    test_counts = np.bincount(digits.test_labels)
    counts = np.bincount(digits.train_labels) + test_counts
    assert np.all(np.abs(test_counts - counts * 360 / 1797) < 1)
    # Stored runs name this fingerprint: it must never change.
    assert digits.fingerprint == "6a612f3dca0e7fc56b66fa125779ca2405f7276c73a511701cf270ed82dcb122"


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits, raw = load_dataset("digits"), load_digits()
    in_test = stratified_test_mask(raw.target, 360)
    expected = np.array([[round(value * 255 / 16) for value in image.reshape(-1)] for image in raw.images])
    np.testing.assert_array_equal(digits.test_images.reshape(360, 64), expected[in_test])
    np.testing.assert_array_equal(digits.train_images.reshape(1437, 64), expected[~in_test])
    np.testing.assert_array_equal(digits.train_labels, raw.target[~in_test])


def test_arrays_are_resized_on_request():
    small = load_dataset("digits", image_size=4)
    assert small.image_shape == (4, 4, 1)
    first = Image.fromarray(load_dataset("digits").train_images[0, ..., 0])
    np.testing.assert_array_equal(small.train_images[0, ..., 0], first.resize((4, 4), Image.Resampling.BILINEAR))
    assert load_dataset("digits", image_size=8).fingerprint == load_dataset("digits").fingerprint


# load_dataset: .npz


@pytest.fixture
def npz_arrays():
    given = arrays()
    return {
        "x_train": given["train_images"],
        "y_train": given["train_labels"],
        "x_test": given["test_images"],
        "y_test": given["test_labels"],
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
    with pytest.raises(ValueError, match=r"lacks y_train, x_test; it holds x_train, y_test"):
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
    with pytest.raises(ValueError, match=r"x_train in .* GiB\. At most 64 GiB"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("size", [0, 359, 361])
def test_npz_header_that_does_not_match(tmp_path, npz_arrays, size):
    write_npz_with_header(tmp_path / "a.npz", (6, 4, 5, 3), bytes(size), npz_arrays)
    with pytest.raises(ValueError, match=rf"x_train in .* 360 bytes, but the file holds {size}"):
        load_dataset(tmp_path / "a.npz")


def test_npz_limit_counts_bytes(tmp_path, npz_arrays, monkeypatch):
    np.savez(tmp_path / "a.npz", **npz_arrays)
    monkeypatch.setattr(npz, "_MAX_ARRAY_BYTES", 359)
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
    with pytest.raises(ValueError, match=r"class_names in .* is int64"):
        load_dataset(tmp_path / "a.npz")


# load_dataset: image folders


def write_folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def folder(tmp_path):
    pixels = random_images(6)
    names = [
        "train/dog/b.png",
        "train/dog/a.PNG",
        "train/cat/10.bmp",
        "train/cat/9.ppm",
        "test/dog/z.png",
        "test/cat/y.png",
    ]
    formats = {".bmp": "BMP", ".ppm": "PPM"}
    files = {
        name: png(image, file_format=formats.get(pathlib.Path(name).suffix, "PNG"))
        for name, image in zip(names, pixels, strict=True)
    }
    return write_folder(tmp_path / "pets", files), pixels


def test_folder_in_sorted_order(folder):
    root, pixels = folder
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"")
    (root / "README.md").write_text("fine here")
    dataset = load_dataset(str(root))
    assert (dataset.class_names, dataset.name) == (("cat", "dog"), "pets")
    np.testing.assert_array_equal(dataset.train_images, pixels[[2, 3, 1, 0]])  # "10.bmp" < "9.ppm", "a.PNG" < "b.png"
    np.testing.assert_array_equal(dataset.train_labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(dataset.test_images, pixels[[5, 4]])
    np.testing.assert_array_equal(dataset.test_labels, [0, 1])
    assert load_dataset(root).fingerprint == dataset.fingerprint


def test_folder_is_taken_by_a_bare_name_too(folder, monkeypatch):
    root, _ = folder
    monkeypatch.chdir(root.parent)
    assert load_dataset("pets").num_train == 4


def test_folder_of_gray_images_keeps_one_channel(tmp_path):
    pixels = random_images(4, channels=1)
    names = ["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"]
    root = write_folder(tmp_path / "gray", {n: png(image) for n, image in zip(names, pixels, strict=True)})
    np.testing.assert_array_equal(load_dataset(root).train_images, pixels[:2])
    color = random_images(1, seed=5)[0]
    (root / "test" / "b" / "0.png").write_bytes(png(color))
    dataset = load_dataset(root)
    assert dataset.image_shape == (4, 5, 3)
    np.testing.assert_array_equal(dataset.train_images, np.repeat(pixels[:2], 3, axis=-1))
    np.testing.assert_array_equal(dataset.test_images[1], color)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_folder_takes_every_8_bit_mode(folder, mode, channels):
    root, pixels = folder
    for path in root.rglob("*.*"):
        path.unlink()
        path.with_suffix(".png").write_bytes(png(pixels[0], mode))
    dataset = load_dataset(root)
    assert dataset.image_shape == (4, 5, channels)
    if mode == "RGBA":
        np.testing.assert_array_equal(dataset.train_images[0], pixels[0])


def test_folder_palette_with_transparency_gives_no_warning(folder):
    root, pixels = folder
    image = Image.fromarray(pixels[0]).convert("P")
    image.save(root / "train" / "dog" / "b.png", transparency=bytes(range(10)))
    assert load_dataset(root).num_train == 4


def test_folder_of_varying_sizes_is_resized_and_cropped(tmp_path):
    sizes = [(30, 40), (60, 20), (16, 16), (8, 9)]
    pixels = [random_images(1, height, width)[0] for height, width in sizes]
    names = ["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"]
    root = write_folder(tmp_path / "vary", {n: png(image) for n, image in zip(names, pixels, strict=True)})
    assert load_dataset(root).image_shape == (images.DEFAULT_SIZE, images.DEFAULT_SIZE, 3) == (224, 224, 3)
    dataset = load_dataset(root, image_size=16)
    bilinear = Image.Resampling.BILINEAR
    landscape = np.asarray(Image.fromarray(pixels[0]).resize((21, 16), bilinear))[:, 2:18]
    portrait = np.asarray(Image.fromarray(pixels[1]).resize((16, 48), bilinear))[16:32]
    np.testing.assert_array_equal(dataset.train_images, [landscape, portrait])
    np.testing.assert_array_equal(dataset.test_images[0], pixels[2])


def change_folder(root, case):
    """Damage the image folder `root`; the error's type and message."""
    if case == "missing":
        return root / "no", FileNotFoundError, "no does not exist or is not a folder"
    if case == "no test":
        (root / "test").rename(root / "validation")
        return root, ValueError, r"has no folder test\. Taken: .*train/<class>"
    if case == "no train":
        (root / "train").rename(root / "training")
        return root, ValueError, "has no folder train"
    if case == "no classes":
        (root / "train").rename(root / "old")
        (root / "train").mkdir()
        return root, ValueError, "train holds no classes"
    if case == "class in test only":
        (root / "test" / "eel").mkdir()
        return root, ValueError, "test has classes that .*train lacks: eel"
    if case == "empty class":
        (root / "train" / "eel").mkdir()
        return root, ValueError, "eel is empty"
    if case == "file beside classes":
        (root / "train" / "stray.png").write_bytes(b"")
        return root, ValueError, r"stray\.png is not a folder"
    if case == "other suffix":
        (root / "train" / "cat" / "notes.txt").write_bytes(b"")
        return root, ValueError, r"notes\.txt is not an image file\. Taken: \.png"
    if case == "nested folder":
        (root / "train" / "cat" / "more.png").mkdir()
        return root, ValueError, r"more\.png is not an image file"
    path = root / "train" / "dog" / "b.png"
    if case == "not an image":
        path.write_bytes(b"not an image")
    elif case == "truncated":
        path.write_bytes(png(random_images(1, 64, 64)[0])[:-3000])
    elif case == "16 bit":
        Image.fromarray(np.zeros((4, 5), np.uint16)).save(path)
        return root, ValueError, r"b\.png has pixels of Pillow's mode 'I;16'.*8-bit"
    elif case == "too long":
        path.write_bytes(png(random_images(1, 1, 200)[0]))
        return root, ValueError, r"b\.png cannot be read.*200 x 1 is too long"
    return root, ValueError, r"b\.png cannot be read as an image"


FOLDER_CASES = [
    *("missing", "no test", "no train", "no classes", "class in test only", "empty class", "file beside classes"),
    *("other suffix", "nested folder", "not an image", "truncated", "16 bit", "too long"),
]


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_folder_refuses(folder, case):
    path, error, message = change_folder(folder[0], case)
    with pytest.raises(error, match=message):
        load_dataset(path)


@pytest.mark.parametrize("limit", [19, 9])  # 20 pixels: over the limit Pillow warns, over twice the limit it raises
def test_folder_decompression_bomb(folder, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # as most programs run
        with pytest.raises(ValueError, match=r"10\.bmp is too large: .*MAX_IMAGE_PIXELS"):
            load_dataset(folder[0])


# load_dataset: arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": 3}, TypeError, f"name is 3|{CHECKED_BEFORE}"),
        ({"name": "digits", "image_size": 0}, ValueError, "image_size is 0"),
        ({"name": "digits", "image_size": 8.0}, TypeError, rf"image_size is 8\.0|{CHECKED_BEFORE}"),
        ({"name": "digits", "splits": ("train", "test")}, ValueError, "only TensorFlow Datasets have named splits"),
        ({"name": "cifar10", "splits": "train"}, TypeError, f"splits is 'train'|{CHECKED_BEFORE}"),
        ({"name": "cifar10", "splits": ("train",)}, TypeError, f"two strings|{CHECKED_BEFORE}"),
    ],
)
def test_load_dataset_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        load_dataset(**arguments)


# load_dataset: TensorFlow Datasets. The builders below are registered with TFDS by being defined.


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # TFDS' progress bars, cut short
def test_tfds_cifar10_itself_is_prepared_without_tensorflow(tmp_path):
    """The real cifar10 of TFDS, from an archive in CIFAR's format where TFDS keeps its downloads."""
    from tensorflow_datasets.core.download import resource

    ((url, info),) = tfds.builder("cifar10", data_dir=tmp_path).url_infos.items()
    path = tmp_path / "downloads" / "cifar10" / resource.get_dl_fname(url, info.checksum)
    path.parent.mkdir(parents=True)
    pixels = random_images(30, 32, 32)
    records = [bytes([i % 10]) + image.transpose(2, 0, 1).tobytes() for i, image in enumerate(pixels)]
    files = {f"data_batch_{k}.bin": b"".join(records[4 * k : 4 * k + 4]) for k in range(1, 6)}
    files |= {"test_batch.bin": b"".join(records[:4]), "batches.meta.txt": "\n".join("abcdefghij").encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    pathlib.Path(f"{path}.INFO").write_text(json.dumps({"original_fname": "cifar-10-binary.tar.gz"}))

    dataset = load_dataset("cifar10", tmp_path)
    assert "tensorflow" not in sys.modules
    assert (dataset.num_train, dataset.num_test, dataset.class_names) == (20, 4, tuple("abcdefghij"))
    order = [int(np.flatnonzero((pixels == image).all((1, 2, 3)))[0]) for image in dataset.train_images]
    assert sorted(order) == list(range(4, 24))
    np.testing.assert_array_equal(dataset.train_labels, np.array(order) % 10)


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


def test_npz_mistakes_name_the_file_and_its_keys(tmp_path):
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels[:3], x_test=images, y_test=labels)
    with pytest.raises(ValueError, match=r"a\.npz: x_train holds 4 examples and y_train 3"):
        load_dataset(tmp_path / "a.npz")


def test_channels_first_is_refused_with_the_remedy():
    images, labels = np.zeros((4, 3, 12, 12), np.uint8), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"looks like channels first.*transpose\(0, 2, 3, 1\)"):
        Dataset(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
