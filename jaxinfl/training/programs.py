"""The three compiled programs of a job, for one way of running it: one model's functions mapped over the models of a group and the devices.

A group is what one call trains: `devices * lanes * width` models. Each device takes its lanes one after another, and
`width` models of a lane at once (vmap). On a CPU width 1 is right: one model's working set stays in the cache, and
one virtual device a core keeps the cores apart. On a GPU many narrow models together fill the machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from jaxinfl.datasets import Dataset
from jaxinfl.datasets.dataset import joined
from jaxinfl.models.layers import Kernels, use_kernels
from jaxinfl.training.per_model import Given, ModelKeys
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import DeviceData, Keys, Scores, Segment, State, Training, advance, evaluate, start
from jaxinfl.training.views import Views

Tree = TypeVar("Tree")
EVALUATION_BATCH = 512
"""Examples evaluated at once: large enough for full GEMM rate, small enough that 32x32 activations fit a cache. Of larger
images fewer (`evaluation_batch`)."""


_COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    # XLA's CPU backend cuts loops into a part a core, although every core has a device and a model of its own: the parts
    # then wait for each other's threads, and last bits depend on the number of devices.
    "cpu": {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"},
}
_START_OPTIONS: dict[str, dict[str, Any]] = {
    # Initial weights are drawn once, and nine tenths of the time to compile the draws went into making them fast: of a CNN of
    # two layers 9.7 s on one core at LLVM's usual level, 2.2 s at this one, where all of the training takes 5.2 s.
    "cpu": {"xla_backend_optimization_level": 1},
}


def evaluation_batch(recipe: Recipe, data: DeviceData) -> int:
    """Examples evaluated at once: as many pixels as `EVALUATION_BATCH` of 32x32 have, but 16 at least.

    512 images of 299x299 pixels would take 4 GB for one layer of Inception v3. A recipe that trains in small parts does so
    for want of memory, and is evaluated in parts no larger.
    """
    examples, height, width, _ = data.images.shape
    fitting = max(16, EVALUATION_BATCH * 32 * 32 // max(height * width, 32 * 32))
    return min(examples, fitting, recipe.microbatch or fitting)


@dataclass(frozen=True)
class Execution:
    """How the models are run. It changes speed and memory, and no bit but through `width` and `kernels`."""

    platform: str
    num_devices: int
    lanes: int
    """Models that a device trains one after another in one call."""
    width: int
    """Models that a device trains at once."""
    kernels: Kernels
    reason: str = field(default="", compare=False)
    """Why it is done so, in words."""

    @property
    def group(self) -> int:
        """Models of one call."""
        return self.num_devices * self.lanes * self.width

    def change(self, width: int, kernels: Kernels, num_devices: int) -> "Execution":
        """Another way of running the models; on CPUs with as many of them in a call, as far as that goes."""
        lanes = max(1, self.lanes * self.width // width) if self.platform == "cpu" else self.lanes
        return Execution(self.platform, num_devices, lanes, width, kernels)


@dataclass(frozen=True)
class Programs:
    """Compiled functions of one group; arrays of models lie split over the devices."""

    execution: Execution
    start: Callable[..., State]
    """Takes `(data, masks, keys)`, or `(data, masks, keys, given)` where the user sets something for each model."""
    advance: Callable[[DeviceData, State, Array, Keys, Segment], State]
    evaluate: Callable[[DeviceData, State, Array, Array], Scores]
    """The last argument bounds the batches, for timing."""
    models_axis: NamedSharding
    replicated: NamedSharding

    def positions(self, models: int) -> Int[np.ndarray, " models"]:
        """Where the first models of a group lie: dealt to the devices in turns, so that a few do not share one."""
        model, devices = np.arange(models), self.execution.num_devices
        return model % devices * (self.execution.group // devices) + model // devices

    def place(self, masks: Bool[np.ndarray, "models train"], keys: ModelKeys) -> tuple[Array, Keys]:
        """Masks and keys of up to one group at their positions, filled up with empty subsets (which cost nothing)."""
        filled = np.zeros((self.execution.group, masks.shape[1]), bool)
        filled[self.positions(len(masks))] = masks
        chosen = keys[self._rows(len(masks))]
        return jax.device_put((filled, Keys(chosen.init, chosen.order, chosen.augment)), self.models_axis)

    def place_rows(self, tree: Tree, chunk: slice) -> Tree:
        """Rows `chunk`, at most one group, of arrays [models, ...] at their positions; what is free repeats the first."""
        rows = chunk.start + self._rows(chunk.stop - chunk.start)
        return jax.device_put(jax.tree.map(lambda values: np.asarray(values)[rows], tree), self.models_axis)

    def _rows(self, models: int) -> Int[np.ndarray, " group"]:
        """The model at each position of a group; the first one where none is."""
        rows = np.zeros(self.execution.group, int)
        rows[self.positions(models)] = np.arange(models)
        return rows

    def place_data(self, data: Dataset) -> DeviceData:
        """The data set on every device."""
        pixels_axes = (1, 2)
        scaled = [data.train_inputs.mean(pixels_axes, dtype=np.float64) / 255]
        # In pieces: a float copy of a large training set would not fit in memory.
        pieces = np.array_split(data.train_inputs, -(-data.train_inputs.nbytes // 2**24))
        scaled.append(np.concatenate([np.square(piece / 255.0).mean(pixels_axes) for piece in pieces]))
        images = joined(data.train_inputs, data.test_inputs)
        labels = np.concatenate([data.train_targets, data.test_targets])
        arrays = (images, labels, *(part.astype(np.float32) for part in scaled))
        return DeviceData(*jax.device_put(arrays, self.replicated))


def _over_models(execution: Execution, function: Callable[..., Any], *arrays: Any) -> Any:
    """The function of one model mapped over those of a device."""
    # width 1 without vmap: a vmapped GEMM over one model is a batched GEMM, which XLA's CPU code runs slower.
    # The context reaches the trace, which happens inside `lax.map`.
    with use_kernels(execution.kernels):
        if execution.width == 1:
            return jax.lax.map(lambda xs: function(*xs), arrays)
        return jax.lax.map(lambda xs: function(*xs), arrays, batch_size=execution.width)


# Cached: a second call of `train_ensemble` in one process compiles nothing again.
@lru_cache(maxsize=16)
def build_programs(
    training: Training, execution: Execution, devices: tuple[jax.Device, ...], views: Views = "one"
) -> Programs:
    """Programs for a model and recipe. They are compiled at their first call, once for all groups of a run.

    `views` are what `evaluate` averages over.
    """
    mesh = Mesh(np.asarray(devices), ("models",))
    each, whole = PartitionSpec("models"), PartitionSpec()

    over_models = partial(_over_models, execution)

    def start_group(data: DeviceData, masks: Array, keys: Keys, given: Given) -> State:
        return over_models(partial(start, training, data), masks, keys, given)

    def advance_group(data: DeviceData, states: State, masks: Array, keys: Keys, segment: Segment) -> State:
        def one(state: State, mask: Array, keys: Keys) -> State:
            return advance(training, data, state, mask, keys, segment)

        return over_models(one, states, masks, keys)

    def evaluate_group(data: DeviceData, states: State, masks: Array, most: Array) -> Scores:
        batch_size = evaluation_batch(training.recipe, data)

        def one(state: State, mask: Array) -> Scores:
            batches = jnp.where(mask.any(), jnp.minimum(-(-len(data.images) // batch_size), most), 0)
            return evaluate(training, data, state, batches, batch_size, views)

        return over_models(one, states, masks)

    def over_devices(function: Callable[..., Any], *in_specs: PartitionSpec) -> Callable[..., Any]:
        # check_vma is off: no value crosses the models axis, and the check rejects loops that carry a constant start.
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=each, check_vma=False)

    start_all = over_devices(start_group, whole, each, each, each)
    advance_all = over_devices(advance_group, whole, each, each, each, whole)

    def start_given(data: DeviceData, masks: Array, keys: Keys, given: Given = Given()) -> State:  # noqa: B008
        return start_all(data, masks, keys, given)

    compiler, for_start = (options.get(execution.platform, {}) for options in (_COMPILER_OPTIONS, _START_OPTIONS))
    return Programs(
        execution,
        jax.jit(start_given, compiler_options=compiler | for_start),
        jax.jit(advance_all, compiler_options=compiler, donate_argnums=1),
        jax.jit(over_devices(evaluate_group, whole, each, each, whole), compiler_options=compiler),
        NamedSharding(mesh, each),
        NamedSharding(mesh, whole),
    )
