"""`Machine`: the programs of a job on the devices of this process, with its data on them.

A machine is a value. A machine that trains half as many models at once, or with other kernels, is another value.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import get_args

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import Int

from jaxinfl import devices as host
from jaxinfl import native
from jaxinfl.arguments import check_choice, check_whole
from jaxinfl.datasets import Dataset
from jaxinfl.models import InputSpec, Model
from jaxinfl.models.flops import count_flops
from jaxinfl.models.layers import Kernels, default_kernels, use_kernels
from jaxinfl.models.model import count_bytes
from jaxinfl.models.way import MEMORY_SHARE, Batches, Way, choose_way, estimate_step, list_ways
from jaxinfl.training.inputs import DeviceData, Views
from jaxinfl.training.job import Job, spec_of
from jaxinfl.training.optimizer import make_optimizer
from jaxinfl.training.programs import Execution, Programs, as_on_device, build_programs, evaluation_batch
from jaxinfl.training.recipe import Recipe
from jaxinfl.units import format_bytes

_log = logging.getLogger("jaxinfl")

_UNKNOWN_MEMORY = 16 * 10**9
"""Bytes of memory that an accelerator is taken to have if it does not tell."""
_EXAMPLE_BYTES = 32
"""Bytes that each model has for each example: its mask, the order of an epoch, and what is recorded."""
_MOST_WIDTH = 2**16
CALL_FLOPS = 2.5e10
"""FLOPs of one call on a device beside which the overhead of the call, about 1 ms, does not matter."""
_CPU_CHUNK, _GPU_CHUNK = 8, 64
"""Largest number of steps of a chunk. On a CPU 8 cost as much as one: 0.99 to 1.03 times the time in five networks. On a GPU the
condition of the outer loop, which is copied to the host, then counts for nothing."""
_GPU_CALL_FLOPS = 2e13
"""FLOPs of a chunk on a GPU, at most: a fraction of a second, for which Ctrl-C waits."""
_LOST, _CONDITION = 0.03, 0.02
"""Largest share of the steps that may be computed and dropped, and cost of one condition of a loop on a GPU, in steps."""


class OutOfMemory(RuntimeError):
    """The device or the host cannot hold even one model at a time."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def check_fits(data: Dataset, used: Sequence[jax.Device]) -> None:
    """Raise unless the images fit into the free memory of each device.

    Raises:
      OutOfMemory: they do not fit; the message says the size of the data set and what would fit.
    """
    size = data.nbytes
    free = host.free_memory(used[0])
    # The devices of a CPU share its memory.
    copies = len(used) if used[0].platform == "cpu" else 1
    if free is None or size * copies <= free:
        return
    examples, fitting = data.num_train + data.num_test, free // copies
    what, smaller = "examples", ""
    if data.are_images:
        height, width, channels = data.image_shape
        what = f"images of {height}x{width}x{channels}"
        side = int(min(height, width) * (fitting / size) ** 0.5)
        smaller = (
            f", or all of them with {side} pixels a side (load_dataset(..., image_size={side}))" if side >= 8 else ""
        )
    each = f" {copies} times (once for each of the {copies} devices)" if copies > 1 else ""
    raise OutOfMemory(
        f"{data.name} takes {format_bytes(size)} of memory{each}: {examples} {what}; "
        f"{format_bytes(free)} are free on {host.describe(tuple(used[:1]))}. What would fit: {fitting * examples // size} "
        f"of these {what.partition(' ')[0]}{smaller}."
    )


