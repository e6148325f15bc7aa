"""What models whose weights were kept say of the examples, once more or over several views of each."""

from collections.abc import Collection
from typing import NamedTuple, get_args

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import check_choice
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, ModuleFactory, Variables
from jaxinfl.models.layers import Kernels
from jaxinfl.training.execution import choose_execution
from jaxinfl.training.job import Job, check_subsets
from jaxinfl.training.loop import Work, as_rows, finished_shards
from jaxinfl.training.machine import Machine
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
    width: int | None = None,
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
      allow: as in `train_ensemble`.
      width, kernels: as in `train_ensemble`; a run's own are in `Ensemble.attributes["execution"]`.

    Returns:
      With one view, the numbers that the run itself recorded: equal to the bit with its data, recipe, width, kernels, kind and
      number of devices. Memory: the weights once more.

    Raises:
      TypeError, ValueError: arguments that do not fit, weights that are not finite among them; before anything is compiled.
    """
    check_choice(views, "views", get_args(Views))
    if weights is None:
        raise TypeError("weights is None; it takes what `Ensemble.weights()` returns.")
    # Keys without effect: the weights are given, and nothing is drawn in evaluation.
    keys = jax.random.split(jax.random.key(0), len(check_subsets(masks, data)))
    job = Job.checked(masks, keys, data, model, recipe, overrides=None, initial=weights, allow=allow, source="weights")
    with nan_is_an_answer():
        machine = Machine.for_job(job, choose_execution(job.model, recipe, data, width=width, kernels=kernels), views)
        with TrainingProgress(len(job), 0, shown=False) as bar:
            ((_, (scores, _)),) = finished_shards(Work(job, machine, None), [slice(0, len(job))], bar)
    rows, diverged = as_rows(scores, data.num_train)
    return Predictions(**rows, diverged=diverged)


__all__ = ["Predictions", "predict"]
