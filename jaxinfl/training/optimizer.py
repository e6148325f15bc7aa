"""The optimizer and the learning rate of a recipe, from Optax."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from jaxinfl.models import Variables
from jaxinfl.models.vectors import Layout, is_joined
from jaxinfl.training.recipe import Recipe


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Make the optimizer that gives the update direction of a recipe; the step is `-learning_rate * direction`.

    SGD has PyTorch's order: weight decay joins the gradient, then momentum, then the learning rate. So a change of the
    learning rate does not rescale the momentum that was gathered before.
    """
    decay = _weight_decay(recipe.weight_decay) if _acts(recipe.weight_decay) else optax.identity()
    if recipe.optimizer == "adamw":
        return optax.chain(optax.scale_by_adam(), decay)
    momentum = _momentum(recipe.momentum, recipe.nesterov) if _acts(recipe.momentum) else optax.identity()
    return optax.chain(decay, momentum)


def _acts(factor: float | Float[Array, ""]) -> bool:
    """Whether a factor can change anything. A factor that differs from model to model is traced and can, even as 0."""
    return not isinstance(factor, float) or factor != 0.0


def _plus(tree: PyTree[Array], factor: float | Float[Array, ""], other: PyTree[Array]) -> PyTree[Array]:
    """`tree + factor * other`. The factor takes each array's dtype, traced or not, so that a bfloat16 state stays one."""
    return jax.tree.map(lambda x, y: x + jnp.asarray(factor).astype(y.dtype) * y, tree, other)


def _weight_decay(rate: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Weight decay like `optax.add_decayed_weights`, with a rate that may be traced."""
    return optax.stateless(lambda grads, params: _plus(grads, rate, params))


def _momentum(factor: float | Float[Array, ""], nesterov: bool) -> optax.GradientTransformation:
    """Momentum like `optax.trace`, with a factor that may be traced."""

    def update(
        grads: PyTree[Array], state: optax.TraceState, params: PyTree[Array] | None = None
    ) -> tuple[PyTree[Array], optax.TraceState]:
        velocity = _plus(grads, factor, state.trace)
        return _plus(grads, factor, velocity) if nesterov else velocity, optax.TraceState(velocity)

    return optax.GradientTransformation(optax.trace(0.0).init, update)


def learning_rate(recipe: Recipe, epoch: Float[Array, ""]) -> Float[Array, ""]:
    """Learning rate at a fractional epoch, 0 at the start of training and `recipe.epochs` at its end.

    Time is counted in epochs and not in steps, because models on subsets of different sizes take different numbers of steps.
    """
    peak, horizon = recipe.learning_rate, recipe.epochs - recipe.warmup_epochs
    schedule: optax.Schedule
    if recipe.schedule == "cosine":
        # Where horizon is 0, the whole run is warm-up and the schedule after it is never reached.
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


class Layouts(NamedTuple):
    """The places of a model's variables in the vectors that they are joined to."""

    params: Layout
    stats: Layout

    @classmethod
    def of(cls, variables: Variables) -> "Layouts":
        """Lay out the variables of a model."""
        return cls(Layout.of(variables.params), Layout.of(variables.stats))

    def join(self, variables: Variables, optimizer: PyTree[Array], recipe: Recipe) -> tuple[Variables, PyTree[Array]]:
        """Join variables, and what the optimizer of a recipe keeps for each parameter."""
        joined = Variables(self.params.join(variables.params), self.stats.join(variables.stats))
        # The state that the optimizer would make for vectors has vectors wherever it keeps something for each parameter.
        places = jax.eval_shape(make_optimizer(recipe).init, joined.params)
        return joined, jax.tree.map(
            lambda place, part: self.params.join(part) if is_joined(place) else part,
            places,
            optimizer,
            is_leaf=is_joined,
        )

    def split(self, joined: Variables) -> Variables:
        """Split joined variables."""
        return Variables(self.params.split(joined.params), self.stats.split(joined.stats))

    def split_optimizer(self, optimizer: PyTree[Array]) -> PyTree[Array]:
        """Split what was joined of an optimizer's state."""
        return jax.tree.map(
            lambda part: self.params.split(part) if is_joined(part) else part, optimizer, is_leaf=is_joined
        )
