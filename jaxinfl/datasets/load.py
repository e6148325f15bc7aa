"""`load_dataset` loads data by name, whether embedded, in a file, in a folder, or in TensorFlow Datasets."""

import os
import re
from pathlib import Path

from jaxinfl.arguments import as_path, check_whole
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.digits import load_digits
from jaxinfl.datasets.folder import load_folder
from jaxinfl.datasets.images import resize_arrays
from jaxinfl.datasets.npz import load_npz
from jaxinfl.datasets.tables import TABLES, load_table
from jaxinfl.datasets.transparency import check_background

_MOST_PIXELS = 4096
"""Largest side in pixels that is taken: a larger one is a mistake, and would exhaust memory."""


def load_dataset(
    name: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int | None = None,
    splits: str | tuple[str, str] | None = None,
    background: str | None = None,
) -> Dataset:
    """Load a data set. The order of the examples is always the same.

    Args:
      name: one of five kinds; the first that fits is taken.
        - "digits" are 1437 + 360 handwritten digits, 8 x 8 x 1, embedded, without a download.
        - "breast_cancer", "iris", "wine" (classes) and "diabetes" (numbers) are tables that scikit-learn holds, without a download.
        - A path that ends in .npz holds arrays x_train, y_train, x_test, y_test (Keras) or train_images, train_labels,
          test_images, test_labels (MedMNIST), and optionally class_names. A validation set in it is left out, with a
          warning of the logger "jaxinfl".
        - A folder holds images root/train/<class>/* and root/test/<class>/*, or val, valid or validation where there is
          no test. A `str` without "/" is taken for a folder that holds train or test; write "./name" to insist. Files
          with several frames or pages are refused.
        - Any image classification data set of TensorFlow Datasets ("cifar10", "dtd", "cifar10:3.0.2",
          "cifar10_corrupted/fog_1") is read, and first downloaded and prepared if need be. This takes the packages
          tensorflow-datasets and array-record, not TensorFlow itself.
      data_dir: folder of prepared TensorFlow Datasets; None takes their default, `TFDS_DATA_DIR` or
        ~/tensorflow_datasets. The other kinds need none.
      image_size: side in pixels. Every image has its shorter side scaled to it (bilinear) and is cut square around
        its center, as torchvision's Resize and CenterCrop do. With None, images that all have one size stay as they are,
        and others are brought to 224. For a recipe with `resized_crop` take `recipes.stored_side(resized_crop)`: 256 for
        224, 342 for 299. The center of the stored square is then what torchvision's reference evaluates, to the pixel for
        224 and within one pixel for 299, where the two cuts round. Random crops are cut from the square and not from the
        original. So they do not reach the ends of the longer side, and a small crop is enlarged from fewer pixels.
      splits: the TensorFlow Datasets splits to train and test on, such as ("train[:80%]", "validation"). One string with a
        colon also names both, such as "train+validation:test". None takes "train" and "test", and for dtd
        and oxford_flowers102 adds "validation" to the training set.
      background: color behind images with transparency, "white" or "black", in folders and TensorFlow Datasets. None
        takes white, with a `UserWarning` where images vary in transparency but not in their visible color, because a
        white drawing cannot be seen on white.

    Returns:
      The data. Images are gray (1 channel) if all are, else RGB; an .npz file keeps its channels.
      Memory: about that of the arrays. Images of folders and TensorFlow Datasets are decoded once, kept in
      JAXINFL_IMAGE_CACHE (by default ~/.cache/jaxinfl/images) and memory-mapped; they take one byte for each pixel and
      channel. The files are read and hashed at every call, so that changed content is noticed whatever its names and dates.

    Raises:
      TypeError: an argument or an array has a wrong type.
      ValueError: a name or split is unknown, or content is damaged or not image classification.
      FileNotFoundError: a file or folder does not exist.
      DatasetUnavailable: the data set could not be downloaded or prepared. Without a network this takes seconds.
    """
    path = as_path(name, "name", "the name of a data set, an .npz file or an image folder")
    folder = None if data_dir is None else as_path(data_dir, "data_dir", "a folder")
    _check_image_size(image_size)
    check_background(background)
    kind = _kind(name)
    parts = None if splits is None else _parse_splits(splits, kind)
    if background is not None and kind not in ("folder", "tfds"):
        raise ValueError(
            f"background is {background!r}, but only images of folders and TensorFlow Datasets have transparency. "
            "Leave it out."
        )
    if kind == "folder":
        data = load_folder(path, image_size, background)
    elif kind == "tfds":
        # This import is here because only this branch needs TensorFlow Datasets.
        from jaxinfl.datasets.tfds import load_tfds

        data = load_tfds(os.fspath(name), folder, image_size=image_size, splits=parts, background=background)
    elif kind == "table":
        if image_size is not None:
            raise ValueError(f"image_size is {image_size}, but {name} is a table without images. Leave it out.")
        data = load_table(os.fspath(name))
    else:
        data = load_digits() if kind == "digits" else load_npz(path)
        data = data if image_size is None else _resize(data, image_size)
    return data.with_source(
        name=str(path) if kind in ("folder", "npz") else os.fspath(name),
        data_dir=None if folder is None else str(folder),
        image_size=image_size,
        splits=None if parts is None else ":".join(parts),
        background=background,
    )


