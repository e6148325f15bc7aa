"""The files of a training set and a test set, found by their names in one folder or given as a pair."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxinfl.arguments import as_path, quote
from jaxinfl.datasets.folder import VALIDATION, check_link, list_entries

_log = logging.getLogger("jaxinfl")

# As in train.csv, train-00000-of-00002.parquet, pets_train.csv and test-00000-of-00001-0123abcd.parquet.
_NAMED = re.compile(rf"(?:.*[-._ ])?(train|test|{'|'.join(VALIDATION)})(?:[-._ ]?[0-9].*)?")
_SHARD = re.compile(r"-(\d+)-of-(\d+)(?:-\w+)?$")
_LFS = b"version https://git-lfs"


class SplitFiles(NamedTuple):
    """The files of one data set."""

    root: Path
    """Folder or file by which errors name the data set."""
    train: list[Path]
    test: list[Path]
    name: str
    """What to call the data set."""


def as_pair(name: Sequence[str | os.PathLike]) -> tuple[Path, Path]:
    """The paths of a training file and a test file.

    Raises:
      TypeError, ValueError: it is no pair of paths.
    """
    if len(name) != 2:
        raise ValueError(f"name is {quote(list(name))}; as a pair it takes (training file, test file).")
    train, test = (
        as_path(each, f"name[{k}]", "a file of a pair (training file, test file)") for k, each in enumerate(name)
    )
    return train, test


def find_pair(train: Path, test: Path) -> SplitFiles:
    """The files of a pair.

    Raises:
      FileNotFoundError: one of them is not there.
      ValueError: both are one file.
    """
    for path in (train, test):
        _check_file(path)
    if train.resolve() == test.resolve():
        raise ValueError(f"name is the file {train} twice; it takes (training file, test file). Give two files.")
    return SplitFiles(train.parent, [train], [test], train.parent.resolve().name or train.stem)


def find_place(root: Path, suffix: str) -> Path | None:
    """The folder in which the files of a data set lie: `root`, `root`/data, or the one other subfolder that has such files.

    Raises:
      ValueError: several subfolders have such files.
    """
    for folder in (root, root / "data"):
        if _table_files(folder, suffix):
            return folder
    if not root.is_dir():
        return None
    others = [entry for entry in list_entries(root) if entry.is_dir() and _table_files(entry, suffix)]
    if len(others) > 1:
        raise ValueError(
            f"{root} has several folders of {suffix} files: {_list(others)}. Give the path of one of them."
        )
    return others[0] if others else None


def find_split_files(root: Path, suffix: str) -> SplitFiles:
    """The training and test files in the folder `find_place(root, suffix)`, in the order of their names.

    A file belongs to a split whose name is a word of its own at the end of the file's name or before a number. Where no file
    stands for test, those of one of `VALIDATION` are taken, with a warning of the logger "jaxinfl". A warning also says which
    files are left out.

    Raises:
      ValueError: a split is missing, or one of its numbered files is, or a file is a pointer of Git LFS.
    """
    place = find_place(root, suffix)
    if place is None:
        raise ValueError(f"{root} holds no {suffix} files. Give a folder with train{suffix} and test{suffix}.")
    splits: dict[str, list[Path]] = {}
    for path, split in _table_files(place, suffix):
        splits.setdefault(split, []).append(path)
    if "train" not in splits:
        raise _no_split(place, suffix, "train", splits)
    others = [split for split in VALIDATION if split in splits]
    if "test" not in splits and len(others) != 1:
        raise _no_split(place, suffix, "test", splits)
    test = "test" if "test" in splits else others[0]
    if test != "test":
        _log.warning("%s has no test set: models are tested on %s.", place, _list(splits[test]))
    unused = [path for split, files in splits.items() if split not in ("train", test) for path in files]
    if unused:
        _log.warning("%s: %s are left out. Models are trained on train and tested on %s.", place, _list(unused), test)
    for split in ("train", test):
        for path in splits[split]:
            _check_file(path)
        _check_shards(splits[split])
    return SplitFiles(root, splits["train"], splits[test], root.resolve().name)


def _table_files(folder: Path, suffix: str) -> list[tuple[Path, str]]:
    """The files of a folder with their splits, "" for a file of none; or those of its subfolders train, test and so on."""
    found = [(path, _split_of(path.name.removesuffix(path.suffix))) for path in _with_suffix(folder, suffix)]
    if found:
        return found
    return [(path, split) for split in ("train", "test", *VALIDATION) for path in _with_suffix(folder / split, suffix)]


def _with_suffix(folder: Path, suffix: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in list_entries(folder) if entry.suffix.lower() == suffix and not entry.is_dir()]


def _split_of(stem: str) -> str:
    named = _NAMED.fullmatch(stem)
    return named[1] if named else ""


def _no_split(place: Path, suffix: str, split: str, splits: dict[str, list[Path]]) -> ValueError:
    there = _list([path for files in splits.values() for path in files])
    instead = f" (or one of {', '.join(VALIDATION)} in place of test)" if split == "test" else ""
    return ValueError(
        f"{place} has no files of the split {split}{instead}, but {there}; it takes train{suffix} and test{suffix}, or numbered "
        f"files such as train-00000-of-00002{suffix}. Rename the files, or give a pair: (training file, test file)."
    )


def _check_file(path: Path) -> None:
    check_link(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file. Give the path of a file.")
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if not start:
        raise ValueError(f"{path} is empty, with 0 bytes. Fetch or write it again.")
    if start == _LFS:
        raise ValueError(f"{path} is a pointer of Git LFS and not the file itself. Fetch the file with git lfs pull.")


def _check_shards(files: list[Path]) -> None:
    """Raise `ValueError` where one of the files that are numbered 0 to n-1 is missing."""
    shards = [match for path in files if (match := _SHARD.search(path.stem))]
    numbers = sorted(int(match[1]) for match in shards)
    whole = numbers == list(range(len(files))) and {int(match[2]) for match in shards} == {len(files)}
    if shards and not whole:
        raise ValueError(
            f"{files[0].parent} holds {_list(files)}, whose names do not number all files of one split. Fetch those that are "
            "missing, and remove those of another version."
        )


def _list(paths: list[Path]) -> str:
    names = ", ".join(path.name if path.name.isprintable() else ascii(path.name) for path in paths[:10])
    return names + (", ..." if len(paths) > 10 else "")
