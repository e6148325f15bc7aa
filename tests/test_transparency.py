"""Images with transparency are put onto a background; a warning says where that may have emptied them."""

import io
import json
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxinfl.datasets import load_dataset
from jaxinfl.datasets.transparency import Alpha, flatten
from tests.example_images import png, random_images, write_folder

LEVEL = {"white": 255, "black": 0}


def encode(image, file_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def open_encoded(image, file_format="PNG", **options):
    return Image.open(io.BytesIO(encode(image, file_format, **options)))


def compose(color, alpha, background):
    """Compose by the definition, in floats; NumPy rounds halves to even, and there are none: 255 is odd."""
    level, alpha = LEVEL[background], alpha[..., None].astype(np.float64)
    return np.rint((color * alpha + level * (255 - alpha)) / 255).astype(np.uint8)


def with_alpha(seed=0, channels=3):
    color, alpha = random_images(1, 6, 7, channels, seed)[0], random_images(1, 6, 7, 1, seed + 1)[0, ..., 0]
    alpha[0], alpha[1] = 0, 255
    return color, alpha


def write(root, images):
    """A folder of two classes with one image each in both splits, and the images given in class b."""
    names = ["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"]
    files = {name: png(image) for name, image in zip(names, random_images(4, 6, 7, seed=9), strict=True)}
    return write_folder(root, files | {f"train/b/{name}": content for name, content in images.items()})


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "pets"


@pytest.mark.parametrize("background", LEVEL)
def test_color_and_gray_with_a_channel_of_transparency(background):
    color, alpha = with_alpha()
    image, kind = flatten(open_encoded(Image.fromarray(np.dstack([color, alpha]))), "RGB", background)
    np.testing.assert_array_equal(image, compose(color, alpha, background))
    assert kind is Alpha.HARMLESS
    gray, alpha = with_alpha(3, 1)
    for mode in ("L", "RGB"):
        image, _ = flatten(open_encoded(Image.fromarray(np.dstack([gray, alpha]), "LA")), mode, background)
        of_definition = compose(gray, alpha, background)
        np.testing.assert_array_equal(np.asarray(image).reshape(6, 7, -1)[..., :1], of_definition)


@pytest.mark.parametrize("background", LEVEL)
@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "WEBP"])
def test_formats_with_transparency(file_format, background):
    color, alpha = with_alpha()
    if file_format == "GIF":  # a color of the palette
        indices = np.arange(42, dtype=np.uint8).reshape(6, 7) % 5
        image = Image.fromarray(indices, "P")
        image.putpalette(random_images(1, 1, 5, 3)[0].tobytes())
        color, alpha = np.asarray(image.convert("RGB")), np.where(indices == 2, 0, 255)
        file = open_encoded(image, "GIF", transparency=2)
    else:
        options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
        file = open_encoded(Image.fromarray(np.dstack([color, alpha])), file_format, **options)
    np.testing.assert_array_equal(flatten(file, "RGB", background)[0], compose(color, alpha, background))


@pytest.mark.parametrize("background", LEVEL)
def test_palettes_with_transparency(background):
    indices = np.arange(42, dtype=np.uint8).reshape(6, 7) % 9
    palette = random_images(1, 1, 9, 3)[0, 0]
    image = Image.fromarray(indices, "P")
    image.putpalette(palette.tobytes())
    several = np.array([0, 10, 128, 255, 254, 1, 77, 255, 255], np.uint8)
    for given, levels in ((bytes(several), several), (4, np.where(np.arange(9) == 4, 0, 255))):
        flat, _ = flatten(open_encoded(image, transparency=given), "RGB", background)
        np.testing.assert_array_equal(flat, compose(palette[indices], levels[indices], background))


