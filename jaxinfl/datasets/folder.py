"""Data sets as folders of image files: root/train/<class>/* and root/test/<class>/*."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from jaxinfl.datasets.cache import decode_cached
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.images import choose_layout, survey_images

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")


def load_folder(root: str | os.PathLike, image_size: int | None = None) -> Dataset:
    """The image files below `root`, classes and files in the order of their names (by code point).

    Hidden files and folders (".…") are left out. Orientation tags of photographs are not applied.
    `image_size` as in `load_dataset`.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: train or test is missing, there are no classes, a class is empty or in test only, something
        that is not an image file lies where images are expected, or an image cannot be read.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist or is not a folder. Give a folder that holds train and test.")
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise ValueError(f"{root} has no folder {split}. Taken: {root}/train/<class>/* and {root}/test/<class>/*.")
    class_names = [folder.name for folder in _class_folders(root / "train")]
    only_test = [folder.name for folder in _class_folders(root / "test") if folder.name not in class_names]
    if only_test:
        raise ValueError(
            f"{root / 'test'} has classes that {root / 'train'} lacks: {', '.join(only_test[:5])}. "
            "Add training images, or remove them."
        )
    train_files, train_labels = _labelled_files(root / "train", class_names)
    test_files, test_labels = _labelled_files(root / "test", class_names)
    train, test = _Files(train_files, train_labels, str(root)), _Files(test_files, test_labels, str(root))
    # The same names with the same sizes and dates are the same files, wherever the folder lies.
    dates = [(str(file.relative_to(root)), *_size_and_date(file)) for file in (*train_files, *test_files)]
    images, labels = decode_cached(
        {"folder": dates, "image_size": image_size},
        train,
        test,
        lambda: choose_layout([survey_images(files, str(root)) for files in (train, test)], image_size),
    )
    return Dataset(
        train_images=images[: len(train)],
        train_labels=labels[: len(train)],
        test_images=images[len(train) :],
        test_labels=labels[len(train) :],
        class_names=tuple(class_names),
        name=root.resolve().name,
    )


@dataclass
class _Files:
    """The image files of one split."""

    files: list[Path]
    labels: Int32[np.ndarray, " n"]
    where: str

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> Path:
        return self.files[index]


def _size_and_date(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_size, about.st_mtime_ns


def _visible(folder: Path) -> list[Path]:
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _class_folders(split: Path) -> list[Path]:
    entries = _visible(split)
    stray = [entry for entry in entries if not entry.is_dir()]
    if stray:
        raise ValueError(f"{stray[0]} is not a folder. Taken: {split}/<class>/*; move it into its class, or remove it.")
    if not entries:
        raise ValueError(f"{split} holds no classes. Taken: one folder a class, {split}/<class>/*.")
    return entries


def _labelled_files(split: Path, class_names: list[str]) -> tuple[list[Path], np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    for folder in _class_folders(split):
        members = _visible(folder)
        if not members:
            raise ValueError(f"{folder} is empty. Add images, or remove the folder.")
        for member in members:
            if not member.is_file() or member.suffix.lower() not in SUFFIXES:
                raise ValueError(f"{member} is not an image file. Taken: {', '.join(SUFFIXES)}; convert or remove it.")
        files += members
        labels += [class_names.index(folder.name)] * len(members)
    return files, np.array(labels, np.int32)
