"""Runs of Feldman and Zhang's influence estimation: one `aux_arrays.npz` a model, with indices beside everything.

`EXPERIMENT/RATIO/RUN/aux_arrays.npz` has `index_train`, `index_removed` and `index_test`, and of each of the three `correctness_*`, 0
or 1. Train and removed together are the training set, in any order. Indices are in the order of TensorFlow Datasets.

Source: Feldman and Zhang (2020), the repository heldout-influence-estimation.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import Note, as_flags, check_is_permutation, list_folders, open_archive, read_note
from jaxinfl.published.order import tfds_order
from jaxinfl.store import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers, RowsOfFile

FILE = "aux_arrays.npz"
_TAKES = "Feldman and Zhang's arrays index_* and correctness_* of train, removed and test"


def recognize(path: Path) -> str | None:
    """Why a folder looks like these runs; None where it does not."""
    found = next((each for pattern in (FILE, f"*/{FILE}", f"*/*/{FILE}") for each in path.glob(pattern)), None)
    return None if found is None else f"it holds {found.relative_to(path)}"


def read(path: Path, data: Dataset | None, options: dict[str, Any]) -> FilesOfOthers:
    """Read the runs in a folder, whose subfolders are runs, or ratios of which there is one.

    Raises:
      RunDirectoryError: there are none; some are damaged or of other data than the first.
    """
    runs = _find_runs(path)
    present = [run for run in runs if (run / FILE).is_file()]
    first = _Model.read(present[0] / FILE)
    num_train, num_test = len(first.mask), len(first.test)
    masks = np.zeros((len(runs), num_train), np.bool_)
    train, test = np.zeros((len(runs), num_train), np.bool_), np.zeros((len(runs), num_test), np.bool_)
    completed = np.array([run in present for run in runs])
    for row in np.flatnonzero(completed):
        run = runs[row]
        model = first if run == present[0] else _Model.read(run / FILE)
        if (len(model.mask), len(model.test)) != (num_train, num_test):
            raise RunDirectoryError(
                f"{run / FILE} has {len(model.mask)} training and {len(model.test)} test examples, and {present[0] / FILE} has "
                f"{num_train} and {num_test}. A run takes models of one data set: give the folder of one experiment."
            )
        masks[row], train[row], test[row] = model.mask, model.train, model.test
    scores = {("train", "correct"): train, ("test", "correct"): test}
    return FilesOfOthers(
        path,
        masks,
        {name: (RowsOfFile.of(values), "0-1") for name, values in scores.items()},
        completed=completed,
        data=data,
        about={
            "layout": "feldman_zhang",
            "order": read_note(path, Note("correct", "0-1")).order or tfds_order(data, path),
            "names": [str(run.relative_to(path)) for run in runs],
        },
    )


class _Model:
    """What one file says, scattered by its indices."""

    def __init__(self, mask: Bool[np.ndarray, " train"], train: np.ndarray, test: np.ndarray):
        self.mask, self.train, self.test = mask, train, test

    @classmethod
    def read(cls, file: Path) -> "_Model":
        index, correct = {}, {}
        with open_archive(file, _TAKES) as arrays:
            for part in ("train", "removed", "test"):
                empty = part != "test"
                found = arrays.read(f"index_{part}", f"indices of the {part} examples", "iu", may_be_empty=empty)
                index[part] = found.astype(np.int64)
                told = arrays.read(
                    f"correctness_{part}", f"0 or 1 for each of index_{part}", "biuf", may_be_empty=empty
                )
                correct[part] = as_flags(told, f"correctness_{part} in {file}", f"0 or 1 for each of index_{part}")
                if len(index[part]) != len(correct[part]):
                    raise RunDirectoryError(
                        f"{file} has {len(index[part])} numbers in index_{part} and {len(correct[part])} in correctness_{part}; it takes "
                        "one for each example."
                    )
        whole = np.concatenate([index["train"], index["removed"]])
        if not len(whole):
            raise RunDirectoryError(f"{file} has no training example: index_train and index_removed are empty.")
        check_is_permutation(whole, f"index_train with index_removed in {file}")
        check_is_permutation(index["test"], f"index_test in {file}")
        mask, train, test = (np.zeros(count, np.bool_) for count in (len(whole), len(whole), len(index["test"])))
        mask[index["train"]] = True
        train[whole] = np.concatenate([correct["train"], correct["removed"]])
        test[index["test"]] = correct["test"]
        return cls(mask, train, test)


def _find_runs(path: Path) -> list[Path]:
    """Folders of the runs, the unfinished ones among them."""
    takes = f"a folder whose subfolders hold {FILE}"
    if (path / FILE).is_file():
        return [path]
    folders = list_folders(path, takes)
    if any((each / FILE).is_file() for each in folders):
        return folders
    ratios = [each for each in folders if next(each.glob(f"*/{FILE}"), None) is not None]
    if not ratios:
        raise RunDirectoryError(f"{path} has no run: none of its folders holds {FILE}. It takes {takes}.")
    if len(ratios) > 1:
        raise RunDirectoryError(
            f"{path} has runs of {len(ratios)} ratios: {', '.join(each.name for each in ratios)}. Give the folder of one: {ratios[0]}."
        )
    return list_folders(ratios[0], takes)


__all__ = ["read", "recognize"]
