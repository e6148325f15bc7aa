"""The three compiled programs of a job: the functions of one model, mapped over the models of a group and the devices.

A group is what one call trains: `devices * lanes * width` models. Each device takes its lanes one after another, and
the `width` models of a lane at once (vmap). On a CPU width 1 is right: one model's working set stays in the cache, and
one virtual device for each core keeps the cores apart. On a GPU many narrow models together fill the machine.
"""

import math
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
from jaxinfl.datasets.dataset import join_rows
from jaxinfl.datasets.inputs import by_name
from jaxinfl.models.layers import Kernels, use_kernels
from jaxinfl.training.inputs import DeviceData, Views
from jaxinfl.training.per_model import Given, ModelKeys
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import Chunk, Keys, Scores, Segment, State, Training, advance, evaluate, start

Tree = TypeVar("Tree")
EVALUATION_BATCH = 512
"""Number of examples evaluated at once: large enough for full GEMM rate, small enough that 32x32 activations fit a cache.

Fewer are evaluated at once where images are larger (`evaluation_batch`)."""


_COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    # XLA's CPU backend cuts loops into one part for each core, although every core has a device and a model of its own.
    # The parts then wait for each other's threads, and last bits depend on the number of devices.
    "cpu": {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"},
    # XLA tries several algorithms on a graphics card for each product, and the fastest differs from one process to the next: on an
    # H100 the last bits did too, so that a run that was killed went on with others. This option takes algorithms without trying them
    # and none that adds numbers in any order. There it cost 1.1 times the time of a step for convolutions and 1.3 to 1.6 for small
    # perceptrons, and saved two thirds of the time to compile (benchmarks/README.md).
    "gpu": {"xla_gpu_deterministic_ops": True},
}
_START_OPTIONS: dict[str, dict[str, Any]] = {
    # Initial weights are drawn once, and nine tenths of the time to compile the draws went into making them fast. For a CNN
    # of two layers it took 9.7 s on one core at LLVM's usual level and takes 2.2 s at this one; all of the training, 5.2 s.
    "cpu": {"xla_backend_optimization_level": 1},
}


