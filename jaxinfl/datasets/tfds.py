"""Image classification data sets of TensorFlow Datasets (TFDS), read without TensorFlow."""

import difflib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxinfl.datasets.cache import decode_cached
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.download import DatasetUnavailable, prepare
from jaxinfl.datasets.images import Layout, choose_layout, survey_images
from jaxinfl.datasets.shards import INFO, READ_ERRORS, DamagedCopy, check_shards, damaged_copy, format_reason, shard_of

_DEFAULT_SPLITS = {
    "dtd": ("train+validation", "test"),
    "oxford_flowers102": ("train+validation", "test"),
}


def load_tfds(
    name: str,
    data_dir: str | os.PathLike | None,
    *,
    image_size: int | None,
    splits: tuple[str, str] | None,
    background: str | None = None,
) -> Dataset:
    """Load the TFDS data set `name`, which is first prepared in `data_dir` if need be; arguments are as in `load_dataset`.

    The order of the examples is that of TFDS' data source. It is fixed when the data set is prepared, and the same on every
    machine.
    """
    tfds = _import_tfds(name)
    builder = _make_builder(tfds, name, data_dir)
    image, label = _image_and_label(tfds, builder, name)  # before a download, not after
    prepare(builder)
    image, label = _image_and_label(tfds, builder, name)  # class names may be known only now
    splits = splits or _DEFAULT_SPLITS.get(builder.name, ("train", "test"))
    train, test = (_Records(tfds, builder, split) for split in splits)
    images, labels = decode_cached(
        {"image_size": image_size, "declared": list(image.shape)},
        train,
        test,
        lambda: _layout(image.shape, (train, test), image_size),
        background,
        builder.name,
    )
    train_targets, test_targets = labels[: len(train)], labels[len(train) :]
    _check_labels(builder, (train, train_targets), (test, test_targets), label.names)
    return Dataset(
        train_inputs=images[: len(train)],
        train_targets=train_targets,
        test_inputs=images[len(train) :],
        test_targets=test_targets,
        class_names=tuple(label.names),
        name=name,
    )


def is_prepared_tfds(name: str, data_dir: str | os.PathLike | None) -> bool:
    """Whether a prepared copy of the TFDS data set `name` is in `data_dir`; False where TFDS is not installed."""
    try:
        builder = _make_builder(_import_tfds(name), name, data_dir)
    except DatasetUnavailable:
        return False
    return bool(builder.is_prepared())


