"""Estimates that were published without their models: pairs of high influence, influence within classes, MNIST's, and C-scores.

- `*_high_infl_pairs_infl0.15_mem0.25.npz`: `tr_idx`, `tt_idx`, `infl`, `mem`, one number a pair. Feldman and Zhang (2020).
- `cifar100_infl_matrix.npz`: `tr_mem`, `tr_labels`, `tt_labels`, and for each class K `infl_matrix_class{K}` [train of K, test of K] with
  `tr_classidx_{K}` and `tt_classidx_{K}`. Only pairs of one class are there, in CIFAR's own order.
- `infl_mem.npz` of their MNIST demo: `memorization` [train] and `influence` [test, train], the other way round than here.
- `cifar10-cscores-orig-order.npz`: `labels` and `scores` [train]. Jiang et al. (2021).
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int

from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import Archive, archive_names, open_archive, reading
from jaxinfl.published.order import check_labels, order_of_pairs
from jaxinfl.store import RunDirectoryError

MIN_INFLUENCE, MIN_MEMORIZATION = 0.15, 0.25
"""Smallest influence and memorization of the pairs that Feldman and Zhang released."""
_NAMED = re.compile(r"infl([\d.]*\d)_mem([\d.]*\d)")
_ROWS_BYTES = 2**25
_ROUNDED = 1e-6
"""How far a number may lie below the threshold in a file's name: files are rounded."""


@dataclass(frozen=True, eq=False)
class PublishedPairs:
    """Pairs of a training and a test example of high influence, by falling influence, as somebody published them."""

    train_index: Int[np.ndarray, " pairs"]
    """The training example of each pair."""
    test_index: Int[np.ndarray, " pairs"]
    """The test example of each pair."""
    influence: Float64[np.ndarray, " pairs"]
    """Influence of the training on the test example: a difference of probabilities of being right."""
    memorization: Float64[np.ndarray, " pairs"]
    """Memorization of the training example."""
    min_influence: float
    """Influence that every pair has at least: pairs below it were not published, or not asked for."""
    min_memorization: float
    """Memorization that every training example has at least."""
    order: str
    """What is known of the order of the examples, in words."""
    train_labels: Int[np.ndarray, " train"] | None = None
    """Labels of all training examples; None where the file has none."""
    test_labels: Int[np.ndarray, " test"] | None = None
    """Labels of all test examples; None where the file has none."""
    train_memorization: Float64[np.ndarray, " train"] | None = field(default=None)
    """Memorization of every training example, where the file has it."""
    same_class: bool = False
    """Whether only pairs of one class were published; the others are not known, and a comparison leaves them out."""

    def __len__(self) -> int:
        return len(self.influence)

    def __repr__(self) -> str:
        within = " of one class" if self.same_class else ""
        return (
            f"PublishedPairs: {len(self)} pairs{within} with influence from {self.min_influence:g} and memorization from "
            f"{self.min_memorization:g}; order of the examples: {self.order}"
        )


@dataclass(frozen=True, eq=False)
class PublishedScores:
    """A number for each training example, as somebody published it."""

    values: Float64[np.ndarray, " train"]
    """C-score of each example: the share of models that are right on it although they were not trained on it, over subset sizes."""
    labels: Int[np.ndarray, " train"]
    """Label of each example."""
    order: str
    """What is known of the order of the examples, in words."""


_ARRAYS = {
    "pairs": ("tr_idx", "tt_idx", "infl", "mem"),
    "class_matrices": ("tr_mem", "tr_labels", "tt_labels"),
    "mnist": ("memorization", "influence"),
    "cscores": ("labels", "scores"),
}
"""Arrays by which each kind of file is known."""


def recognize(path: Path) -> str | None:
    """The kind of a published estimate, a key of `_ARRAYS`; None where it is none."""
    names = set(archive_names(path))
    found = next((kind for kind, arrays in _ARRAYS.items() if names.issuperset(arrays)), None)
    # Feldman and Zhang's index of ImageNet has these labels, too, and no influence.
    matrices = any(name.startswith("infl_matrix_class") for name in names)
    return None if found == "class_matrices" and not matrices else found


