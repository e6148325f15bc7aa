"""Scores of models that were trained elsewhere, as a run like any other but for what needs training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float32

from jaxinfl import provenance
from jaxinfl.arguments import check_masks, check_score_matrix, check_score_names, quote, score_kind
from jaxinfl.datasets import Dataset, describe_data
from jaxinfl.store.errors import TRAINED_ELSEWHERE, RunDirectoryError
from jaxinfl.store.layout import Layout, RowArray, digest, target_axes
from jaxinfl.store.run import RunStore

_SHARD_BYTES, _MOST_MODELS = 4 * 2**20, 64
"""A file holds so much of an array, and so many models, at most: what is damaged together."""

Values = Bool[np.ndarray, "models examples"] | Float32[np.ndarray, "models examples"]


class _Score(NamedTuple):
    """One score of the models on one set of examples."""

    split: str
    """"train" or "test"."""
    name: str
    values: Values

    @property
    def argument(self) -> str:
        """What the user calls it."""
        return f"{self.split}[{self.name!r}]"

    @property
    def array(self) -> str:
        """Name of its array in the run."""
        return f"{self.split}_{self.name}"


def store_scores(
    masks: ArrayLike, train: Any, test: Any, data: Dataset | None, about: Mapping[str, Any] | None = None
) -> RunStore:
    """The arguments of `Ensemble.from_scores` as a run in memory, checked; `about` is what else is to be said of it, JSON values."""
    subsets = check_masks(masks)
    if train is None and test is None:
        raise ValueError("train and test are None; from_scores takes scores of one of them at least.")
    scores = [*_check_scores(train, "train", subsets), *_check_scores(test, "test", subsets)]
    _check_together(scores)
    if data is not None:
        _check_data(data, subsets, scores)
    scores, diverged = _find_diverged(scores, len(subsets))
    largest = max(score.values[0].nbytes for score in scores)
    layout = Layout(
        attributes=_describe(subsets, scores, data) | dict(about or {}),
        inputs=_inputs(subsets, data),
        row_arrays={
            score.array: RowArray(score.values.shape[1:], score.values.dtype.name, (score.split,)) for score in scores
        },
        num_models=len(subsets),
        shard_size=int(np.clip(_SHARD_BYTES // largest, 1, min(_MOST_MODELS, len(subsets)))),
    )
    store = RunStore.create(None, layout)
    for shard in store.shards():
        store.write(shard, {score.array: score.values[shard] for score in scores}, diverged[shard])
    return store


def is_trained_elsewhere(attributes: Mapping[str, Any]) -> bool:
    """Whether the models of a run were given by their scores."""
    return attributes.get("trained") == TRAINED_ELSEWHERE


def check_trained_here(attributes: Mapping[str, Any], path: Path | None, remedy: str) -> None:
    """Raise `RunDirectoryError` where the models of a run were trained elsewhere."""
    if is_trained_elsewhere(attributes):
        raise RunDirectoryError(
            f"the models in {path or 'memory'} were trained elsewhere: only their scores are here. {remedy}"
        )


def _check_scores(given: Any, split: str, masks: Bool[np.ndarray, "models train"]) -> list[_Score]:
    if given is None:
        return []
    takes = 'a mapping from the names of scores to arrays, such as {"margin": ...}'
    if not isinstance(given, Mapping):
        raise TypeError(f"{split} is {type(given).__name__}; it takes {takes}.")
    if not given:
        raise ValueError(f"{split} is empty; it takes {takes}, or None.")
    check_score_names(given, split)
    columns = masks.shape[1] if split == "train" else None
    return [
        _Score(split, name, check_score_matrix(values, len(masks), f"{split}[{name!r}]", columns))
        for name, values in given.items()
    ]


def _check_together(scores: list[_Score]) -> None:
    """Raise unless the scores fit each other."""
    tests = [score for score in scores if score.split == "test"]
    for score in tests:
        if score.values.shape[1] != tests[0].values.shape[1]:
            raise ValueError(
                f"{score.argument} has {score.values.shape[1]} columns, but {tests[0].argument} has "
                f"{tests[0].values.shape[1]}: both need one column a test example."
            )
    first: dict[str, _Score] = {}
    for score in scores:
        other = first.setdefault(score.name.lower(), score)
        if other.name != score.name:
            # Arrays are folders, which many disks take for the same.
            raise ValueError(
                f"{score.split} names a score {score.name!r}, and there is {other.argument}: names must differ by more than case."
            )
        if other.values.dtype != score.values.dtype:
            raise TypeError(
                f"{score.argument} is {score.values.dtype} and {other.argument} is {other.values.dtype}; a score is bool in both "
                "or float in both."
            )


def _check_data(data: Any, masks: Bool[np.ndarray, "models train"], scores: list[_Score]) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(f"data is {quote(data)}; it takes a jaxinfl.Dataset, or None.")
    if data.num_train != masks.shape[1]:
        raise ValueError(f"data has {data.num_train} training examples and masks has {masks.shape[1]} columns.")
    for score in scores:
        if score.split == "test" and score.values.shape[1] != data.num_test:
            raise ValueError(
                f"data has {data.num_test} test examples and {score.argument} has {score.values.shape[1]} columns."
            )


def _find_diverged(scores: list[_Score], num_models: int) -> tuple[list[_Score], Bool[np.ndarray, " models"]]:
    """The scores with NaN in the rows of models that diverged, which are those without any finite float."""
    floats = [score for score in scores if score.values.dtype != np.bool_]
    if not floats:
        return scores, np.zeros(num_models, np.bool_)
    finite = [np.isfinite(score.values) for score in floats]
    diverged: Bool[np.ndarray, " models"] = ~np.logical_or.reduce([flags.any(axis=1) for flags in finite])
    for score, flags in zip(floats, finite, strict=True):
        missing = ~flags & ~diverged[:, None]
        if missing.any():
            model, example = np.argwhere(missing)[0]
            raise ValueError(
                f"{score.argument} holds NaN or inf (as float32) for {np.count_nonzero(missing.any(axis=1))} of {num_models} "
                f"models (first: model {model}, {score.split} example {example}), of which other values are finite. Only a "
                "model that diverged has none, and then all of its float scores are NaN: leave such models or examples out, or "
                "replace the values."
            )
    if not diverged.any():
        return scores, diverged
    filled = [
        score if score.values.dtype == np.bool_ else score._replace(values=_with_nan(score.values, diverged))
        for score in scores
    ]
    return filled, diverged


def _with_nan(
    values: Float32[np.ndarray, "models examples"], rows: Bool[np.ndarray, " models"]
) -> Float32[np.ndarray, "models examples"]:
    copy = values.copy()
    copy[rows] = np.nan
    return copy


def _describe(masks: Bool[np.ndarray, "models train"], scores: list[_Score], data: Dataset | None) -> dict[str, Any]:
    """What the run says of itself, as JSON values."""
    tests = [score.values.shape[1] for score in scores if score.split == "test"]
    about: dict[str, Any] = {"num_train": masks.shape[1], "num_test": tests[0] if tests else 0}
    if data is not None:
        about |= {"num_test": data.num_test, "num_classes": data.num_classes, "fingerprint": data.fingerprint}
    kinds = {
        name: score_kind(*(score.values for score in scores if score.name == name))
        for name in dict.fromkeys(score.name for score in scores)
    }
    return {
        "trained": TRAINED_ELSEWHERE,
        **describe_data(data),
        # A list, which keeps its order in JSON.
        "scores": [[name, kind] for name, kind in kinds.items()],
        "identity": {
            "data": about,
            "masks": digest(masks),
            "scores": {score.array: digest(score.values) for score in scores},
        },
        **provenance.describe(),
    }


def _inputs(
    masks: Bool[np.ndarray, "models train"], data: Dataset | None
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    inputs: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {"masks": (masks, ("model", "train"))}
    if data is not None:
        for split, targets in (("train", data.train_targets), ("test", data.test_targets)):
            inputs[f"{split}_targets"] = (targets, (split, *target_axes(targets)))
    return inputs


__all__ = ["check_trained_here", "is_trained_elsewhere", "store_scores"]
