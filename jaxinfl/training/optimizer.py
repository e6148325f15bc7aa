"""The optimizer and the learning rate of a recipe, from Optax."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxinfl.training.recipe import Recipe


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """The update direction of a recipe before the learning rate: the step is `-learning_rate * direction`.

    PyTorch's order for SGD: weight decay joins the gradient, then momentum, then the learning rate, so that a change
    of the learning rate does not rescale the momentum gathered before.
    """
    decay = optax.add_decayed_weights(recipe.weight_decay) if recipe.weight_decay else optax.identity()
    if recipe.optimizer == "adamw":
        return optax.chain(optax.scale_by_adam(), decay)
    momentum = optax.trace(recipe.momentum, nesterov=recipe.nesterov) if recipe.momentum else optax.identity()
    return optax.chain(decay, momentum)


def learning_rate(recipe: Recipe, epoch: Float[Array, ""]) -> Float[Array, ""]:
    """Learning rate at a fractional epoch, 0 at the start of training and `recipe.epochs` at its end.

    Epochs in place of steps, because models on subsets of different sizes take different numbers of steps.
    """
    peak, horizon = recipe.learning_rate, recipe.epochs - recipe.warmup_epochs
    schedule: optax.Schedule
    if recipe.schedule == "cosine":
        # horizon 0: the whole run is warm-up and the schedule after it is never reached.
        schedule = optax.cosine_decay_schedule(peak, max(horizon, 1e-6))
    elif recipe.schedule == "linear":
        schedule = optax.linear_schedule(peak, 0.0, max(horizon, 1e-6))
    elif recipe.schedule == "step":
        after_warmup = {m - recipe.warmup_epochs: recipe.decay_factor for m in recipe.milestones}
        schedule = optax.piecewise_constant_schedule(peak, after_warmup)
    else:
        schedule = optax.constant_schedule(peak)
    if recipe.warmup_epochs:
        warmup = optax.linear_schedule(0.0, peak, recipe.warmup_epochs)
        schedule = optax.join_schedules([warmup, schedule], [recipe.warmup_epochs])
    return jnp.asarray(schedule(epoch), jnp.float32)
