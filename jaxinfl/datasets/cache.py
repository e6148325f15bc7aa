"""Decoded images on disk, made once and memory-mapped from then on.

There is one folder for each content and way to decode it. Its images.npy holds the training images and behind them the
test images, uint8 [train + test, height, width, channels]. Content is the encoded bytes of every image with its label, in
order, and nothing else: names and dates of files stay as they are when their content is exchanged. So every file is read
and hashed whenever a data set is loaded, which takes a small part of the time of decoding. The folder appears all at once,
when everything is in it, so a killed conversion leaves nothing that could be taken for data. Its checksums are compared
whenever it is opened. Everything below `cache_root()` can be deleted at any time.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import PIL
from jaxtyping import Int32, UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxinfl.datasets.images import EncodedImages, Layout, decode_images, hash_images
from jaxinfl.datasets.transparency import DEFAULT_BACKGROUND, Alpha, Transparency, warn_of_lost_content
from jaxinfl.files import cache_folder, replace_atomically

_log = logging.getLogger("jaxinfl")
_FORMAT = 2
_CHECKED_AT_ONCE = 16 * 2**20  # bytes

Decoded = tuple[UInt8[np.ndarray, "examples height width channels"], Int32[np.ndarray, " examples"]]
"""Images and labels, with the training set first and the test set behind it."""


@runtime_checkable  # so that the tests can check annotations
class LabelledImages(EncodedImages, Protocol):
    """Encoded images, and their labels once every image has been read."""

    where: str
    """Name of these images in errors and on the progress bar."""
    labels: np.ndarray
    """Label of each image that has been read."""


def cache_root() -> Path:
    """The folder that the environment variable JAXINFL_IMAGE_CACHE names, or jaxinfl's own one in the user's cache."""
    return cache_folder("images", variable="JAXINFL_IMAGE_CACHE")


@dataclass
class _Source:
    """The encoded images of both splits, with the hashes and labels that were found when they were read."""

    splits: tuple[LabelledImages, LabelledImages]
    digests: tuple[list[bytes], list[bytes]]
    labels: Int32[np.ndarray, " examples"]
    background: str

    def __len__(self) -> int:
        return len(self.labels)

    def content(self) -> str:
        """Hash every image and label, in order, to 64 hex digits."""
        digest = hashlib.sha256()
        first = 0
        for digests in self.digests:
            digest.update(f"{len(digests)} images\n".encode())
            for image, label in zip(digests, self.labels[first : first + len(digests)].tolist(), strict=True):
                digest.update(b"%d " % label + image)
            first += len(digests)
        return digest.hexdigest()


class _Entry(NamedTuple):
    """One entry of the cache: decoded images with their labels."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int32[np.ndarray, " examples"]
    transparency: Transparency


def decode_cached(
    settings: dict[str, Any],
    train: LabelledImages,
    test: LabelledImages,
    choose_layout: Callable[[], Layout],
    background: str | None,
    name: str,
) -> Decoded:
    """Return the images of both splits, decoded and resized, from the cache or newly decoded and put there.

    Where the cache cannot be written (a full disk, a read-only home), they are decoded into memory, with a warning.

    Args:
      settings: JSON values on which the decoding depends, such as the size.
      train, test: encoded images, which are always read and hashed, and decoded only where the cache lacks them.
      choose_layout: function that returns the shape to bring images to; called only where the cache lacks them.
      background: "white" or "black", behind transparent pixels; None takes white, with a warning where it matters.
      name: name of the data set in that warning.
    """
    source = _read((train, test), background or DEFAULT_BACKGROUND)
    # Decoders and filters differ in last bits from one release of Pillow to the next.
    identity = settings | {"format": _FORMAT, "pillow": PIL.__version__}
    identity |= {"background": source.background, "content": source.content()}
    text = json.dumps(identity, sort_keys=True)
    folder = cache_root() / hashlib.sha256(text.encode()).hexdigest()[:32]
    kept = _open(folder, text)
    if kept is None:
        kept = _decode_into(folder, text, source, choose_layout())
    # This stack level is that of the caller of load_dataset.
    warn_of_lost_content(kept.transparency, len(source), name, background, stacklevel=4)
    return kept.images, kept.labels


def _read(splits: tuple[LabelledImages, LabelledImages], background: str) -> _Source:
    """Read and hash every image, which makes the labels known, too."""
    digests: tuple[list[bytes], list[bytes]] = ([], [])
    with _progress("reading") as bar:
        for split, found in zip(splits, digests, strict=True):
            task = bar.add_task(split.where, total=len(split))
            for piece in hash_images(split, split.where):
                found += piece
                bar.advance(task, len(piece))
    labels = np.concatenate([split.labels for split in splits]).astype(np.int32)
    return _Source(splits, digests, labels, background)