@dataclass(frozen=True)
class Machine:
    """The compiled programs of one job and its data on the devices, for one way of running it."""

    execution: Execution
    devices: tuple[jax.Device, ...]
    programs: Programs
    data: DeviceData

    @classmethod
    def for_job(cls, job: Job, execution: Execution, views: Views = "one", near: "Machine | None" = None) -> "Machine":
        """Make the machine that runs a job in one way; it averages over `views` when it evaluates.

        `near` is a machine for the same job, whose data are reused where the devices are the same.

        Raises:
          OutOfMemory: the images do not fit on a device.
        """
        devices = host.own_devices()[: execution.num_devices]
        placed = near.data if near is not None and near.devices == devices else None
        if placed is None:
            check_fits(job.data, devices)
        # Training evaluates one view, too, with the same programs: a second call compiles nothing.
        programs = build_programs(job.training, execution, devices, *(() if views == "one" else (views,)))
        return cls(execution, devices, programs, programs.place_data(job.data) if placed is None else placed)

    def give_up(self, job: Job, error: Exception) -> None:
        """Raise the `OutOfMemory` of a process that must keep its width, or any other `error` again."""
        if not out_of_memory(error):
            raise error
        raise OutOfMemory(
            f"{host.describe(self.devices)}: {self.execution.width} x {job.model.name} at once do not fit in memory with batches of "
            f"{job.recipe.batch_size}: {str(error).splitlines()[0]}. Other processes train models of this run at this width, so it "
            "stays. Train these models where there is more memory, or begin another run_dir with a smaller width."
        ) from error

    def halve(self, job: Job, error: Exception) -> "Machine":
        """Make a machine for half as many models at once if memory ran out; raise any other `error` again.

        Raises:
          OutOfMemory: only one model was trained at a time already.
        """
        if not out_of_memory(error):
            raise error
        width = self.execution.width
        if width == 1:
            raise OutOfMemory(
                f"{host.describe(self.devices)}: not even one {job.model.name} at a time fits in memory with batches of "
                f"{job.recipe.batch_size}: {str(error).splitlines()[0]}. Use a smaller batch_size or images."
            ) from error
        half = self.execution.change(width // 2, self.execution.kernels, self.execution.num_devices)
        _log.warning(
            "Out of memory with %s models at once on a device: going on with %s. Pass width=%s to start like that.",
            width,
            half.width,
            half.width,
        )
        return Machine.for_job(job, replace(half, reason=f"{width} do not fit in memory"), near=self)


def warn_of_idle_cores() -> None:
    """Warn where JAX was started before it could be given a device for each core."""
    if host.unused_cores() > 0:
        _log.warning(
            "JAX was started before jaxinfl was imported and has %s CPU device(s) for %s cores. "
            "Import jaxinfl first, or set JAX_NUM_CPU_DEVICES, to use them all.",
            len(host.own_devices()),
            host.num_cores(),
        )


def choose_execution(
    model: Model,
    recipe: Recipe,
    data: Dataset,
    *,
    width: int | None = None,
    kernels: Kernels | None = None,
    num_devices: int | None = None,
    steps: Int[np.ndarray, " models"] | None = None,
) -> Execution:
    """Choose the execution for all devices of this process.

    It does not depend on the number of models, so that the bits of a model do not either. On an accelerator it follows from
    the shapes of the network's layers and from the size of the memory. `steps` are the steps of an epoch of each model, which
    decide on a GPU how many of them a chunk has; no bit depends on that.

    Raises:
      ValueError: the width is below 1, or the kernels are unknown or cannot be used here.
    """
    platform = jax.default_backend()
    if kernels is not None:
        check_choice(kernels, "kernels", get_args(Kernels))
    if kernels == "native" and (platform != "cpu" or native.why_unavailable()):
        reason = native.why_unavailable() if platform == "cpu" else f"JAX runs on {platform}"
        raise ValueError(
            f"kernels is 'native', hand-written kernels for CPUs, which cannot be used here: {reason}. "
            + ("Install a C++ compiler, or take" if platform == "cpu" else "Leave kernels out, or take")
            + " 'gemm' for a new run."
        )
    width = None if width is None else check_whole(width, "width", 1, _MOST_WIDTH, "models")
    if platform != "cpu" and (width is None or kernels is None):
        memory, inputs, shapes = _card_memory(), spec_of(data, recipe), _shapes_of(data)
        ways = list_card_ways(model, recipe, inputs, shapes, memory, platform=platform, width=width, kernels=kernels)
        way = choose_way(ways)
        width, kernels, reason = way.width, way.kernels, _describe(way, memory)
        if not way.fits:
            _log.warning("%s: %s. It may run out of memory.", model.name, reason)
    else:
        kernels, reason = (kernels, "as asked for") if kernels is not None else _choose_kernels(platform)
        width = width or 1
    flops = forward_flops(model, spec_of(data, recipe))
    per_model = max(3 * flops * data.num_train * max(recipe.epochs, 1), 1.0)
    lanes = int(np.clip(CALL_FLOPS / (per_model * width), 1, 16)) if platform == "cpu" else 1
    per_step = max(3 * flops * recipe.batch_size * width, 1.0)
    if platform == "cpu":
        chunk = int(np.clip(CALL_FLOPS / per_step, 1, _CPU_CHUNK))
    else:
        chunk = choose_chunk(steps, int(np.clip(_GPU_CALL_FLOPS / per_step, 1, _GPU_CHUNK)))
    return Execution(platform, num_devices or len(host.own_devices()), lanes, width, kernels, chunk, reason)


def choose_chunk(steps: Int[np.ndarray, " models"] | None, most: int) -> int:
    """The number of steps of a chunk, up to `most`, that costs least of those that drop at most 3% of the steps; 1 drops none."""
    if steps is None:
        return 1
    lost = {
        chunk: (-(-steps // chunk) * chunk).sum() / max(steps.sum(), 1) - 1
        for chunk in range(1, min(most, int(steps.max())) + 1)
    }
    # The outer loop's condition waits for the device, about as long as some launches take.
    return min((share + _CONDITION / chunk, chunk) for chunk, share in lost.items() if share <= _LOST)[1]


def list_card_ways(
    model: Model,
    recipe: Recipe,
    inputs: InputSpec,
    data: DeviceData,
    memory: int,
    *,
    platform: str = "gpu",
    width: int | None = None,
    kernels: Kernels | None = None,
) -> dict[Way, float]:
    """List how many models a card with so many bytes of memory may train at once, and by which kernels.

    Each way comes with what a step of one model costs by it (`Step.cost`). Nothing is compiled, and of `data` only shapes are
    read. A width or kernels that are given are no choice.
    """
    choices: tuple[Kernels, ...] = (default_kernels(platform),) if kernels is None else (kernels,)
    if kernels is None and platform != "tpu" and kernels_differ(model, inputs, platform):
        choices = ("gemm", "xla")
    params = jax.eval_shape(model.init, jax.random.key(0)).params
    optimizer = jax.eval_shape(make_optimizer(recipe).init, params)
    parts = recipe.batch_size // (recipe.microbatch or recipe.batch_size)
    batches = Batches(recipe.batch_size, parts, evaluation_batch(recipe, data), recipe.compute_dtype)
    moments = round(count_bytes(optimizer) / max(count_bytes(params), 1))
    step_by = {choice: estimate_step(model, inputs, batches, choice, moments) for choice in choices}
    return list_ways(
        step_by,
        memory=memory,
        fixed=count_bytes(data),
        per_model=_EXAMPLE_BYTES * data.num_examples,
        width=width,
    )


def list_job_ways(job: Job, width: int | None, kernels: Kernels | None) -> dict[Way, float]:
    """List the ways of running a job on a device of this process, as `list_card_ways` does."""
    return list_card_ways(
        job.model,
        job.recipe,
        job.inputs,
        _shapes_of(job.data),
        _card_memory(),
        platform=jax.default_backend(),
        width=width,
        kernels=kernels,
    )


def _card_memory() -> int:
    return host.total_memory(host.own_devices()[0]) or _UNKNOWN_MEMORY


def _shapes_of(data: Dataset) -> DeviceData:
    """Shapes of a data set on a device."""
    examples = data.num_train + data.num_test
    inputs, targets = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((examples, *array.shape[1:]), as_on_device(array[:1]).dtype),
        (data.train_inputs, data.train_targets),
    )
    return DeviceData(inputs, targets)


def _describe(way: Way, memory: int) -> str:
    """Say why a way was chosen."""
    fits = "" if way.fits else f", more than {MEMORY_SHARE:.0%}"
    return (
        f"by estimate, a step of a model moves {format_bytes(way.moved)}, and all need {format_bytes(way.memory)} of "
        f"{format_bytes(memory)}{fits}"
    )


def _choose_kernels(platform: str) -> tuple[Kernels, str]:
    """Choose the fastest kernels of the platform, and say why."""
    missing = native.why_unavailable() if platform == "cpu" else None
    default = default_kernels(platform)
    return default, f"no hand-written kernels: {missing}" if missing else f"the default for {platform}"


def kernels_differ(model: Model, inputs: InputSpec, platform: str) -> bool:
    """Whether a model's program depends on the kernels; on CPUs even the gradients of dense layers do."""
    if platform == "cpu":
        return True
    return "conv_general_dilated" in str(_trace(model, inputs))


# Cached: tracing a network takes a tenth of a second, and a run asks more than once before its first step.
@lru_cache
def _trace(model: Model, inputs: InputSpec) -> ClosedJaxpr:
    """Trace the forward pass of one example."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    with use_kernels("xla"):
        return jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False)[0])(variables, inputs.batch(1))


@lru_cache
def forward_flops(model: Model, inputs: InputSpec) -> float:
    """FLOPs of the forward pass of one example, counted on the program before it is optimized or compiled."""
    return float(count_flops(_trace(model, inputs).jaxpr))


__all__ = [
    "CALL_FLOPS",
    "Machine",
    "OutOfMemory",
    "choose_chunk",
    "choose_execution",
    "forward_flops",
    "kernels_differ",
    "list_card_ways",
    "list_job_ways",
    "out_of_memory",
    "warn_of_idle_cores",
]
