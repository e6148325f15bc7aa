"""Runs of the datamodels of Ilyas et al.: masks and margins of up to millions of models as plain arrays, which stay in their files.

Released: `train_masks_50pct.npy` bool [models, train], `train_margins_50pct.npy` and `test_margins_50pct.npy` float16 [models, examples], and
for some also `*_logits_50pct.npy` float16 [models, examples, classes]. A user's own: `masks.npy`, `margins.npy` of the test examples, and
`_completed.npy` bool [models]; rows that were not completed are zeros.

Their margin is the logit of the true class minus the largest other logit, and jaxinfl's is log(p / (1 - p)). So theirs is called
"top_margin" here. Logits and labels give jaxinfl's own.

Source: Ilyas et al. (2022), Datamodels, the repositories datamodels and datamodels-data.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.arguments import ScoreKind
from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import as_flags, check_array, noted_score, read_npy
from jaxinfl.published.order import labels_of
from jaxinfl.store import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers, RowsOfFile

MARGIN = "top_margin"
"""Name of the logit of the true class minus the largest other logit."""
_RELEASED = re.compile(r"train_masks_(.+)pct\.npy")
Scores = dict[tuple[str, str], tuple[RowsOfFile, ScoreKind]]


def recognize(path: Path) -> str | None:
    """Why a folder, or the file of its masks, looks like these runs; None where it does not."""
    if _RELEASED.fullmatch(path.name) and path.is_file():
        return f"{path.name} is a file of masks of datamodels-data"
    if (path / "masks.npy").is_file() and (path / "margins.npy").is_file():
        return "it holds masks.npy and margins.npy"
    found = _released_in(path)
    return f"it holds {found[0].name}" if found else None


def read(path: Path, data: Dataset | None, options: dict[str, Any]) -> FilesOfOthers:
    """Read the runs; of a folder with runs of several ratios, the file of the masks of one.

    Raises:
      RunDirectoryError: files are missing, damaged, or do not fit each other.
    """
    if (path / "masks.npy").is_file():
        return _read_own(path, data)
    if path.is_dir():
        found = _released_in(path)
        if not found:
            raise RunDirectoryError(
                f"{path} has neither masks.npy nor train_masks_*pct.npy; it takes the folder of runs of datamodels."
            )
        if len(found) > 1:
            raise RunDirectoryError(
                f"{path} has runs of {len(found)} ratios: {', '.join(each.name for each in found)}. Give the file of one: {found[0]}."
            )
        path = found[0]
    named = _RELEASED.fullmatch(path.name)
    if named is None:
        raise RunDirectoryError(
            f"{path} is no file of masks; it takes train_masks_50pct.npy or its like, or their folder."
        )
    masks = read_npy(path, "bool [models, train]", "b", 2)
    scores: Scores = {}
    for split in ("train", "test"):
        margins = path.with_name(f"{split}_margins_{named[1]}pct.npy")
        if margins.is_file():
            _add_margins(scores, split, _read_rows(margins, masks, split))
        logits = path.with_name(f"{split}_logits_{named[1]}pct.npy")
        if logits.is_file() and data is not None:
            _add_logits(
                scores, split, read_npy(logits, "floats [models, examples, classes]", "f", 3), masks, data, logits
            )
    if not scores:
        raise RunDirectoryError(
            f"{path.parent} has neither train_margins_{named[1]}pct.npy nor test_margins_{named[1]}pct.npy beside {path.name}; it takes "
            "one of them, or logits and data with labels."
        )
    _check_data(path, masks, scores, data)
    return FilesOfOthers(path, masks, scores, data=data, about={"layout": "datamodels", "order": "as in the files"})


def _read_own(path: Path, data: Dataset | None) -> FilesOfOthers:
    """Read a user's own runs."""
    masks = read_npy(path / "masks.npy", "bool [models, train]", "biu", 2)
    if masks.dtype != np.bool_:
        masks = as_flags(np.asarray(masks), f"masks in {path}", "True where the model was trained on the example")
    scores: Scores = {}
    margins, name = _read_rows(path / "margins.npy", masks, "test"), noted_score(path, MARGIN)
    if name == MARGIN:
        _add_margins(scores, "test", margins)
    else:
        scores["test", name] = RowsOfFile.of(margins), "real"
    completed = None
    if (path / "_completed.npy").is_file():
        told = read_npy(path / "_completed.npy", "bool [models]", "biuf", 1, mapped=False)
        completed = as_flags(told, f"{path / '_completed.npy'}", "True where the model is finished")
        if len(completed) != len(masks):
            raise RunDirectoryError(
                f"{path / '_completed.npy'} has {len(completed)} rows and masks.npy {len(masks)}; it takes one a model."
            )
    else:
        completed = _rows_with_members(masks)
    _check_data(path, masks, scores, data)
    about = {"layout": "datamodels", "order": "as in the files"}
    return FilesOfOthers(path, masks, scores, completed=completed, data=data, about=about)