def png_by_hand(depth, color_type, samples, transparent):
    """A PNG of one row, with a transparent color, in a depth that Pillow does not write."""

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    width = len(samples) // (3 if color_type == 2 else 1)
    header = width.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([depth, color_type, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"tRNS", b"".join(value.to_bytes(2, "big") for value in transparent))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_gray_of_every_depth(depth):
    """Pillow scales the pixels to 8 bits, but not the color that is transparent."""
    largest = 2**depth - 1
    samples = [0, largest, largest, 0, largest // 2, 0]
    file = Image.open(io.BytesIO(png_by_hand(depth, 0, samples, [largest])))
    levels = np.array(samples) * (255 // largest)
    flat, _ = flatten(file, "L", "black")
    np.testing.assert_array_equal(np.asarray(flat)[0], np.where(np.array(samples) == largest, 0, levels))


def test_a_transparent_color():
    file = Image.open(io.BytesIO(png_by_hand(8, 2, [1, 2, 3, 1, 2, 4], [1, 2, 3])))
    np.testing.assert_array_equal(flatten(file, "RGB", "white")[0], [[[255, 255, 255], [1, 2, 4]]])


def test_a_transparent_color_of_16_bits_is_refused(root):
    """Pillow compares the lower 8 of its 16 bits, of which the pixels have none left."""
    write(root, {"1.png": png_by_hand(16, 2, [255, 2, 3] * 2, [255, 2, 3])})
    with pytest.raises(ValueError, match=r"1\.png declares a color of 16 bits transparent.*Save it with 8 bits"):
        load_dataset(root, image_size=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "1"])
def test_opaque_images_keep_their_bytes(root, mode):
    (pixels,) = random_images(1, 6, 7)
    image = Image.fromarray(pixels).convert("RGB")
    options = {}
    if mode in ("P", "L", "1"):
        image = image.convert(mode)
        options = {"transparency": bytes([255] * 256) if mode == "P" else 77}
        if mode == "P":
            assert "transparency" in open_encoded(image, **options).info
    else:
        image = image.convert(mode[:-1]).convert(mode)
    if mode == "L":
        image = image.point(lambda value: 78 if value == 77 else value)
    if mode == "1":
        options = {}
    file_format = "TIFF" if mode == "PA" else "PNG"
    write(root, {"1.png": encode(image.convert("LA") if mode == "PA" else image, file_format, **options)})
    given = Image.open(root / "train" / "b" / "1.png")
    plain = np.asarray((given.convert("RGBA") if given.mode == "P" else given).convert("RGB"))
    for background in (None, "white", "black"):
        np.testing.assert_array_equal(load_dataset(root, background=background).train_inputs[2], plain)


# --- backgrounds in load_dataset -------------------------------------------------------------------------------------


def drawing(color, seed=0):
    """One color on a transparent ground."""
    alpha = np.random.default_rng(seed).choice([0, 128, 255], (6, 7))
    return np.dstack([np.full((6, 7, 3), color), alpha]).astype(np.uint8)


def test_the_background_is_white_or_what_is_asked_for(root):
    shape = drawing(0)
    write(root, {"1.png": encode(Image.fromarray(shape))})
    with pytest.warns(UserWarning, match="1 of the 5 images"):
        by_default = load_dataset(root)
    white, black = load_dataset(root, background="white"), load_dataset(root, background="black")
    assert by_default.fingerprint == white.fingerprint != black.fingerprint
    np.testing.assert_array_equal(white.train_inputs[2], compose(shape[..., :3], shape[..., 3], "white"))
    assert white.train_inputs[2].max() == 255 and white.train_inputs[2].min() == 0 == black.train_inputs[2].max()
    assert load_dataset(root, background="white").fingerprint == white.fingerprint


def test_the_warning_counts_and_stays_with_the_cache(root):
    """Black drawings, white ones on a ground of another invisible color, and images that no background empties."""
    hidden = drawing(255, 1)
    hidden[hidden[..., 3] == 0] = 0
    color, alpha = with_alpha()
    images = [drawing(0), hidden, np.dstack([color, alpha]), np.dstack([color, np.full((6, 7), 128, np.uint8)])]
    write(root, {f"{k}.png": encode(Image.fromarray(image)) for k, image in enumerate(images, start=1)})
    for _ in range(2):  # decoded, and from the cache
        with pytest.warns(UserWarning) as caught:
            dataset = load_dataset(root)
        (warning,) = caught
        message = str(warning.message)
        assert message.startswith(f"2 of the 8 images of {root} vary in transparency") and "put onto white" in message
        assert "background='white' or background='black'" in message
    assert (dataset.train_inputs[3] == 255).all()  # what the warning is about
    assert load_dataset(root, background="black").train_inputs[3].max() == 255


def test_the_warning_names_the_line_that_loads(tmp_path, monkeypatch):
    """The program runs outside of the tests, whose type checks put calls of their own between."""
    import subprocess
    import sys

    write(tmp_path / "pets", {"1.png": encode(Image.fromarray(drawing(0)))})
    program = tmp_path / "program.py"
    program.write_text(f"import jaxinfl\n\njaxinfl.load_dataset({str(tmp_path / 'pets')!r})\n")
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert "program.py:3: UserWarning: 1 of the 5 images" in done.stderr


def test_images_of_which_nothing_is_visible(root):
    """An unused channel of transparency, all 0, over pixels that somebody wants; an empty image is none."""
    color, _ = with_alpha()
    nothing = np.zeros((6, 7), np.uint8)
    images = [np.dstack([color, nothing]), np.dstack([np.zeros_like(color), nothing])]
    write(root, {f"{k}.png": encode(Image.fromarray(image)) for k, image in enumerate(images, start=1)})
    for background in (None, "black"):
        with pytest.warns(
            UserWarning, match=r"1 of the 6 images .* entirely transparent.*convert\('RGBA'\)\.convert\('RG"
        ):
            load_dataset(root, background=background)
    file = root / "train" / "b" / "1.png"
    Image.open(file).convert("RGBA").convert("RGB").save(file)
    np.testing.assert_array_equal(load_dataset(root).train_inputs[2], color)


def test_opaque_folders_say_nothing(root):
    write(root, {"1.png": encode(Image.fromarray(random_images(1, 6, 7, 4)[0] | np.array([0, 0, 0, 255], np.uint8)))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(root)


def test_transparent_images_are_put_onto_the_background_before_they_are_resized(root):
    """Colors that nobody sees would else bleed into the others."""
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = [200, 100, 50, 255]
    image[:, 4:, 1] = 255  # bright green, invisible
    write(root, {"1.png": encode(Image.fromarray(image))})
    small = load_dataset(root, image_size=4, background="black").train_inputs[2].astype(float)
    np.testing.assert_array_less(small[..., 1], small[..., 0] * 0.51 + 1)


def test_the_kept_counts_are_checked(root, caplog):
    """A digit that changed on disk is damage as any other."""
    write(root, {"1.png": encode(Image.fromarray(drawing(0)))})
    load_dataset(root, background="white")
    (kept,) = (root.parent / "cache").iterdir()
    about = json.loads((kept / "about.json").read_text())
    assert about["transparency"] == {"silhouettes": 1, "invisible": 0}
    about["transparency"]["silhouettes"] = 0
    (kept / "about.json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match="1 of the 5 images"):
        load_dataset(root)
    assert f"{kept} is damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "background", "error", "message"),
    [
        (
            "digits",
            "white",
            ValueError,
            "background is 'white', but only images of folders, Parquet files and TensorFlow",
        ),
        ("x.npz", "black", ValueError, "background is 'black', but only images of folders"),
        ("pets", "grey", ValueError, "background is 'grey'; it takes one of 'white', 'black'"),
    ],
)
def test_backgrounds_that_are_refused(name, background, error, message):
    with pytest.raises(error, match=message):
        load_dataset(name, background=background)
