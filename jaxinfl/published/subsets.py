"""Subsets that other programs write down without scores: bergson's lists of left-out examples, and ML Privacy Meter's memberships.

`subsets.json` of bergson has a list of the examples LEFT OUT of each retraining. `memberships.npy` of ML Privacy Meter is bool [models,
examples], in pairs of complementary rows. What the models say is in no file of a known form, so the scores are given beside the path.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxinfl.arguments import check_whole
from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import read_npy, reading
from jaxinfl.published.order import unlabelled_order
from jaxinfl.store import RunDirectoryError, RunStore
from jaxinfl.store.elsewhere import store_scores

LEFT_OUT, MEMBERSHIPS = "subsets.json", "memberships.npy"
_MOST_TRAIN = 10**9


def recognize_bergson(path: Path) -> str | None:
    """Why a folder looks like bergson's; None where it does not."""
    return f"it holds {LEFT_OUT}" if (path / LEFT_OUT).is_file() else None


def recognize_privacy_meter(path: Path) -> str | None:
    """Why a folder looks like ML Privacy Meter's; None where it does not."""
    return f"it holds {MEMBERSHIPS}" if (path / MEMBERSHIPS).is_file() else None


def read_bergson(path: Path, data: Dataset | None, options: dict[str, Any]) -> RunStore:
    """Read lists of left-out examples; `options` has num_train, where there are no data, and the scores.

    Raises:
      RunDirectoryError: the file is missing or damaged; scores or the number of training examples are not given.
    """
    takes = "a list of the left-out examples of each model"
    with reading(path / LEFT_OUT, takes):
        lists = json.loads((path / LEFT_OUT).read_text())
    num_train = options.get("num_train") if data is None or options.get("num_train") is not None else data.num_train
    if num_train is None:
        raise RunDirectoryError(
            f"{path / LEFT_OUT} does not say how many training examples there are. Give num_train, or data."
        )
    num_train = check_whole(num_train, "num_train", 1, _MOST_TRAIN)
    if not isinstance(lists, list) or not lists or not all(isinstance(each, list) for each in lists):
        raise RunDirectoryError(f"{path / LEFT_OUT} is no list of lists; it takes {takes}.")
    masks = np.ones((len(lists), num_train), np.bool_)
    for model, left_out in enumerate(lists):
        whole = all(type(index) is int and 0 <= index < num_train for index in left_out)
        if not whole or len(set(left_out)) < len(left_out):
            raise RunDirectoryError(
                f"{path / LEFT_OUT} has a list for model {model} that is not of different indices from 0 to {num_train - 1}; it takes {takes}."
            )
        masks[model, left_out] = False
    return _with_scores(path, masks, data, options, "bergson")


def read_privacy_meter(path: Path, data: Dataset | None, options: dict[str, Any]) -> RunStore:
    """Read memberships; `options` has the scores.

    Raises:
      RunDirectoryError: the file is missing or damaged; scores are not given.
    """
    masks = read_npy(path / MEMBERSHIPS, "bool [models, examples]", "b", 2, mapped=False)
    return _with_scores(path, masks, data, options, "privacy_meter")


def _with_scores(
    path: Path, masks: Bool[np.ndarray, "models train"], data: Dataset | None, options: dict[str, Any], layout: str
) -> RunStore:
    """The subsets with the scores that were given, which are those of `Ensemble.from_scores`."""
    if not (options.get("train") or options.get("test")):
        raise RunDirectoryError(
            f'{path} holds subsets and no scores. Give what the models say, such as test={{"loss": losses}} with losses [models, test].'
        )
    about = {"layout": layout, "order": unlabelled_order(data, path)}
    return store_scores(masks, options.get("train"), options.get("test"), data, about)


__all__ = ["read_bergson", "read_privacy_meter", "recognize_bergson", "recognize_privacy_meter"]
