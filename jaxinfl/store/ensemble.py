"""`Ensemble`: what the models of a run predict for every example, as arrays."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import STREAMED, Source, as_path, check_rows, check_switch, is_mapped, quote
from jaxinfl.datasets import Dataset
from jaxinfl.models import Variables
from jaxinfl.notebook import html_facts
from jaxinfl.store.description import describe_ensemble, format_facts
from jaxinfl.store.device_rows import DEVICE, read_kinds
from jaxinfl.store.elsewhere import check_trained_here, is_trained_elsewhere, store_scores
from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers, as_slice
from jaxinfl.store.layout import OVERRIDE
from jaxinfl.store.parts import Rows, open_rows
from jaxinfl.store.run import ABSENT, DIVERGED
from jaxinfl.store.save import save_models
from jaxinfl.store.scores import NamedScores
from jaxinfl.store.weights import unflatten


class Ensemble(NamedScores):
    """The finished models of a run: `train_ensemble` returns it, `Ensemble.open` reads it again, and `Ensemble.from_scores`
    makes one of models that were trained elsewhere.

    Arrays are read when first asked for, checked against their checksums, and kept. Their rows are the finished models
    that did not diverge, in the order of the run's masks; `model_index` gives the number in the run of each. `runs[rows]` is
    the ensemble of some of these rows.

    Every function of jaxinfl that takes `masks, score` takes an ensemble and the name of a score as well:
    `jaxinfl.influence(runs, "margin")`.

    Models that were trained elsewhere have their masks and the scores that were given; what else is asked for is refused.

    Attributes:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      scores: names of the scores that `train_score` and `test_score` have.
      train_targets, test_targets: what the models were to predict, [train, ...] and [test, ...]; of classification also
        `train_labels` and `test_labels`.
      train_prediction, test_prediction: predicted class, int16 or int32 [models, train] and [models, test]; -1 for
        models that diverged.
      train_margin, test_margin: float32, log(p_y / (1 - p_y)) of the true class y, natural log; NaN for models that
        diverged.
      train_correct, test_correct: bool, prediction equals label.
      train_probability, test_probability: float32, softmax probability of the true class.
      model_index: int [models], the number in the run of each row.
      diverged: bool [models], whether the model diverged; all False except in `with_diverged()`.
      num_diverged: number of finished models that diverged, among the rows or not.
      overrides: the models' own numbers in place of the recipe's, float32 [models] by field; empty where there are none.
    """

    def __init__(self, store: Rows, *, keep_diverged: bool = False):
        self._store, self._kept_diverged = store, keep_diverged
        self._is_part = False
        self._arrays: dict[str, np.ndarray] = {}
        status = store.status()
        self._finished = int((status != ABSENT).sum())
        self.num_diverged = int((status == DIVERGED).sum())
        kept = status != ABSENT if keep_diverged else (status != ABSENT) & (status != DIVERGED)
        self.model_index: Int[np.ndarray, " models"] = np.flatnonzero(kept)
        # `paired` matches these numbers: those of the models in the run, or their places in the chosen rows.
        self._place: Int[np.ndarray, " models"] = self.model_index
        self.diverged: Bool[np.ndarray, " models"] = status[self.model_index] == DIVERGED
        if self.num_diverged and not keep_diverged:
            warnings.warn(
                f"{self.num_diverged} of {self._finished} models diverged and are left out of the ensemble in "
                f"{store.path or 'memory'}; .with_diverged() has them too.",
                RuntimeWarning,
                stacklevel=3,
            )

    @classmethod
    def open(cls, run_dir: str | os.PathLike[str]) -> "Ensemble":
        """Open the run in a directory made by `train_ensemble(..., run_dir=run_dir)`, complete or not, whole or in parts.

        A `RuntimeWarning` says so where models diverged, which are left out.

        Raises:
          TypeError, ValueError: `run_dir` is no path, or a URL.
          RunDirectoryError: there is no run; it is damaged; a newer jaxinfl made it; its parts are not of one run.
        """
        return cls(open_rows(as_path(run_dir, "run_dir", "the directory of a run")))

    @classmethod
    def from_scores(
        cls,
        masks: ArrayLike,
        train: Mapping[str, ArrayLike] | None = None,
        test: Mapping[str, ArrayLike] | None = None,
        data: Dataset | None = None,
    ) -> "Ensemble":
        """Models that were trained elsewhere, by what they say: everything that needs no training works on it.

        Warns where models diverged: they are left out.

        Args:
          masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
          train: scores by name, bool or float [models, train]; `{"margin": ...}`. None where there are none of training examples,
            which memorization takes. A model of which no float is finite, in train and test, has diverged.
          test: scores by name, bool or float [models, test]; as `train`. A name may be in one of the two only.
          data: the examples; their labels and fingerprint are kept. None where nothing asks for labels.

        Returns:
          The ensemble, in memory; `save` makes a run directory of it. Floats are kept as float32. A score's kind is "0-1" where it is
          bool, "bounded" where all its floats lie from 0 to 1, and "real" elsewhere. Memory: the scores once more, compressed.

        Raises:
          TypeError, ValueError: arrays that are no scores of these models and examples, of which values are missing, or whose
            names are no identifiers.
        """
        return cls(store_scores(masks, train, test, data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the models as a complete run directory, which `Ensemble.open` and `python -m jaxinfl.verify` read.

        An ensemble of a whole run is written with its models that diverged, and rows that were chosen (`runs[rows]`) are written
        alone and numbered anew. Weights that were kept are written too. The directory appears all at once.

        Args:
          path: a directory that does not exist.

        Raises:
          TypeError, ValueError: `path` is no path, or a URL; the ensemble has no model.
          RunDirectoryError: something is there already, or what is read of the run is damaged.
          WriteFailed: the file system does not take it; nothing is left of it.
        """
        target = as_path(path, "path", "a directory that does not exist")
        models = self.model_index if self._is_part else np.flatnonzero(self._store.status() != ABSENT)
        if not len(models):
            raise ValueError("this ensemble has no finished model; save takes at least one.")
        save_models(self._store, models, target)

    def with_diverged(self) -> "Ensemble":
        """The ensemble with a row for every finished model; rows of models that diverged hold -1 and NaN.

        Rows that were chosen (`runs[rows]`) stay as they are.
        """
        return self if self._kept_diverged or self._is_part else Ensemble(self._store, keep_diverged=True)

    def without_diverged(self) -> "Ensemble":
        """The ensemble without the rows of models that diverged.

        Every function that takes an ensemble and the name of a score leaves diverged models out in this way.
        """
        return self._select(~self.diverged, self._place) if self.diverged.any() else self

    def paired(self, other: "Ensemble", *, same_subsets: bool = True) -> tuple["Ensemble", "Ensemble"]:
        """Both ensembles with the rows that belong together, so that row t of the one and row t of the other are a pair.

        Model t of a run belongs to model t of the other run. In chosen rows (`runs[rows]`) the first belongs to the first.
        A pair is left out where one of its two models diverged or is missing.

        Args:
          other: the ensemble to pair this one with.
          same_subsets: whether both models of a pair must be trained on the same examples, as models that differ in their keys
            alone are. Pass False for pairs that differ in their subsets, such as with and without one example.

        Raises:
          TypeError: `other` is no ensemble, or `same_subsets` neither True nor False.
          ValueError: the two differ in the number of training examples, or the models of a pair in their subsets although
            `same_subsets` is True.
        """
        if not isinstance(other, Ensemble):
            raise TypeError(f"other is {quote(other)}; it takes an Ensemble.")
        check_switch(same_subsets, "same_subsets")
        one, two = self.without_diverged(), other.without_diverged()
        _, rows, other_rows = np.intersect1d(one._place, two._place, assume_unique=True, return_indices=True)
        one, two = one._select(rows, one._place), two._select(other_rows, two._place)
        if self.masks.shape[1] != other.masks.shape[1]:
            raise ValueError(
                f"other has {other.masks.shape[1]} training examples and this ensemble {self.masks.shape[1]}; it takes an "
                "ensemble that was trained on the same data."
            )
        differ = np.flatnonzero((one.masks != two.masks).any(axis=1)) if same_subsets else np.zeros(0, np.intp)
        if differ.size:
            raise ValueError(
                f"other was trained on other subsets in {differ.size} of {len(one)} pairs (first: model "
                f"{one.model_index[differ[0]]} here and {two.model_index[differ[0]]} there). Pass same_subsets=False to pair models "
                "by their row, whatever they were trained on."
            )
        return one, two

    def __getitem__(self, models: Sequence[int] | ArrayLike | slice) -> "Ensemble":
        """The ensemble of some rows: indices or a slice of them, or a bool mask [models]."""
        rows = np.arange(len(self))[models if isinstance(models, slice) else check_rows(models)]
        return self._select(rows, np.arange(len(self)), renumbered=True)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("An Ensemble is no array. Take one of its arrays, such as .masks or .test_score('margin').")

    def _select(self, rows: np.ndarray, place: Int[np.ndarray, " models"], *, renumbered: bool = False) -> "Ensemble":
        """Choose some rows, and keep the arrays that were already read."""
        part = object.__new__(Ensemble)
        part.__dict__ = {
            name: value[rows] if name in _OF_MODELS else value
            for name, value in self.__dict__.items()
            if name != "overrides"
        }
        part._arrays = {name: values[rows] for name, values in self._arrays.items()}
        part._is_part = True
        part._place = np.arange(len(part.model_index)) if renumbered else place[rows]
        return part

    @property
    def num_models(self) -> int:
        """Number of rows: finished models that did not diverge, or those that were chosen."""
        return len(self.model_index)

    @property
    def complete(self) -> bool:
        """Whether every model of the run is finished."""
        return self._finished == self._store.num_models

    @property
    def device(self) -> str:
        """The devices that trained the models, in words."""
        if is_trained_elsewhere(self.attributes):
            return "not known: the models were trained elsewhere"
        device: str = self.attributes["execution"]["device"]
        return device

    @cached_property
    def device_kinds(self) -> np.ndarray:
        """The kind of device that trained each model, text [models]; more than one where `mixed_devices` allowed it."""
        if DEVICE in self.attributes["row_arrays"]:
            return read_kinds(self._store.read_rows(DEVICE, self.model_index))
        return np.full(len(self), self.device)

    @property
    def order(self) -> str:
        """What is known of the order of the examples, in words: files of other programs may have another one than the data."""
        order: str = self.attributes.get("order", "that of the data")
        return order

    @property
    def data_fingerprint(self) -> str:
        """`Dataset.fingerprint` of the data set that the models were trained on.

        Raises:
          ValueError: they were trained elsewhere, and no data were given with their scores.
        """
        if "fingerprint" not in self.attributes["identity"]["data"]:
            raise ValueError("data_fingerprint: this ensemble knows no data. Give data to Ensemble.from_scores.")
        fingerprint: str = self.attributes["identity"]["data"]["fingerprint"]
        return fingerprint

    @property
    def masks(self) -> Bool[np.ndarray, "models train"]:
        if "masks" not in self._arrays:
            whole = self._store.read_input("masks")
            rows = whole[as_slice(self.model_index)]
            if is_mapped(rows):
                return rows
            self._arrays["masks"] = rows
        return self._arrays["masks"]

    def stream(self, split: Literal["train", "test"], name: str) -> Source | None:
        """The models as `influence` and `memorization` read them, some at a time, where their masks are large and lie in a mapped file.

        Args:
          split: "train" or "test".
          name: one of `scores`.

        Returns:
          A source whose blocks are read anew each time; None where the models are read as a whole.

        Raises:
          TypeError, ValueError: the ensemble has no such score.
        """
        store = self._store
        if not isinstance(store, FilesOfOthers) or store.mapped_bytes / store.num_models * len(self) <= STREAMED:
            return None
        self.score_kind(name)
        spec = store.row_arrays.get(f"{split}_{name}")
        if spec is None:
            self._score(split, name)  # which says that it is of the other examples
            return None
        masks = store.read_input("masks")

        def blocks(models: int) -> Iterator[tuple[Bool[np.ndarray, "block train"], np.ndarray]]:
            for start in range(0, len(self), models):
                rows = self.model_index[start : start + models]
                yield masks[as_slice(rows)], store.read_rows(f"{split}_{name}", rows)
                store.release()

        return Source(len(self), store.num_train, spec.shape[0], spec.dtype == "bool", blocks)

    @cached_property
    def key_data(self) -> np.ndarray:
        """Keys for initialization, data order and augmentation, uint32 [models, 3, words]."""
        check_trained_here(self.attributes, self._store.path, "Their random keys are not known.")
        return self._store.read_input("key_data")[self.model_index]

    @cached_property
    def overrides(self) -> dict[str, Float[np.ndarray, " models"]]:
        names = [name for name in self.attributes["inputs"] if name.startswith(OVERRIDE)]
        return {name.removeprefix(OVERRIDE): self._store.read_input(name)[self.model_index] for name in names}

    def weights(self, models: Sequence[int] | ArrayLike | None = None) -> Variables:
        """Final weights and batch-norm statistics of models trained with `keep_weights=True`.

        Args:
          models: rows of this ensemble, or a bool mask of them; None takes all.

        Returns:
          Arrays [models, ...] in the structure that the model's own variables have; `train_ensemble(initial=...)` takes
          them. `jax.tree.map(lambda w: w[rows], weights)` chooses rows. Memory: that of the weights and of one more shard.

        Raises:
          TypeError: `models` are no rows.
          IndexError: the ensemble has no such row.
          RunDirectoryError: the run keeps no weights, or they are damaged or missing; the models were trained elsewhere.
        """
        check_trained_here(self.attributes, self._store.path, "Their weights are where they were trained.")
        chosen = self.model_index if models is None else self.model_index[check_rows(models)]
        leaves = self._store.read_weights(chosen)
        return unflatten(leaves, self.attributes["weights"])

    def predict(
        self,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        targets: ArrayLike | None = None,
        *,
        models: Sequence[int] | ArrayLike | None = None,
        views: str = "one",
        data: Any = None,
        model: Any = None,
    ) -> Any:
        """Evaluate the models, whose weights were kept, on the run's own examples once more or on other ones.

        The run knows its data, model and recipe: data are loaded again as they were, models are found by their registered
        name or imported by module and name. An error asks for what cannot be found.

        Args:
          inputs, targets: other examples to evaluate, given like the test images and labels of a `Dataset`; None for the
            run's own.
          models: rows of this ensemble, or a bool mask of them; None takes all.
          views: "one", "five" or "ten" views of each image, as in `jaxinfl.predict`.
          data: the run's data set, where it was made from arrays or lies elsewhere now.
          model: the run's model, where it cannot be imported (a lambda, or a class inside of a function).

        Returns:
          `Predictions`, with a row for each of the models; `test_prediction` and `test_margin` belong to `inputs` where
          they are given. With one view of the run's own examples they equal what the run recorded, to the bit on the same
          kind and number of devices.

        Raises:
          TypeError, ValueError: arguments that do not fit.
          RunDirectoryError: the run keeps no weights, or its data or model is not found, or is not what it was; the models were
            trained elsewhere.
        """
        check_trained_here(self.attributes, self._store.path, "What they say of other examples is another from_scores.")
        if _predict is None:
            raise RuntimeError("The code that runs the models is not loaded. Import jaxinfl first.")
        rows = None if models is None else check_rows(models)
        return _predict(self, inputs, targets, rows, views, data, model)

    def __len__(self) -> int:
        return self.num_models

    def __repr__(self) -> str:
        return format_facts(*self._describe())

    def _repr_html_(self) -> str:
        return html_facts(*self._describe())

    def _describe(self) -> tuple[str, list[tuple[str, str]]]:
        diverged, rows = (self.num_diverged, self._kept_diverged), len(self) if self._is_part else None
        try:
            kinds = self.device_kinds
        except RunDirectoryError:  # whoever reads the models is told of damage
            kinds = np.zeros(0, np.str_)
        return describe_ensemble(self._store, self._finished, diverged, rows, kinds, self.overrides)


_OF_MODELS = ("_place", "device_kinds", "diverged", "key_data", "model_index")
"""Attributes of `Ensemble` that have one row for each model."""

_predict: Callable[..., Any] | None = None


def predict_by(function: Callable[..., Any]) -> None:
    """Set the function that `Ensemble.predict` calls, which the training stage provides."""
    global _predict
    _predict = function


__all__ = ["Ensemble", "predict_by"]
