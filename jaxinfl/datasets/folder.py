"""Data sets as folders of image files: root/train/<class>/* and root/test/<class>/*."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from jaxinfl.arguments import as_path
from jaxinfl.datasets.cache import decode_cached
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.images import choose_layout, survey_images
from jaxinfl.datasets.labels import normal_form

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
VALIDATION = ("val", "valid", "validation")
"""Names of the folders that are taken for the test set where there is no folder test."""

LEFT_OUT = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("__macosx", "icon\r", "@eadir", "lost+found"),
    }
)
"""Names, in lower case, that Windows, macOS, network storage and Linux put into folders by themselves."""

_log = logging.getLogger("jaxinfl")


def load_folder(root: str | os.PathLike, image_size: int | None = None, background: str | None = None) -> Dataset:
    """Load the image files below `root`; classes and files are ordered by name (by code point, in Unicode's form NFC).

    Hidden files and folders (".…") and those of `LEFT_OUT` are left out at every level. Orientation tags of photographs
    are not applied, but Pillow applies those of TIFF files. Where there is no folder test, one of `VALIDATION` is taken
    for it, with a warning of the logger "jaxinfl". Where both are there, a warning says which one is left out.
    `image_size` and `background` are those of `load_dataset`.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: train or test is missing, there are no classes, a class is empty or in test only, or two class folders
        have one name in two forms of Unicode. A link is broken, or a file that is no image lies where images are expected.
        An image cannot be read, has several frames, or was changed meanwhile.
    """
    root = as_path(root, "root", "an image folder")
    if not root.is_dir():
        check_link(root)
        raise FileNotFoundError(f"{root} does not exist or is not a folder. Give a folder that holds train and test.")
    train_classes, test_classes = _class_folders(_train_folder(root)), _class_folders(_test_folder(root))
    class_names = list(train_classes)
    only_test = [folder for name, folder in test_classes.items() if name not in train_classes]
    if only_test:
        raise ValueError(
            f"{only_test[0].parent} has classes that {root / 'train'} lacks: "
            f"{', '.join(folder.name for folder in only_test[:5])}. Add training images, or remove these folders."
        )
    train, test = (_labelled_files(classes, class_names, str(root)) for classes in (train_classes, test_classes))
    images, labels = decode_cached(
        {"image_size": image_size},
        train,
        test,
        lambda: choose_layout([survey_images(files, str(root)) for files in (train, test)], image_size),
        background,
        str(root),
    )
    return Dataset(
        train_inputs=images[: len(train)],
        train_targets=labels[: len(train)],
        test_inputs=images[len(train) :],
        test_targets=labels[len(train) :],
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


def _train_folder(root: Path) -> Path:
    if not (root / "train").is_dir():
        raise _no_split(root, "train")
    return root / "train"


def _test_folder(root: Path) -> Path:
    """Return the folder test, or the one folder that is taken for it."""
    others = [root / name for name in VALIDATION if (root / name).is_dir()]
    listed = ", ".join(map(str, others))
    if (root / "test").is_dir():
        if others:
            _log.warning(
                "%s is left out. Models are trained on %s and tested on %s.", listed, root / "train", root / "test"
            )
        return root / "test"
    if not others:
        raise _no_split(root, "test")
    if len(others) > 1:
        raise ValueError(f"{root} has no folder test, and several in its place: {listed}. Rename one of them to test.")
    _log.warning("%s has no folder test: models are tested on %s.", root, listed)
    return others[0]


def _no_split(root: Path, split: str) -> ValueError:
    check_link(root / split)
    there = ", ".join(entry.name for entry in list_entries(root)[:10]) or "nothing"
    instead = f" (or {', '.join(VALIDATION)} in place of test)" if split == "test" else ""
    return ValueError(
        f"{root} has no folder {split} but {there}; it takes {root}/train/<class>/* and {root}/test/<class>/*"
        f"{instead}. Rename the folders; upper and lower case matter."
    )


def check_link(path: Path) -> None:
    """Raise `ValueError` where a path is a broken link."""
    if path.is_symlink() and not path.exists():
        raise ValueError(
            f"{path} is a broken link: it points to {os.readlink(path)}, which does not exist. Restore that file, or remove "
            "the link."
        )


def list_entries(folder: Path) -> list[Path]:
    """List the entries of a folder that count, in an order that is the same on every file system."""
    entries = [
        entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.casefold() not in LEFT_OUT
    ]
    return sorted(entries, key=lambda entry: (normal_form(entry.name), entry.name))


def _class_folders(split: Path) -> dict[str, Path]:
    """Find the folder of each class, by the name of the class."""
    entries = list_entries(split)
    folders: dict[str, Path] = {}
    for entry in entries:
        check_link(entry)
        if not entry.is_dir():
            raise ValueError(
                f"{entry} is not a folder; it takes {split}/<class>/*. Move it into its class, or remove it."
            )
        other = folders.setdefault(normal_form(entry.name), entry)
        if other is not entry:
            raise ValueError(
                f"{split} has two folders whose names are one text in two forms of Unicode, {other.name!a} and "
                f"{entry.name!a}. Move the files of one into the other, or rename one of them."
            )
    if not entries:
        raise ValueError(f"{split} holds no classes; it takes one folder a class, {split}/<class>/*.")
    return folders


def _labelled_files(classes: dict[str, Path], class_names: list[str], where: str) -> _Files:
    files: list[Path] = []
    labels: list[int] = []
    for name, folder in classes.items():
        members = list_entries(folder)
        if not members:
            raise ValueError(f"{folder} is empty. Add images, or remove the folder.")
        for member in members:
            check_link(member)
            if not member.is_file() or member.suffix.lower() not in SUFFIXES:
                raise ValueError(
                    f"{member} is not an image file; it takes {', '.join(SUFFIXES)}. Convert or remove it."
                )
        files += members
        labels += [class_names.index(name)] * len(members)
    return _Files(files, np.array(labels, np.int32), where)
