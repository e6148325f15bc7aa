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
from scipy.special import expit, logsumexp

from jaxinfl.arguments import ScoreKind, release
from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import Note, as_flags, read_note, read_npy
from jaxinfl.published.order import check_accuracy, labels_of, unlabelled_order
from jaxinfl.store import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers, RowsOfFile

MARGIN = "top_margin"
"""Name of the logit of the true class minus the largest other logit."""
_RELEASED = re.compile(r"train_masks_(.+)pct\.npy")
_LOOKED_AT, _ROWS = 64, 1024
"""Columns of masks that are read to find empty rows, and rows at a time."""
_CHECKED, _AGREE = 8, 0.9
"""Models whose logits are held against the labels, and share of the examples on which margins and logits must agree."""
_NUMBERS = 2**22
"""Logits that are computed with at once."""
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
    about = {"layout": "datamodels", "order": unlabelled_order(data, path)}
    return FilesOfOthers(path, masks, scores, completed=_rows_with_members(masks), data=data, about=about)


def _read_own(path: Path, data: Dataset | None) -> FilesOfOthers:
    """Read a user's own runs."""
    masks = read_npy(path / "masks.npy", "bool [models, train]", "biu", 2)
    if masks.dtype != np.bool_:
        masks = as_flags(np.asarray(masks), f"masks in {path}", "True where the model was trained on the example")
    note = read_note(path, Note(MARGIN, "real"))
    margins = _read_rows(path / "margins.npy", masks, "test")
    scores: Scores = {}
    if note.score == MARGIN:
        _add_margins(scores, "test", margins)
    else:
        scores["test", note.score] = of_kind(margins, note.kind), note.kind
    completed = _rows_with_members(masks)
    if (path / "_completed.npy").is_file():
        told = read_npy(path / "_completed.npy", "bool [models]", "biuf", 1, mapped=False)
        completed = as_flags(told, f"{path / '_completed.npy'}", "True where the model is finished")
        if len(completed) != len(masks):
            raise RunDirectoryError(
                f"{path / '_completed.npy'} has {len(completed)} rows and masks.npy {len(masks)}; it takes one a model."
            )
    about = {"layout": "datamodels", "order": note.order or unlabelled_order(data, path)}
    return FilesOfOthers(path, masks, scores, completed=completed, data=data, about=about)


def _rows_with_members(masks: np.ndarray) -> np.ndarray:
    """Rows of masks that hold an example: a row of zeros is a model that was not trained."""
    found = np.zeros(len(masks), np.bool_)
    for start in range(0, len(masks), _ROWS):
        some = slice(start, start + _ROWS)
        found[some] = masks[some, :_LOOKED_AT].any(axis=1)
        release(masks)
    for row in np.flatnonzero(~found):
        found[row] = masks[row].any()
    return found


def of_kind(values: np.ndarray, kind: ScoreKind) -> RowsOfFile:
    """Rows of a score that `write_run` wrote as floats, in the dtype of its kind."""
    if kind != "0-1":
        return RowsOfFile.of(values)
    return RowsOfFile.computed(values, values.shape[1:], "bool", lambda rows: np.asarray(rows > 0.5))


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
    right = RowsOfFile.computed(margins, margins.shape[1:], "bool", lambda rows: np.asarray(rows > 0))
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
    if logits.shape[:2] != (len(masks), len(labels)) or logits.shape[2] != data.num_classes:
        raise RunDirectoryError(
            f"{file} has shape {logits.shape}, and {data.name} has {len(labels)} {split} examples of {data.num_classes} classes, the masks "
            f"{len(masks)} models: it takes [models, {split}, classes]."
        )

    some = np.asarray(logits[:_CHECKED])
    right = some.argmax(axis=-1) == labels
    check_accuracy(right, labels, str(file))
    if (split, "correct") in scores and (scores[split, "correct"][0].read(slice(0, _CHECKED)) == right).mean() < _AGREE:
        raise RunDirectoryError(
            f"{file} and the margins beside it disagree on which predictions are right: they are of other models, or the labels of {data.name} are "
            "in another order."
        )
    shape = (len(labels),)

    def margin(rows: np.ndarray) -> np.ndarray:
        return margin_of_logits(rows, labels)

    scores[split, "margin"] = RowsOfFile.computed(logits, shape, "float32", margin), "real"
    probability = RowsOfFile.computed(logits, shape, "float32", lambda rows: expit(margin(rows)))
    scores[split, "probability"] = probability, "bounded"
    predicted = RowsOfFile.computed(logits, shape, "bool", lambda rows: rows.argmax(axis=-1) == labels)
    scores.setdefault((split, "correct"), (predicted, "0-1"))


def margin_of_logits(
    logits: Float[np.ndarray, "models examples classes"], labels: Int[np.ndarray, " examples"]
) -> Float[np.ndarray, "models examples"]:
    """The margin log(p_y / (1 - p_y)) = z_y - log(sum of exp z of the others), float32, computed in float64."""
    margin = np.empty(logits.shape[:2], np.float32)
    # Some models at a time: copies in float64 would be eight times the size of the file's float16.
    step = max(1, _NUMBERS // max(1, logits[0].size))
    index = labels[None, :, None]
    for start in range(0, len(logits), step):
        wide = np.array(logits[start : start + step], np.float64)
        own = np.take_along_axis(wide, index, axis=2)[..., 0]
        np.put_along_axis(wide, index, -np.inf, axis=2)
        margin[start : start + step] = own - logsumexp(wide, axis=2)
    return margin


__all__ = ["MARGIN", "margin_of_logits", "of_kind", "read", "recognize"]
