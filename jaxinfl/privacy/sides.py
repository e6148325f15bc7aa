"""Center and deviation of an example's scores over the models that saw it, and over those that did not.

Where every model is the target once, its own score must not be among those of its shadows. Everything is computed for all shadows
together, and the target's share is taken out again: of a median by comparing, of a deviation by subtracting a square. A target on the
other side meets one shadow less, too. Otherwise members would meet fewer models that saw the example than non-members do, which tells
them without any leak: with 8 models and one deviation for each example it costs all of the area under the curve.

Arrays are [examples, models] here, some examples at a time, so that an example's scores lie side by side: they are sorted 60 times as fast.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Center = Literal["median", "mean"]
"""What a normal distribution is centered at. The published programs take the median."""


class Side(NamedTuple):
    """The scores of some examples by the shadows of one side, for each target; one column where all targets have the same shadows."""

    center: Float[np.ndarray, "examples targets"]
    """Median or mean of the scores; NaN where no shadow is on this side."""
    deviation: Float[np.ndarray, "examples targets"]
    """Standard deviation around the mean, with the number of scores as the divisor; NaN where no shadow is on this side."""
    number: Int[np.ndarray, "examples targets"]
    """Number of scores."""
    residual: Float[np.ndarray, " targets"]
    """Sum of the differences between scores and centers, over the examples."""
    residual_square: Float[np.ndarray, " targets"]
    """Sum of their squares."""


def measure_side(
    score: Float[np.ndarray, "examples models"],
    member: Bool[np.ndarray, "examples models"],
    *,
    leave_out: bool,
    center_at: Center = "median",
) -> Side:
    """Measure the scores of the models where `member`.

    With `leave_out` each model is the target once. A target of this side leaves its own score out, and any other target that of the
    side's last model.
    """
    number = member.sum(axis=1, keepdims=True)
    ordered = np.sort(np.where(member, score, np.inf), axis=1)

    def at(place: Int[np.ndarray, "examples 1"]) -> Float[np.ndarray, "examples 1"]:
        return np.take_along_axis(ordered, np.clip(place, 0, ordered.shape[1] - 1), axis=1)

    def at_without_own(place: Int[np.ndarray, "examples 1"]) -> Float[np.ndarray, "examples models"]:
        # Scores at or above the one that is left out move down by a place; which of equal ones it is makes no difference.
        return np.where(score > at(place), at(place), at(place + 1))

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(member, score, 0.0).sum(axis=1, keepdims=True) / number
        offset = np.where(member, score - mean, 0.0)
        square = np.square(offset).sum(axis=1, keepdims=True)
        middle = (at((number - 1) // 2) + at(number // 2)) / 2 if center_at == "median" else mean
        whole = _Moments(middle, mean, square, at(0 * number) == at(number - 1), number)
        if not leave_out:
            return whole.as_side()
        left = number - 1
        own_mean = mean - offset / left
        # The others' squares around their own mean, of which the squares around the common mean are known.
        own_square = np.maximum(square - np.square(offset) * (number / left), 0.0)
        own_middle = own_mean
        if center_at == "median":
            own_middle = (at_without_own((left - 1) // 2) + at_without_own(left // 2)) / 2
        own_equal = at_without_own(0 * left) == at_without_own(left - 1)
        return _Moments(
            leave_out_one(own_middle, member),
            leave_out_one(own_mean, member),
            leave_out_one(own_square, member),
            leave_out_one(own_equal, member),
            np.maximum(left, 0) + 0 * member,
        ).as_side()


def leave_out_one(
    own: Shaped[np.ndarray, "examples models"], member: Bool[np.ndarray, "examples models"]
) -> Shaped[np.ndarray, "examples models"]:
    """What each target meets: `own` where it is of this side, which is without its own score, else that of the side's last model."""
    last = member.shape[1] - 1 - np.argmax(member[:, ::-1], axis=1, keepdims=True)
    return np.where(member, own, np.take_along_axis(own, last, axis=1))


class _Moments(NamedTuple):
    """What is known of the scores of one side."""

    center: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    """Sum of the squared differences to the mean."""
    equal: np.ndarray
    """Whether all scores are one number: rounding would otherwise leave a deviation."""
    number: np.ndarray

    def as_side(self) -> Side:
        """Make the side of these moments, NaN where there is no score."""
        there = self.number > 0
        deviation = np.where(self.equal, 0.0, np.sqrt(self.square / self.number))
        shift = np.where(there, self.mean - self.center, 0.0)
        residual_square = np.where(there, self.square + self.number * np.square(shift), 0.0)
        return Side(
            np.where(there, self.center, np.nan),
            np.where(there, deviation, np.nan),
            self.number,
            (self.number * shift).sum(axis=0),
            residual_square.sum(axis=0),
        )


__all__ = ["Center", "Side", "leave_out_one", "measure_side"]
