"""Which kind of source a name stands for, and which arguments of `load_dataset` each kind takes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxinfl.arguments import quote
from jaxinfl.datasets.cifar_binary import ARCHIVES, find_records
from jaxinfl.datasets.split_files import as_pair, find_place
from jaxinfl.datasets.tables import TABLES
from jaxinfl.datasets.topics import NAME as TOPICS

COLUMN_OPTIONS = ("inputs", "targets", "task", "categories")
"""Arguments that say what the columns or arrays of a file are."""

TAKES = {
    "digits": ("image_size",),
    "table": (),
    "topics": (),
    "npz": ("image_size", "task", "categories"),
    "folder": ("image_size", "background"),
    "tfds": ("image_size", "splits", "background"),
    "parquet": ("image_size", "background", *COLUMN_OPTIONS),
    "csv": COLUMN_OPTIONS,
    "cifar": ("image_size", "targets"),
}
"""Arguments that each kind of source takes beside its name."""

_NOT_TAKEN = {
    "image_size": "{name} holds no images",
    "splits": "only TensorFlow Datasets have named splits, and {name} has one training set and one test set",
    "background": "only images of folders, Parquet files and TensorFlow Datasets have transparency",
    "inputs": "only Parquet and CSV files have columns to choose from",
    "targets": "only Parquet and CSV files, and the archive of CIFAR-100, have several columns of targets",
    "task": "only .npz, Parquet and CSV files leave open what their targets mean",
    "categories": "only .npz, Parquet and CSV files leave open what their integers mean",
}

EMBEDDED = {"digits": "digits", TOPICS: "topics", **dict.fromkeys(TABLES, "table")}
"""Kind of each data set that comes with Python or with a package, by its name."""

Name = str | os.PathLike | tuple[str | os.PathLike, ...] | list
"""What a data set is named by: a name, a path, or a pair of paths."""


class Wanted(NamedTuple):
    """What the user says of columns; see `load_dataset`."""

    inputs: str | Sequence[str] | None
    targets: str | Sequence[str] | None
    task: Any
    categories: int | Mapping[str, int | None] | Sequence[str] | None


def find_kind(name: Name) -> str:
    """The kind of the source, a key of `TAKES`; the first that fits.

    Raises:
      TypeError, ValueError: it is none.
    """
    if isinstance(name, (tuple, list)):
        return _kind_of_pair(as_pair(name))
    if isinstance(name, str) and name in EMBEDDED:
        return EMBEDDED[name]
    path = Path(name).expanduser()
    if path.suffix.lower() == ".npz":
        return "npz"
    if path.name.lower().endswith(ARCHIVES):
        return "cifar"
    if path.suffix.lower() in (".csv", ".parquet") and not path.is_dir():
        raise ValueError(
            f"name is {quote(os.fspath(name))}, one file; it takes a pair, (training file, test file), or a folder that holds "
            f"train{path.suffix} and test{path.suffix}. Save the examples for testing in a file of their own."
        )
    looks_like_path = isinstance(name, os.PathLike) or name.startswith((".", "/", "~")) or path.is_absolute()
    kind = _kind_of_folder(path)
    if kind == "folder" and not looks_like_path and not (path / "train").is_dir() and not (path / "test").is_dir():
        return "tfds"
    return kind


def _kind_of_pair(pair: tuple[Path, Path]) -> str:
    suffixes = {path.suffix.lower() for path in pair}
    kinds = {".csv": "csv", ".parquet": "parquet"}
    if len(suffixes) != 1 or not suffixes <= set(kinds):
        raise ValueError(
            f"name is the pair {pair[0].name}, {pair[1].name}; it takes two .csv files or two .parquet files."
        )
    return kinds[suffixes.pop()]


def _kind_of_folder(path: Path) -> str:
    found = [kind for kind in ("parquet", "csv") if find_place(path, f".{kind}") is not None]
    if (path / "train").is_dir() and found and find_place(path / "train", f".{found[0]}") is None:
        return "folder"  # of images, with a table beside them
    if len(found) > 1:
        raise ValueError(
            f"{path} holds both Parquet and CSV files. Name the files: (training file, test file), or give a folder with one kind."
        )
    if found:
        return found[0]
    return "cifar" if find_records(path) else "folder"


def check_options(name: Name, kind: str, options: Mapping[str, Any]) -> None:
    """Raise `ValueError` where an argument is given that this kind of source does not take."""
    for option, value in options.items():
        if value is not None and option not in TAKES[kind]:
            reason = _NOT_TAKEN[option].format(name=name)
            raise ValueError(f"{option} is {quote(value)}, but {reason}. Leave it out.")


__all__ = ["COLUMN_OPTIONS", "TAKES", "Name", "Wanted", "check_options", "find_kind"]
