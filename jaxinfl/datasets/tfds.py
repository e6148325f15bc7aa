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

_DEFAULT_SPLITS = {
    "dtd": ("train+validation", "test"),
    "oxford_flowers102": ("train+validation", "test"),
}


def load_tfds(
    name: str, data_dir: str | os.PathLike | None, *, image_size: int | None, splits: tuple[str, str] | None
) -> Dataset:
    """The TFDS data set `name`, prepared in `data_dir` first if it is not yet. Arguments as in `load_dataset`.

    Order: that of TFDS' data source, which is fixed when the data set is prepared, and the same wherever that is.
    """
    tfds = _import_tfds(name)
    builder = _make_builder(tfds, name, data_dir)
    image, label = _image_and_label(tfds, builder, name)  # before a download, not after
    prepare(builder)
    image, label = _image_and_label(tfds, builder, name)  # class names may be known only now
    splits = splits or _DEFAULT_SPLITS.get(builder.name, ("train", "test"))
    train, test = (_Records(tfds, builder, split) for split in splits)
    images, labels = decode_cached(
        {"tfds": builder.info.full_name, "splits": splits, "image_size": image_size, "files": _files(builder)},
        train,
        test,
        lambda: _layout(image.shape, (train, test), image_size),
    )
    train_labels, test_labels = labels[: len(train)], labels[len(train) :]
    for records, found in ((train, train_labels), (test, test_labels)):
        if found.min() < 0:
            raise ValueError(
                f"{records.where} contains the label {found.min()}: TFDS marks examples without a label so. "
                f"Give splits=(train, test) with labels; there are {', '.join(builder.info.splits)}."
            )
    return Dataset(
        train_images=images[: len(train)],
        train_labels=train_labels,
        test_images=images[len(train) :],
        test_labels=test_labels,
        class_names=tuple(label.names),
        name=name,
    )


def _files(builder: Any) -> list[tuple[str, int, int]]:
    """What was prepared: the files with their sizes and dates."""
    found = sorted(path for path in Path(builder.data_dir).iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found]


class _Records:
    """The encoded images of one split; reading image i also notes `labels[i]`, so one pass gives both."""

    def __init__(self, tfds: ModuleType, builder: Any, split: str):
        there = ", ".join(builder.info.splits)
        try:
            # Pillow decodes all images, not TFDS, which would use OpenCV if that is installed.
            self._source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            length = len(self._source)
        except NotImplementedError as error:
            raise ValueError(
                f"{builder.name} is prepared in {builder.data_dir} in a format that TensorFlow must read ({error}). "
                "Give another data_dir, to prepare it there as array_record, or remove that copy."
            ) from error
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"split {split!r} of {builder.name} does not exist or is empty ({error}); there are {there}. "
                "Taken: these, sums of them, and slices like train[:80%]."
            ) from error
        self.where = f"{builder.name}, split {split}"
        self.labels = np.full(length, -1, np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> bytes:
        record = self._source[index]
        self.labels[index] = record["label"]
        return record["image"]


def _layout(declared: tuple[int | None, ...], splits: tuple[_Records, _Records], image_size: int | None) -> Layout:
    height, width, channels = declared
    # Where the declaration settles the shape, a pass over the headers is saved, 0.1 ms an image.
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
            f"{name!r} is neither digits, nor an .npz file, nor an image folder, and looking for it in TensorFlow "
            f"Datasets failed: {error}. Install them: pip install tensorflow-datasets array-record importlib_resources."
        ) from error
    return tfds


def _make_builder(tfds: ModuleType, name: str, data_dir: str | os.PathLike | None) -> Any:
    from tensorflow_datasets.core import naming, registered

    try:
        parsed, _ = naming.parse_builder_name_kwargs(name)
    except ValueError as error:
        raise _unknown(tfds, name, name) from error
    if parsed.namespace:  # looking one up means asking Google's cloud storage, which stalls without a network
        raise ValueError(
            f"{name!r} is a community data set ({parsed.namespace}), which are not taken. Save it as .npz or image folder."
        )
    options = {} if data_dir is None else {"data_dir": os.path.expanduser(data_dir)}
    try:
        return tfds.builder(name, try_gcs=False, **options)
    except registered.DatasetNotFoundError as error:
        raise _unknown(tfds, name, parsed.name) from error
    except ImportError as error:
        raise DatasetUnavailable(
            f"{name} needs a package that is not installed: {error}. Install it, or use another data set."
        ) from error
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:  # no such version or configuration
        raise ValueError(f"{name!r} cannot be built by TensorFlow Datasets: {error}") from error


def _unknown(tfds: ModuleType, name: str, stem: str) -> ValueError:
    # Without community data sets: their list is on Google's cloud storage.
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(stem.lower(), known, n=4)
    similar = f"Similar names: {', '.join(near)}. " if near else ""
    folder = f"The folder {name!r} exists, but holds neither train nor test. " if os.path.isdir(name) else ""
    return ValueError(
        f"{name!r} is not a known data set. {similar}{folder}Taken: digits, a path ending in .npz, an image folder "
        "with train and test, or a name from https://www.tensorflow.org/datasets/catalog/overview."
    )


def _image_and_label(tfds: ModuleType, builder: Any, name: str) -> tuple[Any, Any]:
    """The features "image" and "label", or `ValueError` when the data set is not image classification."""
    features = builder.info.features
    there = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = there.get("image"), there.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in there.items()) or "none"
        raise ValueError(  # noqa: TRY004 - no argument has a wrong type; the named data set is of another kind
            f"{name} is not an image classification data set: it has the features {listed}. Taken: data sets with "
            "image: Image and label: ClassLabel. Save others as .npz with the labels of your choice."
        )
    if np.dtype(image.np_dtype) != np.uint8 or len(image.shape) != 3:
        raise ValueError(
            f"{name} has images of dtype {image.np_dtype}, shape {image.shape}. Taken: uint8 [height, width, channels]. "
            "Convert them and save them as .npz."
        )
    return image, label
