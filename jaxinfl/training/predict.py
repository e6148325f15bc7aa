"""Evaluation of models whose weights were kept.

The data, model and recipe of a run are found again from its own record, so that nobody has to name them twice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int

from jaxinfl.arguments import check_choice, quote
from jaxinfl.datasets import Dataset, DatasetUnavailable
from jaxinfl.datasets.load import load_again
from jaxinfl.models import AnyModel, Model, Variables, build_model, find_factory
from jaxinfl.models.layers import Kernels
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store import ensemble as store_ensemble
from jaxinfl.tasks import Task
from jaxinfl.training.inputs import Views
from jaxinfl.training.job import Job, check_recipe, check_subsets, output_shape, spec_of
from jaxinfl.training.loop import Work, as_rows, finished_shards
from jaxinfl.training.machine import Machine, choose_execution
from jaxinfl.training.per_model import ModelKeys, check_weights
from jaxinfl.training.programs import Execution
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.undefined import nan_is_an_answer


@dataclass(frozen=True, eq=False)
class Predictions:
    """What trained models say of training and test examples, under the names that it has in an `Ensemble`."""

    task: Task
    recorded: Mapping[str, np.ndarray]
    """What the task records, [models, train] as "train_margin" and [models, test] as "test_margin"; NaN and -1 for models whose
    outputs are not finite."""
    train_targets: np.ndarray
    test_targets: np.ndarray
    diverged: Bool[np.ndarray, " models"]
    """Whether some output of the model is not finite."""

    def train_score(self, name: str) -> np.ndarray:
        """A score of every model on every training example, [models, train], by its name; see `Ensemble.train_score`."""
        return self._score("train", name)

    def test_score(self, name: str) -> np.ndarray:
        """A score of every model on every test example, [models, test], by its name."""
        return self._score("test", name)

    def _score(self, split: str, name: str) -> np.ndarray:
        if name not in self.task.scores:
            raise ValueError(
                f"score is {quote(name)}; it takes one of {', '.join(map(repr, sorted(self.task.scores)))}."
            )
        targets = self.train_targets if split == "train" else self.test_targets
        return self.task.derive(name, lambda part: self.recorded[f"{split}_{part}"], targets)

    def __getattr__(self, name: str) -> np.ndarray:
        """What is recorded, as an attribute: `train_prediction`, `test_margin`."""
        recorded = self.__dict__.get("recorded", {})
        if name not in recorded:
            raise AttributeError(
                f"Predictions of the task {self.task.name!r} have no {name!r}; they have {sorted(recorded)}."
            )
        return recorded[name]


def predict(
    weights: Variables,
    masks: ArrayLike,
    *,
    data: Dataset,
    model: AnyModel,
    recipe: Recipe,
    views: Views = "one",
    kernels: Kernels | None = None,
    allow: Collection[str] = (),
) -> Predictions:
    """Predictions and margins of trained models on all training and test examples, over all devices of JAX.

    Args:
      weights: weights of models of one architecture, [models, ...], as `Ensemble.weights()` returns them.
      masks: bool [models, train], the subset of each model: with `normalization="subset"` its images are normalized by the
        mean and deviation of this subset.
      data: the examples. The training images must be those that the models were trained on, or the normalization differs.
      model: the architecture, as in `train_ensemble`.
      recipe: the recipe of the training, from which normalization and dtype come.
      views: "one" evaluates the image itself, "five" takes the mean of the logits over five crops, and "ten" over these and
        their mirror images (test-time augmentation, Appendix B). Crops are the center and the four corners. They have the
        size of the image, which is padded with black by 1/16 of its side, at least 1 pixel; so the center is the image
        itself. With `resized_crop` they have that size and are cut from the image itself. Take "five" where a mirror image
        means something else, as with digits.
      allow, kernels: as in `train_ensemble`; a run's own kernels are in `Ensemble.attributes["execution"]`.

    Returns:
      With one view, the numbers that the run itself recorded. They are equal to the bit where the data, the recipe, the
      kernels, and the kind and number of devices are those of the run. The run must have the default width, too, which
      `Ensemble.predict` does not ask for. Memory: the weights once more.

    Raises:
      TypeError, ValueError: arguments do not fit, or weights are not finite; raised before anything is compiled.
    """
    check_choice(views, "views", get_args(Views))
    if weights is None:
        raise TypeError("weights is None; it takes what `Ensemble.weights()` returns.")
    job = _make_trained_job(weights, masks, data, model, recipe, allow)
    return _evaluate(job, choose_execution(job.model, recipe, data, kernels=kernels), views)


def _make_trained_job(
    weights: object,
    masks: ArrayLike,
    data: Dataset,
    model: AnyModel,
    recipe: Recipe,
    allow: Collection[str] = (),
) -> Job:
    """Make the job of models that are trained already."""
    num_models = len(check_subsets(masks, data))
    check_recipe(recipe, data)
    built = build_model(model, inputs=spec_of(data, recipe), outputs=output_shape(data), allow=allow)
    # Before keys are made, for which a small program is compiled for each number of models.
    initial = check_weights(weights, built, num_models, "weights")
    # The keys are without effect: the weights are given, and nothing is drawn in evaluation.
    keys = ModelKeys.of_data(np.zeros((num_models, 3, 2), np.uint32))
    job = Job.make(masks, keys, data, built, recipe, allow=allow)
    return replace(job, given=job.given._replace(initial=initial))


def _evaluate(job: Job, execution: Execution, views: Views) -> Predictions:
    """Evaluate the models of a job with the weights that they start from."""
    with nan_is_an_answer():
        machine = Machine.for_job(job, execution, views)
        with TrainingProgress(len(job), 0, shown=False) as bar:
            ((_, (scores, _)),) = finished_shards(Work(job, machine, None), [slice(0, len(job))], bar)
    rows, diverged = as_rows(scores, job.data.num_test)
    data = job.data
    return Predictions(data.task, rows, data.train_targets, data.test_targets, diverged)


def recall_recipe(attributes: Mapping[str, Any]) -> Recipe:
    """Make the recipe of a run from the run's attributes."""
    return Recipe.from_dict(attributes["identity"]["recipe"])


