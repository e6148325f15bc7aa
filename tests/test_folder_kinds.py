"""What lies in image folders as they come from elsewhere: other formats, system files, links, Unicode, validation sets."""

import io
import logging
import os

import numpy as np
import pytest
from PIL import Image

from jaxinfl.datasets import load_dataset
from jaxinfl.datasets.folder import LEFT_OUT
from tests.example_images import png, random_images, write_folder


def encode(pixels, file_format, **options):
    """Encoded images; the first, with the others as further frames."""
    first, *others = (Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels)
    file = io.BytesIO()
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(file, file_format, **more, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes with one image each in both splits, and a cache of their own."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    names = ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"]
    return write_folder(tmp_path / "pets", {n: png(image) for n, image in zip(names, random_images(4), strict=True)})


FORMATS = {
    "x.tif": ("TIFF", 3),
    "x.TIFF": ("TIFF", 3),
    "x.pnm": ("PPM", 3),
    "x.pgm": ("PPM", 1),
    "x.gif": ("GIF", 1),
    "x.webp": ("WEBP", 3),
    "x.bmp": ("BMP", 3),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_without_loss_keep_every_value(folder, name):
    file_format, channels = FORMATS[name]
    (pixels,) = random_images(1, channels=channels, seed=7)
    options = {"lossless": True} if file_format == "WEBP" else {}
    (folder / "train" / "b" / name).write_bytes(encode([pixels], file_format, **options))
    np.testing.assert_array_equal(load_dataset(folder).train_inputs[2], np.broadcast_to(pixels, (4, 5, 3)))


def test_bitmaps_and_photographs(folder):
    bits = random_images(1, channels=1, seed=3)[0] > 99
    file = io.BytesIO()
    Image.fromarray(bits[..., 0]).save(file, "PPM")
    (folder / "train" / "b" / "2.pbm").write_bytes(file.getvalue())
    photograph = encode(random_images(1, seed=4), "JPEG")
    (folder / "train" / "b" / "3.jfif").write_bytes(photograph)
    dataset = load_dataset(folder)
    np.testing.assert_array_equal(dataset.train_inputs[2], np.repeat(bits * np.uint8(255), 3, axis=-1))
    np.testing.assert_array_equal(dataset.train_inputs[3], np.asarray(Image.open(io.BytesIO(photograph))))


@pytest.mark.parametrize(
    ("name", "file_format"), [("x.gif", "GIF"), ("x.tif", "TIFF"), ("x.webp", "WEBP"), ("x.png", "PNG")]
)
def test_several_frames_are_refused_by_name_and_the_remedy_works(folder, name, file_format):
    frames = random_images(3, channels=3, seed=5)
    path = folder / "train" / "b" / name
    path.write_bytes(encode(frames, file_format))
    with pytest.raises(ValueError, match=rf"{name} holds 3 frames or pages, of which only one .*image\.seek\(k\)"):
        load_dataset(folder)
    with Image.open(path) as image:
        image.seek(1)
        image.copy().save(path.with_name("second.png"))
    path.unlink()
    assert load_dataset(folder).num_train == 3


def test_a_phones_picture_with_a_preview_behind_it_is_taken(folder):
    frames = random_images(2, seed=5)
    path = folder / "train" / "b" / "phone.jpg"
    path.write_bytes(encode(frames, "MPO"))
    with Image.open(path) as image:
        assert image.n_frames == 2
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(load_dataset(folder).train_inputs[2], expected)


def test_frames_are_seen_where_sizes_are_declared(tmp_path, folder):
    """No header is looked at before decoding where image_size settles the shape of every image."""
    from jaxinfl.datasets.images import Layout, decode_images, hash_images

    content = [encode(random_images(2, seed=5), "GIF"), encode(random_images(1, channels=1).astype(np.uint16), "PNG")]
    digests = [digest for piece in hash_images(content, "set") for digest in piece]
    with pytest.raises(ValueError, match="image 0 of set holds 2 frames"):
        list(decode_images(content, Layout(4, 5, 3), "set", "white", digests))
    with pytest.raises(ValueError, match=r"image 0 of set has pixels of Pillow's mode 'I;16'.*/ 257"):
        list(decode_images(content[1:], Layout(4, 5, 3), "set", "white", digests[1:]))
    content = [encode(random_images(1, 6, 7), "PNG"), b"no image"]
    digests = [digest for piece in hash_images(content, "set") for digest in piece]
    with pytest.raises(ValueError, match=r"image 0 of set is 7 x 6, not 5 x 4 as its data set declares.*an image_size"):
        list(decode_images(content[:1], Layout(4, 5, 3), "set", "white", digests[:1]))
    with pytest.raises(ValueError, match=r"image 0 of set cannot be read .*Prepare its data set again"):
        list(decode_images(content[1:], Layout(4, 5, 3), "set", "white", digests[1:]))


@pytest.mark.parametrize("name", [*sorted(LEFT_OUT), "Thumbs.db", "Desktop.ini", "__MACOSX", ".DS_Store", "._1.png"])
@pytest.mark.parametrize("level", ["", "train", "test", "train/a", "test/b"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_files_of_the_system_are_left_out_at_every_level(folder, name, level, kind):
    expected = load_dataset(folder).fingerprint
    path = folder / level / name
    if kind == "file":
        path.write_bytes(b"\0")
    else:
        (path / "train" / "a").mkdir(parents=True)
        (path / "._1.png").write_bytes(b"\0")
    dataset = load_dataset(folder)
    assert dataset.fingerprint == expected and dataset.class_names == ("a", "b")


def test_pixels_of_16_bits_keep_their_order_by_the_remedy(folder):
    """Pillow's own conversion would make white of all but the darkest."""
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3400
    path = folder / "train" / "b" / "2.png"
    Image.fromarray(deep).save(path)
    with pytest.raises(ValueError, match=r"2\.png has pixels of .*'I;16'.*np\.rint\(np\.asarray\(image\) / 257\)"):
        load_dataset(folder)
    with Image.open(path) as image:
        pixels = np.rint(np.asarray(image) / 257).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(load_dataset(folder).train_inputs[2, ..., 0], np.rint(deep / 257))


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["train", "test", "train/c", "test/b", "train/a/2.png", "", "train/a/loop.png"])
def test_a_broken_link_is_called_one(folder, place):
    path = folder / place if place else folder.with_name("linked")
    if path.exists():
        path.rename(path.with_name("moved"))
    path.symlink_to(path.name if "loop" in place else folder.with_name("gone"))
    with pytest.raises(
        ValueError, match=rf"{path} is a broken link: it points to .*(gone|loop\.png), which does not exist"
    ):
        load_dataset(folder if place else path)
    path.unlink()
    if place == "train/c" or place.endswith(".png"):
        assert load_dataset(folder).num_train == 2


def test_a_file_that_is_not_fetched_or_may_not_be_read(folder, monkeypatch):
    pointer = folder / "train" / "a" / "2.png"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"2\.png cannot be read as an image.*git lfs pull"):
        load_dataset(folder)
    read = type(pointer).read_bytes

    def refuse(path):
        if path == pointer:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(type(pointer), "read_bytes", refuse)
    with pytest.raises(
        ValueError, match=r"2\.png cannot be read .*Permission denied.*Give this user the right to read it"
    ):
        load_dataset(folder)


# --- Unicode ---------------------------------------------------------------------------------------------------------


def test_two_forms_of_a_name_are_one_class_and_one_order(folder):
    """macOS stores é as two characters, others as one: the same classes, files and order from both."""
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        write_folder(folder / split, {f"{name}/1.png": png(random_images(1, seed=8)[0])})
        write_folder(folder / split, {"cafz/1.png": png(random_images(1, seed=9)[0])})
    dataset = load_dataset(folder)
    # As one character é is behind z, as two before it.
    assert dataset.class_names == ("a", "b", "cafz", "caf\u00e9") and dataset.num_classes == 4
    (folder / "train" / "caf\u00e9").rename(folder / "train" / "cafe\u0301")
    assert load_dataset(folder).fingerprint == dataset.fingerprint
    assert load_dataset(folder).class_names == dataset.class_names


def test_two_folders_of_one_name_are_refused(folder):
    for name in ("caf\u00e9", "cafe\u0301"):
        write_folder(folder, {f"train/{name}/1.png": png(random_images(1)[0])})
    with pytest.raises(
        ValueError, match=r"two folders .*two forms of Unicode, 'cafe\\u0301' and 'caf\\xe9'\. Move the fil"
    ):
        load_dataset(folder)


def test_files_have_one_order_in_both_forms(folder):
    contents = {"e\u0301.png": 1, "f.png": 2, "ez.png": 3}
    write_folder(folder / "train" / "b", {name: png(random_images(1, seed=k)[0]) for name, k in contents.items()})
    fingerprint = load_dataset(folder).fingerprint
    os.rename(folder / "train" / "b" / "e\u0301.png", folder / "train" / "b" / "\u00e9.png")
    assert load_dataset(folder).fingerprint == fingerprint


# --- validation sets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_set_in_place_of_a_test_set(folder, caplog, name):
    expected = load_dataset(folder).fingerprint
    (folder / "test").rename(folder / name)
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        assert load_dataset(folder).fingerprint == expected
    assert f"has no folder test: models are tested on {folder / name}." in caplog.text
    (folder / name / "c").mkdir()
    with pytest.raises(ValueError, match=rf"{name} has classes that .*train lacks: c"):
        load_dataset(folder)


def test_several_validation_sets_in_place_of_a_test_set(folder):
    (folder / "test").rename(folder / "val")
    (folder / "valid").mkdir()
    with pytest.raises(
        ValueError, match=r"no folder test, and several in its place: .*/val, .*/valid\. Rename one of them"
    ):
        load_dataset(folder)


def test_a_validation_set_beside_a_test_set(folder, caplog):
    expected = load_dataset(folder).fingerprint
    assert not caplog.text
    (folder / "val").mkdir()
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        assert load_dataset(folder).fingerprint == expected
    assert (
        f"{folder / 'val'} is left out. Models are trained on {folder / 'train'} and tested on {folder / 'test'}."
        in caplog.text
    )