def is_prepared(name: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load_dataset` finds the data set on this machine, without a download.

    Args:
      name, data_dir: as in `load_dataset`. Files and folders always count as prepared: they are never downloaded.

    Raises:
      TypeError: an argument has a wrong type.
      ValueError: the name is unknown.
    """
    as_path(name, "name", "the name of a data set, an .npz file or an image folder")
    folder = None if data_dir is None else as_path(data_dir, "data_dir", "a folder")
    if _kind(name) != "tfds":
        return True
    from jaxinfl.datasets.tfds import is_prepared_tfds

    return is_prepared_tfds(os.fspath(name), folder)


def _kind(name: str | os.PathLike) -> str:
    if isinstance(name, str) and (name == "digits" or name in TABLES):
        return "digits" if name == "digits" else "table"
    path = Path(name).expanduser()
    if path.suffix.lower() == ".npz":
        return "npz"
    looks_like_path = isinstance(name, os.PathLike) or name.startswith((".", "/", "~")) or path.is_absolute()
    if looks_like_path or (path / "train").is_dir() or (path / "test").is_dir():
        return "folder"
    return "tfds"


def _check_image_size(image_size: int | None) -> None:
    if image_size is None:
        return
    check_whole(image_size, "image_size", 1, _MOST_PIXELS, "pixels")


def _parse_splits(splits: str | tuple[str, str], kind: str) -> tuple[str, str]:
    """Return the training split and the test split."""
    # A colon within brackets belongs to a slice: train[:80%].
    parts = re.split(r":(?![^\[]*\])", splits) if isinstance(splits, str) else splits
    if not isinstance(parts, (tuple, list)) or not all(isinstance(split, str) for split in parts):
        raise TypeError(f"splits is {splits!r}; it takes two strings, (training split, test split).")
    if len(parts) != 2 or not all(parts):
        raise ValueError(
            f'splits is {splits!r}; it takes two splits, (training split, test split) or "training split:test split".'
        )
    if kind != "tfds":
        raise ValueError(
            f"splits is {splits!r}, but only TensorFlow Datasets have named splits. Leave it out: digits, .npz files and "
            "image folders have one training set and one test set."
        )
    return parts[0], parts[1]


def _resize(dataset: Dataset, image_size: int) -> Dataset:
    if dataset.image_shape[:2] == (image_size, image_size):
        return dataset
    return Dataset(
        train_inputs=resize_arrays(dataset.images("train"), image_size),
        train_targets=dataset.train_targets,
        test_inputs=resize_arrays(dataset.images("test"), image_size),
        test_targets=dataset.test_targets,
        class_names=dataset.class_names,
        name=dataset.name,
    )