def recall_data(attributes: Mapping[str, Any], given: Dataset | None = None) -> Dataset:
    """Return the data set of a run: `given` if it is not None, else the data loaded as they were loaded before.

    Raises:
      RunDirectoryError: the data set was made from arrays, cannot be loaded, or is not what it was.
    """
    name, source = attributes["data_name"], attributes["data_source"]
    if given is None and source is None:
        raise RunDirectoryError(f"the data set {name!r} of the run was made from arrays. Give it again: data=...")
    try:
        data = given if source is None or given is not None else load_again(source)
    except (DatasetUnavailable, ValueError, OSError) as error:
        raise RunDirectoryError(
            f"the data set {name!r} of the run cannot be loaded again ({error}). Give it: data=..."
        ) from error
    assert data is not None
    if data.fingerprint != attributes["identity"]["data"]["fingerprint"]:
        raise RunDirectoryError(
            f"{data.name!r} is not the data set of the run: its content differs from that of {name!r}, with which the run "
            "was made. Give that one: data=..."
        )
    return data


def recall_model(attributes: Mapping[str, Any], data: Dataset, given: AnyModel | None = None) -> Model:
    """Return the model of a run: `given` if it is not None, else the one found by its registered or imported name.

    Raises:
      RunDirectoryError: the model cannot be imported, or computes something else than it did.
    """
    recorded = attributes["identity"]["model"]
    model = find_factory(recorded["name"]) if given is None else given
    if model is None:
        raise RunDirectoryError(
            f"the model {recorded['name']} of the run cannot be imported by a name. Give it again: model=..."
        )
    inputs = spec_of(data, recall_recipe(attributes))
    built = build_model(model, inputs=inputs, outputs=output_shape(data), allow=attributes["allow"])
    if built.fingerprint != recorded["fingerprint"]:
        raise RunDirectoryError(
            f"{built.name} is not the model of the run: it computes something else than {recorded['name']} did when the run "
            "was made. Give that one: model=..."
        )
    return built


def predict_again(
    runs: Ensemble,
    inputs: ArrayLike | Mapping[str, ArrayLike] | None,
    targets: ArrayLike | None,
    models: Int[np.ndarray, " rows"] | Bool[np.ndarray, " models"] | None,
    views: Views,
    data: Dataset | None,
    model: AnyModel | None,
) -> Predictions:
    """Do what `Ensemble.predict` documents."""
    check_choice(views, "views", get_args(Views))
    if (inputs is None) != (targets is None):
        raise ValueError(
            "Only one of inputs and targets is given; they belong together. Give both, or neither for the run's own examples."
        )
    about = runs.attributes
    own = recall_data(about, data)
    built = recall_model(about, own, model)
    if inputs is not None and targets is not None:
        own = own.with_test(inputs, targets)
    job = _make_trained_job(
        runs.weights(models), runs.masks if models is None else runs.masks[models], own, built, recall_recipe(about)
    )
    recorded = about["execution"]
    execution = choose_execution(built, job.recipe, own, width=recorded["width"], kernels=recorded["kernels"])
    return _evaluate(job, execution, views)


# The store knows nothing of training, and an ensemble is what it returns.
store_ensemble.predict_by(predict_again)


__all__ = ["Predictions", "predict", "predict_again", "recall_data", "recall_model", "recall_recipe"]
