"""FLOPs and memory of a run, from shapes alone: nothing is compiled."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxinfl.datasets import Dataset
from jaxinfl.models import Model
from jaxinfl.training.execution import Execution, forward_flops
from jaxinfl.training.optimizer import make_optimizer
from jaxinfl.training.recipe import Recipe


def training_flops(model: Model, recipe: Recipe, data: Dataset, subset_size: float) -> float:
    """FLOPs of training one model on so many examples and evaluating it on all; the backward pass counts twice a forward."""
    seen = 3 * recipe.epochs * subset_size + data.num_train + data.num_test
    return forward_flops(model, recipe.input_shape(data.image_shape)) * seen


def memory_bytes(model: Model, recipe: Recipe, data: Dataset, execution: Execution) -> int:
    """Bytes on one device: the data set, the state of the models of a call, and the largest step.

    What XLA fuses away or holds besides is not known before compiling: take it as a guide to within a factor of two.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    optimizer = jax.eval_shape(make_optimizer(recipe).init, variables.params)
    state = _bytes((variables, optimizer))
    step = _bytes(variables.params) + _kept_for_backward(model, recipe, recipe.input_shape(data.image_shape))
    images = data.train_images.nbytes + data.test_images.nbytes
    return images + execution.lanes * execution.width * state + execution.width * step


@lru_cache
def _kept_for_backward(model: Model, recipe: Recipe, input_shape: tuple[int, int, int]) -> int:
    """Bytes of the activations that the gradient of one batch needs, or of one of the parts that it is taken in."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    batch = recipe.microbatch or recipe.batch_size
    images = jax.ShapeDtypeStruct((batch, *input_shape), recipe.compute_dtype)
    mask = jax.ShapeDtypeStruct((batch,), jnp.bool_)

    def backward(params: Any, stats: Any, images: jax.Array, mask: jax.Array) -> Any:
        cast = jax.tree.map(lambda p: p.astype(recipe.compute_dtype), params)
        return jax.vjp(
            lambda p: model.apply(variables._replace(params=p, stats=stats), images, train=True, mask=mask), cast
        )[1]

    return _bytes(jax.eval_shape(backward, variables.params, variables.stats, images, mask))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


__all__ = ["memory_bytes", "training_flops"]
