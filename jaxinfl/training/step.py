"""One model as pure functions of its subset and its keys: start it, train some epochs, evaluate it.

`programs.py` maps these over models. Nothing here knows of other models, devices or files.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from jaxinfl import native
from jaxinfl.models import Model, Variables, WithAuxiliary
from jaxinfl.models.layers import uses_native
from jaxinfl.store.kept import OUTPUT_DTYPE, OUTPUTS
from jaxinfl.tasks import CLASSIFICATION, Task
from jaxinfl.training.inputs import (
    DeviceData,
    DrawnViews,
    Scaling,
    Views,
    draw_views,
    mean_logits,
    measure_scaling,
    scale_inputs,
    scale_loss,
    scale_outputs,
    take_views,
)
from jaxinfl.training.optimizer import Layouts, learning_rate, make_optimizer
from jaxinfl.training.per_model import Given, with_overrides
from jaxinfl.training.recipe import Recipe

AUXILIARY_WEIGHT = 0.4
"""Weight of an auxiliary head's loss.

It is the weight in the TensorFlow program with which Szegedy et al. published Inception v3, whose paper gives none, and in
PyTorch's tutorial on fine-tuning torchvision's models."""


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
    scaling: Scaling
    """How the inputs, and the outputs of regression, are scaled by the statistics of the model's own subset."""
    loss: Float[Array, ""]
    """Mean training loss of the last epoch, or the sum so far in the middle of an epoch."""
    overrides: dict[str, Any] | None = None
    """Numbers in place of the recipe's, as the user gave them."""


class Scores(NamedTuple):
    """What one model says about every example, training examples first."""

    recorded: dict[str, Array]
    """What the task records of each example, [examples], by name, and the outputs where they are kept, [examples, ...]."""
    diverged: Bool[Array, ""]
    """Whether some output, what is recorded of it, or the last epoch's loss is not finite."""


class Segment(NamedTuple):
    """A part of a training, which one call into compiled code covers.

    It holds the steps `first_step <= step < last_step` of the epochs `first_epoch <= epoch < last_epoch`, counted from 0.
    """

    first_epoch: Int[Array, ""]
    last_epoch: Int[Array, ""]
    first_step: Int[Array, ""]
    last_step: Int[Array, ""]


class Chunk(NamedTuple):
    """Some steps in a row, which a loop takes whose number of turns the compiler knows.

    A GPU would otherwise copy the condition of the loop to the host before every step.
    """

    steps: int = 1
    """Number of the steps."""
    branches: bool = True
    """Whether a step beyond a model's last one is skipped by a branch, as on CPUs; else it is computed and dropped."""
    joined: bool = False
    """Whether the parameters, their momentum and batch norm's statistics are one vector each inside of the loop."""


class Training(NamedTuple):
    """What is the same for every model of a job."""

    model: Model
    recipe: Recipe
    task: Task = CLASSIFICATION
    images: bool = True
    """Whether the inputs are images, which are augmented and normalized by channel."""
    outputs_from: int | None = None
    """First example whose outputs are recorded, counted with the training examples first; None records no outputs."""


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
    model, recipe = training.model, training.recipe
    variables = model.init(keys.init) if given.initial is None else given.initial
    scaling = measure_scaling(recipe, data, mask)
    optimizer = make_optimizer(with_overrides(recipe, given.overrides)).init(variables.params)
    return State(variables, optimizer, scaling, jnp.float32(0), given.overrides)


def advance(
    training: Training,
    data: DeviceData,
    state: State,
    mask: Bool[Array, " train"],
    keys: Keys,
    segment: Segment,
    chunk: Chunk = Chunk(),  # noqa: B008 - immutable
) -> State:
    """Train the model for the steps of a segment, which begins with a chunk and ends with one, or with the epoch.

    Each step is a function of the state, the keys and the numbers of epoch and step, so that training in several calls
    gives the same bits as in one. The model's own subset decides how many steps an epoch has; an empty mask has none. In the
    rest of its last chunk the state passes through.
    """
    training = training._replace(recipe=with_overrides(training.recipe, state.overrides))
    if not chunk.joined:
        return _advance(training, data, state, mask, keys, segment, chunk)
    layouts = Layouts.of(state.variables)
    variables, optimizer = layouts.join(state.variables, state.optimizer, training.recipe)
    joined = state._replace(variables=variables, optimizer=optimizer)
    joined = _advance(training, data, joined, mask, keys, segment, chunk, layouts)
    variables, optimizer = layouts.split(joined.variables), layouts.split_optimizer(joined.optimizer)
    return joined._replace(variables=variables, optimizer=optimizer)


