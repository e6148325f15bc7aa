"""`Ensemble`: what the models of a run predict for every example, as arrays."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import as_array, as_path, check_switch, quote
from jaxinfl.models import Variables
from jaxinfl.store.parts import Parts, Rows, open_rows
from jaxinfl.store.run import ABSENT, DIVERGED
from jaxinfl.store.weights import unflatten

OVERRIDE = "override_"
"""Prefix of the arrays that hold the models' own numbers in place of the recipe's."""
SCORES = ("correct", "margin", "probability")
"""Names of the scores of a model that predicts classes, in `Ensemble.train_score` and `Ensemble.test_score`."""


class Ensemble:
    """The finished models of a run: `train_ensemble` returns it, `Ensemble.open` reads it again.

    Arrays are read when first asked for, checked against their checksums, and kept. Their rows are the finished models
    that did not diverge, in the order of the run's masks; `model_index` gives the number in the run of each. `runs[rows]` is
    the ensemble of some of these rows.

    Every function of jaxinfl that takes `masks, score` takes an ensemble and the name of a score as well:
    `jaxinfl.influence(runs, "margin")`.

    Attributes:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      train_targets, test_targets: int32 [train], [test].
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
        rows = np.arange(len(self))[models if isinstance(models, slice) else _rows(models)]
        return self._select(rows, np.arange(len(self)), renumbered=True)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("An Ensemble is no array. Take one of its arrays, such as .masks or .test_score('margin').")

    def _select(self, rows: np.ndarray, place: Int[np.ndarray, " models"], *, renumbered: bool = False) -> "Ensemble":
        """Choose some rows, and keep the arrays that were already read."""
        part = object.__new__(Ensemble)
        part.__dict__ = {
            name: value if name not in _OF_MODELS else value[rows]
            for name, value in self.__dict__.items()
            if name != "overrides"
        }
        part._is_part = True
        part._place = np.arange(len(part.model_index)) if renumbered else place[rows]
        return part

    def train_score(self, name: str) -> Bool[np.ndarray, "models train"] | Float[np.ndarray, "models train"]:
        """A score of every model on every training example, by its name.

        Args:
          name: "correct" (bool, whether the prediction is right), "margin" (float32, log(p_y / (1 - p_y)) of the true class y,
            natural logarithm) or "probability" (float32, the probability of the true class, 0 to 1).

        Raises:
          ValueError: the ensemble has no score of that name.
          RunDirectoryError: the run is damaged.
        """
        return self._score("train", name)

    def test_score(self, name: str) -> Bool[np.ndarray, "models test"] | Float[np.ndarray, "models test"]:
        """A score of every model on every test example, by its name; names and errors are those of `train_score`."""
        return self._score("test", name)

    def _score(self, split: str, name: str) -> np.ndarray:
        if name not in SCORES:
            raise ValueError(f"score is {quote(name)}; this ensemble has {', '.join(map(repr, SCORES))}.")
        values: np.ndarray = getattr(self, f"{split}_{name}")
        return values

    @property
    def num_models(self) -> int:
        """Number of rows: finished models that did not diverge, or those that were chosen."""
        return len(self.model_index)

    @property
    def complete(self) -> bool:
        """Whether every model of the run is finished."""
        return self._finished == self._store.num_models

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the run as JSON values: data, model, recipe, execution, versions, command."""
        return self._store.attributes

    @property
    def device(self) -> str:
        """The devices that trained the models, in words."""
        device: str = self.attributes["execution"]["device"]
        return device

    @property
    def data_fingerprint(self) -> str:
        """`Dataset.fingerprint` of the data set that the models were trained on."""
        fingerprint: str = self.attributes["identity"]["data"]["fingerprint"]
        return fingerprint

    @cached_property
    def masks(self) -> Bool[np.ndarray, "models train"]:
        return self._store.read_input("masks")[self.model_index]

    @cached_property
    def key_data(self) -> np.ndarray:
        """Keys for initialization, data order and augmentation, uint32 [models, 3, words]."""
        return self._store.read_input("key_data")[self.model_index]

    @cached_property
    def overrides(self) -> dict[str, Float[np.ndarray, " models"]]:
        names = [name for name in self.attributes["inputs"] if name.startswith(OVERRIDE)]
        return {name.removeprefix(OVERRIDE): self._store.read_input(name)[self.model_index] for name in names}

    @cached_property
    def train_targets(self) -> Int[np.ndarray, " train"]:
        return self._store.read_input("train_targets")

    @cached_property
    def test_targets(self) -> Int[np.ndarray, " test"]:
        return self._store.read_input("test_targets")

    @cached_property
    def train_prediction(self) -> Int[np.ndarray, "models train"]:
        return self._store.read_rows("train_prediction", self.model_index)

    @cached_property
    def test_prediction(self) -> Int[np.ndarray, "models test"]:
        return self._store.read_rows("test_prediction", self.model_index)

    @cached_property
    def train_margin(self) -> Float[np.ndarray, "models train"]:
        return self._store.read_rows("train_margin", self.model_index)

    @cached_property
    def test_margin(self) -> Float[np.ndarray, "models test"]:
        return self._store.read_rows("test_margin", self.model_index)

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
          RunDirectoryError: the run keeps no weights, or they are damaged or missing.
        """
        chosen = self.model_index if models is None else self.model_index[_rows(models)]
        leaves = self._store.read_weights(chosen)
        return unflatten(leaves, self.attributes["weights"])

    def predict(
        self,
        inputs: ArrayLike | None = None,
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
          RunDirectoryError: the run keeps no weights, or its data or model is not found, or is not what it was.
        """
        if _predict is None:
            raise RuntimeError("The code that runs the models is not loaded. Import jaxinfl first.")
        rows = None if models is None else _rows(models)
        return _predict(self, inputs, targets, rows, views, data, model)

    @property
    def train_correct(self) -> Bool[np.ndarray, "models train"]:
        return self.train_prediction == self.train_targets[None, :]

    @property
    def test_correct(self) -> Bool[np.ndarray, "models test"]:
        return self.test_prediction == self.test_targets[None, :]

    @property
    def train_probability(self) -> Float[np.ndarray, "models train"]:
        return _probability(self.train_margin)

    @property
    def test_probability(self) -> Float[np.ndarray, "models test"]:
        return _probability(self.test_margin)

    def __len__(self) -> int:
        return self.num_models

    def __repr__(self) -> str:
        about = self.attributes
        identity = about["identity"]
        data, model = identity["data"], identity["model"]
        lines = [f"Ensemble of {self._finished} of {self._store.num_models} models of {model['name']}"]
        if self.num_diverged:
            where = "marked in .diverged" if self._kept_diverged else "left out"
            lines.append(f"  {self.num_diverged} models diverged, {where}")
        if self._is_part:
            lines.append(f"  {len(self)} of them are rows here")
        if isinstance(self._store, Parts) and self._store.missing:
            missing = ", ".join(map(str, self._store.missing))
            lines.append(f"  missing  part {missing} of {self._store.num_parts}")
        sizes = f"{data['num_train']} train, {data['num_test']} test, fingerprint {data['fingerprint'][:12]}"
        lines += [
            f"  data     {about['data_name']}: {sizes}",
            f"  in       {self._store.path or 'memory'}",
            f"  recipe   {', '.join(f'{name}={value}' for name, value in identity['recipe'].items())}",
        ]
        if self.overrides:
            lines.append(f"  a value for each model: {', '.join(self.overrides)}")
        return "\n".join(
            [
                *lines,
                f"  device   {about['execution']['device']}",
                f"  versions {', '.join(f'{name} {version}' for name, version in about['versions'].items())}",
                f"  commit   {about['git_commit'] or 'none: jaxinfl did not run from a git checkout'}",
                f"  command  {about['command']}",
            ]
        )


_OF_MODELS = {
    "_place",
    "diverged",
    "key_data",
    "masks",
    "model_index",
    "test_margin",
    "test_prediction",
    "train_margin",
    "train_prediction",
}
"""Attributes of `Ensemble` that have one row for each model."""

_predict: Callable[..., Any] | None = None


def predict_by(function: Callable[..., Any]) -> None:
    """Set the function that `Ensemble.predict` calls, which the training stage provides."""
    global _predict
    _predict = function


def _rows(models: Any) -> np.ndarray:
    """Check rows or a mask of them: a float index would lose its fraction, and a mask would be taken for rows 0 and 1."""
    array = as_array(models, "models", "rows of the ensemble")
    if array.size == 0:
        return np.zeros(0, np.intp)
    if array.dtype.kind not in "biu" or array.ndim > 1:
        raise TypeError(
            f"models has dtype {array.dtype} and shape {array.shape}; it takes rows of the ensemble, or a bool mask of them."
        )
    return array if array.dtype == np.bool_ else array.reshape(-1).astype(np.intp)


def _probability(margin: np.ndarray) -> np.ndarray:
    from scipy.special import expit  # 0.15 s, for which training need not wait

    return expit(margin)


__all__ = ["Ensemble", "predict_by"]
