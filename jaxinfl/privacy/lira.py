"""The likelihood ratio attack (LiRA): is a score more like those of models that saw the example, or of models that did not?

The scores of an example by each side are taken for normal. Where the target's score lies in the two distributions, or in that of the
models that did not see it, says how likely the example is a member.

Source: Carlini et al. (2022), "Membership Inference Attacks From First Principles", IEEE S&P, Algorithm 1 and Section IV.D.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import log_ndtr

from jaxinfl.arguments import check_choice, check_switch
from jaxinfl.privacy.sides import Center, Side, leave_out_one, measure_side

Deviation = Literal["example", "all_scores", "residuals"]
"""The deviation of an example's scores. "example" is that of its own scores on each side. Two published programs share one among
all examples, from few models: "all_scores" is that of all scores of models that saw their example, for both sides (Carlini et al.'s program;
offline of all that did not), and "residuals" that of the differences to each example's own center, on each side by itself (TensorFlow Privacy)."""
Offline = Literal["upper_tail", "density"]
"""What is told from the scores of models that did not see the example: how rarely one of them is as high ("upper_tail", the paper), or how
rarely one is as far from their center, on either side ("density", Carlini et al.'s program)."""

_TINY = 1e-30
"""What the published programs add to a deviation, which may be 0."""
_NUMBERS_AT_ONCE = 2**18
"""Numbers of a block of examples, which stay in a core's cache."""


