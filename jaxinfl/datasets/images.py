"""Encoded images of any size, decoded by Pillow into one uint8 array."""

import contextlib
import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxinfl.arguments import MOST_BYTES
from jaxinfl.datasets.transparency import Alpha, ImageRefused, flatten

DEFAULT_SIZE = 224
"""Side in pixels to which images of varying size are brought when no `image_size` is given."""

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
    """Sizes and colors of many images, read from their headers."""

    sizes: frozenset[tuple[int, int]]
    """Every (height, width) that occurs."""
    gray: bool
    """Whether no image has color."""


class Layout(NamedTuple):
    """The shape to which all images are brought."""

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
            width, height, mode = _name_errors(_read_header, encoded, _describe(encoded, i, where))
            sizes.add((height, width))
            gray = gray and mode in _GRAY_MODES
    return Survey(frozenset(sizes), gray)


def choose_layout(surveys: Iterable[Survey], image_size: int | None) -> Layout:
    """Choose one shape for all images: `image_size` squared if given, else their common size, else 224 squared.

    It has one channel where no image of any survey has color, else three.
    """
    surveys = list(surveys)
    channels = 1 if all(survey.gray for survey in surveys) else 3
    sizes = frozenset[tuple[int, int]]().union(*(survey.sizes for survey in surveys))
    if image_size is None and len(sizes) == 1:
        return Layout(*next(iter(sizes)), channels)
    side = image_size or DEFAULT_SIZE
    return Layout(side, side, channels)


def hash_images(images: EncodedImages, where: str) -> Iterator[list[bytes]]:
    """Yield the SHA-256 of the encoded bytes of every image, in their order, a few hundred at a time.

    Threads do this, because hashing and reading work without Python's lock.
    """

    def digest(item: tuple[int, Path | bytes]) -> bytes:
        i, encoded = item
        name = _describe(encoded, i, where)
        return _name_errors(lambda encoded: hashlib.sha256(_content(encoded)).digest(), encoded, name)

    yield from _map_images(digest, images)


def decode_images(
    images: EncodedImages, layout: Layout, where: str, background: str, digests: Sequence[bytes]
) -> Iterator[tuple[UInt8[np.ndarray, "n height width channels"], list[Alpha]]]:
    """Decode all `images` to shape `layout`, in their order, a few hundred at a time, and judge their transparency.

    An image of another size is scaled, its shorter side to that of the layout, which is square then, and cut around its
    center. Threads do this, because Pillow decodes without Python's lock.

    Args:
      images: the encoded images.
      layout: the shape to which all images are brought.
      where: name of the images in errors.
      background: "white" or "black", behind transparent pixels.
      digests: results of `hash_images`; `ValueError` is raised where an image has another one.
    """

    def decode(item: tuple[int, Path | bytes]) -> tuple[UInt8[np.ndarray, "height width channels"], Alpha]:
        i, encoded = item
        name = _describe(encoded, i, where)
        return _name_errors(lambda encoded: _decode(encoded, digests[i], layout, background), encoded, name)

    for decoded in _map_images(decode, images):
        pixels, alphas = zip(*decoded, strict=True)
        yield np.stack(pixels), list(alphas)


def _map_images(function: Callable[[tuple[int, Path | bytes]], _T], images: EncodedImages) -> Iterator[list[_T]]:
    """Apply `function` to all images with their numbers, by threads, and yield the results some at a time."""
    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), _DECODED_AT_ONCE):
            stop = min(start + _DECODED_AT_ONCE, len(images))
            # Records are read in this thread: readers of record files are not made for many threads.
            with _bombs_are_errors():
                results = pool.map(function, [(i, images[i]) for i in range(start, stop)])
            yield results


def resize_arrays(
    images: UInt8[np.ndarray, "n height width channels"], image_size: int
) -> UInt8[np.ndarray, "n size size channels"]:
    """Resize images that are decoded already as `decode_images` does, with any number of channels."""
    shape = (len(images), image_size, image_size, images.shape[-1])
    if math.prod(shape) > MOST_BYTES:
        raise ValueError(
            f"image_size {image_size} makes {math.prod(shape) / 2**30:.3g} GiB of {len(images)} images; at most "
            f"{MOST_BYTES / 2**30:.3g} GiB are taken. Give a smaller one."
        )
    resized = np.empty(shape, np.uint8)
    for i, image in enumerate(images):
        for channel in range(images.shape[-1]):
            fitted = fit_square(Image.fromarray(np.ascontiguousarray(image[..., channel])), image_size)
            resized[i, ..., channel] = np.asarray(fitted)
    return resized