def read_released_pairs(
    path: Path, kind: str, data: Dataset | None, min_influence: float | None, min_memorization: float | None
) -> PublishedPairs:
    """Read pairs from a file of one of the three kinds that have them.

    Raises:
      RunDirectoryError: the file is damaged, or of other data or another order than `data`.
    """
    with open_archive(path, f"the arrays {', '.join(_ARRAYS[kind])}") as file:
        if kind == "pairs":
            return _read_pairs(file, data, min_influence, min_memorization)
        least = MIN_INFLUENCE if min_influence is None else min_influence
        least_memorization = MIN_MEMORIZATION if min_memorization is None else min_memorization
        read: Any = _read_class_matrices if kind == "class_matrices" else _read_mnist
        pairs: PublishedPairs = read(file, data, least, least_memorization)
        return pairs


def read_cscores(path: Path, data: Dataset | None) -> PublishedScores:
    """Read C-scores.

    Raises:
      RunDirectoryError: the file is damaged, or of other data or another order than `data`.
    """
    with open_archive(path, "C-scores: labels and scores") as file:
        labels = file.read("labels", "integers [train]", "iu").astype(np.int64)
        scores = file.read("scores", "floats [train]", "f").astype(np.float64)
    if len(labels) != len(scores):
        raise RunDirectoryError(
            f"{path} has {len(labels)} labels and {len(scores)} scores; it takes one of each an example."
        )
    return PublishedScores(scores, labels, check_labels(labels, data, "train", f"labels in {path}"))


def _read_pairs(
    file: Archive, data: Dataset | None, min_influence: float | None, min_memorization: float | None
) -> PublishedPairs:
    path = file.path
    train, test = (file.read(name, "indices [pairs]", "iu").astype(np.int64) for name in ("tr_idx", "tt_idx"))
    influence, memorization = (file.read(name, "floats [pairs]", "f").astype(np.float64) for name in ("infl", "mem"))
    lengths = {len(array) for array in (train, test, influence, memorization)}
    if len(lengths) > 1:
        raise RunDirectoryError(f"{path} has arrays of {sorted(lengths)} numbers; it takes one of each a pair.")
    if min(train.min(), test.min()) < 0:
        raise RunDirectoryError(f"{path} has an index of {min(train.min(), test.min())}; it takes indices from 0.")
    wrong = next(
        (name for name, values in (("infl", influence), ("mem", memorization)) if not np.isfinite(values).all()), None
    )
    if wrong is not None:
        raise RunDirectoryError(f"{wrong} in {path} holds NaN or infinite values; it takes a number for each pair.")
    if len(np.unique(np.stack([train, test]), axis=1).T) < len(train):
        raise RunDirectoryError(f"{path} has a pair twice; it takes each once.")
    named = _NAMED.search(path.name)
    least, least_memorization = (float(named[1]), float(named[2])) if named else (influence.min(), memorization.min())
    if named and (influence.min() < least - _ROUNDED or memorization.min() < least_memorization - _ROUNDED):
        raise RunDirectoryError(
            f"{path} has influence from {influence.min():g} and memorization from {memorization.min():g}, below what its name says: the arrays may "
            "be exchanged, or the file renamed."
        )
    order = order_of_pairs(train, test, data, path)
    least = least if min_influence is None else max(least, min_influence)
    least_memorization = least_memorization if min_memorization is None else max(least_memorization, min_memorization)
    return _chosen(train, test, influence, memorization, least, least_memorization, order)


def _chosen(
    train: np.ndarray,
    test: np.ndarray,
    influence: np.ndarray,
    memorization: np.ndarray,
    least: float,
    least_memorization: float,
    order: str,
    **about: Any,
) -> PublishedPairs:
    """Pairs that reach both thresholds, by falling influence."""
    kept = np.flatnonzero((influence >= least) & (memorization >= least_memorization))
    kept = kept[np.lexsort((test[kept], train[kept], -influence[kept]))]
    return PublishedPairs(
        train[kept],
        test[kept],
        influence[kept],
        memorization[kept],
        float(least),
        float(least_memorization),
        order,
        **about,
    )


