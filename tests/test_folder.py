"""`load_dataset` of image folders."""

import pathlib
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxinfl.datasets import images, load_dataset
from tests.example_images import png, random_images, write_folder


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
        (root / "test").rename(root / "Test")
        return root, ValueError, r"has no folder test but Test, train; it takes .*train/<class>.* val, valid"
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
        return root, ValueError, r"notes\.txt is not an image file\; it takes \.png"
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
        return root, ValueError, r"b\.png has pixels of Pillow's mode 'I;16'.*8 bits"
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
def test_folder_decompression_bomb(folder, tmp_path, monkeypatch, limit):
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))  # others may have decoded the same content
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # as most programs run
        with pytest.raises(ValueError, match=r"10\.bmp is too large: .*MAX_IMAGE_PIXELS"):
            load_dataset(folder[0])
