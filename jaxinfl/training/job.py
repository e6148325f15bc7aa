"""`Job`: everything on which the results of a run depend, checked once, on the host, before anything is compiled."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool

from jaxinfl import native
from jaxinfl.arguments import check_masks
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, ModuleFactory, build_model
from jaxinfl.store.layout import digest
from jaxinfl.store.weights import describe, weights_digest
from jaxinfl.training.per_model import Given, ModelKeys, as_keys, check_overrides, check_weights
from jaxinfl.training.recipe import Recipe, Shape
from jaxinfl.training.recipes import stored_side


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

    @classmethod
    def make(
        cls,
        masks: ArrayLike,
        keys: ArrayLike | ModelKeys,
        data: Dataset,
        model: str | ModuleFactory | Model,
        recipe: Recipe | None,
        *,
        overrides: Mapping[str, ArrayLike] | None = None,
        allow: Collection[str] = (),
    ) -> "Job":
        """Make a job of a user's arguments, which are those of `train_ensemble`.

        Raises:
          TypeError, ValueError: the arguments do not fit each other.
        """
        subsets = check_subsets(masks, data)
        model_keys = check_keys(keys, len(subsets))
        recipe = Recipe() if recipe is None else recipe
        check_recipe(recipe, data)
        numbers = check_overrides(overrides, recipe, len(subsets))
        # The native kernels are compiled while the model is built, where this machine does not have them yet.
        native.prepare()
        shape = recipe.input_shape(data.image_shape)
        built = build_model(model, image_shape=shape, num_classes=data.num_classes, allow=allow)
        return cls(subsets, model_keys, data, built, recipe, Given(numbers or None), frozenset(allow))

    def start_from(self, weights: object, argument: str) -> "Job":
        """The job of the same models, started from `weights`; `argument` is the user's name for them in errors.

        Raises:
          TypeError, ValueError: they are not weights of as many models of this architecture.
        """
        initial = check_weights(weights, self.model, len(self), argument)
        return replace(self, given=self.given._replace(initial=initial))

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, rows: slice | np.ndarray) -> "Job":
        given = jax.tree.map(lambda values: values[rows], self.given)
        return replace(self, masks=self.masks[rows], keys=self.keys[rows], given=given)

    @property
    def input_shape(self) -> Shape:
        """Height, width and channels of the images that the model sees."""
        return self.recipe.input_shape(self.data.image_shape)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that an epoch of the largest subset takes."""
        return -(-int(self.masks.sum(axis=1).max()) // self.recipe.batch_size)

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
        # These fields appear only where they are set, so that runs without them are described as before.
        if self.given.overrides:
            identity["overrides"] = {name: digest(values) for name, values in self.given.overrides.items()}
        if self.given.initial is not None:
            identity["initial"] = weights_digest(self.given.initial)
        return identity


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
    """Raise unless the recipe fits the images."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe is {type(recipe).__name__}; it takes a jaxinfl.Recipe.")
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


__all__ = ["Job", "check_keys", "check_recipe", "check_subsets"]
