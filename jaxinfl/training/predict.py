"""What models whose weights were kept say of examples, and what a run knows of its job.

The data, model and recipe of a run are found again, so that nobody has to name them twice.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import check_choice
from jaxinfl.datasets import Dataset, DatasetUnavailable, load_dataset
from jaxinfl.models import Model, ModuleFactory, Variables, build_model, find_factory
from jaxinfl.models.layers import Kernels
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store import ensemble as store_ensemble
from jaxinfl.training.job import Job, check_recipe, check_subsets
from jaxinfl.training.loop import Work, as_rows, finished_shards
from jaxinfl.training.machine import Machine, choose_execution
from jaxinfl.training.per_model import check_weights
from jaxinfl.training.programs import Execution
from jaxinfl.training.progress import TrainingProgress
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.views import Views
from jaxinfl.undefined import nan_is_an_answer


class Predictions(NamedTuple):
    """What trained models say, in arrays with the names that they have in an `Ensemble`."""

    train_prediction: Int[np.ndarray, "models train"]
    """Predicted class, int32; -1 for models whose logits are not finite."""
    test_prediction: Int[np.ndarray, "models test"]
    train_margin: Float[np.ndarray, "models train"]
    """float32, log(p_y / (1 - p_y)) of the true class y, natural log; NaN for models whose logits are not finite."""
    test_margin: Float[np.ndarray, "models test"]
    diverged: Bool[np.ndarray, " models"]
    """Some logit is not finite."""


def predict(
    weights: Variables,
    masks: ArrayLike,
    *,
    data: Dataset,
    model: str | ModuleFactory | Model,
    recipe: Recipe,
    views: Views = "one",
    kernels: Kernels | None = None,
    allow: Collection[str] = (),
) -> Predictions:
    """Predictions and margins of trained models on all training and test examples, over all devices of JAX.

    Args:
      weights: of models of one architecture, [models, ...], as `Ensemble.weights()` returns them.
      masks: bool [models, train], what each was trained on: with `normalization="subset"` a model sees images by the
        mean and deviation of its own subset.
      data: the examples. The training images must be those that the models were trained on, or the normalization differs.
      model: the architecture, as in `train_ensemble`.
      recipe: that of the training; normalization and dtype come from it.
      views: "one", the image itself; "five", the mean of the logits over five crops; "ten", over these and their mirror
        images (test-time augmentation, Appendix B). A crop is of the image's own size, from the image padded with black by
        1/16 of its side, at least 1 pixel: the center (the image itself) and the four corners; with `resized_crop` it is of
        that size, from the image itself. Take "five" where a mirror image means something else, as with digits.
      allow, kernels: as in `train_ensemble`; a run's own kernels are in `Ensemble.attributes["execution"]`.

    Returns:
      With one view, the numbers that the run itself recorded. They are equal to the bit where the data, the recipe, the kernels, and the
      kind and number of devices are those of the run, and it was trained at the default width; `Ensemble.predict` takes the
      run's own. Memory: the weights once more.

    Raises:
      TypeError, ValueError: arguments that do not fit, weights that are not finite among them; before anything is compiled.
    """
    check_choice(views, "views", get_args(Views))
    if weights is None:
        raise TypeError("weights is None; it takes what `Ensemble.weights()` returns.")
    job = _trained_job(weights, masks, data, model, recipe, allow)
    return _evaluate(job, choose_execution(job.model, recipe, data, kernels=kernels), views)


def _trained_job(
    weights: object,
    masks: ArrayLike,
    data: Dataset,
    model: str | ModuleFactory | Model,
    recipe: Recipe,
    allow: Collection[str] = (),
) -> Job:
    """The job of models that are trained already."""
    num_models = len(check_subsets(masks, data))
    check_recipe(recipe, data)
    shape = recipe.input_shape(data.image_shape)
    built = build_model(model, image_shape=shape, num_classes=data.num_classes, allow=allow)
    # Before the keys are split, for which a program is compiled for each number of models.
    initial = check_weights(weights, built, num_models, "weights")
    # The keys are without effect: the weights are given, and nothing is drawn in evaluation.
    keys = jax.random.split(jax.random.key(0), num_models)
    job = Job.make(masks, keys, data, built, recipe, allow=allow)
    return replace(job, given=job.given._replace(initial=initial))


def _evaluate(job: Job, execution: Execution, views: Views) -> Predictions:
    """What the models of a job say as they start."""
    with nan_is_an_answer():
        machine = Machine.for_job(job, execution, views)
        with TrainingProgress(len(job), 0, shown=False) as bar:
            ((_, (scores, _)),) = finished_shards(Work(job, machine, None), [slice(0, len(job))], bar)
    rows, diverged = as_rows(scores, job.data.num_train)
    return Predictions(**rows, diverged=diverged)


def recall_recipe(attributes: Mapping[str, Any]) -> Recipe:
    """The recipe of a run from what it says of itself."""
    fields: dict[str, Any] = {name: _as_tuple(value) for name, value in attributes["identity"]["recipe"].items()}
    return Recipe(**fields)


def recall_data(attributes: Mapping[str, Any], given: Dataset | None = None) -> Dataset:
    """The data set of a run: `given` if there is one, else loaded as it was loaded before.

    Raises:
      RunDirectoryError: it was made from arrays, cannot be loaded, or is not what it was.
    """
    name, source = attributes["data_name"], attributes["data_source"]
    if given is None and source is None:
        raise RunDirectoryError(f"the data set {name!r} of the run was made from arrays, so it must be given: data=...")
    try:
        data = given if source is None or given is not None else load_dataset(**source)
    except (DatasetUnavailable, ValueError, OSError) as error:
        raise RunDirectoryError(
            f"the data set {name!r} of the run cannot be loaded again ({error}). Give it: data=..."
        ) from error
    assert data is not None
    if data.fingerprint != attributes["identity"]["data"]["fingerprint"]:
        raise RunDirectoryError(
            f"{data.name!r} is not the data set of the run: its content differs from that of {name!r}, with which the run "
            "was made. Give that: data=..."
        )
    return data


def recall_model(
    attributes: Mapping[str, Any], data: Dataset, given: str | ModuleFactory | Model | None = None
) -> Model:
    """The model of a run: `given` if there is one, else by its registered name, or imported by module and name.

    Raises:
      RunDirectoryError: it cannot be imported, or computes something else than it did.
    """
    recorded = attributes["identity"]["model"]
    model = find_factory(recorded["name"]) if given is None else given
    if model is None:
        raise RunDirectoryError(
            f"the model {recorded['name']} of the run can be imported by no name, so it must be given: model=..."
        )
    shape = recall_recipe(attributes).input_shape(data.image_shape)
    built = build_model(model, image_shape=shape, num_classes=data.num_classes, allow=attributes["allow"])
    if built.fingerprint != recorded["fingerprint"]:
        raise RunDirectoryError(
            f"{built.name} is not the model of the run: it computes something else than {recorded['name']} did when the run "
            "was made. Give that: model=..."
        )
    return built


def predict_again(
    runs: Ensemble,
    inputs: ArrayLike | None,
    targets: ArrayLike | None,
    models: Int[np.ndarray, " rows"] | Bool[np.ndarray, " models"] | None,
    views: Views,
    data: Dataset | None,
    model: str | ModuleFactory | Model | None,
) -> Predictions:
    """What `Ensemble.predict` returns."""
    check_choice(views, "views", get_args(Views))
    if (inputs is None) != (targets is None):
        raise ValueError(
            "inputs and targets belong together: give both, or neither for the examples of the run itself."
        )
    about = runs.attributes
    own = recall_data(about, data)
    built = recall_model(about, own, model)
    if inputs is not None and targets is not None:
        own = Dataset(
            train_images=own.train_images,
            train_labels=own.train_labels,
            test_images=inputs,
            test_labels=targets,
            class_names=own.class_names,
            name=f"{own.name}, other examples",
        )
    job = _trained_job(
        runs.weights(models), runs.masks if models is None else runs.masks[models], own, built, recall_recipe(about)
    )
    recorded = about["execution"]
    execution = choose_execution(built, job.recipe, own, width=recorded["width"], kernels=recorded["kernels"])
    return _evaluate(job, execution, views)


def _as_tuple(value: object) -> object:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


# The store knows nothing of training, and an ensemble is what it returns.
store_ensemble.predict_by(predict_again)


__all__ = ["Predictions", "predict", "predict_again", "recall_data", "recall_model", "recall_recipe"]