class _Records:
    """The encoded images of one split; reading image i also stores `labels[i]`, so one pass gives both."""

    def __init__(self, tfds: ModuleType, builder: Any, split: str):
        self._name, self._folder = builder.name, Path(builder.data_dir)
        if not (self._folder / INFO).is_file():
            raise damaged_copy(self._name, self._folder, f"the file {INFO} is missing")
        self._parts = self._find_parts(builder, split)
        self.where = f"{builder.name}, split {split}"
        try:
            # Pillow decodes all images, not TFDS, which would use OpenCV if that is installed.
            self._source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            # TFDS chooses a format, and with it the names of the files, only now.
            self._parts = self._find_parts(builder, split)
            check_shards(self._name, self._folder, self._parts)
        except NotImplementedError as error:
            raise ValueError(
                f"{builder.name} is prepared in {builder.data_dir} in a format that TensorFlow must read ({error}). "
                "Give another data_dir, to prepare it there as array_record, or remove that copy."
            ) from error
        except DamagedCopy:
            raise
        except READ_ERRORS as error:
            check_shards(self._name, self._folder, self._parts)  # names the file, if it is one of them
            raise damaged_copy(
                self._name, self._folder, f"split {split} cannot be opened{format_reason(error)}"
            ) from error
        self.labels = np.full(len(self._source), -1, np.int32)

    def _find_parts(self, builder: Any, split: str) -> list[Any]:
        """List the files of a split; raise `ValueError` where there is no such split or nothing in it."""
        from tensorflow_datasets.core.data_sources import base

        try:
            parts = base.file_instructions(builder.info, split)
        except (ValueError, KeyError) as error:
            reason = f" ({error})"
        else:
            if parts:
                return parts
            reason = ""
        raise ValueError(
            f"split {split!r} of {builder.name} does not exist or is empty{reason}; it takes "
            f"{', '.join(builder.info.splits)}, sums of these, and slices like train[:80%]."
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> bytes:
        try:
            record = self._source[index]
            self.labels[index] = record["label"]
            return record["image"]
        except READ_ERRORS as error:
            fault = f"example {index} of {self.where}, in the file {shard_of(index, self._parts)}, cannot be read{format_reason(error)}"
            raise damaged_copy(self._name, self._folder, fault) from error


def _check_labels(
    builder: Any, train: tuple[_Records, np.ndarray], test: tuple[_Records, np.ndarray], names: list[str]
) -> None:
    """Raise `ValueError` where a split has no labels, or the training split lacks classes; both take other splits."""
    there = ", ".join(builder.info.splits)
    for records, found in (train, test):
        if found.min() < 0:
            raise ValueError(
                f"{records.where} contains the label {found.min()}: TFDS marks examples without a label so. "
                f"Give splits=(train, test) with labels; there are {there}."
            )
    lacking = np.flatnonzero(np.bincount(train[1], minlength=len(names)) == 0)
    if lacking.size:
        listed = ", ".join(names[k] for k in lacking[:5])
        raise ValueError(
            f"{train[0].where} lacks {lacking.size} of the {len(names)} classes, so they have no training example: "
            f"{listed}. Give splits=(train, test) of which the first has every class; there are {there}, sums like "
            "train+validation, and slices."
        )


def _layout(declared: tuple[int | None, ...], splits: tuple[_Records, _Records], image_size: int | None) -> Layout:
    height, width, channels = declared
    # Where the declaration says the shape, no headers are read, which saves 0.1 ms for each image.
    if channels in (1, 3) and image_size is not None:
        return Layout(image_size, image_size, channels)
    if channels in (1, 3) and height is not None and width is not None:
        return Layout(height, width, channels)
    return choose_layout([survey_images(records, records.where) for records in splits], image_size)


def _import_tfds(name: str) -> ModuleType:
    try:
        import array_record.python.array_record_data_source  # noqa: F401 - TFDS asks for it only after the download
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DatasetUnavailable(
            f"{name!r} is neither digits, nor a file, nor a folder of data, and looking for it in TensorFlow "
            f"Datasets failed: {error}. Install it by pip install 'jaxinfl[tfds]'."
        ) from error
    return tfds


def _make_builder(tfds: ModuleType, name: str, data_dir: str | os.PathLike | None) -> Any:
    from google.protobuf import json_format  # what TFDS reads its descriptions with
    from tensorflow_datasets.core import naming, registered

    try:
        parsed, _ = naming.parse_builder_name_kwargs(name)
    except ValueError as error:
        raise _unknown(tfds, name, name) from error
    if parsed.namespace:  # looking one up means asking Google's cloud storage, which stalls without a network
        raise ValueError(
            f"{name!r} is a community data set ({parsed.namespace}), which are not taken. Save it as .npz or image folder."
        )
    options = {} if data_dir is None else {"data_dir": os.fspath(data_dir)}
    try:
        return tfds.builder(name, try_gcs=False, **options)
    except registered.DatasetNotFoundError as error:
        raise _unknown(tfds, name, parsed.name) from error
    except ImportError as error:
        raise DatasetUnavailable(
            f"{name} needs a package that is not installed: {error}. Install it, or use another data set."
        ) from error
    except json_format.ParseError as error:
        raise ValueError(
            f"{name!r} cannot be opened, because {INFO} or features.json of its prepared copy is damaged: {error} Remove "
            "that copy, so that the data set is prepared again, or copy its files again from where they are whole."
        ) from error
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:  # no such version or configuration
        raise ValueError(f"{name!r} cannot be built by TensorFlow Datasets: {error}") from error


def _unknown(tfds: ModuleType, name: str, stem: str) -> ValueError:
    # Community data sets are left out, because their list is on Google's cloud storage.
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(stem.lower(), known, n=4)
    similar = f"Similar names: {', '.join(near)}. " if near else ""
    folder = f"The folder {name!r} exists, but holds no data of a known kind. " if os.path.isdir(name) else ""
    return ValueError(
        f"{name!r} is not a known data set. {similar}{folder}Give digits, a path ending in .npz or .tar.gz, a folder of "
        "images, Parquet or CSV files with train and test, or a name from https://www.tensorflow.org/datasets/catalog/overview."
    )


def _image_and_label(tfds: ModuleType, builder: Any, name: str) -> tuple[Any, Any]:
    """Return the features "image" and "label"; raise `ValueError` where the data set is not image classification."""
    features = builder.info.features
    there = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = there.get("image"), there.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in there.items()) or "none"
        raise ValueError(  # noqa: TRY004 - no argument has a wrong type; the named data set is of another kind
            f"{name} is not an image classification data set, with the features {listed}; it takes data sets with "
            "image: Image and label: ClassLabel. Save others as .npz with the labels of your choice."
        )
    if np.dtype(image.np_dtype) != np.uint8 or len(image.shape) != 3:
        raise ValueError(
            f"{name} has images of dtype {image.np_dtype}, shape {image.shape}; it takes uint8 [height, width, channels]. "
            "Scale the values of all images to 0..255 by one factor, and save them as .npz."
        )
    return image, label
