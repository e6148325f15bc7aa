"""What the models of a run said, by the names of their scores."""

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import ScoreKind, check_whole, is_mapped, quote
from jaxinfl.store.elsewhere import check_trained_here
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.kept import OUTPUTS, Kept, name_at_epoch
from jaxinfl.store.parts import Rows
from jaxinfl.tasks import CLASSIFICATION

_OF_CLASSES = (("correct", "0-1"), ("margin", "real"), ("probability", "bounded"), ("loss", "real"))
"""Names and kinds of the scores of models that predict classes: those of a run that names no others."""


class NamedScores:
    """The scores of some models of a run, read when first asked for, and kept; `Ensemble` has the rest."""

    _store: Rows
    model_index: Int[np.ndarray, " models"]
    _arrays: dict[str, np.ndarray]
    """What was read already, with a row a model."""

    @property
    def attributes(self) -> dict[str, Any]:
        """How the run was made: data, model, recipe, execution, versions, command."""
        return self._store.attributes

    @property
    def layout(self) -> str | None:
        """The layout of the files that `read_run` read the models from; None of other ensembles."""
        layout: str | None = self.attributes.get("layout")
        return layout

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores, which `train_score`, `test_score` and every function that takes a score's name know."""
        return tuple(self._kinds)

    def score_kind(self, name: str) -> ScoreKind:
        """The kind of a score: "0-1" (bool: right or wrong), "bounded" (float from 0 to 1) or "real" (any float).

        Raises:
          TypeError, ValueError: the ensemble has no score of that name.
        """
        if not isinstance(name, str) or name not in self._kinds:
            error = ValueError if isinstance(name, str) else TypeError
            raise error(f"score is {quote(name)}; this ensemble has {', '.join(map(repr, self.scores))}.")
        return self._kinds[name]

    @property
    def _kinds(self) -> dict[str, ScoreKind]:
        last = dict(self.attributes.get("scores", _OF_CLASSES))
        return last | {name_at_epoch(name, epoch): kind for epoch in self.epochs for name, kind in last.items()}

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs after which scores were kept by `train_ensemble(..., keep_epochs=...)`; empty by default."""
        return Kept.of_run(self.attributes).epochs

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class, by label; its number where the run knows no name, and empty where targets are no classes."""
        names = self.attributes.get("class_names")
        if names is None:
            return tuple(map(str, range(self.attributes["identity"]["data"].get("num_classes") or 0)))
        return tuple(names)

    def train_score(
        self, name: str, *, epoch: int | None = None
    ) -> Bool[np.ndarray, "models train"] | Float[np.ndarray, "models train"]:
        """A score of every model on every training example, by its name.

        Args:
          name: one of `scores`. Models that predict classes have "correct" (bool: whether the prediction is right), "margin"
            (float32, log(p_y / (1 - p_y)) of the true class y, natural logarithm), "probability" (float32: that of the true
            class, 0 to 1) and "loss" (float32, its negative natural logarithm). Models trained elsewhere have what
            `Ensemble.from_scores` was given.
          epoch: one of `epochs`, for the score after that epoch; None for that of the trained model. The name "margin@5" says the
            same as the name "margin" with epoch 5.

        Raises:
          TypeError, ValueError: the ensemble has no score of that name, or has it of the test examples only.
          RunDirectoryError: it is damaged.
        """
        return self._score("train", self._at(name, epoch))

    def test_score(
        self, name: str, *, epoch: int | None = None
    ) -> Bool[np.ndarray, "models test"] | Float[np.ndarray, "models test"]:
        """A score of every model on every test example, by its name; as `train_score`."""
        return self._score("test", self._at(name, epoch))

    def _at(self, name: str, epoch: int | None) -> str:
        """Name of a score after an epoch.

        Raises:
          TypeError, ValueError: the scores after that epoch are not kept.
        """
        if epoch is None:
            return name
        self.score_kind(name)
        check_whole(epoch, "epoch", unit="epochs")
        if epoch not in self.epochs:
            kept = ", ".join(map(str, self.epochs)) or "none"
            raise ValueError(
                f"epoch is {epoch}; this ensemble keeps the scores after these epochs: {kept}. Train it with keep_epochs=({epoch},)."
            )
        return name_at_epoch(name, epoch)

    def _score(self, split: str, name: str) -> np.ndarray:
        self.score_kind(name)
        if f"{split}_{name}" in self.attributes["row_arrays"]:
            return self._read(f"{split}_{name}")
        if not has_score(self, split, name):
            other = "test" if split == "train" else "train"
            remedy = f"Give it to Ensemble.from_scores in {split}, too."
            if "layout" in self.attributes:
                remedy = f"The files in {self._store.path or 'memory'} have none of the {split} examples."
            raise ValueError(f"score is {quote(name)}; this ensemble has it of the {other} examples only. {remedy}")
        score, at, epoch = name.partition("@")
        return CLASSIFICATION.derive(
            score, lambda part: self._read(f"{split}_{part}{at}{epoch}"), getattr(self, f"{split}_targets")
        )

    def _prediction(self, split: str) -> np.ndarray:
        check_trained_here(self.attributes, self._store.path, "There is no predicted class.")
        return self._read(f"{split}_prediction")

    def _outputs(self, split: str) -> np.ndarray:
        check_trained_here(self.attributes, self._store.path, "Their outputs are not known.")
        kept = Kept.of_run(self.attributes).outputs
        if kept not in (split, "both"):
            asked = "test" if split == "test" else "both"
            raise RunDirectoryError(
                f"the run in {self._store.path or 'memory'} keeps no outputs of the {split} examples. Train it with "
                f"keep_outputs={asked!r}, in another run_dir."
            )
        return self._read(f"{split}_{OUTPUTS}")

    def _read(self, array: str) -> np.ndarray:
        if array not in self._arrays:
            rows = self._store.read_rows(array, self.model_index)
            if is_mapped(rows):
                return rows
            self._arrays[array] = rows
        return self._arrays[array]

    def _targets(self, split: str) -> np.ndarray:
        if not _knows_targets(self, split):
            giver = "read_run" if "layout" in self.attributes else "Ensemble.from_scores"
            raise ValueError(
                f"{split}_targets: this ensemble knows no targets. Give data to {giver}, which keeps those of a Dataset."
            )
        return self._store.read_input(f"{split}_targets")

    @cached_property
    def train_targets(self) -> np.ndarray:
        """What the models were to predict of the training examples, [train, ...]."""
        return self._targets("train")

    @cached_property
    def test_targets(self) -> np.ndarray:
        """What the models were to predict of the test examples, [test, ...]."""
        return self._targets("test")

    @property
    def train_labels(self) -> Int[np.ndarray, " train"]:
        """The targets of classification, int32 from 0 to the number of classes - 1."""
        return self.train_targets

    @property
    def test_labels(self) -> Int[np.ndarray, " test"]:
        """The test targets of classification."""
        return self.test_targets

    @property
    def train_outputs(self) -> Float[np.ndarray, "models train ..."]:
        """What the models put out for the training examples, float16 [models, train, ...]; logits in classification.

        Raises:
          RunDirectoryError: the run does not keep them (`train_ensemble(..., keep_outputs="both")` does), or they are damaged.
        """
        return self._outputs("train")

    @property
    def test_outputs(self) -> Float[np.ndarray, "models test ..."]:
        """What the models put out for the test examples; as `train_outputs`, kept by `keep_outputs="test"`, too."""
        return self._outputs("test")

    @property
    def train_prediction(self) -> Int[np.ndarray, "models train"]:
        return self._prediction("train")

    @property
    def test_prediction(self) -> Int[np.ndarray, "models test"]:
        return self._prediction("test")

    @property
    def train_margin(self) -> Float[np.ndarray, "models train"]:
        return self._score("train", "margin")

    @property
    def test_margin(self) -> Float[np.ndarray, "models test"]:
        return self._score("test", "margin")

    @property
    def train_correct(self) -> Bool[np.ndarray, "models train"]:
        return self._score("train", "correct")

    @property
    def test_correct(self) -> Bool[np.ndarray, "models test"]:
        return self._score("test", "correct")

    @property
    def train_probability(self) -> Float[np.ndarray, "models train"]:
        return self._score("train", "probability")

    @property
    def test_probability(self) -> Float[np.ndarray, "models test"]:
        return self._score("test", "probability")


def has_score(runs: NamedScores, split: str, name: str) -> bool:
    """Whether a score that the runs have is one of these examples, "train" or "test", too."""
    # A run that names no scores predicts classes, and has theirs of both sets.
    return "scores" not in runs.attributes or f"{split}_{name}" in runs.attributes["row_arrays"]


def known_targets(runs: NamedScores, split: str) -> np.ndarray | None:
    """The targets of the "train" or "test" examples, [examples, ...]; None where the runs know none."""
    return getattr(runs, f"{split}_targets") if _knows_targets(runs, split) else None


def known_labels(runs: NamedScores, split: str) -> Int[np.ndarray, " examples"] | None:
    """The targets where they are classes; None of other targets, and where the runs know none."""
    targets = known_targets(runs, split)
    return targets if targets is not None and targets.ndim == 1 and targets.dtype.kind in "iu" else None


def _knows_targets(runs: NamedScores, split: str) -> bool:
    return f"{split}_targets" in runs.attributes["inputs"]


__all__ = ["NamedScores", "has_score", "known_labels", "known_targets"]
