"""Running out of memory: how it is told from other failures, and what is known not to fit beforehand."""

from collections.abc import Sequence

import jax

from jaxinfl import devices
from jaxinfl.datasets import Dataset
from jaxinfl.training.plan import format_bytes


class OutOfMemory(RuntimeError):
    """Device or host cannot hold even one model at a time."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def check_fits(data: Dataset, used: Sequence[jax.Device]) -> None:
    """Raise unless the images fit into the free memory of each device.

    Raises:
      OutOfMemory: with the size of the data set, and what would fit.
    """
    size = data.train_images.nbytes + data.test_images.nbytes
    free = devices.free_memory(used[0])
    # The devices of a CPU share its memory.
    copies = len(used) if used[0].platform == "cpu" else 1
    if free is None or size * copies <= free:
        return
    examples, (height, width, channels) = data.num_train + data.num_test, data.image_shape
    fitting = free // copies
    side = int(min(height, width) * (fitting / size) ** 0.5)
    each = f" {copies} times (once for each of the {copies} devices)" if copies > 1 else ""
    smaller = f", or all of them with {side} pixels a side (load_dataset(..., image_size={side}))" if side >= 8 else ""
    raise OutOfMemory(
        f"{data.name} takes {format_bytes(size)} of memory{each}: {examples} images of {height}x{width}x{channels}; "
        f"{format_bytes(free)} are free on {devices.describe(tuple(used[:1]))}. What would fit: {fitting * examples // size} "
        f"of these images{smaller}."
    )


__all__ = ["OutOfMemory", "check_fits", "out_of_memory"]