def evaluation_batch(recipe: Recipe, data: DeviceData) -> int:
    """Number of examples evaluated at once: as many as have the pixels of `EVALUATION_BATCH` 32x32 images, at least 16.

    512 images of 299x299 pixels would take 4 GB for one layer of Inception v3. A recipe that trains in microbatches does so
    for want of memory, so no more examples are evaluated at once.
    """
    # The channels of an image become others in its first layer, so that they do not count.
    numbers = sum(math.prod(each.shape[1:3]) for each in jax.tree.leaves(data.inputs))
    fitting = max(16, EVALUATION_BATCH * 32 * 32 // max(numbers, 32 * 32))
    return min(data.num_examples, fitting, recipe.microbatch or fitting)


@dataclass(frozen=True)
class Execution:
    """One way of running the models. It decides speed and memory; only `width` and `kernels` change the models' bits."""

    platform: str
    """Name of JAX's platform, such as "cpu" or "gpu"."""
    num_devices: int
    """Number of devices that train."""
    lanes: int
    """Number of lanes, which a device trains one after another in one call."""
    width: int
    """Number of models in a lane, which a device trains at once."""
    kernels: Kernels
    """Kernels that compute the layers."""
    chunk: int = 1
    """Number of steps that a loop takes whose number of turns the compiler knows; a call takes whole chunks."""
    reason: str = field(default="", compare=False)
    """Reason for this choice, in words."""

    @property
    def group(self) -> int:
        """Number of models that one call trains."""
        return self.num_devices * self.lanes * self.width

    def change(self, width: int, kernels: Kernels, num_devices: int) -> "Execution":
        """Another way of running the models, on CPUs with about as many of them in one call."""
        lanes = max(1, self.lanes * self.width // width) if self.platform == "cpu" else self.lanes
        return Execution(self.platform, num_devices, lanes, width, kernels, self.chunk)

    def computed_steps(self, steps: Any) -> Any:
        """Number of steps that are computed for models of so many, an int or an array."""
        return steps if self.platform == "cpu" and self.width == 1 else -(-steps // self.chunk) * self.chunk


@dataclass(frozen=True)
class Programs:
    """Compiled functions of one group; arrays with a row for each model are split over the devices."""

    execution: Execution
    start: Callable[..., State]
    """Function that makes untrained models from `(data, masks, keys)`, or `(data, masks, keys, given)` with set values."""
    advance: Callable[[DeviceData, State, Array, Keys, Segment], State]
    evaluate: Callable[[DeviceData, State, Array, Array], Scores]
    """Function that evaluates models; its last argument bounds the number of batches, for timing."""
    models_axis: NamedSharding
    replicated: NamedSharding

    def positions(self, models: int) -> Int[np.ndarray, " models"]:
        """Positions of the first models of a group; they are dealt to the devices in turns, so that a few do not share one."""
        model, devices = np.arange(models), self.execution.num_devices
        return model % devices * (self.execution.group // devices) + model // devices

    def place(self, masks: Bool[np.ndarray, "models train"], keys: ModelKeys) -> tuple[Array, Keys]:
        """Put masks and keys of up to one group at their positions, filled up with empty subsets, which cost nothing."""
        filled = np.zeros((self.execution.group, masks.shape[1]), bool)
        filled[self.positions(len(masks))] = masks
        chosen = keys[self._rows(len(masks))]
        return jax.device_put((filled, Keys(chosen.init, chosen.order, chosen.augment)), self.models_axis)

    def place_rows(self, tree: Tree, rows: Int[np.ndarray, " models"]) -> Tree:
        """Put rows, at most one group, of arrays [models, ...] at their positions; free ones repeat the first row."""
        placed = rows[self._rows(len(rows))]
        return jax.device_put(jax.tree.map(lambda values: np.asarray(values)[placed], tree), self.models_axis)

    def _rows(self, models: int) -> Int[np.ndarray, " group"]:
        """Number of the model at each position of a group, 0 at free positions."""
        rows = np.zeros(self.execution.group, int)
        rows[self.positions(models)] = np.arange(models)
        return rows

    def place_data(self, data: Dataset) -> DeviceData:
        """Put the data set on every device."""
        targets = as_on_device(np.concatenate([data.train_targets, data.test_targets]))
        if not data.are_images:
            arrays = {
                name: as_on_device(join_rows(train, by_name(data.test_inputs)[name]))
                for name, train in by_name(data.train_inputs).items()
            }
            inputs = arrays if isinstance(data.train_inputs, dict) else arrays[""]
            return jax.device_put(DeviceData(inputs, targets), self.replicated)
        assert isinstance(data.train_inputs, np.ndarray) and isinstance(data.test_inputs, np.ndarray)
        pixels_axes = (1, 2)
        scaled = [data.train_inputs.mean(pixels_axes, dtype=np.float64) / 255]
        # Squares are taken in pieces: a float copy of a large training set would not fit in memory.
        pieces = np.array_split(data.train_inputs, -(-data.train_inputs.nbytes // 2**24))
        scaled.append(np.concatenate([np.square(piece / 255.0).mean(pixels_axes) for piece in pieces]))
        images = join_rows(data.train_inputs, data.test_inputs)
        placed: Any = (images, targets, *(part.astype(np.float32) for part in scaled))
        return DeviceData(*jax.device_put(placed, self.replicated))


def as_on_device(values: np.ndarray) -> np.ndarray:
    """An array in the type that it has on a device: float32, int32 or bool."""
    kind = {"f": np.float32, "i": np.int32, "u": np.int32}.get(values.dtype.kind, values.dtype)
    return values.astype(np.float32 if values.dtype.name == "bfloat16" else kind, copy=False)


def _over_models(execution: Execution, function: Callable[..., Any], *arrays: Any) -> Any:
    """Map the function of one model over the models of a device."""
    # Width 1 takes no vmap: a vmapped GEMM over one model is a batched GEMM, which XLA's CPU code runs slower.
    # The context is active while `lax.map` traces the function.
    with use_kernels(execution.kernels, execution.platform):
        if execution.width == 1:
            return jax.lax.map(lambda xs: function(*xs), arrays)
        return jax.lax.map(lambda xs: function(*xs), arrays, batch_size=execution.width)


def _chunk_of(execution: Execution) -> Chunk:
    """How the loop over steps is taken.

    A GPU copies the condition of a branch to the host, as it does that of a loop. Where it trains one model at a time, small
    parameters are joined. The parts of vectors of several models would have to be copied first, which takes longer than the
    launches that joining saves: 8.9 us a step in place of 7.3 for 128 MLPs of 784 inputs (estimated, H100).
    """
    on_cpu = execution.platform == "cpu"
    return Chunk(execution.chunk, branches=on_cpu, joined=not on_cpu and execution.width == 1)


# Cached: a second call of `train_ensemble` in one process compiles nothing again.
@lru_cache(maxsize=16)
def build_programs(
    training: Training, execution: Execution, devices: tuple[jax.Device, ...], views: Views = "one"
) -> Programs:
    """Build the programs for a model and recipe. They are compiled at their first call, once for all groups of a run.

    `evaluate` averages the logits over `views`.
    """
    mesh = Mesh(np.asarray(devices), ("models",))
    each, whole = PartitionSpec("models"), PartitionSpec()

    over_models = partial(_over_models, execution)

    def start_group(data: DeviceData, masks: Array, keys: Keys, given: Given) -> State:
        return over_models(partial(start, training, data), masks, keys, given)

    def advance_group(data: DeviceData, states: State, masks: Array, keys: Keys, segment: Segment) -> State:
        def one(state: State, mask: Array, keys: Keys) -> State:
            return advance(training, data, state, mask, keys, segment, _chunk_of(execution))

        return over_models(one, states, masks, keys)

    def evaluate_group(data: DeviceData, states: State, masks: Array, most: Array) -> Scores:
        batch_size = evaluation_batch(training.recipe, data)

        def one(state: State, mask: Array) -> Scores:
            batches = jnp.where(mask.any(), jnp.minimum(-(-data.num_examples // batch_size), most), 0)
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
