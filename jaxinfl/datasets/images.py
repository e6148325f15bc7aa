"""Encoded images of any size, decoded by Pillow into one uint8 array."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxinfl.arguments import MOST_BYTES

DEFAULT_SIZE = 224
"""Side in pixels that images of varying size are brought to when no `image_size` is given."""

_GRAY_MODES = ("1", "L", "LA", "La")
_COLOR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
_MAX_ASPECT = 100
_DECODED_AT_ONCE = 256  # encoded images held in memory beside the array that they are decoded into
_T = TypeVar("_T")


@runtime_checkable  # so that the tests can check annotations
class EncodedImages(Protocol):
    """A sequence of image files: `images[i]` is a path, or the bytes of a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Path | bytes: ...


class Survey(NamedTuple):
    """What the headers of many images say."""

    sizes: frozenset[tuple[int, int]]  # the (height, width) that occur
    gray: bool  # none of them has color


class Layout(NamedTuple):
    """The shape that all images are brought to."""

    height: int
    width: int
    channels: int


def survey_images(images: EncodedImages, where: str) -> Survey:
    """Read the header of every image; pixels are not decoded. `where` names `images` in errors."""
    sizes: set[tuple[int, int]] = set()
    gray = True
    with _bombs_are_errors():
        for i in range(len(images)):
            encoded = images[i]
            width, height, mode = _named(_read_header, encoded, _describe(encoded, i, where))
            if mode not in _GRAY_MODES and mode not in _COLOR_MODES:
                raise ValueError(
                    f"{_describe(encoded, i, where)} has pixels of Pillow's mode {mode!r}, which do not fit in 8 bits. "
                    "Convert it to 8-bit gray or RGB."
                )
            sizes.add((height, width))
            gray = gray and mode in _GRAY_MODES
    return Survey(frozenset(sizes), gray)


def choose_layout(surveys: Iterable[Survey], image_size: int | None) -> Layout:
    """One shape for all: `image_size` squared if given, else the common size, else 224 squared.

    One channel when no image of any survey has color, else three.
    """
    surveys = list(surveys)
    channels = 1 if all(survey.gray for survey in surveys) else 3
    sizes = frozenset[tuple[int, int]]().union(*(survey.sizes for survey in surveys))
    if image_size is None and len(sizes) == 1:
        return Layout(*next(iter(sizes)), channels)
    side = image_size or DEFAULT_SIZE
    return Layout(side, side, channels)


def decode_images(
    images: EncodedImages, layout: Layout, where: str
) -> Iterator[UInt8[np.ndarray, "n height width channels"]]:
    """Decode all `images` to shape `layout`, in their order, a few hundred at a time.

    An image of another size is scaled, its shorter side to that of the (then square) layout, and cut around its
    center. Threads: Pillow decodes without Python's lock.
    """

    def decode(item: tuple[int, Path | bytes]) -> UInt8[np.ndarray, "height width channels"]:
        i, encoded = item
        return _named(lambda encoded: _decode(encoded, layout), encoded, _describe(encoded, i, where))

    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), _DECODED_AT_ONCE):
            stop = min(start + _DECODED_AT_ONCE, len(images))
            # Read here, decode there: readers of record files are not made for many threads.
            with _bombs_are_errors():
                decoded = pool.map(decode, [(i, images[i]) for i in range(start, stop)])
            yield np.stack(decoded)


def resize_arrays(
    images: UInt8[np.ndarray, "n height width channels"], image_size: int
) -> UInt8[np.ndarray, "n size size channels"]:
    """As `decode_images`, for images that are decoded already, with any number of channels."""
    shape = (len(images), image_size, image_size, images.shape[-1])
    if math.prod(shape) > MOST_BYTES:
        raise ValueError(
            f"image_size {image_size} makes {math.prod(shape) / 2**30:.3g} GiB of {len(images)} images; at most "
            f"{MOST_BYTES / 2**30:.3g} GiB are taken."
        )
    resized = np.empty(shape, np.uint8)
    for i, image in enumerate(images):
        for channel in range(images.shape[-1]):
            fitted = fit_square(Image.fromarray(np.ascontiguousarray(image[..., channel])), image_size)
            resized[i, ..., channel] = np.asarray(fitted)
    return resized


def fit_square(image: Image.Image, side: int) -> Image.Image:
    """Scale the shorter side of `image` to `side` (bilinear), then cut the central `side` x `side` pixels out.

    As torchvision's `Resize(side)` and `CenterCrop(side)` do with Pillow's images: Pillow's filter averages over the
    pixels that a result stands for, the longer side is rounded down, the cut rounded half to even.
    """
    short, long = sorted(image.size)
    if long > _MAX_ASPECT * short:  # scaled up, a line of pixels would not fit in memory
        raise ValueError(
            f"{image.width} x {image.height} is too long to resize; sides of at most 1:{_MAX_ASPECT} are taken"
        )
    width, height = (max(side, length * side // short) for length in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _read_header(encoded: Path | bytes) -> tuple[int, int, str]:
    with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as image:
        return image.width, image.height, image.mode


def _decode(encoded: Path | bytes, layout: Layout) -> UInt8[np.ndarray, "height width channels"]:
    with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as file:
        # Palettes with transparency by way of RGBA, which Pillow asks for with a warning.
        image = file.convert("RGBA") if file.mode == "P" and "transparency" in file.info else file
        image = image.convert("L" if layout.channels == 1 else "RGB")
    if image.size != (layout.width, layout.height):
        if layout.height != layout.width:  # only a data set that declares one size, and breaks its word, comes here
            raise ValueError(f"it is {image.width} x {image.height}, not {layout.width} x {layout.height} as declared")
        image = fit_square(image, layout.height)
    return np.asarray(image).reshape(layout)


def _describe(encoded: Path | bytes, index: int, where: str) -> str:
    return str(encoded) if isinstance(encoded, Path) else f"image {index} of {where}"


def _named(read: Callable[[Path | bytes], _T], encoded: Path | bytes, name: str) -> _T:
    """`read(encoded)`, with errors that name the image."""
    try:
        return read(encoded)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} is too large: {error}. Scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except Exception as error:  # Pillow's many decoders raise many types on damaged files
        raise ValueError(f"{name} cannot be read as an image: {error}. Replace or remove it.") from error


def _bombs_are_errors() -> warnings.catch_warnings:
    """Turn Pillow's warning about suspiciously large images into an error.

    Around whole loops, not around each image: warning filters belong to the process, not to a thread.
    """
    return warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
