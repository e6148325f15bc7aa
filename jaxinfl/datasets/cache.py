"""Decoded images on disk, made once and memory-mapped from then on.

A folder for each data set, version, split and size: images.npy holds the training images and behind them the test
images, uint8 [train + test, height, width, channels]. It appears all at once, when everything is in it, so that a
conversion that is killed leaves nothing that could be taken for data; and its checksums are compared whenever it is
opened. Everything below `cache_root()` can be deleted at any time.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL
from jaxtyping import Int32, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxinfl.datasets.images import EncodedImages, Layout, decode_images

_log = logging.getLogger("jaxinfl")
_FORMAT = 1
_CHECKED_AT_ONCE = 16 * 2**20  # bytes

Decoded = tuple[UInt8[np.ndarray, "examples height width channels"], Int32[np.ndarray, " examples"]]
"""Images and labels of training and test set, one behind the other."""


@runtime_checkable  # so that the tests can check annotations
class LabelledImages(EncodedImages, Protocol):
    """Encoded images, and their labels once every image has been read."""

    where: str
    """Names them in errors and on the progress bar."""
    labels: np.ndarray


def cache_root() -> Path:
    """JAXINFL_IMAGE_CACHE, or jaxinfl/images in the user's cache."""
    if chosen := os.environ.get("JAXINFL_IMAGE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxinfl" / "images"


def decode_cached(
    source: dict[str, Any], train: LabelledImages, test: LabelledImages, choose_layout: Callable[[], Layout]
) -> Decoded:
    """The images of both splits, decoded and resized: from the cache, or made and put there.

    Args:
      source: JSON values that are other for other content: name, version, splits, size, files with their dates.
      train, test: read only where the cache lacks them.
      choose_layout: the shape to bring images to; called only where the cache lacks them.

    Where the cache cannot be written (a full disk, a read-only home), they are decoded into memory, with a warning.
    """
    # Decoders and filters differ in last bits from one release of Pillow to the next.
    identity = source | {"format": _FORMAT, "pillow": PIL.__version__}
    text = json.dumps(identity, sort_keys=True)
    folder = cache_root() / hashlib.sha256(text.encode()).hexdigest()[:32]
    found = _open(folder, text)
    if found is not None:
        return found
    layout = choose_layout()
    try:
        _make(folder, text, (train, test), layout)
    except OSError as error:
        _log.warning(
            "Decoded images cannot be kept in %s (%s), so they are decoded into memory, and again at the next start. "
            "Set JAXINFL_IMAGE_CACHE to a folder with %.1f GB of room.",
            cache_root(),
            error,
            (len(train) + len(test)) * np.prod(layout, dtype=float) / 1e9,
        )
    else:
        found = _open(folder, text)
        if found is not None:
            return found
    images = np.empty((len(train) + len(test), *layout), np.uint8)
    first = 0
    for piece in _decoded((train, test), layout):
        images[first : first + len(piece)] = piece
        first += len(piece)
    return images, np.concatenate([train.labels, test.labels]).astype(np.int32)


def _make(folder: Path, identity: str, splits: tuple[LabelledImages, LabelledImages], layout: Layout) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        shape = (sum(map(len, splits)), *layout)
        # Written, not mapped: a disk that fills up is an error then, and not the end of the process.
        checksum = _write(draft / "images.npy", shape, np.uint8, _decoded(splits, layout))
        labels = np.concatenate([split.labels for split in splits]).astype(np.int32)
        about = {"identity": identity, "images": checksum}
        about["labels"] = _write(draft / "labels.npy", labels.shape, np.int32, [labels])
        (draft / "about.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)  # one that is damaged
        os.replace(draft, folder)
    except OSError:
        # Another process may have been first, and its folder cannot be replaced.
        if _open(folder, identity) is None:
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(path: Path, shape: tuple[int, ...], dtype: type[np.generic], pieces: Iterable[np.ndarray]) -> int:
    """Write an .npy file piece by piece; CRC-32 of its values."""
    checksum = 0
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            values = np.ascontiguousarray(piece).data.cast("B")
            checksum = zlib.crc32(values, checksum)
            file.write(values)
        file.flush()
        os.fsync(file.fileno())
    return checksum


def _decoded(splits: Iterable[LabelledImages], layout: Layout) -> Iterator[UInt8[np.ndarray, "n h w c"]]:
    """All images in their order, some at a time, with a progress bar where standard error is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("decoding {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        for split in splits:
            task = bar.add_task(split.where, total=len(split))
            for piece in decode_images(split, layout, split.where):
                yield piece
                bar.advance(task, len(piece))


def _open(folder: Path, identity: str) -> Decoded | None:
    """What lies in the cache; None where that is nothing, or damaged."""
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / "about.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="r")
        # Mapped, as the images are: a header that declares more than the file holds is refused before memory is taken.
        labels = np.array(np.load(folder / "labels.npy", mmap_mode="r"))
        intact = about["identity"] == identity
        for name, values in (("images", images), ("labels", labels)):
            intact = intact and _checksum(values) == about[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s); the images are decoded again.", folder, error)
        return None
    if not intact:
        _log.warning("%s is damaged (a checksum differs); the images are decoded again.", folder)
        return None
    return np.asarray(images), labels


def _checksum(values: np.ndarray) -> int:
    flat, checksum = values.reshape(-1), 0
    step = _CHECKED_AT_ONCE // values.itemsize
    for start in range(0, flat.size, step):
        checksum = zlib.crc32(np.ascontiguousarray(flat[start : start + step]).data, checksum)
    return checksum