def _rows_with_members(masks: np.ndarray) -> np.ndarray:
    """Rows of masks that hold an example: without `_completed.npy` a row of zeros is a model that was not trained yet."""
    found = np.zeros(len(masks), np.bool_)
    for start in range(0, len(masks), 1024):
        found[start : start + 1024] = masks[start : start + 1024].any(axis=1)
    return found


def _released_in(path: Path) -> list[Path]:
    return sorted(each for each in path.glob("train_masks_*pct.npy") if each.is_file()) if path.is_dir() else []


def _read_rows(file: Path, masks: np.ndarray, split: str) -> Float[np.ndarray, "models examples"]:
    rows = read_npy(file, f"floats [models, {split}]", "f", 2)
    if len(rows) != len(masks):
        raise RunDirectoryError(
            f"{file} has {len(rows)} models and the masks beside it {len(masks)}; it takes one row a model. A file of another ratio, or a "
            "download that broke off, would look like this."
        )
    if split == "train" and rows.shape[1] != masks.shape[1]:
        raise RunDirectoryError(
            f"{file} has {rows.shape[1]} columns and the masks beside it {masks.shape[1]}; it takes one a training example."
        )
    return rows


def _add_margins(scores: Scores, split: str, margins: Float[np.ndarray, "models examples"]) -> None:
    """Add their margin, and whether the prediction is right, which is where it is above 0."""
    scores[split, MARGIN] = RowsOfFile.of(margins), "real"
    right = RowsOfFile(margins.shape[1:], "bool", lambda rows: np.asarray(margins[rows] > 0), margins)
    scores[split, "correct"] = right, "0-1"


def _add_logits(
    scores: Scores,
    split: str,
    logits: Float[np.ndarray, "models examples classes"],
    masks: np.ndarray,
    data: Dataset,
    file: Path,
) -> None:
    """Add jaxinfl's margin and the probability of the true class, which are computed as they are read."""
    labels: Int[np.ndarray, " examples"] = labels_of(data, split)
    check_array(logits, str(file), "floats [models, examples, classes]", "f", 3)
    if logits.shape[:2] != (len(masks), len(labels)) or logits.shape[2] != data.num_classes:
        raise RunDirectoryError(
            f"{file} has shape {logits.shape}, and {data.name} has {len(labels)} {split} examples of {data.num_classes} classes, the masks "
            f"{len(masks)} models: it takes [models, {split}, classes]."
        )

    def margin(rows: Any) -> np.ndarray:
        return margin_of_logits(logits[rows], labels)

    scores[split, "margin"] = RowsOfFile((len(labels),), "float32", margin, logits), "real"
    scores[split, "probability"] = (
        RowsOfFile((len(labels),), "float32", lambda rows: _sigmoid(margin(rows)), logits),
        "bounded",
    )
    right = RowsOfFile((len(labels),), "bool", lambda rows: logits[rows].argmax(axis=-1) == labels, logits)
    scores.setdefault((split, "correct"), (right, "0-1"))


def margin_of_logits(
    logits: Float[np.ndarray, "models examples classes"], labels: Int[np.ndarray, " examples"]
) -> Float[np.ndarray, "models examples"]:
    """The margin log(p_y / (1 - p_y)) = z_y - log(sum of exp z of the others), float32, computed in float64."""
    wide = np.asarray(logits, np.float64)
    own = np.take_along_axis(wide, labels[None, :, None], axis=2)[..., 0]
    others = wide.copy()
    np.put_along_axis(others, labels[None, :, None], -np.inf, axis=2)
    largest = others.max(axis=2)
    total = np.log(np.exp(others - largest[..., None]).sum(axis=2)) + largest
    return (own - total).astype(np.float32)


def _sigmoid(margin: Float[np.ndarray, "models examples"]) -> Float[np.ndarray, "models examples"]:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-margin.astype(np.float64)))).astype(np.float32)


def _check_data(path: Path, masks: np.ndarray, scores: Scores, data: Dataset | None) -> None:
    if data is None:
        return
    if masks.shape[1] != data.num_train:
        raise RunDirectoryError(f"{path} has {masks.shape[1]} training examples, and {data.name} {data.num_train}.")
    for (split, _), (rows, _) in scores.items():
        if split == "test" and rows.shape[0] != data.num_test:
            raise RunDirectoryError(f"{path} has {rows.shape[0]} test examples, and {data.name} {data.num_test}.")


__all__ = ["MARGIN", "margin_of_logits", "read", "recognize"]
