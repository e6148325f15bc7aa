"""In which order examples lie: TensorFlow Datasets shuffles the data sets that it prepares, and files of others rarely say whose order they have.

Labels tell the orders apart. Where the files have none, the run says what is not known.
"""

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxinfl.datasets import Dataset
from jaxinfl.datasets.kinds import find_kind
from jaxinfl.store import RunDirectoryError

_log = logging.getLogger("jaxinfl")


def tfds_order(data: Dataset | None, path: Path) -> str:
    """What is known of the order of examples whose files have the order of TFDS and no labels, in words.

    Raises:
      RunDirectoryError: the data set was read from a file, so that it has its own order.
    """
    told = "the order of TensorFlow Datasets, as the program that wrote the files had it"
    if data is None:
        return told
    name = None if data.source is None else data.source.get("name")
    kind = "" if name is None else find_kind(name)
    if kind == "tfds":
        return f"{told}, and the data, too"
    if kind == "cifar":
        raise RunDirectoryError(
            f"{path} has the order of TensorFlow Datasets, and {data.name} was read from {name}, whose order is its own: row i is "
            "another example. Load the data with load_dataset by their name in TensorFlow Datasets, such as 'cifar100'."
        )
    _log.warning(
        "%s has the order of TensorFlow Datasets and no labels, so nothing tells whether %s has that order, too. Row i is taken for "
        "example i.",
        path,
        data.name,
    )
    return f"{told}; whether the data have it is not known"


def labels_of(data: Dataset, split: str) -> Int[np.ndarray, " examples"]:
    """Labels of one split of a data set.

    Raises:
      RunDirectoryError: the data have no labels.
    """
    if not data.num_classes:
        raise RunDirectoryError(
            f"{data.name} has targets of the task {data.task.name!r}; these files are of classes, and take data with labels."
        )
    return np.asarray(data.train_targets if split == "train" else data.test_targets)


def check_labels(labels: Int[np.ndarray, " examples"], data: Dataset | None, split: str, where: str) -> str:
    """Compare the labels of a file with those of a data set, and say in words what they tell of the order.

    Raises:
      RunDirectoryError: they differ: another data set, or the same in another order.
    """
    if data is None:
        return "as in the files"
    own = labels_of(data, split)
    if np.array_equal(labels, own):
        return "that of the data: every label is the same"
    same = len(labels) == len(own) and np.array_equal(np.sort(labels), np.sort(own))
    what = (
        f"the labels of {data.name} in another order: row i is another example. TensorFlow Datasets shuffles its data sets; load the "
        "data from the data set's own files instead, such as load_dataset('cifar-100-binary.tar.gz'), or the other way round"
        if same
        else f"{len(labels)} labels that are not the {len(own)} of the {split} examples of {data.name}. Give the data set that the "
        "models were trained on, or none"
    )
    raise RunDirectoryError(f"{where} has {what}.")


def order_of_pairs(
    train: Int[np.ndarray, " pairs"], test: Int[np.ndarray, " pairs"], data: Dataset | None, path: Path
) -> str:
    """What the labels of a data set tell of the order of published pairs, in words.

    A pair of high influence is nearly always of one class; in another order it is so by chance, one in the number of classes.

    Raises:
      RunDirectoryError: an index is beyond the data, or the pairs are of one class by chance only.
    """
    if data is None:
        return "not known: the file has no labels. Give data, whose labels tell it"
    if len(train) and (train.max() >= data.num_train or test.max() >= data.num_test):
        raise RunDirectoryError(
            f"{path} has training examples up to {train.max()} and test examples up to {test.max()}, and {data.name} has "
            f"{data.num_train} and {data.num_test}. Give the data set that the models were trained on."
        )
    of_one_class = labels_of(data, "train")[train] == labels_of(data, "test")[test]
    share = float(of_one_class.mean()) if len(train) else 0.0
    by_chance = 1 / max(data.num_classes, 2)
    if share >= 0.5 and share > 2 * by_chance:
        return f"that of the data: {share:.0%} of the pairs are of one class"
    if len(train) >= 20 and share <= 2 * by_chance:
        raise RunDirectoryError(
            f"{path} is in another order than {data.name}: {share:.0%} of its {len(train)} pairs are of one class, as many as by chance. "
            "TensorFlow Datasets shuffles its data sets: load the data by their name there, or from the data set's own files."
        )
    _log.warning("%s: %.0f%% of its pairs are of one class in %s, which tells no order.", path, 100 * share, data.name)
    return f"not known: {share:.0%} of the {len(train)} pairs are of one class"


__all__ = ["check_labels", "labels_of", "order_of_pairs", "tfds_order"]
