"""`load_dataset` loads data by name, whether embedded, in files, in a folder, or in TensorFlow Datasets."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxinfl.arguments import as_path, check_whole
from jaxinfl.datasets.cifar_binary import load_cifar
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.digits import load_digits
from jaxinfl.datasets.folder import load_folder
from jaxinfl.datasets.images import resize_arrays
from jaxinfl.datasets.inputs import check_task
from jaxinfl.datasets.kinds import EMBEDDED, Name, Wanted, check_options, find_kind
from jaxinfl.datasets.npz import load_npz
from jaxinfl.datasets.split_files import SplitFiles, as_pair, find_pair, find_split_files
from jaxinfl.datasets.stratified import take_examples
from jaxinfl.datasets.tables import load_table
from jaxinfl.datasets.topics import load_topics
from jaxinfl.datasets.transparency import check_background
from jaxinfl.tasks import Task

_MOST_PIXELS = 4096
"""Largest side in pixels that is taken: a larger one is a mistake, and would exhaust memory."""
_EXPECTED = "the name of a data set, a file, a folder, or a pair of files"


def load_dataset(
    name: Name,
    data_dir: str | os.PathLike | None = None,
    *,
    image_size: int | None = None,
    splits: str | tuple[str, str] | None = None,
    background: str | None = None,
    inputs: str | Sequence[str] | None = None,
    targets: str | Sequence[str] | None = None,
    task: Any = None,
    categories: int | Mapping[str, int | None] | Sequence[str] | None = None,
) -> Dataset:
    """Load a data set. The order of the examples is always the same. docs/data.md shows each source in a few lines.

    Args:
      name: one of nine kinds; the first that fits is taken. A folder is taken for one that holds what a kind needs; write
        "./name" to insist that a `str` without "/" is a folder.
        - "digits" are 1437 + 360 handwritten digits, 8 x 8 x 1, embedded, without a download.
        - "breast_cancer", "iris", "wine" (classes) and "diabetes" (numbers) are tables that scikit-learn holds, without a download.
        - "python_topics" are pieces of the help texts that come with Python, 32 words each, whose topics are the classes.
        - A path that ends in .npz holds arrays x_train, y_train, x_test, y_test (Keras) or train_images, train_labels,
          test_images, test_labels (MedMNIST), and optionally class_names. They are any arrays that `Dataset` takes. A
          validation set in it is left out, with a warning of the logger "jaxinfl".
        - A path that ends in .tar.gz or .tgz is the binary version of CIFAR-10 or CIFAR-100, and so is a folder of its .bin
          files. Batches come in the order of their numbers.
        - A folder of Parquet files, as the Hugging Face hub serves images, tables and tokens, or a pair (training file, test
          file). Files lie in the folder, in data/ or in its one other subfolder, and a name says the split:
          train-00000-of-00002.parquet, test.parquet, or train/0000.parquet.
        - A folder that holds train.csv and test.csv, or a pair of CSV files: UTF-8, commas, names of columns first.
        - A folder holds images root/train/<class>/* and root/test/<class>/*. Files with several frames or pages are refused.
        - Any image classification data set of TensorFlow Datasets ("cifar10", "dtd", "cifar10:3.0.2",
          "cifar10_corrupted/fog_1") is read, and first downloaded and prepared if need be. This takes the packages
          tensorflow-datasets and array-record, not TensorFlow itself.
        Where a folder has no test, val, valid or validation is taken for it, with a warning.
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
      background: color behind images with transparency, "white" or "black", in folders, Parquet files and TensorFlow
        Datasets. None takes white, with a `UserWarning` where images vary in transparency but not in their visible color,
        because a white drawing cannot be seen on white.
      inputs: the columns of Parquet or CSV that are inputs, one name or several; None takes all but the targets. One column of
        images gives images. Columns of numbers become one float32 array [n, columns]. A column of lists of one length becomes
        an array [n, length]: of floats, or of tokens. Where there are other arrays beside it, inputs are a dict with the
        numbers as "numbers" and each other column under its own name.
      targets: the column of Parquet or CSV that holds the targets, or several columns of numbers. None takes the one column that
        is declared as class labels or is called label, target or y. For CIFAR-100 it is "fine" (the default) or "coarse".
      task: what targets of .npz, Parquet and CSV files mean: "classification", "regression", "binary", "next_token", or a
        `jaxinfl.Task`. None takes regression where targets are floats, else classification.
      categories: of .npz files what `Dataset` takes. Of Parquet and CSV, the columns whose integers or texts are categories, as
        a list or as a dict with the number of each. Texts are numbered by their place among the sorted texts of both sets.

    Returns:
      The data. Images are gray (1 channel) if all are, else RGB; an .npz file keeps its channels. Memory: about that of the
      arrays. Images of folders, Parquet files and TensorFlow Datasets are decoded once, kept in JAXINFL_IMAGE_CACHE (by
      default ~/.cache/jaxinfl/images) and memory-mapped; they take one byte for each pixel and channel. The files are read
      and hashed at every call, so that changed content is noticed whatever its names and dates. A run finds the data again by
      these arguments, but for a `Task` that is given as an object.

    Raises:
      TypeError: an argument or an array has a wrong type.
      ValueError: a name, split or column is unknown, or content is damaged, missing, NaN or infinite, or not what its kind takes.
      FileNotFoundError: a file or folder does not exist.
      DatasetUnavailable: the data set could not be downloaded or prepared. Without a network this takes seconds.
    """
    pair = as_pair(name) if isinstance(name, (tuple, list)) else None
    path = as_path(pair[0] if pair else name, "name", _EXPECTED)
    folder = None if data_dir is None else as_path(data_dir, "data_dir", "a folder")
    _check_image_size(image_size)
    check_background(background)
    if task is not None:
        check_task(task)
    parts = None if splits is None else _parse_splits(splits)
    kind = find_kind(name)
    columns = {"inputs": inputs, "targets": targets, "task": task, "categories": categories}
    check_options(name, kind, {"image_size": image_size, "splits": splits, "background": background, **columns})
    if kind == "folder":
        data = load_folder(path, image_size, background)
    elif kind == "tfds":
        # This import is here because only this branch needs TensorFlow Datasets.
        from jaxinfl.datasets.tfds import load_tfds

        data = load_tfds(str(name), folder, image_size=image_size, splits=parts, background=background)
    elif kind == "parquet":
        from jaxinfl.datasets.parquet import load_parquet

        data = load_parquet(_find_files(pair or path, ".parquet"), Wanted(**columns), image_size, background)
    else:
        data = _load_arrays(kind, pair or path, columns)
        data = data if image_size is None else _resize(data, image_size)
    if isinstance(task, Task):
        return data  # a function cannot be recorded
    named = name if kind in (*EMBEDDED.values(), "tfds") else [str(each) for each in pair] if pair else str(path)
    return data.with_source(
        name=named,
        data_dir=None if folder is None else str(folder),
        image_size=image_size,
        splits=None if parts is None else ":".join(parts),
        background=background,
        **{option: _as_json(value) for option, value in columns.items() if value is not None},
    )


def load_again(source: Mapping[str, Any]) -> Dataset:
    """Load a data set by what `Dataset.source` says: the arguments of `load_dataset`, and how many examples were taken of it.

    Raises:
      ValueError, FileNotFoundError, DatasetUnavailable: as `load_dataset`.
    """
    taken = ("train_examples", "test_examples")
    whole = load_dataset(**{name: value for name, value in source.items() if name not in taken})
    return take_again(whole, source)


def take_again(whole: Dataset, source: Mapping[str, Any]) -> Dataset:
    """Take as many examples of a data set as were taken before, by what `Dataset.source` said then.

    Raises:
      ValueError: it has fewer.
    """
    numbers = {split: source.get(f"{split}_examples") for split in ("train", "test")}
    for split, number in numbers.items():
        there = len(getattr(whole, f"{split}_targets"))
        if number is not None and number > there:
            raise ValueError(f"{number} {split} examples were taken of the data set, and {whole.name} has {there}.")
    return take_examples(whole, numbers["train"], numbers["test"])


def _load_arrays(kind: str, path: Path | tuple[Path, Path], columns: Mapping[str, Any]) -> Dataset:
    """Load a kind of data of which nothing is decoded."""
    if kind == "csv":
        from jaxinfl.datasets.csv_tables import load_csv

        return load_csv(_find_files(path, ".csv"), Wanted(**columns))
    assert isinstance(path, Path)  # pairs are of tables
    if kind == "digits":
        return load_digits()
    if kind == "table":
        return load_table(path.name)
    if kind == "topics":
        return load_topics()
    if kind == "cifar":
        return load_cifar(path, columns["targets"])
    return load_npz(path, columns["task"], columns["categories"])


def _find_files(path: Path | tuple[Path, Path], suffix: str) -> SplitFiles:
    return find_pair(*path) if isinstance(path, tuple) else find_split_files(path, suffix)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: None if number is None else int(number) for key, number in value.items()}
    return list(value) if isinstance(value, (list, tuple)) else value


def is_prepared(name: Name, data_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load_dataset` finds the data set on this machine, without a download.

    Args:
      name, data_dir: as in `load_dataset`. Files and folders always count as prepared: they are never downloaded.

    Raises:
      TypeError: an argument has a wrong type.
      ValueError: the name is unknown.
    """
    if not isinstance(name, (tuple, list)):
        as_path(name, "name", _EXPECTED)
    folder = None if data_dir is None else as_path(data_dir, "data_dir", "a folder")
    if find_kind(name) != "tfds":
        return True
    from jaxinfl.datasets.tfds import is_prepared_tfds

    return is_prepared_tfds(str(name), folder)


def _check_image_size(image_size: int | None) -> None:
    if image_size is None:
        return
    check_whole(image_size, "image_size", 1, _MOST_PIXELS, "pixels")


def _parse_splits(splits: str | tuple[str, str]) -> tuple[str, str]:
    """Return the training split and the test split."""
    # A colon within brackets belongs to a slice: train[:80%].
    parts = re.split(r":(?![^\[]*\])", splits) if isinstance(splits, str) else splits
    if not isinstance(parts, (tuple, list)) or not all(isinstance(split, str) for split in parts):
        raise TypeError(f"splits is {splits!r}; it takes two strings, (training split, test split).")
    if len(parts) != 2 or not all(parts):
        raise ValueError(
            f'splits is {splits!r}; it takes two splits, (training split, test split) or "training split:test split".'
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
        task=dataset.task,
        class_names=dataset.class_names or None,
        name=dataset.name,
    )
