"""`load_dataset`: one name for data that is embedded, in a file, in a folder, or in TensorFlow Datasets."""

import os
import re
from pathlib import Path

from jaxinfl.arguments import as_path, check_whole
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.digits import load_digits
from jaxinfl.datasets.folder import load_folder
from jaxinfl.datasets.images import resize_arrays
from jaxinfl.datasets.npz import load_npz
from jaxinfl.datasets.transparency import check_background

_MOST_PIXELS = 4096
"""A side of images for training; what asks for more is a slip, and would exhaust memory."""


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
      name: the first of these that fits:
        - "digits": 1437 + 360 handwritten digits, 8 x 8 x 1, embedded, no download.
        - a path that ends in .npz: arrays x_train, y_train, x_test, y_test (Keras) or train_inputs, train_targets,
          test_inputs, test_targets (MedMNIST), and optionally class_names. A validation set in it is left out, which a
          warning of the logger "jaxinfl" says.
        - a folder: images root/train/<class>/* and root/test/<class>/*, or val, valid or validation where there is no
          test. A `str` without "/" is taken for one when it holds train or test; write "./name" to insist. Files with
          several frames or pages are refused.
        - any image classification data set of TensorFlow Datasets ("cifar10", "dtd", "cifar10:3.0.2",
          "cifar10_corrupted/fog_1"): read, and downloaded and prepared first if need be. Needs the packages
          tensorflow-datasets and array-record, not TensorFlow itself.
      data_dir: where prepared TensorFlow Datasets lie; None: their default, `TFDS_DATA_DIR` or
        ~/tensorflow_datasets. The other kinds need none.
      image_size: side in pixels. Every image has its shorter side scaled to it (bilinear) and is cut square around
        its center, as torchvision's Resize and CenterCrop do. None: images that all have one size are kept as they are,
        others brought to 224. For a recipe with `resized_crop` take `recipes.stored_side(resized_crop)`: 256 for 224,
        342 for 299. The center of the stored square is then what torchvision's reference evaluates, to the pixel for
        224 and within one pixel for 299, where the two cuts round. Random crops are cut from the square in place of the
        original: they do not reach the ends of the longer side, and a small one is enlarged from the square's pixels
        where the original may have had more.
      splits: the TensorFlow Datasets splits to train and test on, ("train[:80%]", "validation") for instance, or both in
        one string with a colon between them, "train+validation:test", as from a command line.
        None: "train" and "test"; with "validation" added to the training set for dtd and oxford_flowers102.
      background: "white" or "black": what is put behind images with transparency, in folders and TensorFlow Datasets.
        None: white, with a `UserWarning` where images vary in transparency but not in their visible color, because a
        white drawing cannot be seen on white.

    Returns:
      The data. Images are gray (1 channel) if all are, else RGB; an .npz file keeps its channels.
      Memory: about that of the arrays. Images of folders and TensorFlow Datasets are decoded once, kept in
      JAXINFL_IMAGE_CACHE (by default ~/.cache/jaxinfl/images; a byte a pixel and channel) and memory-mapped. The files
      are read and hashed at every call, so that changed content is noticed whatever its names and dates are.

    Raises:
      TypeError: an argument or an array has a wrong type.
      ValueError: an unknown name or split, or content that is damaged or not image classification.
      FileNotFoundError: a file or folder does not exist.
      DatasetUnavailable: not prepared, and could not be downloaded or prepared. Within seconds when there is no network.
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
        # Imported here: only this branch touches TensorFlow Datasets.
        from jaxinfl.datasets.tfds import load_tfds

        data = load_tfds(os.fspath(name), folder, image_size=image_size, splits=parts, background=background)
    else:
        data = load_digits() if kind == "digits" else load_npz(path)
        data = data if image_size is None else _resized(data, image_size)
    return data.loaded_by(
        name=str(path) if kind in ("folder", "npz") else os.fspath(name),
        data_dir=None if folder is None else str(folder),
        image_size=image_size,
        splits=None if parts is None else ":".join(parts),
        background=background,
    )


def is_prepared(name: str | os.PathLike, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load_dataset` finds the data set on this machine, without a download.

    Args:
      name, data_dir: as in `load_dataset`. Whether a file or folder exists is not looked at: these are never downloaded.

    Raises:
      TypeError: an argument has a wrong type.
      ValueError: an unknown name.
    """
    as_path(name, "name", "the name of a data set, an .npz file or an image folder")
    folder = None if data_dir is None else as_path(data_dir, "data_dir", "a folder")
    if _kind(name) != "tfds":
        return True
    from jaxinfl.datasets.tfds import is_prepared_tfds

    return is_prepared_tfds(os.fspath(name), folder)


def _kind(name: str | os.PathLike) -> str:
    if isinstance(name, str) and name == "digits":
        return "digits"
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
    """Training and test split."""
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
            "image folders say themselves what is for training and what for testing."
        )
    return parts[0], parts[1]


def _resized(dataset: Dataset, image_size: int) -> Dataset:
    if dataset.image_shape[:2] == (image_size, image_size):
        return dataset
    return Dataset(
        train_inputs=resize_arrays(dataset.train_inputs, image_size),
        train_targets=dataset.train_targets,
        test_inputs=resize_arrays(dataset.test_inputs, image_size),
        test_targets=dataset.test_targets,
        class_names=dataset.class_names,
        name=dataset.name,
    )