@dataclass(frozen=True)
class Scores:
    """The scores that an attack is told: of shadows, whose members are known, and of the targets."""

    masks: Bool[np.ndarray, "models examples"]
    """Whether each shadow was trained on each example."""
    views: Sequence[Float[np.ndarray, "models examples"]]
    """Scores of the shadows, for each view of an example."""
    targets: Sequence[Float[np.ndarray, "targets examples"]] | None = None
    """Scores of the targets, for each view; None where each model is the target once, and the others are its shadows."""

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return self.masks.shape[1]

    @property
    def num_targets(self) -> int:
        """Number of targets."""
        return len(self.masks) if self.targets is None else len(self.targets[0])

    def blocks(self) -> Iterator[slice]:
        """Blocks of examples, so few that a block's scores stay in a cache."""
        step = max(1, _NUMBERS_AT_ONCE // len(self.masks))
        for start in range(0, self.num_examples, step):
            yield slice(start, min(start + step, self.num_examples))

    def members(self, block: slice) -> Bool[np.ndarray, "examples models"]:
        """Which shadows saw each example of a block."""
        return np.ascontiguousarray(self.masks[:, block].T)

    def shadows(self, view: int, block: slice) -> Float[np.ndarray, "examples models"]:
        """The shadows' scores of the examples of a block, in float64."""
        return np.ascontiguousarray(self.views[view][:, block].T, dtype=np.float64)

    def target(self, view: int, block: slice) -> Float[np.ndarray, "examples targets"]:
        """The targets' scores of the examples of a block, in float64."""
        source = self.views if self.targets is None else self.targets
        return np.ascontiguousarray(source[view][:, block].T, dtype=np.float64)


@dataclass(frozen=True)
class Lira:
    """One variant of the attack."""

    offline: Offline | None = None
    """How the attack does without models that saw the example; None takes them."""
    deviation: Deviation = "example"
    """Whose deviation the normal distributions have."""
    center: Center = "median"
    """What they are centered at."""
    fill_gaps: bool = False
    """Whether an example that no shadow of a side has seen, or left out, takes the mean center and deviation of the others, as in TensorFlow
    Privacy; else its membership is NaN."""

    def __post_init__(self) -> None:
        if self.offline is not None:
            check_choice(self.offline, "Lira: offline", get_args(Offline))
        check_choice(self.deviation, "Lira: deviation", get_args(Deviation))
        check_choice(self.center, "Lira: center", get_args(Center))
        check_switch(self.fill_gaps, "Lira: fill_gaps")

    @property
    def sides(self) -> tuple[bool, ...]:
        """The sides that are measured: models that saw the example (True), and models that did not."""
        return (False,) if self.offline else (True, False)

    def membership(self, scores: Scores) -> Float[np.ndarray, "targets examples"]:
        """Tell the membership of each example in each target, larger where it is likelier; the mean over views of an example."""
        surveys = [self._survey(scores, view) for view in range(len(scores.views))]
        shared = self._shared_deviations(surveys)
        result = np.empty((scores.num_targets, scores.num_examples))
        for block in scores.blocks():
            told = np.zeros((block.stop - block.start, 1))
            for view, survey in enumerate(surveys):
                normals = [
                    self._normal(side, survey, number, shared)
                    for number, side in enumerate(self._measure(scores, view, block))
                ]
                told = told + self._ratio(scores.target(view, block), normals)
            result[:, block] = (told / len(surveys)).T
        return result

    def _measure(self, scores: Scores, view: int, block: slice) -> list[Side]:
        """Measure each side by the examples of a block."""
        member, shadows = scores.members(block), scores.shadows(view, block)
        return [
            measure_side(
                shadows,
                member if inside else ~member,
                leave_out=scores.targets is None,
                center_at=self.center,
            )
            for inside in self.sides
        ]

    def _normal(
        self, side: Side, survey: "_Survey | None", number: int, shared: list[np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Center and deviation of the normal distribution of one side."""
        # The deviation of one score is no 0: it is unknown.
        center, deviation = side.center, np.where(side.number > 1, side.deviation, np.nan)
        if self.fill_gaps and survey is not None:
            missing = np.isnan(center)
            center = np.where(missing, survey.center[number], center)
            deviation = np.where(missing, survey.deviation[number], deviation)
        if shared is not None:
            deviation = np.broadcast_to(shared[number], center.shape)
        return center, deviation

    def _ratio(
        self, target: Float[np.ndarray, "examples targets"], normals: list[tuple[np.ndarray, np.ndarray]]
    ) -> Float[np.ndarray, "examples targets"]:
        """The membership by one view, from the normal distribution of each side."""
        away = [(target - center) / (deviation + _TINY) for center, deviation in normals]
        if self.offline == "upper_tail":
            tail: Float[np.ndarray, "examples targets"] = -log_ndtr(-away[0])
            return tail
        density = [
            -0.5 * np.square(z) - np.log(deviation + _TINY) - 0.5 * math.log(2 * math.pi)
            for z, (_, deviation) in zip(away, normals, strict=True)
        ]
        return -density[0] if self.offline else density[0] - density[1]

    def _survey(self, scores: Scores, view: int) -> "_Survey | None":
        """Measure what all examples share by one view; None where this variant needs nothing of it."""
        if self.deviation == "example" and not self.fill_gaps:
            return None
        columns = scores.num_targets if scores.targets is None else 1
        survey = _Survey(self.deviation == "residuals", *(np.zeros((len(self.sides), columns)) for _ in range(6)))
        for block in scores.blocks():
            for number, side in enumerate(self._measure(scores, view, block)):
                survey.add(number, side)
            if self.deviation == "all_scores":
                member = scores.members(block)
                shared = ~member if self.offline else member
                survey.add_scores(scores.shadows(view, block), shared, leave_out=scores.targets is None)
        with np.errstate(invalid="ignore"):
            return survey._replace(center=survey.center / survey.defined, deviation=survey.deviation / survey.defined)

    def _shared_deviations(self, surveys: list["_Survey | None"]) -> list[np.ndarray] | None:
        """One deviation for all examples, for each side; None where each example has its own."""
        known = [each for each in surveys if each is not None]
        if self.deviation == "example" or not known:
            return None
        number, total, square = (sum(getattr(each, name) for each in known) for name in ("number", "total", "square"))
        with np.errstate(invalid="ignore", divide="ignore"):
            return list(np.sqrt(np.maximum(square / number - np.square(total / number), 0.0)))


class _Survey(NamedTuple):
    """Sums over the examples, for each side and target."""

    of_residuals: bool
    """Whether the numbers whose deviation is shared are differences to the centers."""
    defined: Float[np.ndarray, "sides targets"]
    """Number of examples with a score on the side."""
    center: Float[np.ndarray, "sides targets"]
    """Sum of their centers, then the mean."""
    deviation: Float[np.ndarray, "sides targets"]
    """Sum of their deviations, then the mean."""
    number: Float[np.ndarray, "sides targets"]
    """Number of the numbers whose deviation all examples share."""
    total: Float[np.ndarray, "sides targets"]
    """Their sum."""
    square: Float[np.ndarray, "sides targets"]
    """The sum of their squares."""

    def add(self, side: int, measured: Side) -> None:
        """Add the scores of some examples."""
        there = ~np.isnan(measured.center)
        self.defined[side] += there.sum(axis=0)
        self.center[side] += np.where(there, measured.center, 0.0).sum(axis=0)
        self.deviation[side] += np.where(there, measured.deviation, 0.0).sum(axis=0)
        if self.of_residuals:
            self.number[side] += measured.number.sum(axis=0)
            self.total[side] += measured.residual
            self.square[side] += measured.residual_square

    def add_scores(self, score: np.ndarray, member: np.ndarray, *, leave_out: bool) -> None:
        """Add, for all sides, the scores of the models where `member` themselves; with `leave_out` those that each target meets."""
        kept = np.where(member, score, 0.0)
        for sums, values in ((self.number, member.astype(float)), (self.total, kept), (self.square, np.square(kept))):
            sums[:] += values.sum() - (leave_out_one(values, member).sum(axis=0) if leave_out else 0.0)


__all__ = ["Deviation", "Lira", "Offline", "Scores"]
