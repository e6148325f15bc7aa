"""What a run knows of its job: its data, model and recipe are found again, so that nobody has to say them twice."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from jaxinfl.datasets import Dataset, DatasetUnavailable, load_dataset
from jaxinfl.models import Model, ModuleFactory, build_model, find_factory
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store import ensemble as store_ensemble
from jaxinfl.training.predict import Predictions, predict
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.views import Views


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
    views: Views,
    data: Dataset | None,
    model: str | ModuleFactory | Model | None,
) -> Predictions:
    """What `Ensemble.predict` returns."""
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
    execution = about["execution"]
    return predict(
        runs.weights(),
        runs.masks,
        data=own,
        model=built,
        recipe=recall_recipe(about),
        views=views,
        width=execution["width"],
        kernels=execution["kernels"],
    )


def _as_tuple(value: object) -> object:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


# The store knows nothing of training, and an ensemble is what it returns.
store_ensemble.predict_by(predict_again)

__all__ = ["predict_again", "recall_data", "recall_model", "recall_recipe"]
