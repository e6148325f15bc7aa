"""Folders of LiRA's research code: one folder a model, with the examples that it was trained on and what it says of all of them.

`experiment-ID_N/keep.npy` bool [examples]; `logits/%010d.npy` [examples, 1, views, classes]; `scores/%010d.npy` [examples, views], or
[examples] in older ones; above them `x_train.npy` and `y_train.npy`. The number is that of an epoch: the last one counts.

Their score is log(p + 1e-45) - log(sum of the others + 1e-45) in float64 after the softmax, which ends near 103. So it is called
"lira_score" here. Logits and labels give jaxinfl's margin, which has no such end.

Source: Carlini et al. (2022), Membership inference attacks from first principles, the repository privacy, research/mi_lira_2021.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import ScoreKind
from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import Note, as_flags, list_folders, read_note, read_npy
from jaxinfl.published.datamodels import margin_of_logits, of_kind
from jaxinfl.published.order import check_accuracy, check_labels, labels_of, unlabelled_order
from jaxinfl.store import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers, RowsOfFile

SCORE = "lira_score"
"""Name of the score that the folders hold."""


def recognize(path: Path) -> str | None:
    """Why a folder looks like these runs; None where it does not."""
    found = next((each for each in path.glob("*/keep.npy")), None)
    return None if found is None else f"it holds {found.relative_to(path)}"


def read(path: Path, data: Dataset | None, options: dict[str, Any]) -> FilesOfOthers:
    """Read the models of a folder; `options["epoch"]` is the number of the epoch, None for each model's last.

    Raises:
      RunDirectoryError: there are none; some are damaged or of other data than the first.
    """
    folders = [
        each for each in list_folders(path, "a folder whose subfolders hold keep.npy") if (each / "keep.npy").is_file()
    ]
    if not folders:
        raise RunDirectoryError(f"{path} has no model: none of its folders holds keep.npy.")
    masks = _read_masks(folders)
    labels, order = _read_labels(path, data, masks.shape[1])
    found = _find_outputs(path, folders, options.get("epoch"))
    kind = next(file.parent.name for file in found if file is not None)
    read_one = _read_scores if kind == "scores" else _read_logits
    values = [None if file is None else read_one(file, masks.shape[1], labels) for file in found]
    note = read_note(path, Note(SCORE, "real")) if kind == "scores" else Note("margin", "real")
    if kind == "logits" and labels is not None:
        right = np.stack([each[:, 0] > 0 for each in values if each is not None])
        check_accuracy(right, labels, f"the logits in {path}")
    about = {"layout": "lira", "order": note.order or order, "names": [folder.name for folder in folders]}
    return FilesOfOthers(
        path,
        masks,
        _by_view(values, note, masks.shape),
        completed=np.array([file is not None for file in found]),
        data=data,
        targets=None if labels is None or data is not None else {"train": labels},
        about=about,
    )


def _read_masks(folders: list[Path]) -> Bool[np.ndarray, "models examples"]:
    """The subsets of all models, which must be of one data set."""
    rows = [_read_keep(folder) for folder in folders]
    for folder, row in zip(folders, rows, strict=True):
        if len(row) != len(rows[0]):
            raise RunDirectoryError(
                f"{folder / 'keep.npy'} has {len(row)} examples, and {folders[0] / 'keep.npy'} {len(rows[0])}; a run takes models of one data set."
            )
    return np.stack(rows)


def _read_keep(folder: Path) -> Bool[np.ndarray, " examples"]:
    takes = "bool [examples], True where the model was trained on the example"
    return as_flags(read_npy(folder / "keep.npy", takes, "biu", 1, mapped=False), f"{folder / 'keep.npy'}", takes)


def _read_labels(path: Path, data: Dataset | None, examples: int) -> tuple[Int[np.ndarray, " examples"] | None, str]:
    """Labels of the examples, from the folder or the data, and what is known of their order."""
    file = path / "y_train.npy"
    if not file.is_file():
        labels = None if data is None else labels_of(data, "train")
        return labels, unlabelled_order(data, path)
    labels = read_npy(file, "integers [examples]", "iu", mapped=False).reshape(-1).astype(np.int32)
    if len(labels) != examples:
        raise RunDirectoryError(
            f"{file} has {len(labels)} labels, and the models' keep.npy {examples}; it takes one an example."
        )
    return labels, check_labels(labels, data, "train", str(file))


def _find_outputs(path: Path, folders: list[Path], epoch: int | None) -> list[Path | None]:
    """The file of each model's scores, or of its logits, after one epoch: the last, or the one that was asked for.

    Raises:
      RunDirectoryError: there is none; the last epochs of the models differ, or some have scores and others logits alone.
    """
    found = []
    for folder in folders:
        files = [each for kind in ("logits", "scores") for each in (folder / kind).glob("*.npy") if each.stem.isdigit()]
        if epoch is not None:
            files = [each for each in files if int(each.stem) == epoch]
        # Of one epoch the scores, which come last.
        found.append(max(sorted(files, key=lambda each: each.parent.name), key=_epoch_and_kind, default=None))
    there = [file for file in found if file is not None]
    if not there:
        when = "" if epoch is None else f" of epoch {epoch}"
        raise RunDirectoryError(
            f"{path} has no scores/*.npy and no logits/*.npy{when} in any of its {len(folders)} models."
        )
    epochs = sorted({int(file.stem) for file in there})
    if len(epochs) > 1:
        raise RunDirectoryError(
            f"{path} has models whose last epochs are {', '.join(map(str, epochs))}; they are not models of one training. Pass epoch={epochs[0]} for "
            "those of that epoch."
        )
    if len({file.parent.name for file in there}) > 1:
        raise RunDirectoryError(
            f"{path} has scores of some models and logits of others only. Compute the missing scores."
        )
    return found


def _epoch_and_kind(file: Path) -> tuple[int, bool]:
    return int(file.stem), file.parent.name == "scores"


def _read_scores(file: Path, examples: int, labels: Any) -> Float[np.ndarray, "examples views"]:
    scores = np.asarray(read_npy(file, "floats [examples, views]", "f", mapped=False))
    scores = scores.reshape(-1, 1) if scores.ndim == 1 else scores
    if scores.ndim != 2 or len(scores) != examples:
        raise RunDirectoryError(f"{file} has shape {scores.shape}; it takes [{examples}, views] or [{examples}].")
    return scores.astype(np.float32)


def _read_logits(
    file: Path, examples: int, labels: Int[np.ndarray, " examples"] | None
) -> Float[np.ndarray, "examples views"]:
    if labels is None:
        raise RunDirectoryError(
            f"{file} holds logits, and there are no labels to take margins by. Put y_train.npy into the folder of the models, or give data."
        )
    logits = np.asarray(read_npy(file, "floats [examples, 1, views, classes]", "f", 4))
    if logits.shape[:2] != (examples, 1) or labels.max() >= logits.shape[3] or labels.min() < 0:
        raise RunDirectoryError(
            f"{file} has shape {logits.shape}; it takes [{examples}, 1, views, classes] with a class for each label, of which there are "
            f"{labels.min()} to {labels.max()}."
        )
    return margin_of_logits(logits[:, 0].transpose(1, 0, 2), labels).T


def _by_view(
    values: list[np.ndarray | None], note: Note, shape: tuple[int, ...]
) -> dict[tuple[str, str], tuple[RowsOfFile, ScoreKind]]:
    """One score for each view of the examples. That of the first has the plain name, and those of the others end in their number."""
    views = {each.shape[1] for each in values if each is not None}
    if len(views) > 1:
        raise RunDirectoryError(
            f"some models have {min(views)} views of an example and others {max(views)}; it takes as many of all."
        )
    scores: dict[tuple[str, str], tuple[RowsOfFile, ScoreKind]] = {}
    for view in range(views.pop()):
        rows = np.zeros(shape, np.float32)
        for model, each in enumerate(values):
            if each is not None:
                rows[model] = each[:, view]
        name = note.score if view == 0 else f"{note.score}_view_{view + 1}"
        scores["train", name] = of_kind(rows, note.kind), note.kind
    return scores


__all__ = ["SCORE", "read", "recognize"]
