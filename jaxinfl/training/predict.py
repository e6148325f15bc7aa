"""What models whose weights were kept say of the examples, once more or over several views of each."""

from collections.abc import Collection
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import check_choice
from jaxinfl.datasets import Dataset
from jaxinfl.devices import own_devices
from jaxinfl.models import Model, ModuleFactory, Variables, build_model
from jaxinfl.models.lowering import ConvLowering
from jaxinfl.training.arguments import check_recipe, check_subsets
from jaxinfl.training.execution import choose_execution
from jaxinfl.training.initial import check_initial
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.programs import build_programs
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.shard import as_rows
from jaxinfl.training.step import Given, Scores
from jaxinfl.training.views import Views
from jaxinfl.undefined import nan_is_an_answer


class Predictions(NamedTuple):
    """As the arrays of these names in an `Ensemble`."""

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
    width: int | None = None,
    conv: ConvLowering | None = None,
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
      allow: as in `train_ensemble`.
      width, conv: as in `train_ensemble`; a run's own are in `Ensemble.attributes["execution"]`.

    Returns:
      With one view, the numbers that the run itself recorded: equal to the bit with its data, recipe, width, conv, kind and
      number of devices. Memory: the weights once more.

    Raises:
      TypeError, ValueError: arguments that do not fit, weights that are not finite among them; before anything is compiled.
    """
    check_choice(views, "views", get_args(Views))
    subsets = check_subsets(masks, data)
    check_recipe(recipe, data)
    shape = recipe.input_shape(data.image_shape)
    built = build_model(model, image_shape=shape, num_classes=data.num_classes, allow=allow)
    if weights is None:
        raise TypeError("weights is None; it takes what `Ensemble.weights()` returns.")
    given = Given(initial=check_initial(weights, built, len(subsets), "weights"))
    execution = choose_execution(built, recipe, data, width=width, conv=conv)
    # Trained programs and these are the same where the views are: a second call compiles nothing.
    how = () if views == "one" else (views,)
    programs = build_programs(built, recipe, execution, own_devices(), *how)
    device_data = programs.place_data(data)
    # Keys without effect: the weights are given, and nothing is drawn in evaluation.
    keys = ModelKeys.split(jax.random.split(jax.random.key(0), execution.group))
    found: list[Scores] = []
    with nan_is_an_answer():
        for first in range(0, len(subsets), execution.group):
            chunk = slice(first, min(first + execution.group, len(subsets)))
            models = chunk.stop - chunk.start
            placed, placed_keys = programs.place(subsets[chunk], keys[:models])
            states = programs.start(device_data, placed, placed_keys, programs.place_rows(given, chunk))
            scores = programs.evaluate(device_data, states, placed, jnp.int32(np.iinfo(np.int32).max))
            positions = programs.positions(models)
            found.append(jax.tree.map(lambda part, at=positions: np.asarray(part)[at], scores))
    rows, diverged = as_rows(jax.tree.map(lambda *parts: np.concatenate(parts), *found), data.num_train)
    return Predictions(**rows, diverged=diverged)


__all__ = ["Predictions", "predict"]