def _advance(
    training: Training,
    data: DeviceData,
    state: State,
    mask: Bool[Array, " train"],
    keys: Keys,
    segment: Segment,
    chunk: Chunk,
    layouts: Layouts | None = None,
) -> State:
    """Train the model by `training.recipe`; a state whose variables are joined has `layouts`."""
    recipe = training.recipe
    size = jnp.sum(mask, dtype=jnp.int32)
    steps = -(-size // recipe.batch_size)

    def epoch(number: Array, state: State) -> State:
        order = _epoch_order(jax.random.fold_in(keys.order, number), mask, recipe.batch_size)
        augment = jax.random.fold_in(keys.augment, number)

        def step(i: Array, state: State) -> State:
            position = i * recipe.batch_size
            index = lax.dynamic_slice_in_dim(order, position, recipe.batch_size)
            counted = jnp.minimum(size - position, recipe.batch_size)
            # Padding repeats an included example: an excluded one is not even read.
            index = jnp.where(jnp.arange(recipe.batch_size, dtype=jnp.int32) < counted, index, order[0])
            passed = number.astype(jnp.float32) + i.astype(jnp.float32) / steps.astype(jnp.float32)
            rate = learning_rate(recipe, passed)
            return _update(training, data, state, index, counted, jax.random.fold_in(augment, i), rate, layouts)

        def step_if_any(i: Array, state: State) -> State:
            if chunk.steps == 1:
                return step(i, state)
            if chunk.branches:
                return lax.cond(i < steps, lambda state: step(i, state), lambda state: state, state)
            return jax.tree.map(lambda new, old: jnp.where(i < steps, new, old), step(i, state), state)

        def take_chunk(number: Array, state: State) -> State:
            first = number * chunk.steps
            return lax.fori_loop(0, chunk.steps, lambda i, state: step_if_any(first + i, state), state)

        # The sum of the losses grows over the calls that share an epoch, and becomes a mean with its last step.
        state = state._replace(loss=jnp.where(segment.first_step == 0, jnp.float32(0), state.loss))
        last = -(-jnp.minimum(steps, segment.last_step) // chunk.steps)
        state = lax.fori_loop(segment.first_step // chunk.steps, last, take_chunk, state)
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
    """Compute what the task records of every training and test example, in evaluation mode.

    `batches` is the number of batches to go through; 0 skips a model that only fills up a group. Outputs are averaged over
    `views` of each image.
    """
    model, recipe, task = training.model, training.recipe, training.task
    total = data.num_examples
    variables = _cast(state.variables, recipe)

    def outputs_of(inputs: PyTree[Array]) -> Array:
        outputs = model.apply(variables, scale_inputs(recipe, state.scaling, inputs), train=False)[0]
        return scale_outputs(state.scaling, outputs)

    def record(first: Array) -> tuple[dict[str, Array], Array]:
        inputs = jax.tree.map(lambda rows: lax.dynamic_slice_in_dim(rows, first, batch_size), data.inputs)
        targets = lax.dynamic_slice_in_dim(data.targets, first, batch_size)
        outputs = mean_logits(outputs_of, inputs, recipe, views) if training.images else outputs_of(inputs)
        recorded = task.record(outputs, targets)
        numbers = [outputs, *(each for each in recorded.values() if jnp.issubdtype(each.dtype, jnp.floating))]
        finite = jnp.stack([jnp.all(jnp.isfinite(each)) for each in jax.tree.leaves(numbers)])
        if training.outputs_from is not None:
            recorded |= {OUTPUTS: outputs.astype(OUTPUT_DTYPE)}
        return recorded, ~jnp.all(finite)

    def batch(i: Array, scores: Scores) -> Scores:
        # The last batch overlaps the one before instead of being padded: same shape, same numbers written twice.
        first = jnp.minimum(i * batch_size, total - batch_size)
        recorded, wrong = record(first)
        updated = {
            name: lax.dynamic_update_slice_in_dim(values, recorded[name], first, 0)
            for name, values in scores.recorded.items()
        }
        return Scores(updated, scores.diverged | wrong)

    shapes, _ = jax.eval_shape(record, jnp.int32(0))
    blank = {name: jnp.zeros((total, *each.shape[1:]), each.dtype) for name, each in shapes.items()}
    scores = lax.fori_loop(0, batches, batch, Scores(blank, ~jnp.isfinite(state.loss)))
    if training.outputs_from is None:
        return scores
    kept = {OUTPUTS: scores.recorded[OUTPUTS][training.outputs_from :]}
    return scores._replace(recorded=scores.recorded | kept)


def _gradient(
    training: Training,
    data: DeviceData,
    state: State,
    batch: Batch,
    count: Float[Array, ""],
    dropout_key: PRNGKeyArray,
) -> Gradient:
    """Gradient of the loss summed over the counted examples of a batch, or of a part of one, divided by `count`."""
    model, recipe = training.model, training.recipe
    inputs = scale_inputs(recipe, state.scaling, _take_inputs(training, data, batch))
    targets = data.targets.at[batch.examples].get(mode="promise_in_bounds")

    # Multiply by the reciprocal: XLA divides differently on several devices (see `_share` in `models/layers/norm.py`).
    inverse = 1 / count

    def loss(params: PyTree[Array]) -> tuple[Array, tuple[Array, PyTree[Array]]]:
        variables = _cast(Variables(params, state.variables.stats), recipe)
        output, stats = model.apply(variables, inputs, train=True, mask=batch.counted, key=dropout_key)
        total = _total_loss(training, scale_outputs(state.scaling, output), targets, batch.counted)
        return total * scale_loss(state.scaling, inverse), (total, stats)

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
    counted: Int[Array, ""],
    key: PRNGKeyArray,
    rate: Float[Array, ""],
    layouts: Layouts | None = None,
) -> State:
    """Take one optimizer step on the first `counted` examples, and add their losses to `state.loss`.

    A state whose variables are joined has `layouts`: the network takes its variables apart, the update does not.
    """
    recipe = training.recipe
    augment_key, dropout_key = jax.random.split(key)
    views = DrawnViews()
    if training.images:
        height, width, channels = data.inputs.shape[1:]
        views = draw_views(augment_key, len(examples), (height, width, channels), recipe)
    batch = Batch(examples, jnp.arange(len(examples), dtype=jnp.int32) < counted, views)
    count = counted.astype(jnp.float32)
    gradient = _gradient if recipe.microbatch is None else _accumulate
    apart = state if layouts is None else state._replace(variables=layouts.split(state.variables))
    grads, total, stats = gradient(training, data, apart, batch, count, dropout_key)
    if layouts is not None:
        grads, stats = layouts.params.join(grads), layouts.stats.join(stats)
    direction, optimizer = make_optimizer(recipe).update(grads, state.optimizer, state.variables.params)
    params = jax.tree.map(lambda p, d: _step_parameter(p, rate, d), state.variables.params, direction)
    return state._replace(variables=Variables(params, stats), optimizer=optimizer, loss=state.loss + total)


def _take_inputs(training: Training, data: DeviceData, batch: Batch) -> PyTree[Array]:
    """The inputs of a batch, images as they are viewed."""
    if training.images:
        return take_views(data.inputs, batch.examples, batch.views, training.recipe)
    return jax.tree.map(lambda rows: rows.at[batch.examples].get(mode="promise_in_bounds"), data.inputs)


def _total_loss(training: Training, output: Any, targets: Array, counted: Bool[Array, " batch"]) -> Float[Array, ""]:
    """Loss summed over the counted examples; an auxiliary head's has its weight."""
    if isinstance(output, WithAuxiliary):
        auxiliary = _total_loss(training, output.auxiliary, targets, counted)
        return _total_loss(training, output.logits, targets, counted) + AUXILIARY_WEIGHT * auxiliary
    each = training.task.smoothed_loss(output, targets, training.recipe.label_smoothing)
    return jnp.sum(jnp.where(counted, each, 0))


def _step_parameter(param: Array, rate: Float[Array, ""], direction: Array) -> Array:
    """`param - rate * direction`, computed in float32 and kept in the parameter's own dtype."""
    return (param.astype(jnp.float32) - rate * direction.astype(jnp.float32)).astype(param.dtype)


def _epoch_order(key: PRNGKeyArray, mask: Bool[Array, " train"], batch_size: int) -> Int[Array, " padded"]:
    """Draw a random order of the included examples, with the excluded behind them, filled up to whole batches.

    It is one stable sort by (excluded, 31 random bits). An example's bits depend on the key and its own index alone, so
    models with and without an example, given one key, see the others in the same order. Both are in one word, because
    XLA's CPU sort takes 1.5 times as long with two.

    The native kernel draws the same bits, and words have one stable order, so it gives the same.
    """
    num_train = mask.shape[0]
    if uses_native() and native.draws_as_jax(key):
        order = native.random_order(key, mask)
    else:
        bits = jax.random.bits(key, (num_train,), jnp.uint32)
        rank = (bits >> jnp.uint32(1)) | jnp.where(mask, jnp.uint32(0), jnp.uint32(1 << 31))
        _, order = lax.sort((rank, jnp.arange(num_train, dtype=jnp.int32)), num_keys=1, is_stable=True)
    return jnp.pad(order, (0, -num_train % batch_size))


def _cast(variables: Variables, recipe: Recipe) -> Variables:
    """Cast parameters to the compute dtype; gradients reach the float32 originals through the cast."""
    params: Any = jax.tree.map(lambda p: p.astype(recipe.compute_dtype), variables.params)
    return Variables(params, variables.stats)
