"""One model as pure functions of its subset and its keys: start it, train some epochs, evaluate it.

`programs.py` maps these over models. Nothing here knows of other models, devices or files.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, UInt8

from jaxinfl.models import Model, Output, Variables, WithAuxiliary
from jaxinfl.training.optimizer import learning_rate, make_optimizer
from jaxinfl.training.per_model import Given, with_overrides
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.views import DrawnViews, Views, draw_views, mean_logits, take_views

AUXILIARY_WEIGHT = 0.4
"""Weight of an auxiliary head's loss.

It is the weight in the TensorFlow program with which Szegedy et al. published Inception v3, whose paper gives none, and in
PyTorch's tutorial on fine-tuning torchvision's models."""


class DeviceData(NamedTuple):
    """The data set on a device, with the training examples first."""

    images: UInt8[Array, "examples h w c"]
    """Images of all examples, 0 to 255."""
    labels: Int[Array, " examples"]
    """Label of each example."""
    pixel_mean: Float[Array, "train c"]
    """Mean of pixels / 255 of each training image."""
    pixel_square: Float[Array, "train c"]
    """Mean of (pixels / 255)^2 of each training image."""


class Keys(NamedTuple):
    """The three keys of one model."""

    init: PRNGKeyArray
    order: PRNGKeyArray
    augment: PRNGKeyArray


class State(NamedTuple):
    """The values that one model carries from epoch to epoch."""

    variables: Variables
    """Weights and batch norm's statistics."""
    optimizer: PyTree[Array]
    """State of the optimizer."""
    pixel_mean: Float[Array, " c"]
    """Mean by which pixels / 255 are normalized."""
    pixel_std: Float[Array, " c"]
    """Standard deviation by which pixels / 255 are normalized."""
    loss: Float[Array, ""]
    """Mean training loss of the last epoch, or the sum so far in the middle of an epoch."""
    overrides: dict[str, Any] | None = None
    """Numbers in place of the recipe's, as the user gave them."""


class Scores(NamedTuple):
    """Predictions and margins of one model for every example, with the training examples first."""

    prediction: Int[Array, " examples"]
    """Predicted class of each example."""
    margin: Float[Array, " examples"]
    """Margin of each example, log(p_y / (1 - p_y)) of the true class y, natural log."""
    diverged: Bool[Array, ""]
    """Whether some logit or the last epoch's loss is not finite."""


class Segment(NamedTuple):
    """A part of a training, which one call into compiled code covers.

    It holds the steps `first_step <= step < last_step` of the epochs `first_epoch <= epoch < last_epoch`, counted from 0.
    """

    first_epoch: Int[Array, ""]
    last_epoch: Int[Array, ""]
    first_step: Int[Array, ""]
    last_step: Int[Array, ""]


class Training(NamedTuple):
    """The model and the recipe, which are the same for every model of a job."""

    model: Model
    recipe: Recipe


class Batch(NamedTuple):
    """The examples of one step."""

    examples: Int[Array, " batch"]
    """Indices of training examples; padding of the last batch comes last and repeats an included example."""
    counted: Bool[Array, " batch"]
    """Whether each example counts; padding does not."""
    views: DrawnViews
    """Random view of each image."""


class Gradient(NamedTuple):
    """The contribution of some examples to a step."""

    params: PyTree[Array]
    """Gradient of each parameter."""
    loss: Float[Array, ""]
    """Sum of the losses of these examples."""
    stats: PyTree[Array]
    """Batch norm's statistics after these examples."""


def start(
    training: Training,
    data: DeviceData,
    mask: Bool[Array, " train"],
    keys: Keys,
    given: Given = Given(),  # noqa: B008 - immutable
) -> State:
    """Make the untrained model."""
    model, recipe = training
    variables = model.init(keys.init) if given.initial is None else given.initial
    mean, std = _pixel_statistics(recipe, data, mask)
    optimizer = make_optimizer(with_overrides(recipe, given.overrides)).init(variables.params)
    return State(variables, optimizer, mean, std, jnp.float32(0), given.overrides)


