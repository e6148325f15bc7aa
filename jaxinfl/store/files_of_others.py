"""Models whose masks and scores lie in files of another program, read where they lie and row by row.

Nothing is copied when such a run is opened: files may be larger than the memory. A score may be computed from a file as it is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from jaxinfl import provenance
from jaxinfl.arguments import ScoreKind, is_mapped, release
from jaxinfl.datasets import Dataset, describe_data
from jaxinfl.store.array_file import Leaves
from jaxinfl.store.errors import TRAINED_ELSEWHERE, RunDirectoryError
from jaxinfl.store.layout import RowArray, digest, target_axes
from jaxinfl.store.run import ABSENT, COMPLETE, DIVERGED

_SHARD_BYTES, _MOST_MODELS = 4 * 2**20, 64
"""A file of `Ensemble.save` holds so much of an array, and so many models, at most: what is damaged together."""
_LOOKED_AT, _ROWS = 16, 1024
"""Columns of a mapped file that are read to find models that diverged, of which every value is NaN or infinite, and rows at a time."""


@dataclass(frozen=True)
class RowsOfFile:
    """An array with a row a model, of which any rows can be read."""

    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: str
    """Name of the dtype of what is read."""
    read: Callable[[Any], np.ndarray]
    """Function that reads rows: a slice, or indices of them."""
    source: np.ndarray
    """The array that they are read from, or computed from, [models, examples, ...]."""

    @classmethod
    def of(cls, array: np.ndarray) -> "RowsOfFile":
        """Take an array that is in memory, or mapped into it."""
        return cls(array.shape[1:], array.dtype.name, lambda rows: array[rows], array)

    @classmethod
    def computed(
        cls, source: np.ndarray, shape: tuple[int, ...], dtype: str, compute: Callable[[np.ndarray], np.ndarray]
    ) -> "RowsOfFile":
        """Compute a score from the rows of an array as they are read.

        A comparison with NaN would pass for a number, so rows of which some values are NaN are refused when they are read.
        """

        def read(rows: Any) -> np.ndarray:
            values = source[rows]
            check_no_gaps(values, "the files")
            return compute(values)

        return cls(shape, dtype, read, source)


class FilesOfOthers:
    """The models of another program's files, which are read like a `RunStore`."""

    def __init__(
        self,
        path: Path,
        masks: Bool[np.ndarray, "models train"],
        scores: Mapping[tuple[str, str], tuple[RowsOfFile, ScoreKind]],
        *,
        about: Mapping[str, Any],
        completed: Bool[np.ndarray, " models"] | None = None,
        data: Dataset | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
    ):
        """Describe the models.

        Args:
          path: where the files lie.
          masks: bool [models, train], in memory or mapped.
          scores: rows and kind of each score by split ("train" or "test") and name.
          about: what else is to be said of the run, JSON values.
          completed: which models are there at all; None for all.
          data: the examples.
          targets: labels by split, where there are no data to have them.

        Raises:
          RunDirectoryError: the data have other numbers of examples; scores in memory lack some values of a model.
        """
        self.path: Path | None = path
        self.num_models = len(masks)
        self._masks, self._scores = masks, {f"{split}_{name}": rows for (split, name), (rows, _) in scores.items()}
        self._targets = dict(targets or {})
        if data is not None:
            _check_sizes(path, masks, scores, data)
            self._targets = {"train": data.train_targets, "test": data.test_targets}
        self._completed = np.ones(self.num_models, np.bool_) if completed is None else completed
        self.row_arrays = {
            f"{split}_{name}": RowArray(rows.shape, rows.dtype, (split,)) for (split, name), (rows, _) in scores.items()
        }
        for rows in self._scores.values():
            if not is_mapped(rows.source):
                check_no_gaps(rows.source, str(path))
        self.attributes = self._describe(scores, about, data)

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the masks, where they are mapped."""
        return self._masks.nbytes if is_mapped(self._masks) else 0

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return int(self._masks.shape[1])

    def _describe(
        self, scores: Mapping[tuple[str, str], Any], about: Mapping[str, Any], data: Dataset | None
    ) -> dict[str, Any]:
        tests = [rows.shape[0] for (split, _), (rows, _) in scores.items() if split == "test"]
        sizes: dict[str, Any] = {"num_train": self.num_train, "num_test": tests[0] if tests else 0}
        if data is not None:
            sizes |= {"num_test": data.num_test, "num_classes": data.num_classes, "fingerprint": data.fingerprint}
        largest = max(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in self.row_arrays.values())
        kinds = {name: kind for (_, name), (_, kind) in scores.items()}
        inputs = {
            "masks": _digest(self._masks),
            **{f"{split}_targets": digest(of) for split, of in self._targets.items()},
        }
        return {
            "trained": TRAINED_ELSEWHERE,
            **about,
            **describe_data(data),
            "scores": [[name, kind] for name, kind in kinds.items()],
            "inputs": inputs,
            "row_arrays": {name: asdict(spec) for name, spec in self.row_arrays.items()},
            "shard_size": int(np.clip(_SHARD_BYTES // max(largest, 1), 1, min(_MOST_MODELS, self.num_models))),
            "identity": {
                "data": sizes,
                "masks": inputs["masks"],
                "scores": {name: _digest(rows.source) for name, rows in self._scores.items()},
            },
            **provenance.describe(),
        }

    def status(self) -> UInt8[np.ndarray, " models"]:
        """Status of every model: ABSENT where it was not completed, DIVERGED where none of its floats is finite."""
        status = np.where(self._completed, np.uint8(COMPLETE), np.uint8(ABSENT))
        floats = {id(rows.source): rows.source for rows in self._scores.values() if rows.source.dtype.kind == "f"}
        if floats:
            diverged = np.array(self._completed)
            for source in floats.values():
                for start in range(0, self.num_models, _ROWS):
                    some = slice(start, start + _ROWS)
                    looked_at = source[some, :_LOOKED_AT].reshape(len(source[some]), -1)
                    diverged[some] &= ~np.isfinite(looked_at).any(axis=1)
                    release(source)
            status[self._wholly_diverged(np.flatnonzero(diverged), list(floats.values()))] = DIVERGED
        found: UInt8[np.ndarray, " models"] = status
        return found

    def _wholly_diverged(
        self, models: Int[np.ndarray, " models"], floats: list[np.ndarray]
    ) -> Int[np.ndarray, " models"]:
        """Those of some models of which no float is finite at all; the others are refused when they are read."""
        return np.array(
            [model for model in models if not any(np.isfinite(each[model]).any() for each in floats)], np.intp
        )

    def read_input(self, name: str) -> np.ndarray:
        """Read masks, which may be mapped, or targets."""
        return self._masks if name == "masks" else self._targets[name.removesuffix("_targets")]

    def input_axes(self, name: str) -> tuple[str, ...]:
        """Names of the dimensions of masks or targets."""
        if name == "masks":
            return ("model", "train")
        split = name.removesuffix("_targets")
        return (split, *target_axes(self._targets[split]))

    def read_rows(self, name: str, models: Int[np.ndarray, " rows"]) -> np.ndarray:
        """Read rows of a score; neighbours are not copied where nothing is computed from them.

        Raises:
          RunDirectoryError: a score is computed from rows of which some values are NaN.
        """
        return self._scores[name].read(as_slice(models))

    def release(self) -> None:
        """Give back the memory of what was read of mapped files."""
        release(self._masks)
        for rows in self._scores.values():
            release(rows.source)

    def read_weights(self, models: Int[np.ndarray, " rows"]) -> Leaves:
        """Raise `RunDirectoryError`: there are no weights."""
        raise RunDirectoryError(f"{self.path} holds no weights, only scores.")


def check_no_gaps(values: np.ndarray, where: str) -> None:
    """Raise `RunDirectoryError` where some values of a model are NaN and others are numbers."""
    if values.dtype.kind != "f":
        return
    missing = np.isnan(values).reshape(len(values), -1)
    some = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    if some.size:
        raise RunDirectoryError(
            f"{where} hold NaN for some examples of {some.size} models and numbers for others. Only a model that diverged has NaN, and then "
            "nothing else: leave such models out of the files, or replace the values."
        )


def as_slice(rows: Int[np.ndarray, " rows"]) -> Any:
    """The slice that takes the same rows, where they follow each other, so that taking them copies nothing."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _check_sizes(path: Path, masks: np.ndarray, scores: Mapping[tuple[str, str], Any], data: Dataset) -> None:
    if masks.shape[1] != data.num_train:
        raise RunDirectoryError(
            f"{path} has {masks.shape[1]} training examples, and {data.name} {data.num_train}. Give the data set that the models were trained on."
        )
    for (split, _), (rows, _) in scores.items():
        if split == "test" and rows.shape[0] != data.num_test:
            raise RunDirectoryError(
                f"{path} has {rows.shape[0]} test examples, and {data.name} {data.num_test}. Give the data set that the models were tried on."
            )


def _digest(array: np.ndarray) -> str:
    """Hash of an array; of one that is mapped, of its shape and its first and last row, because files of terabytes are not read for it."""
    if not is_mapped(array):
        return digest(array)
    ends = np.ascontiguousarray(array[[0, -1]]).view(np.uint8).ravel()
    return digest(np.concatenate([np.array(array.shape, np.int64).view(np.uint8), ends]))


__all__ = ["FilesOfOthers", "RowsOfFile", "as_slice", "check_no_gaps"]
