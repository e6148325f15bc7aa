"""How long the compiled programs take, from a few steps of made-up models."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.programs import Programs, evaluation_batch
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.spans import span
from jaxinfl.training.step import DeviceData, Given, Keys, State


@dataclass(frozen=True)
class Timing:
    """Measured on the compiled programs."""

    compile_seconds: float
    step: float
    """Seconds of one step of every model of a group."""
    evaluation: float
    """Seconds of the evaluation of a group."""


def time_programs(programs: Programs, data: DeviceData, recipe: Recipe, given: Given = Given()) -> Timing:  # noqa: B008
    """Compile the three programs and time a step and an evaluation batch of a whole group of models.

    `given` is what the run gives to one model, [1, ...].
    """
    bench = _Bench(programs, data, recipe, given)
    begun = time.perf_counter()
    states, placed = bench.start(1)
    states, _ = bench.advance(states, placed)
    _timed(lambda: programs.evaluate(data, states, placed[0], jnp.int32(1)))
    compiled = time.perf_counter() - begun
    states, step = bench.advance(states, placed)
    _, evaluation = _timed(lambda: programs.evaluate(data, states, placed[0], jnp.int32(1)))
    step = bench.seconds(step)
    batches = -(-len(data.images) // evaluation_batch(recipe, data))
    return Timing(compiled - step - evaluation, step, evaluation * batches)


def time_step(programs: Programs, data: DeviceData, recipe: Recipe, given: Given = Given()) -> float:  # noqa: B008
    """Seconds of one step of every model of a group, compilation apart."""
    bench = _Bench(programs, data, recipe, given)
    states, placed = bench.start(1)
    bench.advance(states, placed)
    return bench.seconds(bench.advance(*bench.start(1))[1])


class _Bench:
    """Steps of a whole group of made-up models, for timing."""

    def __init__(self, programs: Programs, data: DeviceData, recipe: Recipe, given: Given):
        self._programs, self._data, self._batch_size = programs, data, recipe.batch_size
        self._keys = ModelKeys.of_data(np.zeros((programs.execution.group, 3, 2), np.uint32))
        self._given = programs.place_rows(given, slice(0, 1))
        self._num_train = data.pixel_mean.shape[0]

    def start(self, batches: int) -> tuple[State, tuple[Array, Keys]]:
        """Untrained models on subsets of so many batches, or of everything if that is less."""
        masks: Bool[np.ndarray, "models train"] = np.zeros((self._programs.execution.group, self._num_train), bool)
        masks[:, : batches * self._batch_size] = True
        placed = self._programs.place(masks, self._keys)
        return jax.block_until_ready(self._programs.start(self._data, *placed, self._given)), placed

    def advance(self, states: State, placed: tuple[Array, Keys]) -> tuple[State, float]:
        """The models after one epoch on them, and the seconds that it took."""
        return _timed(lambda: self._programs.advance(self._data, states, *placed, span(0, 1)))

    def seconds(self, step: float) -> float:
        """A better estimate of the time of one step than one that was timed alone, if that was short."""
        if step >= 0.1:
            return step
        # So short a call times its own overhead: take as many steps as fill 0.1 s, of those that an epoch has.
        steps = min(math.ceil(0.1 / max(step, 1e-6)), -(-self._num_train // self._batch_size), 16)
        return self.advance(*self.start(steps))[1] / steps


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - begun


__all__ = ["Timing", "time_programs", "time_step"]
