"""`write_run` writes an ensemble in the files that another program reads."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from jaxinfl.arguments import as_path, check_choice, quote
from jaxinfl.files import replace_atomically
from jaxinfl.published import dattri
from jaxinfl.published.array_files import NOTE
from jaxinfl.published.datamodels import MARGIN
from jaxinfl.published.feldman_zhang import FILE
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store.failures import write_failures
from jaxinfl.store.scores import known_labels

WrittenLayout = Literal["feldman_zhang", "datamodels", "lira", "dattri", "cleanlab"]

_BLOCK = 64
"""Models whose outputs are held at once."""


def write_run(runs: Ensemble, path: str | os.PathLike[str], layout: WrittenLayout, *, score: str | None = None) -> None:
    """Write models in the files that another program reads; the folder appears all at once.

    Args:
      runs: the models; those that diverged are left out.
      path: a folder that does not exist.
      layout: whose files. "dattri": subsets and scores of the test examples, for `dattri.metric.lds`. "datamodels": masks and margins of
        the test examples, for their regression. "lira": a folder a model with scores of the training examples, for the program that
        plots LiRA's curves. "feldman_zhang": a folder a model with what is right. "cleanlab": labels, and the mean probabilities of the
        models that were not trained on the example, which cleanlab calls out of sample.
      score: name of the score to write; None takes "margin", and for "datamodels" their own, "top_margin", where the run has it.
        "feldman_zhang" takes "correct", and "cleanlab" the outputs of the training examples.

    Raises:
      TypeError, ValueError: an argument does not fit; subsets differ in size where a layout takes one size.
      RunDirectoryError: something is at `path` already; the run does not keep what the layout takes, or is damaged.
      WriteFailed: the file system does not take it; nothing is left of it.
    """
    if not isinstance(runs, Ensemble):
        raise TypeError(f"runs is {quote(runs)}; it takes an Ensemble. Ensemble.from_scores makes one of arrays.")
    check_choice(layout, "layout", get_args(WrittenLayout))
    target = as_path(path, "path", "a folder that does not exist")
    if not (score is None or isinstance(score, str)):
        raise TypeError(f"score is {quote(score)}; it takes the name of a score, or None.")
    healthy = runs.without_diverged()
    if not len(healthy):
        raise ValueError("runs has no model that did not diverge; write_run takes at least one.")
    chosen = _choose_score(healthy, layout, score)
    if target.exists() or target.is_symlink():
        raise RunDirectoryError(f"{target} exists already; write_run makes a new folder. Use another path.")
    with write_failures(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(target) as draft:
            draft.mkdir()
            _WRITERS[layout](healthy, draft, chosen)
            # Readers of these files ignore it. It says which score they hold, whose name is not in them.
            (draft / NOTE).write_text(json.dumps(_note(healthy, layout, chosen)) + "\n")


def _note(runs: Ensemble, layout: str, score: str) -> dict[str, Any]:
    """What the files do not say of themselves."""
    kind = "bounded" if layout == "cleanlab" else runs.score_kind(score)
    what = "mean probabilities" if layout == "cleanlab" else score
    return {"layout": layout, "score": what, "kind": kind, "models": len(runs), "order": runs.order}


def _choose_score(runs: Ensemble, layout: str, score: str | None) -> str:
    """The name of the score to write.

    Raises:
      ValueError: the run has no such score, or the layout takes none of that name.
    """
    if layout in ("feldman_zhang", "cleanlab"):
        takes = '"correct"' if layout == "feldman_zhang" else "outputs"
        if score is not None and not (layout == "feldman_zhang" and score == "correct"):
            raise ValueError(f"score is {quote(score)}; the layout {layout!r} takes {takes} alone. Leave it out.")
        chosen = "correct"
    elif score is not None:
        chosen = score
    else:
        chosen = MARGIN if layout == "datamodels" and MARGIN in runs.scores else "margin"
    if layout != "cleanlab":
        runs.score_kind(chosen)
        if not chosen.isidentifier():
            raise ValueError(
                f"score is {quote(chosen)}; it takes the score after the last epoch, whose name has no '@'."
            )
    return chosen


def _write_feldman_zhang(runs: Ensemble, folder: Path, score: str) -> None:
    train, test, masks = runs.train_score(score), runs.test_score(score), runs.masks
    for model in range(len(runs)):
        inside, outside = np.flatnonzero(masks[model]), np.flatnonzero(~masks[model])
        place = folder / f"{model}"
        place.mkdir()
        np.savez(
            place / FILE,
            index_train=inside,
            index_removed=outside,
            index_test=np.arange(test.shape[1]),
            correctness_train=train[model, inside].astype(np.int64),
            correctness_removed=train[model, outside].astype(np.int64),
            correctness_test=test[model].astype(np.int64),
            subsample_idx=np.int64(model),
        )


def _write_datamodels(runs: Ensemble, folder: Path, score: str) -> None:
    np.save(folder / "masks.npy", runs.masks)
    np.save(folder / "margins.npy", runs.test_score(score).astype(np.float32))
    np.save(folder / "_completed.npy", np.ones(len(runs), np.bool_))


def _write_lira(runs: Ensemble, folder: Path, score: str) -> None:
    values, masks = runs.train_score(score), runs.masks
    for model in range(len(runs)):
        place = folder / f"experiment-{model}_{len(runs)}"
        (place / "scores").mkdir(parents=True)
        np.save(place / "keep.npy", masks[model])
        np.save(place / "scores" / f"{1:010d}.npy", values[model, :, None].astype(np.float32))
    labels = known_labels(runs, "train")
    if labels is not None:
        np.save(folder / "y_train.npy", labels)


def _write_dattri(runs: Ensemble, folder: Path, score: str) -> None:
    dattri.write(runs, folder, score)


def _write_cleanlab(runs: Ensemble, folder: Path, score: str) -> None:
    likely = held_out_probabilities(runs)
    np.save(folder / "labels.npy", runs.train_labels.astype(np.int64))
    np.save(folder / "pred_probs.npy", likely)


def held_out_probabilities(runs: Ensemble) -> Float[np.ndarray, "train classes"]:
    """Mean probabilities of the classes over the models that were not trained on the example, float64 [train, classes].

    Raises:
      RunDirectoryError: the run keeps no outputs of the training examples.
      ValueError: an example is in every subset, so that no model tells of it.
    """
    outputs, masks = runs.train_outputs, runs.masks
    labels = runs.train_targets
    if outputs.ndim != 3 or labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.max() >= outputs.shape[2]:
        raise ValueError(
            f"the outputs have shape {outputs.shape} and the targets {labels.shape} of {labels.dtype}; cleanlab takes those of classification, "
            "[models, train, classes] and labels [train]."
        )
    missing = np.flatnonzero(masks.all(axis=0))
    if missing.size:
        raise ValueError(
            f"{missing.size} training examples are in every subset (first: {missing[0]}), so that no model was trained without them; cleanlab "
            "takes probabilities of each example out of sample. Draw subsets with a lower ratio."
        )
    total = np.zeros(outputs.shape[1:])
    for start in range(0, len(runs), _BLOCK):
        likely = softmax(outputs[start : start + _BLOCK].astype(np.float64), axis=2)
        total += np.einsum("mec,me->ec", likely, ~masks[start : start + _BLOCK])
    return total / (~masks).sum(axis=0)[:, None]


_WRITERS: dict[str, Callable[[Ensemble, Path, str], Any]] = {
    "feldman_zhang": _write_feldman_zhang,
    "datamodels": _write_datamodels,
    "lira": _write_lira,
    "dattri": _write_dattri,
    "cleanlab": _write_cleanlab,
}

__all__ = ["WrittenLayout", "held_out_probabilities", "write_run"]
