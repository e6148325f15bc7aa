"""CIFAR-10 and CIFAR-100 in their own binary version, as an archive or unpacked. No pickle is read."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.folder import check_link

_SIDE, _CHANNELS = 32, 3
_PIXELS = _SIDE * _SIDE * _CHANNELS
_MOST_BYTES = 2**29
"""Largest unpacked size that is taken: the real archives have 185 MB."""
_READ_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError)


class _Layout(NamedTuple):
    """Where a version keeps what."""

    name: str
    train: tuple[str, ...]
    test: str
    labels: dict[str, tuple[int, str]]
    """Place of each kind of label in a record, and the file of its names; the first kind is taken where nobody says."""

    @property
    def record(self) -> int:
        """Bytes of an image with its labels."""
        return len(self.labels) + _PIXELS


_LAYOUTS = (
    _Layout(
        "cifar10",
        tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
        "test_batch.bin",
        {"label": (0, "batches.meta.txt")},
    ),
    _Layout(
        "cifar100",
        ("train.bin",),
        "test.bin",
        {"fine": (1, "fine_label_names.txt"), "coarse": (0, "coarse_label_names.txt")},
    ),
)
_FOLDERS = ("cifar-10-batches-bin", "cifar-100-binary")
_MEMBERS = frozenset(
    name
    for layout in _LAYOUTS
    for name in (*layout.train, layout.test, *(names for _, names in layout.labels.values()))
)
ARCHIVES = (".tar.gz", ".tgz")
"""Endings of the names of archives."""


def find_records(folder: Path) -> Path | None:
    """The folder that holds the .bin files: `folder` itself or that which its archive unpacks to; None where there is none."""
    for place in (folder, *(folder / name for name in _FOLDERS)):
        if any((place / layout.test).is_file() for layout in _LAYOUTS):
            return place
    return None


def load_cifar(path: Path, targets: str | None = None) -> Dataset:
    """Load the archive or folder `path`: the batches in the order of their numbers, and images in the order of the batches.

    `targets` is "fine" (the default) or "coarse" for CIFAR-100, and None for CIFAR-10.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the archive is damaged, larger than it may be, or lacks files; `targets` is something else.
    """
    files = _read_folder(path) if path.is_dir() else _read_archive(path)
    fitting = [layout for layout in _LAYOUTS if layout.test in files]
    if len(fitting) != 1:
        raise ValueError(
            f"{path} is no binary version of CIFAR: of {', '.join(each.test for each in _LAYOUTS)} it takes exactly one. Fetch "
            "cifar-10-binary.tar.gz or cifar-100-binary.tar.gz. Python's version holds pickles, which are never loaded."
        )
    layout = fitting[0]
    kind = next(iter(layout.labels)) if targets is None else targets
    if kind not in layout.labels:
        raise ValueError(
            f"targets is {targets!r}; {layout.name} takes {' or '.join(map(repr, layout.labels))}. Leave it out for the first."
        )
    place, names_file = layout.labels[kind]
    train = np.concatenate([_records(path, name, files, layout) for name in layout.train])
    test = _records(path, layout.test, files, layout)
    try:
        return Dataset(
            train_inputs=_as_images(train, layout),
            train_targets=train[:, place].astype(np.int32),
            test_inputs=_as_images(test, layout),
            test_targets=test[:, place].astype(np.int32),
            class_names=_read_names(files.get(names_file)),
            name=layout.name,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error} The names of the classes are those of {names_file}.") from None


def _read_folder(path: Path) -> dict[str, bytes]:
    place = find_records(path) or path
    found, total = {}, 0
    for name in sorted(_MEMBERS):
        check_link(place / name)
        if (place / name).is_file():
            total += (place / name).stat().st_size
            if total > _MOST_BYTES:
                raise _too_large(path)
            found[name] = (place / name).read_bytes()
    return found


class _Bounded(io.RawIOBase):
    """What a gzip file holds, up to a number of bytes: a small file may unpack to any number of zeros."""

    def __init__(self, file: gzip.GzipFile, path: Path):
        super().__init__()
        self._file, self._path, self._left = file, path, _MOST_BYTES

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, never more than are left; `tarfile` asks for as many as a member's header declares."""
        content = self._file.read(min(size if size >= 0 else self._left + 1, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._path)
        return content


def _too_large(path: Path) -> ValueError:
    return ValueError(
        f"{path} unpacks to more than {_MOST_BYTES / 2**20:.0f} MiB, which no version of CIFAR has. Fetch the archive again."
    )


def _read_archive(path: Path) -> dict[str, bytes]:
    """The files of the archive that are taken, by name. They are read into memory: nothing is written, whatever their names."""
    check_link(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Give the path of an archive.")
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path) as unpacked:
            bounded = _Bounded(unpacked, path)
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for member in archive:
                    name = PurePosixPath(member.name).name
                    if name not in _MEMBERS or not member.isreg():
                        continue
                    if name in found:
                        raise ValueError(f"it holds {name} twice")
                    content = archive.extractfile(member)
                    assert content is not None  # it is a regular file
                    found[name] = content.read()
                    if len(found[name]) != member.size:
                        raise ValueError(f"{name} is cut short")
            while bounded.read(2**20):  # to the end, where gzip's checksum is compared
                pass
    except _READ_ERRORS as error:
        raise ValueError(
            f"{path} is not a readable .tar.gz archive: it is truncated, damaged or something else ({error}). Fetch it again."
        ) from error
    return found


def _records(path: Path, name: str, files: dict[str, bytes], layout: _Layout) -> UInt8[np.ndarray, "images bytes"]:
    content = files.get(name)
    if content is None:
        raise ValueError(f"{path} lacks {name}; it holds {', '.join(sorted(files))}. Fetch it again.")
    if not content or len(content) % layout.record:
        raise ValueError(
            f"{name} in {path} has {len(content)} bytes; it takes images of {layout.record} bytes each. It is damaged: fetch it again."
        )
    return np.frombuffer(content, np.uint8).reshape(-1, layout.record)


def _as_images(records: UInt8[np.ndarray, "n bytes"], layout: _Layout) -> UInt8[np.ndarray, "n 32 32 3"]:
    planes = records[:, len(layout.labels) :].reshape(-1, _CHANNELS, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _read_names(content: bytes | None) -> tuple[str, ...] | None:
    """The names of the classes, one a line; None where the archive has none, and classes are numbered."""
    if content is None:
        return None
    return tuple(line.strip() for line in content.decode().splitlines() if line.strip())