def _read_class_matrices(
    file: Archive, data: Dataset | None, least: float, least_memorization: float
) -> PublishedPairs:
    path = file.path
    labels = {split: file.read(f"{split}_labels", "integers", "iu").astype(np.int64) for split in ("tr", "tt")}
    memorization = file.read("tr_mem", "floats [train]", "f").astype(np.float64)
    if len(memorization) != len(labels["tr"]):
        raise RunDirectoryError(
            f"{path} has {len(memorization)} numbers in tr_mem and {len(labels['tr'])} in tr_labels."
        )
    found: list[tuple[np.ndarray, ...]] = []
    for number in np.unique(labels["tr"]):
        matrix = file.read(f"infl_matrix_class{number}", "floats [train of the class, test of the class]", "f", 2)
        train, test = (
            file.read(f"{split}_classidx_{number}", "indices", "iu").astype(np.int64) for split in ("tr", "tt")
        )
        if matrix.shape != (len(train), len(test)):
            raise RunDirectoryError(
                f"infl_matrix_class{number} in {path} has shape {matrix.shape}, and there are {len(train)} training and {len(test)} test "
                "indices of that class."
            )
        for split, indices in (("tr", train), ("tt", test)):
            if not np.array_equal(np.sort(indices), np.flatnonzero(labels[split] == number)):
                raise RunDirectoryError(
                    f"{split}_classidx_{number} in {path} are not the examples of class {number}, each once, as {split}_labels has them."
                )
        rows, columns = np.nonzero((matrix >= least) & (memorization[train] >= least_memorization)[:, None])
        found.append((train[rows], test[columns], matrix[rows, columns].astype(np.float64)))
    train, test, influence = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = check_labels(labels["tr"], data, "train", f"tr_labels in {path}")
    check_labels(labels["tt"], data, "test", f"tt_labels in {path}")
    return _chosen(
        train,
        test,
        influence,
        memorization[train],
        least,
        least_memorization,
        "CIFAR's own" if data is None else order,
        train_labels=labels["tr"],
        test_labels=labels["tt"],
        train_memorization=memorization,
        same_class=True,
    )


def _read_mnist(file: Archive, data: Dataset | None, least: float, least_memorization: float) -> PublishedPairs:
    path = file.path
    memorization = file.read("memorization", "floats [train]", "f").astype(np.float64)
    found: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    first = 0
    for rows in stream_rows(path, "influence"):
        if rows.shape[1] != len(memorization):
            raise RunDirectoryError(
                f"influence in {path} has {rows.shape[1]} columns and memorization {len(memorization)} numbers; it takes influence "
                "[test, train]."
            )
        test, train = np.nonzero((rows >= least) & (memorization >= least_memorization))
        found.append((train, test + first, rows[test, train].astype(np.float64)))
        first += len(rows)
    train, test, influence = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if data is not None and (data.num_train, data.num_test) != (len(memorization), first):
        raise RunDirectoryError(
            f"{path} is of {len(memorization)} training and {first} test examples, and {data.name} has {data.num_train} and {data.num_test}."
        )
    order = order_of_pairs(train, test, data, path)
    return _chosen(
        train, test, influence, memorization[train], least, least_memorization, order, train_memorization=memorization
    )


def stream_rows(path: Path, name: str) -> Iterator[Float[np.ndarray, "rows columns"]]:
    """Read some rows at a time of a float matrix in an .npz file, which may be larger than memory.

    Raises:
      RunDirectoryError: it is damaged, or no matrix of floats in rows.
    """
    with (
        reading(path, f"{name}, floats [test, train]"),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{name}.npy") as file,
    ):
        version = np.lib.format.read_magic(file)
        read_header: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read_header(file)
        if dtype.kind != "f" or len(shape) != 2 or by_columns or 0 in shape:
            raise RunDirectoryError(
                f"{name} in {path} has dtype {dtype} and shape {shape}; it takes floats [test, train] in rows."
            )
        row = shape[1] * dtype.itemsize
        at_once = max(1, _ROWS_BYTES // row)
        for start in range(0, shape[0], at_once):
            wanted = min(at_once, shape[0] - start) * row
            block = file.read(wanted)
            if len(block) != wanted:
                raise RunDirectoryError(f"{name} in {path} ends too soon: the file is truncated.")
            yield np.frombuffer(block, dtype).reshape(-1, shape[1])


__all__ = [
    "MIN_INFLUENCE",
    "MIN_MEMORIZATION",
    "PublishedPairs",
    "PublishedScores",
    "read_cscores",
    "read_released_pairs",
    "recognize",
    "stream_rows",
]
