"""The order of the examples in files of others, which rarely say whose order it is: TensorFlow Datasets shuffles what it prepares.

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
    if kind == "tfds" and data.source is not None and not data.source.get("splits"):
        return f"{told}, and that of the data, which were loaded as {name!r}"
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
    return tell_order(train, test, labels_of(data, "train"), labels_of(data, "test"), (str(path), data.name))


def tell_order(
    train: Int[np.ndarray, " pairs"],
    test: Int[np.ndarray, " pairs"],
    labels: Int[np.ndarray, " train"],
    test_labels: Int[np.ndarray, " test"],
    names: tuple[str, str],
) -> str:
    """What labels tell of the order of pairs of high influence, in words; `names` are those of the pairs and of the labels.

    Raises:
      RunDirectoryError: as many pairs are of one class as by chance.
    """
    path, name = names
    same = labels[train] == test_labels[test]
    if not len(same):
        return "not known: there is no pair"
    classes = max(labels.max(), test_labels.max()) + 1
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (labels, test_labels)]
    share, chance = float(same.mean()), float(shares[0] @ shares[1])
    error = (chance * (1 - chance) / len(same)) ** 0.5
    if share >= 0.5 and share > chance + 4 * error:
        return f"that of the data: {share:.0%} of the pairs are of one class"
    if len(same) >= 20 and share < chance + 3 * error and chance < 0.5:
        raise RunDirectoryError(
            f"{path} is in another order than {name}: {share:.0%} of its {len(same)} pairs are of one class, as many as by chance. "
            "TensorFlow Datasets shuffles its data sets: load the data by their name there, or from the data set's own files."
        )
    _log.warning("%s: %.0f%% of its pairs are of one class in %s, which tells no order.", path, 100 * share, name)
    return f"not known: {share:.0%} of the {len(same)} pairs are of one class"


def unlabelled_order(data: Dataset | None, path: Path) -> str:
    """What is known of the order of files that have neither labels nor a usual order, in words."""
    if data is None:
        return "as in the files"
    _log.warning(
        "%s has no labels, so nothing tells whether its examples have the order of %s. Row i is taken for example i.",
        path,
        data.name,
    )
    return "as in the files; whether it is that of the data is not known"


def check_accuracy(right: np.ndarray, labels: Int[np.ndarray, " examples"], where: str) -> None:
    """Raise where predictions are right as often as by chance: the labels are in another order than the logits.

    Args:
      right: bool [models, examples] of some models.
      labels: the labels.
      where: the file, in words.
    """
    chance = float(np.square(np.bincount(labels) / len(labels)).sum())
    # Of few examples only those are refused that are right less often than by chance.
    error = (chance * (1 - chance) / len(labels)) ** 0.5 if len(labels) >= 100 else 0.0
    if right.mean() < chance + 3 * error and chance < 0.9:
        raise RunDirectoryError(
            f"{where}: the predictions are right for {right.mean():.0%} of the examples, as often as by chance. The labels are in another order than "
            "the logits: give the data in the order in which the models were tried."
        )


__all__ = ["check_accuracy", "check_labels", "labels_of", "order_of_pairs", "tfds_order", "unlabelled_order"]
