"""`Job`: everything on which the results of a run depend, checked once, on the host, before anything is compiled."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int

from jaxinfl import native
from jaxinfl.arguments import check_masks
from jaxinfl.datasets import Dataset
from jaxinfl.datasets.inputs import by_name
from jaxinfl.models import AnyModel, ArraySpec, InputSpec, Model, build_model
from jaxinfl.models.checks import couples_examples
from jaxinfl.models.fingerprint import spell_out
from jaxinfl.store.device_rows import DEVICE, DEVICE_ROWS
from jaxinfl.store.kept import OUTPUT_DTYPE, OUTPUTS, Keep, Kept, name_at_epoch
from jaxinfl.store.layout import RowArray, digest
from jaxinfl.store.weights import describe, weights_digest
from jaxinfl.tasks import CLASSIFICATION, NEXT_TOKEN, Regression, Task
from jaxinfl.training.per_model import Given, ModelKeys, as_keys, check_overrides, check_weights
from jaxinfl.training.programs import as_on_device
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.recipes import stored_side
from jaxinfl.training.step import Training


@dataclass(frozen=True, eq=False)
class Job:
    """One model on each subset, trained by one recipe on one data set. `job[rows]` is the job of some of its models."""

    masks: Bool[np.ndarray, "models train"]
    """`masks[t, i]` says whether model t is trained on example i."""
    keys: ModelKeys
    """The random keys of every model."""
    data: Dataset
    model: Model
    recipe: Recipe
    given: Given = Given()  # noqa: RUF009 - immutable
    """Numbers in place of the recipe's, and initial weights, [models, ...]; nothing by default."""
    allow: frozenset[str] = frozenset()
    """Checks of the model that the user switched off, by name."""
    kept: Kept = Kept()  # noqa: RUF009 - immutable
    """What is kept of each model besides its final scores. It changes no model, and is no part of the identity."""

    @classmethod
    def make(
        cls,
        masks: ArrayLike,
        keys: ArrayLike | ModelKeys,
        data: Dataset,
        model: AnyModel,
        recipe: Recipe | None,
        *,
        overrides: Mapping[str, ArrayLike] | None = None,
        allow: Collection[str] = (),
        **keep: Unpack[Keep],
    ) -> "Job":
        """Make a job of a user's arguments, which are those of `train_ensemble`.

        Raises:
          TypeError, ValueError: the arguments do not fit each other.
        """
        subsets = check_subsets(masks, data)
        model_keys = check_keys(keys, len(subsets))
        recipe = Recipe() if recipe is None else recipe
        check_recipe(recipe, data)
        what = Kept.check(recipe.epochs, **keep)
        numbers = check_overrides(overrides, recipe, len(subsets))
        # The native kernels are compiled while the model is built, where this machine does not have them yet.
        native.prepare()
        inputs = spec_of(data, recipe)
        built = build_model(model, inputs=inputs, outputs=output_shape(data), allow=allow)
        check_task(data, built, inputs)
        job = cls(subsets, model_keys, data, built, recipe, Given(numbers or None), frozenset(allow), what)
        if what.weights:
            job.describe_weights()  # raises where they cannot be kept
        return job

    def start_from(self, weights: object, argument: str) -> "Job":
        """The job of the same models, started from `weights`; `argument` is the user's name for them in errors.

        Raises:
          TypeError, ValueError: they are not weights of as many models of this architecture.
        """
        initial = check_weights(weights, self.model, len(self), argument)
        return replace(self, given=self.given._replace(initial=initial))

    def __len__(self) -> int:
        return len(self.masks)

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the fields is computed again in another process, so that a difference shows in the identity.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __getitem__(self, rows: slice | np.ndarray) -> "Job":
        given = jax.tree.map(lambda values: values[rows], self.given)
        return replace(self, masks=self.masks[rows], keys=self.keys[rows], given=given)

    def only(self, rows: slice) -> "Job":
        """The job of some models; this job itself where these are all, because its identity may be known already."""
        return self if len(range(len(self))[rows]) == len(self) else self[rows]

    @property
    def inputs(self) -> InputSpec:
        """What the model sees of one example."""
        return spec_of(self.data, self.recipe)

    @property
    def training(self) -> Training:
        """What is the same for every model."""
        outputs_from = {None: None, "test": self.data.num_train, "both": 0}[self.kept.outputs]
        return Training(self.model, self.recipe, self.data.task, self.data.are_images, outputs_from)

    @cached_property
    def recorded_types(self) -> dict[str, str]:
        """Types of what the task records of an example, by name."""
        data = self.data
        if data.task is CLASSIFICATION:
            # Class numbers, and -1 for models that diverged.
            return {"margin": "float32", "prediction": "int16" if data.num_classes < 2**15 else "int32"}
        outputs, targets = _shapes_of_two(data, self.model, self.inputs)
        return {name: each.dtype.name for name, each in jax.eval_shape(data.task.record, outputs, targets).items()}

    @cached_property
    def row_arrays(self) -> dict[str, RowArray]:
        """The arrays with a row for each model that training fills, by the names that they have in a run."""
        data = self.data
        found = {DEVICE: DEVICE_ROWS}
        epochs = ["", *(name_at_epoch("", epoch) for epoch in self.kept.epochs)]
        for split, examples in (("train", data.num_train), ("test", data.num_test)):
            for name, dtype in self.recorded_types.items():
                found |= {f"{split}_{name}{at}": RowArray((examples,), dtype, (split,)) for at in epochs}
            if self.kept.outputs in (split, "both"):
                shape = _shapes_of_two(data, self.model, self.inputs)[0].shape[1:]
                axes = (split, *(f"output_{axis}" for axis in range(len(shape))))
                found[f"{split}_{OUTPUTS}"] = RowArray((examples, *shape), OUTPUT_DTYPE, axes)
        return found

    @property
    def evaluations(self) -> int:
        """Number of times that each model is evaluated: after the epochs that are kept, and after the last one."""
        return len({*self.kept.epochs, self.recipe.epochs})

    @cached_property
    def steps(self) -> Int[np.ndarray, " models"]:
        """Number of steps that an epoch of each model takes."""
        return -(-self.masks.sum(axis=1) // self.recipe.batch_size)

    def describe_weights(self) -> list[dict[str, Any]]:
        """Names, shapes and dtypes of one model's weights, as JSON values.

        Raises:
          TypeError: the weights cannot be kept.
        """
        return describe(jax.eval_shape(self.model.init, jax.random.key(0)))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that must be the same for a run to go on; errors name the first difference in this order."""
        data, model = self.data, self.model
        identity: dict[str, Any] = {
            "data": {
                "num_train": data.num_train,
                "num_test": data.num_test,
                "num_classes": data.num_classes,
                "fingerprint": data.fingerprint,
            },
            "masks": digest(self.masks),
            "keys": digest(self.keys.data()),
            "model": {"name": model.name, "num_params": model.num_params, "fingerprint": model.fingerprint},
            "recipe": self.recipe.to_dict(),
        }
        if data.task is not CLASSIFICATION:
            identity["task"] = {
                "name": data.task.name,
                "scores": sorted(data.task.scores),
                "fingerprint": fingerprint_of_task(data, model, self.inputs),
            }
        # These fields appear only where they are set, so that runs without them are described as before.
        if self.given.overrides:
            identity["overrides"] = {name: digest(values) for name, values in self.given.overrides.items()}
        if self.given.initial is not None:
            identity["initial"] = weights_digest(self.given.initial)
        return identity


def fingerprint_of_task(data: Dataset, model: Model, inputs: InputSpec) -> str:
    """Hash of the computation of loss and scores."""
    outputs, targets = _shapes_of_two(data, model, inputs)
    content = hashlib.sha256()
    for name in sorted(data.task.scores):
        content.update(name.encode() + spell_out(jax.make_jaxpr(data.task.scores[name])(outputs, targets)))
    return content.hexdigest()


def _shapes_of_two(data: Dataset, model: Model, inputs: InputSpec) -> tuple[Any, jax.ShapeDtypeStruct]:
    """Shapes of the outputs and targets of two examples."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False)[0], variables, inputs.batch(2))
    kind = as_on_device(data.train_targets[:1]).dtype
    return outputs, jax.ShapeDtypeStruct((2, *data.train_targets.shape[1:]), kind)


def check_subsets(masks: ArrayLike, data: Dataset) -> Bool[np.ndarray, "models train"]:
    """Return the masks as an array; raise unless they fit the data set and no subset is empty."""
    if not isinstance(data, Dataset):
        raise TypeError(
            f"data is {type(data).__name__}; it takes a jaxinfl.Dataset, from load_dataset or made from arrays."
        )
    checked = check_masks(masks)
    if checked.shape[1] != data.num_train:
        remedy = (
            "It seems to be [examples, models]: pass masks.T."
            if checked.shape[0] == data.num_train
            else f"Draw new ones with draw_subsets({len(checked)}, {data.num_train})."
        )
        raise ValueError(
            f"masks has {checked.shape[1]} columns, but {data.name} has {data.num_train} training examples; "
            f"it takes one column for each example. {remedy}"
        )
    empty = np.flatnonzero(~checked.any(axis=1))
    if empty.size:
        raise ValueError(
            f"masks has {empty.size} empty subsets (first: {empty[:5].tolist()}); it takes at least one example for each "
            "model. Leave out these rows, or use a larger ratio."
        )
    return checked


def check_keys(keys: ArrayLike | ModelKeys, num_models: int) -> ModelKeys:
    """Return the keys by source of randomness; raise unless there is one for each model."""
    given = keys if isinstance(keys, ModelKeys) else as_keys(keys, "keys")
    if len(given) != num_models:
        raise ValueError(
            f"keys has {len(given)} keys for {num_models} models (rows of masks); it takes one key for each model: "
            f"jax.random.split(jax.random.key(0), {num_models})."
        )
    return ModelKeys.split(given)


def check_recipe(recipe: Recipe, data: Dataset) -> None:
    """Raise unless the recipe fits the inputs and the task."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe is {type(recipe).__name__}; it takes a jaxinfl.Recipe.")
    if recipe.label_smoothing and not data.task.smooths_labels:
        raise ValueError(
            f"recipe: label_smoothing is {recipe.label_smoothing:g}, which is without effect for the task {data.task.name!r}; it "
            "takes classification. Leave it out."
        )
    if recipe.standardize_targets and not isinstance(data.task, Regression):
        raise ValueError(
            f"recipe: standardize_targets is True, which is without effect for the task {data.task.name!r}; it takes regression. Leave "
            "it out."
        )
    if not data.are_images:
        _check_recipe_without_images(recipe, data)
        return
    if recipe.standardize:
        raise ValueError(
            "recipe: standardize is True, which is without effect for images; it takes floats. Images have `normalization`."
        )
    height, width, channels = data.image_shape
    if not isinstance(recipe.normalization, str) and len(recipe.normalization) != channels:
        raise ValueError(
            f"recipe: normalization names {len(recipe.normalization)} channels; {data.name} has {channels}. "
            "jaxinfl.channel_statistics(data) gives a pair for each."
        )
    if recipe.resized_crop is not None and recipe.resized_crop > min(height, width):
        raise ValueError(
            f"recipe: resized_crop is {recipe.resized_crop}, larger than the images ({height}x{width}), of which the center "
            f"is evaluated. Load the data with image_size={stored_side(recipe.resized_crop)}, or crop less."
        )
    if recipe.crop_padding >= min(height, width):
        raise ValueError(
            f"recipe: crop_padding is {recipe.crop_padding}, as large as the images ({height}x{width}); "
            "a crop could miss the image. The usual value is 1/8 of the side."
        )


def _check_recipe_without_images(recipe: Recipe, data: Dataset) -> None:
    plain = Recipe()
    for name in ("crop_padding", "resized_crop", "flip", "normalization"):
        if getattr(recipe, name) != getattr(plain, name):
            raise ValueError(
                f"recipe: {name} is {getattr(recipe, name)!r}, which is without effect for {data.name}; it takes images, and "
                "floats have `standardize`. Leave it out."
            )
    floats = any(array.dtype == "float32" for array in spec_of(data, recipe).arrays)
    if recipe.standardize and not floats:
        raise ValueError(
            f"recipe: standardize is True, which is without effect for {data.name}; it takes floats, and these inputs have none. "
            "Leave it out."
        )


def spec_of(data: Dataset, recipe: Recipe) -> InputSpec:
    """What a model sees of one example of a data set."""
    if data.are_images:
        return InputSpec.of_shape(recipe.input_shape(data.image_shape))
    kinds = {"b": "bool", "i": "int32", "u": "int32"}
    return InputSpec(
        tuple(
            ArraySpec(name, array.shape[1:], kinds.get(array.dtype.kind, "float32"), data.categories.get(name, 0))
            for name, array in by_name(data.train_inputs).items()
        )
    )


def output_shape(data: Dataset) -> tuple[int, ...] | None:
    """Shape of the outputs that the task takes of one example; None where the task is a user's own."""
    if data.num_outputs is None:
        return None
    length = data.train_targets.shape[1:] if data.task is NEXT_TOKEN else ()
    return (*length, data.num_outputs)


def check_task(data: Dataset, model: Model, inputs: InputSpec) -> None:
    """Raise unless the functions of a user's own task give one number an example, which depends on that example alone.

    Raises:
      TypeError, ValueError: a function fails on outputs and targets of this shape, gives another shape or type, couples examples,
        or gives what is not finite for the first examples and random outputs.
    """
    task = data.task
    if type(task) is not Task:
        return
    outputs, _ = _shapes_of_two(data, model, inputs)
    targets = as_on_device(data.train_targets[:2] if data.num_train > 1 else np.repeat(data.train_targets, 2, axis=0))
    drawn = np.random.default_rng(0).normal(size=outputs.shape).astype(np.float32)
    for name, function in task.scores.items():
        where = f"task {task.name!r}: {'loss' if name == 'loss' else f'score {name!r}'}"
        given = f"outputs {outputs.dtype} {outputs.shape} and targets {targets.dtype} {targets.shape}"
        try:
            traced, found = jax.make_jaxpr(function, return_shape=True)(outputs, targets)
        except Exception as error:  # whatever a user's function raises
            raise ValueError(f"{where} fails on {given}: {error}") from error
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        floats = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
        if shape != (2,) or not (floats or (dtype == np.bool_ and name != "loss")):
            raise ValueError(
                f"{where} gives {dtype} {shape} for {given}; it takes one float{'' if name == 'loss' else ' or bool'} an example, "
                "[batch]. Take the mean or sum over the other axes."
            )
        if couples_examples(traced, (outputs.shape, targets.shape)):
            raise ValueError(
                f"{where} of one example depends on another one of its batch; it takes functions of each example alone. The sum over "
                "the batch is jaxinfl's."
            )
        if floats and not np.isfinite(np.asarray(function(drawn, targets))).all():
            raise ValueError(
                f"{where} is not finite for the first examples and random outputs; it takes finite numbers."
            )


__all__ = ["Job", "check_keys", "check_recipe", "check_subsets", "output_shape", "spec_of"]