def fit_square(image: Image.Image, side: int) -> Image.Image:
    """Scale the shorter side of `image` to `side` (bilinear), then cut out the central `side` x `side` pixels.

    The result is that of torchvision's `Resize(side)` and `CenterCrop(side)` with Pillow's images. Pillow's filter averages
    over the pixels that a result stands for. The longer side is rounded down, and the cut is rounded half to even.
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


def _content(encoded: Path | bytes) -> bytes:
    return encoded.read_bytes() if isinstance(encoded, Path) else encoded


def _read_header(encoded: Path | bytes) -> tuple[int, int, str]:
    with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as image:
        _check_kind(image)
        return image.width, image.height, image.mode


def _check_kind(image: Image.Image) -> None:
    """Raise `ImageRefused` where an opened image has no 8-bit pixels, or several frames."""
    if image.mode not in _GRAY_MODES and image.mode not in _COLOR_MODES:
        raise ImageRefused(
            f"has pixels of Pillow's mode {image.mode!r}, which do not fit in 8 bits. Scale the pixels of all images to "
            "0..255 by one factor and save them with 8 bits: np.rint(np.asarray(image) / 257).astype(np.uint8) for 16 "
            "bits. Pillow's own convert() would cut the values off at 255."
        )
    # A phone's JPEG (Pillow's MPO) has a preview or a second view behind the picture itself.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageRefused(
            f"holds {getattr(image, 'n_frames', 'several')} frames or pages, of which only one could be taken. Save the "
            "frames that you want as files of their own, with Pillow: image.seek(k); image.copy().save(file)."
        )


def _decode(
    encoded: Path | bytes, digest: bytes, layout: Layout, background: str
) -> tuple[UInt8[np.ndarray, "height width channels"], Alpha]:
    content = _content(encoded)
    if hashlib.sha256(content).digest() != digest:
        raise ImageRefused(
            "was changed while the data set was loaded. Load it again when nothing writes there any more."
        )
    with Image.open(io.BytesIO(content)) as file:
        _check_kind(file)
        image, alpha = flatten(file, "L" if layout.channels == 1 else "RGB", background)
    if image.size != (layout.width, layout.height):
        if layout.height != layout.width:  # only a data set that declares one size, and breaks its word, comes here
            raise ImageRefused(
                f"is {image.width} x {image.height}, not {layout.width} x {layout.height} as its data set declares. Load the "
                "data set with an image_size, to which every image is brought."
            )
        image = fit_square(image, layout.height)
    return np.asarray(image).reshape(layout), alpha


def _describe(encoded: Path | bytes, index: int, where: str) -> str:
    return str(encoded) if isinstance(encoded, Path) else f"image {index} of {where}"


def _name_errors(read: Callable[[Path | bytes], _T], encoded: Path | bytes, name: str) -> _T:
    """Call `read(encoded)`, and name the image in any error."""
    try:
        return read(encoded)
    except ImageRefused as error:
        raise ValueError(f"{name} {error}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} is too large: {error}. Scale it down, or set PIL.Image.MAX_IMAGE_PIXELS higher if you trust it."
        ) from error
    except Exception as error:  # Pillow's many decoders raise many types on damaged files
        raise ValueError(f"{name} cannot be read as an image: {error}. {_remedy(encoded, error)}.") from error


def _remedy(encoded: Path | bytes, error: Exception) -> str:
    if isinstance(encoded, bytes):
        return "Prepare its data set again, fetch the file again, or leave the image out"
    if isinstance(error, PermissionError):
        return "Give this user the right to read it"
    with contextlib.suppress(OSError):
        if encoded.read_bytes().startswith(b"version https://git-lfs"):
            return "It is a pointer of Git LFS and not the file itself: fetch the file with git lfs pull"
    return "Replace or remove it"


def _bombs_are_errors() -> warnings.catch_warnings:
    """Turn Pillow's warning about suspiciously large images into an error.

    It stands around whole loops and not around each image, because warning filters belong to the process and not to a
    thread.
    """
    return warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