def _decode_into(folder: Path, identity: str, source: _Source, layout: Layout) -> _Entry:
    """Decode the images into the cache, or into memory where the cache cannot be written."""
    try:
        _make(folder, identity, source, layout)
    except OSError as error:
        _log.warning(
            "Decoded images cannot be kept in %s (%s), so they are decoded into memory, and again at the next start. "
            "Set JAXINFL_IMAGE_CACHE to a folder with %.1f GB of room.",
            cache_root(),
            error,
            len(source) * np.prod(layout, dtype=float) / 1e9,
        )
    else:
        kept = _open(folder, identity)
        if kept is not None:
            return kept
    images = np.empty((len(source), *layout), np.uint8)
    first, transparency = 0, Transparency()
    for piece, alphas in _decode_all(source, layout):
        images[first : first + len(piece)] = piece
        first += len(piece)
        transparency = transparency.plus(alphas)
    return _Entry(images, source.labels, transparency)


def _make(folder: Path, identity: str, source: _Source, layout: Layout) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    transparency = Transparency()

    def pieces() -> Iterator[np.ndarray]:
        nonlocal transparency
        for piece, alphas in _decode_all(source, layout):
            transparency = transparency.plus(alphas)
            yield piece

    try:
        with replace_atomically(folder) as draft:
            draft.mkdir(mode=0o700)
            # The file is written and not mapped, so that a full disk raises an error and does not kill the process.
            about: dict[str, Any] = {"identity": identity}
            about["images"] = _write(draft / "images.npy", (len(source), *layout), np.uint8, pieces())
            about["labels"] = _write(draft / "labels.npy", source.labels.shape, np.int32, [source.labels])
            about["transparency"] = transparency._asdict()
            (draft / "about.json").write_text(json.dumps(about | {"about": _checksum_of_json(about)}))
            shutil.rmtree(folder, ignore_errors=True)  # one that is damaged
    except OSError:
        # Another process may have been first, whose folder cannot be replaced.
        if _open(folder, identity) is None:
            raise


def _write(path: Path, shape: tuple[int, ...], dtype: type[np.generic], pieces: Iterable[np.ndarray]) -> int:
    """Write an .npy file piece by piece, and return the CRC-32 of its values."""
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


def _progress(verb: str) -> Progress:
    """Make a progress bar, which shows where standard error is a terminal."""
    console = Console(stderr=True)
    columns = TextColumn(f"{verb} {{task.description}}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _decode_all(source: _Source, layout: Layout) -> Iterator[tuple[UInt8[np.ndarray, "n h w c"], list[Alpha]]]:
    """Decode all images in their order, some at a time, and judge their transparency.

    Raises:
      ValueError: an image cannot be decoded, or it or its label is another than was hashed.
    """
    with _progress("decoding") as bar:
        for split, digests in zip(source.splits, source.digests, strict=True):
            task = bar.add_task(split.where, total=len(split))
            for piece, alphas in decode_images(split, layout, split.where, source.background, digests):
                yield piece, alphas
                bar.advance(task, len(piece))
    if not np.array_equal(np.concatenate([split.labels for split in source.splits]), source.labels):
        raise ValueError(
            f"Labels of {source.splits[0].where} were changed while the data set was loaded. Load it again when nothing "
            "writes there any more."
        )


def _open(folder: Path, identity: str) -> _Entry | None:
    """Open an entry of the cache; None where there is none, or it is damaged."""
    if not folder.is_dir():
        return None
    try:
        about = json.loads((folder / "about.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="r")
        # Labels are mapped, as the images are: a header that declares more than the file holds is refused without memory.
        labels = np.array(np.load(folder / "labels.npy", mmap_mode="r"))
        intact = about["identity"] == identity and about.pop("about") == _checksum_of_json(about)
        for name, values in (("images", images), ("labels", labels)):
            intact = intact and _checksum(values) == about[name]
        entry = _Entry(np.asarray(images), labels, Transparency(**about["transparency"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s); the images are decoded again.", folder, error)
        return None
    if not intact:
        _log.warning("%s is damaged (a checksum differs); the images are decoded again.", folder)
        return None
    return entry


def _checksum_of_json(about: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _checksum(values: np.ndarray) -> int:
    flat, checksum = values.reshape(-1), 0
    step = _CHECKED_AT_ONCE // values.itemsize
    for start in range(0, flat.size, step):
        checksum = zlib.crc32(np.ascontiguousarray(flat[start : start + step]).data, checksum)
    return checksum