def advance(
    training: Training,
    data: DeviceData,
    state: State,
    mask: Bool[Array, " train"],
    keys: Keys,
    segment: Segment,
) -> State:
    """Train the model for the steps of a segment.

    Each step is a function of the state, the keys and the numbers of epoch and step, so that training in several calls
    gives the same bits as in one. The model's own subset decides how many steps an epoch has; an empty mask has none.
    """
    recipe = with_overrides(training.recipe, state.overrides)
    training = training._replace(recipe=recipe)
    size = jnp.sum(mask, dtype=jnp.int32)
    steps = -(-size // recipe.batch_size)

    def epoch(number: Array, state: State) -> State:
        order = _epoch_order(jax.random.fold_in(keys.order, number), mask, recipe.batch_size)
        augment = jax.random.fold_in(keys.augment, number)

        def step(i: Array, state: State) -> State:
            position = i * recipe.batch_size
            index = lax.dynamic_slice_in_dim(order, position, recipe.batch_size)
            counted = position + jnp.arange(recipe.batch_size, dtype=jnp.int32) < size
            # Padding repeats an included example: an excluded one is not even read.
            index = jnp.where(counted, index, order[0])
            passed = number.astype(jnp.float32) + i.astype(jnp.float32) / steps.astype(jnp.float32)
            rate = learning_rate(recipe, passed)
            return _update(training, data, state, index, counted, jax.random.fold_in(augment, i), rate)

        # The sum of the losses grows over the calls that share an epoch, and becomes a mean with its last step.
        state = state._replace(loss=jnp.where(segment.first_step == 0, jnp.float32(0), state.loss))
        state = lax.fori_loop(segment.first_step, jnp.minimum(steps, segment.last_step), step, state)
        ends = (segment.last_step >= steps) & ((segment.first_step < steps) | (segment.first_step == 0))
        return state._replace(loss=jnp.where(ends, state.loss / jnp.maximum(size, 1).astype(jnp.float32), state.loss))

    return lax.fori_loop(segment.first_epoch, segment.last_epoch, epoch, state)


def evaluate(
    training: Training,
    data: DeviceData,
    state: State,
    batches: Array,
    batch_size: int,
    views: Views = "one",
) -> Scores:
    """Compute the model's prediction and margin on every training and test example, in evaluation mode.

    `batches` is the number of batches to go through; 0 skips a model that only fills up a group. Logits are averaged over
    `views` of each image.
    """
    model, recipe = training
    total = len(data.images)
    variables = _cast(state.variables, recipe)

    def logits_of(images: UInt8[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        logits: Any = model.apply(variables, _normalize(recipe, state, images), train=False)[0]
        return logits

    def batch(i: Array, scores: Scores) -> Scores:
        # The last batch overlaps the one before instead of being padded: same shape, same numbers written twice.
        first = jnp.minimum(i * batch_size, total - batch_size)
        images = lax.dynamic_slice_in_dim(data.images, first, batch_size)
        labels = lax.dynamic_slice_in_dim(data.labels, first, batch_size)
        logits = mean_logits(logits_of, images, recipe, views)
        prediction = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return Scores(
            lax.dynamic_update_slice_in_dim(scores.prediction, prediction, first, 0),
            lax.dynamic_update_slice_in_dim(scores.margin, margin(logits, labels), first, 0),
            scores.diverged | ~jnp.all(jnp.isfinite(logits)),
        )

    blank = Scores(jnp.zeros(total, jnp.int32), jnp.zeros(total, jnp.float32), ~jnp.isfinite(state.loss))
    return lax.fori_loop(0, batches, batch, blank)


def margin(logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Margin log(p_y / (1 - p_y)), computed as z_y - logsumexp of the other logits, so no probability near 1 is rounded."""
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.sum(jnp.where(true, logits, 0), axis=-1)
    return own - jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=-1)


def _gradient(
    training: Training,
    data: DeviceData,
    state: State,
    batch: Batch,
    count: Float[Array, ""],
    dropout_key: PRNGKeyArray,
) -> Gradient:
    """Gradient of the loss summed over the counted examples of a batch, or of a part of one, divided by `count`."""
    model, recipe = training
    images = _normalize(recipe, state, take_views(data.images, batch.examples, batch.views, recipe))
    labels = data.labels.at[batch.examples].get(mode="promise_in_bounds")

    # Multiply by the reciprocal: XLA divides differently on several devices (see `_share` in `models/layers/norm.py`).
    inverse = 1 / count

    def loss(params: PyTree[Array]) -> tuple[Array, tuple[Array, PyTree[Array]]]:
        variables = _cast(Variables(params, state.variables.stats), recipe)
        output, stats = model.apply(variables, images, train=True, mask=batch.counted, key=dropout_key)
        total = _total_loss(output, labels, batch.counted, recipe)
        return total * inverse, (total, stats)

    grads, (total, stats) = jax.grad(loss, has_aux=True)(state.variables.params)
    return Gradient(grads, total, stats)


def _accumulate(
    training: Training,
    data: DeviceData,
    state: State,
    batch: Batch,
    count: Float[Array, ""],
    dropout_key: PRNGKeyArray,
) -> Gradient:
    """Add up the `_gradient` of the parts of a batch, each of `recipe.microbatch` examples."""
    size: Any = training.recipe.microbatch

    def add(i: Array, sums: Gradient) -> Gradient:
        part = jax.tree.map(lambda drawn: lax.dynamic_slice_in_dim(drawn, i * size, size), batch)
        reached = state._replace(variables=Variables(state.variables.params, sums.stats))
        own = _gradient(training, data, reached, part, count, jax.random.fold_in(dropout_key, i))
        return Gradient(jax.tree.map(jnp.add, sums.params, own.params), sums.loss + own.loss, own.stats)

    # Counted examples come first. A part without any is not run: batch norm has no mean over none.
    parts = -(-jnp.sum(batch.counted, dtype=jnp.int32) // size)
    zeros = jax.tree.map(jnp.zeros_like, state.variables.params)
    return lax.fori_loop(0, parts, add, Gradient(zeros, jnp.float32(0), state.variables.stats))


def _update(
    training: Training,
    data: DeviceData,
    state: State,
    examples: Int[Array, " batch"],
    counted: Bool[Array, " batch"],
    key: PRNGKeyArray,
    rate: Float[Array, ""],
) -> State:
    """Take one optimizer step on the counted examples, and add their losses to `state.loss`."""
    recipe = training.recipe
    augment_key, dropout_key = jax.random.split(key)
    height, width, channels = data.images.shape[1:]
    batch = Batch(examples, counted, draw_views(augment_key, len(examples), (height, width, channels), recipe))
    count = jnp.sum(batch.counted, dtype=jnp.float32)
    gradient = _gradient if recipe.microbatch is None else _accumulate
    grads, total, stats = gradient(training, data, state, batch, count, dropout_key)
    direction, optimizer = make_optimizer(recipe).update(grads, state.optimizer, state.variables.params)
    params = jax.tree.map(lambda p, d: _step_parameter(p, rate, d), state.variables.params, direction)
    return state._replace(variables=Variables(params, stats), optimizer=optimizer, loss=state.loss + total)


def _total_loss(
    output: Output, labels: Int[Array, " batch"], counted: Bool[Array, " batch"], recipe: Recipe
) -> Float[Array, ""]:
    """Sum the cross entropy over the counted examples; that of an auxiliary head has its weight."""
    if isinstance(output, WithAuxiliary):
        auxiliary = _total_loss(output.auxiliary, labels, counted, recipe)
        return _total_loss(output.logits, labels, counted, recipe) + AUXILIARY_WEIGHT * auxiliary
    # Targets are one-hot: the gradient of an indexed loss is a scatter, which XLA runs one element at a time on CPUs.
    targets = optax.smooth_labels(jax.nn.one_hot(labels, output.shape[-1], dtype=jnp.float32), recipe.label_smoothing)
    each = optax.softmax_cross_entropy(output, targets)
    return jnp.sum(jnp.where(counted, each, 0))


def _step_parameter(param: Array, rate: Float[Array, ""], direction: Array) -> Array:
    """`param - rate * direction`, computed in float32 and kept in the parameter's own dtype."""
    return (param.astype(jnp.float32) - rate * direction.astype(jnp.float32)).astype(param.dtype)


def _epoch_order(key: PRNGKeyArray, mask: Bool[Array, " train"], batch_size: int) -> Int[Array, " padded"]:
    """Draw a random order of the included examples, with the excluded behind them, filled up to whole batches.

    It is one stable sort by (excluded, 31 random bits). An example's bits depend on the key and its own index alone, so
    models with and without an example, given one key, see the others in the same order. Both are in one word, because
    XLA's CPU sort takes 1.5 times as long with two.
    """
    num_train = mask.shape[0]
    bits = jax.random.bits(key, (num_train,), jnp.uint32)
    rank = (bits >> jnp.uint32(1)) | jnp.where(mask, jnp.uint32(0), jnp.uint32(1 << 31))
    _, order = lax.sort((rank, jnp.arange(num_train, dtype=jnp.int32)), num_keys=1, is_stable=True)
    return jnp.pad(order, (0, -num_train % batch_size))


def _pixel_statistics(
    recipe: Recipe, data: DeviceData, mask: Bool[Array, " train"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    channels = data.images.shape[-1]
    if recipe.normalization == "none":
        return jnp.zeros(channels, jnp.float32), jnp.ones(channels, jnp.float32)
    if recipe.normalization != "subset":
        means, deviations = jnp.asarray(recipe.normalization, jnp.float32).T
        return means, deviations
    share = 1 / jnp.maximum(jnp.sum(mask), 1).astype(jnp.float32)
    mean = jnp.sum(jnp.where(mask[:, None], data.pixel_mean, 0) * share, axis=0)
    square = jnp.sum(jnp.where(mask[:, None], data.pixel_square, 0) * share, axis=0)
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0))
    # A constant channel has nothing to scale; 1/255 is the smallest step between two pixels.
    return mean, jnp.maximum(deviation, 1 / 255)


def _normalize(recipe: Recipe, state: State, images: UInt8[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
    pixels = images.astype(jnp.float32) / 255
    return ((pixels - state.pixel_mean[None, None, None]) / state.pixel_std[None, None, None]).astype(
        recipe.compute_dtype
    )


def _cast(variables: Variables, recipe: Recipe) -> Variables:
    """Cast parameters to the compute dtype; gradients reach the float32 originals through the cast."""
    params: Any = jax.tree.map(lambda p: p.astype(recipe.compute_dtype), variables.params)
    return Variables(params, variables.stats)
