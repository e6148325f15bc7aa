"""What ends a run: memory that does not suffice, and models whose loss or logits stop being finite."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from jaxinfl import devices
from jaxinfl.datasets import Dataset
from jaxinfl.store import ABSENT, DIVERGED
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.sizes import format_bytes

MAX_DIVERGED = 0.05
"""Share of the models of a run that may diverge by default."""


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


class TooManyDiverged(RuntimeError):
    """So many models diverged that the others are no fair sample."""


def check_diverged(status: UInt8[np.ndarray, " models"], most: float, recipe: Recipe, path: Path | None) -> None:
    """Raise unless at most the share `most` of the models diverged.

    Raises:
      TooManyDiverged: with what to do about it.
    """
    diverged, finished = int((status == DIVERGED).sum()), int((status != ABSENT).sum())
    if diverged <= most * len(status):
        return
    kept = f" Those that are finished stay in {path}." if path else ""
    raise TooManyDiverged(
        f"{diverged} of {finished} finished models diverged (a loss or logit was not finite), more than {most:.0%} of the "
        f"{len(status)} models of the run: what is left would be no fair sample.{kept} Lower learning_rate (it is "
        f"{recipe.learning_rate:g}) or warm it up (warmup_epochs is {recipe.warmup_epochs:g}), in another run_dir; or pass "
        "max_diverged=1 to go on without them."
    )


__all__ = ["MAX_DIVERGED", "OutOfMemory", "TooManyDiverged", "check_diverged", "check_fits", "out_of_memory"]
