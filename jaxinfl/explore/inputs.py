"""The examples themselves as the page shows them: sprite sheets of images, columns of tables, texts."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxinfl.datasets import Dataset, by_name

SHEET_SIDE = 8
"""Images in a row and in a column of a sheet: small sheets are decoded in a millisecond, when one of their images is first shown."""
_MOST_BYTES = 9_000_000
"""Bytes that the images of a page may take, a third less than they take as text in it."""
_LARGEST_SIDE = 96
"""Pixels of the longer side of an image; larger images are scaled down."""
_SMALLEST_SIDE = 16
_TRIALS = ((95, 1.0), (80, 1.0), (60, 1.0), (60, 0.75), (50, 0.5), (40, 0.33))
"""Qualities of lossy compression and scales that are tried in turn, where images without loss are too large."""
_SAMPLED = 16
"""Number of sheets by which the size of all is judged."""
_MOST_COLUMNS = 40
_MOST_NUMBERS = 1_500_000
"""Numbers of all tables that a page holds."""
_MOST_CHARACTERS, _MOST_TEXT = 400, 6_000_000
"""Characters of one text, and of all texts of a page."""


@dataclass(frozen=True)
class Sprites:
    """All images of a page, first the training and then the test images, in sheets of `SHEET_SIDE` squared."""

    width: int
    height: int
    """Pixels of one image in a sheet."""
    mime: str
    """Type of the sheets, such as "image/png"."""
    sheets: Sequence[bytes]
    """The sheets as files."""
    note: str
    """What was lost, as a sentence; empty where each pixel is shown as it is."""


@dataclass(frozen=True)
class Shown:
    """What is shown of the inputs."""

    sprites: Sprites | None = None
    columns: Sequence[tuple[str, Float[np.ndarray, " examples"]]] = ()
    """Name and values of each column of a table, first of the training and then of the test examples."""
    texts: Sequence[tuple[str, Sequence[str]]] = ()
    """Name and texts of each array of tokens or categories, in the same order."""
    notes: Sequence[str] = field(default=())
    """What is left out, a sentence each."""


def show_inputs(data: Dataset) -> Shown:
    """Turn the inputs of both sets into what the page shows."""
    if data.are_images:
        sprites = _make_sprites(data)
        return Shown(sprites, notes=[sprites.note] if sprites.note else [])
    train, test = by_name(data.train_inputs), by_name(data.test_inputs)
    columns: list[tuple[str, np.ndarray]] = []
    texts: list[tuple[str, list[str]]] = []
    total = 0
    for name, array in train.items():
        if name in data.categories:
            texts.append((name, _spell(data, name, array, test[name])))
            continue
        number = int(np.prod(array.shape[1:], dtype=np.int64))
        total += number
        both = [each.reshape(len(each), number) for each in (array, test[name])]
        room = _room(data.num_train + data.num_test) - len(columns)
        label = name or "feature"
        labels = data.feature_names.get(name, [label] if number == 1 else [f"{label} {k}" for k in range(number)])
        for column in range(min(number, max(room, 0))):
            values = np.concatenate([each[:, column] for each in both]).astype(np.float64)
            columns.append((labels[column], values))
    left = total - len(columns)
    notes = [f"The first {len(columns)} of {total:,} numbers of each example are shown."] if left else []
    return Shown(None, columns, texts, notes)


def _room(num_examples: int) -> int:
    """Number of columns that a page has room for."""
    return int(np.clip(_MOST_NUMBERS // max(num_examples, 1), 1, _MOST_COLUMNS))


def _spell(data: Dataset, name: str, *arrays: np.ndarray) -> list[str]:
    """Rows of tokens or categories as text, cut where a page has no room."""
    number = sum(map(len, arrays))
    most = int(np.clip(_MOST_TEXT // max(number, 1), 40, _MOST_CHARACTERS))
    texts = []
    for array in arrays:
        for row in array:
            # A token has at least one character and a space.
            text = data.spell(name, np.ravel(row)[:most])
            texts.append(text if len(text) <= most else f"{text[: most - 1]}…")
    return texts


def _make_sprites(data: Dataset) -> Sprites:
    """Pack all images: without loss where they fit, else as WebP of falling quality and size."""
    images = data.images("train"), data.images("test")
    height, width = data.image_shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    scaled = "" if scale == 1 else f"Images of {width} x {height} pixels are shown at {size[0]} x {size[1]}."
    if _estimate(images, size, "PNG") <= _MOST_BYTES:
        return Sprites(*size, "image/png", _encode(images, size, "PNG"), scaled)
    for quality, shrink in _TRIALS:
        small = _shrink(size[0], shrink), _shrink(size[1], shrink)
        if _estimate(images, small, "WEBP", quality) <= _MOST_BYTES:
            break
    smaller = (
        "" if small == (width, height) else f" of {width} x {height} pixels are shown at {small[0]} x {small[1]}, and"
    )
    note = f"Images{smaller} are compressed with loss (WebP, quality {quality})."
    return Sprites(*small, "image/webp", _encode(images, small, "WEBP", quality), note)


def _shrink(side: int, scale: float) -> int:
    return max(min(_SMALLEST_SIDE, side), round(side * scale))


Images = Sequence[UInt8[np.ndarray, "examples height width channels"]]


def _encode(images: Images, size: tuple[int, int], kind: str, quality: int = 0) -> list[bytes]:
    return [_write(sheet, kind, quality) for sheet in _sheets(images, size, 1)]


def _estimate(images: Images, size: tuple[int, int], kind: str, quality: int = 0) -> float:
    """Bytes of all sheets, by some that lie evenly among them."""
    number = -(-sum(map(len, images)) // SHEET_SIDE**2)
    step = -(-number // _SAMPLED)
    sizes = [len(_write(sheet, kind, quality)) for sheet in _sheets(images, size, step)]
    return sum(sizes) / len(sizes) * number


def _write(sheet: Image.Image, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    options: Mapping[str, Any] = {"optimize": True} if kind == "PNG" else {"quality": quality, "method": 4}
    sheet.save(file, kind, **options)
    return file.getvalue()


def _sheets(images: Images, size: tuple[int, int], step: int) -> Iterator[Image.Image]:
    """Every `step`-th sheet."""
    first, second = images
    number, per_sheet = len(first) + len(second), SHEET_SIDE**2
    for start in range(0, number, per_sheet * step):
        rows = range(start, min(start + per_sheet, number))
        sheet = None
        for place, row in enumerate(rows):
            pixels = first[row] if row < len(first) else second[row - len(first)]
            image = _picture(pixels, size)
            if sheet is None:
                sheet = Image.new(image.mode, (SHEET_SIDE * size[0], -(-len(rows) // SHEET_SIDE) * size[1]))
            sheet.paste(image, (place % SHEET_SIDE * size[0], place // SHEET_SIDE * size[1]))
        if sheet is not None:
            yield sheet


def _picture(pixels: UInt8[np.ndarray, "height width channels"], size: tuple[int, int]) -> Image.Image:
    """One image in grey (of one or two channels) or in colour (of the first three)."""
    grey = pixels.shape[-1] < 3
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels[..., :3]))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


__all__ = ["SHEET_SIDE", "Shown", "Sprites", "show_inputs"]
