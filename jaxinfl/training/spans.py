"""A training cut into calls of a few seconds: a call cannot be interrupted, and checkpoints lie between two."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxinfl.training.step import Span

CALL_SECONDS = 5.0
"""A call into compiled code lasts about so long at most: until it returns, Ctrl-C waits and the bar stands still."""
TO_THE_END = int(np.iinfo(np.int32).max)
"""More steps than an epoch has."""


class Position(NamedTuple):
    """How far a training has come."""

    epoch: int
    """Epochs that are finished."""
    step: int = 0
    """Steps of the next one that are done."""


def span(first_epoch: int, last_epoch: int, first_step: int = 0, last_step: int = TO_THE_END) -> Span:
    """A span of whole epochs, or of some steps of one."""
    return Span(*map(jnp.int32, (first_epoch, last_epoch, first_step, last_step)))


@dataclass(frozen=True)
class Cut:
    """How a training is cut into calls."""

    epochs: int
    """Epochs of the whole training."""
    steps: int
    """Steps of one epoch of the largest subset."""
    steps_per_call: int
    """Most steps of one call; one step at least."""

    @classmethod
    def of(cls, epochs: int, steps: int, seconds_per_step: float) -> "Cut":
        """Calls of about `CALL_SECONDS`."""
        return cls(epochs, steps, max(1, int(CALL_SECONDS / max(seconds_per_step, 1e-9))))

    @property
    def one_call(self) -> bool:
        """The whole training is one call."""
        return self.epochs * self.steps <= self.steps_per_call

    def share(self, position: Position) -> float:
        """The part of the training that is done, from 0 to 1."""
        done = position.epoch + min(position.step, self.steps) / self.steps
        return done / self.epochs if self.epochs else 1.0

    def calls(self, start: Position) -> Iterator[tuple[Span, Position]]:
        """What is left after `start`, call by call, each with the position that it reaches."""
        epoch, step = start
        while epoch < self.epochs:
            if step == 0 and self.steps <= self.steps_per_call:
                last = min(epoch + self.steps_per_call // self.steps, self.epochs)
                yield span(epoch, last), Position(last)
                epoch = last
                continue
            reached = step + self.steps_per_call
            if reached < self.steps:
                yield span(epoch, epoch + 1, step, reached), Position(epoch, reached)
                step = reached
            else:
                yield span(epoch, epoch + 1, step), Position(epoch + 1)
                epoch, step = epoch + 1, 0


__all__ = ["CALL_SECONDS", "Cut", "Position", "span"]
