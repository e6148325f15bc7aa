"""A predicted number of models, in numbers and in words."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.notebook import html_table

FEW_PAIRS = 5.0
"""Fewest influential pairs for a prediction: an IOU of fewer jumps from one value to the next."""
_CAUTION = 0.25
"""Where the answer is read: this share of the way from the predicted IOU to the lower end of its interval."""
_WIDEST = 16.0
"""Ratio of the ends of an interval of numbers of models beyond which it is no answer: 4 doublings."""

Verdict = Literal[
    "answered", "more models", "too uncertain", "few pairs", "no clear pairs", "no memorized example", "small pilot"
]


class Band(NamedTuple):
    """Predicted IOU with the ends of its interval; NaN where the pilot cannot tell."""

    iou: Float[np.ndarray, "*shape"]
    low: Float[np.ndarray, "*shape"]
    high: Float[np.ndarray, "*shape"]


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """How many models two estimates need to agree, as `plan` predicts it."""

    verdict: Verdict
    """"answered"; "more models": the target lies beyond what the pilot can predict; "too uncertain": it does not say within a
    factor of 16; "few pairs": fewer than 5 pairs are as influential as the threshold; "no clear pairs": noise may be all that
    reaches it; "no memorized example"; "small pilot"."""
    text: str
    """The answer in a sentence."""
    models_needed: int | None
    """Models per estimate at which the IOU at `threshold` reaches `target_iou`, a quarter of the way from the predicted IOU to the
    lower end of its interval, so that about one answer of five is too small; None unless the verdict is "answered"."""
    interval: tuple[int | None, int | None]
    """Fewest and most models that may be needed, at `confidence`. An end is None where it lies beyond the last of `steps`, or without
    an answer. The first of `steps` stands for itself and anything below."""
    num_models: Int[np.ndarray, " sizes"]
    """Models per estimate of the predicted curves: 2, 4, 8, ... times the pilot's."""
    thresholds: Float[np.ndarray, " thresholds"]
    """Influences at which the curves are predicted."""
    curve: Band
    """Predicted IOU [sizes, thresholds]; NaN at thresholds that fewer than 5 pairs reach, or none beyond doubt."""
    num_pairs: Float[np.ndarray, " thresholds"]
    """Expected number of pairs whose true influence is at least each threshold."""
    steps: Float[np.ndarray, " steps"]
    """Models per estimate, finely spaced, from an eighth of the pilot's to the last of `num_models`."""
    at_threshold: Band
    """Predicted IOU [steps] at `threshold`."""
    num_examples: float
    """Expected number of training examples above the memorization condition."""
    pilot_models: int
    """Number of models of the pilot."""
    target_iou: float
    """The IOU that was asked for."""
    threshold: float
    """The influence at which it was asked for."""
    confidence: float
    """Confidence of the intervals."""

    def rows(self) -> list[tuple[int, float, float, float]]:
        """Each of `num_models` with the predicted IOU at `threshold` and the ends of its interval."""
        nearest = [int(np.abs(self.steps - size).argmin()) for size in self.num_models]
        ends = (values[nearest].tolist() for values in self.at_threshold)
        return list(zip(self.num_models.tolist(), *ends, strict=True))

    def _repr_html_(self) -> str:
        return html_table(
            ("models", "IOU", "low", "high"),
            self.rows(),
            title=self.text,
            note=f"Predicted IOU at influence {self.threshold:g} from {self.pilot_models} models, with {self.confidence:.0%} intervals.",
        )


class Answer(NamedTuple):
    """The answer that follows from a predicted curve."""

    verdict: Verdict
    text: str
    models_needed: int | None = None
    interval: tuple[int | None, int | None] = (None, None)


def judge(
    at_threshold: Band,
    steps: Float[np.ndarray, " steps"],
    *,
    num_pairs: float,
    num_examples: float,
    clear: bool,
    target_iou: float,
    threshold: float,
) -> Answer:
    """The answer from the IOU over the number of models, or why there is none."""
    goal = f"IOU {target_iou:g} at influence {threshold:g}"
    pairs = f"about {num_pairs:.0f} pairs of {num_examples:.0f} training examples have that influence"
    if num_examples < 1:
        return Answer(
            "no memorized example",
            "the pilot cannot tell: no training example is likely to be memorized enough to take part. Lower min_memorization.",
        )
    if num_pairs < FEW_PAIRS:
        return Answer(
            "few pairs",
            f"the pilot cannot tell for {goal}: {pairs}, too few for an IOU to mean anything. Ask for a lower influence.",
        )
    if not clear:
        return Answer(
            "no clear pairs",
            f"the pilot cannot tell for {goal}: that pairs reach it may be noise. Take a larger pilot or ask for a lower "
            "influence.",
        )
    # Where the IOU is lowest, the most models are needed.
    cautious = at_threshold.iou - _CAUTION * (at_threshold.iou - at_threshold.low)
    needed, most, fewest = (
        _first_lasting(part, steps, target_iou) for part in (cautious, at_threshold.low, at_threshold.high)
    )
    if fewest is None:
        return Answer(
            "more models", f"more than {steps[-1]:.0f} models for {goal}; a larger pilot would tell how many. {pairs}."
        )
    high = f"more than {steps[-1]:.0f}" if most is None else f"{most}"
    if needed is None or (most or steps[-1]) > _WIDEST * fewest:
        return Answer(
            "too uncertain",
            f"the pilot cannot tell for {goal}: from {fewest} to {high} models; a larger pilot would. {pairs}.",
            interval=(fewest, most),
        )
    return Answer(
        "answered", f"about {needed} models, {fewest} to {high}, for {goal}; {pairs}.", needed, (fewest, most)
    )


def _first_lasting(iou: Float[np.ndarray, " steps"], steps: Float[np.ndarray, " steps"], target: float) -> int | None:
    """Models from which on the IOU stays at or above the target, to two digits; None where it ends below."""
    if not iou[-1] >= target:
        return None
    (below,) = np.nonzero(~(iou >= target))
    if not below.size:
        return _round_to_two_digits(float(steps[0]))
    before = int(below[-1])
    part = (target - iou[before]) / (iou[before + 1] - iou[before])
    return _round_to_two_digits(float(steps[before] * (steps[before + 1] / steps[before]) ** part))


def _round_to_two_digits(value: float) -> int:
    step = 10 ** max(int(np.floor(np.log10(value))) - 1, 0)
    return int(round(value / step) * step)
