"""`jaxinfl plan`: from a small run, how many models a trustworthy estimate takes."""

from dataclasses import dataclass

import jaxinfl
from jaxinfl.cli.answer import Answer, format_number
from jaxinfl.cli.run_options import RunOptions, choose_score, open_run
from jaxinfl.report import Table


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Predict from a pilot run of about 200 models how many models two estimates of influence take to agree.

    It takes a 0-1 score, and says so where the pilot cannot tell.

    For example:

        jaxinfl plan runs/pilot --target-iou 0.7 --threshold 0.1
    """

    target_iou: float = 0.7
    """IOU that two estimates should have, between 0 and 1: the pairs that both of them have, divided by those that at least one has."""
    threshold: float = 0.2
    """Influence from which on a pair counts, between 0 and 1."""
    min_memorization: float | None = 0.25
    """Memorization above which training examples take part; None takes all."""
    doublings: int = 3
    """Number of doublings of the pilot's models that are predicted."""
    confidence: float = 0.9
    """Confidence of the intervals, between 0 and 1."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Predict the number of models.

    Raises:
      ValueError: an option does not fit the run, or its score is not 0-1.
      RunDirectoryError: there is no run, or it is damaged.
    """
    runs = open_run(options.run)
    score = choose_score(runs, options.score)
    if runs.score_kind(score) != "0-1":
        right = [name for name in runs.scores if runs.score_kind(name) == "0-1"]
        remedy = f"Pass --score {right[0]}." if right else "This run has none, so the planner cannot tell."
        raise ValueError(f"the score is {score!r}; the planner takes a score that is right or wrong. {remedy}")
    found = jaxinfl.plan(
        (runs, score),
        options.target_iou,
        options.threshold,
        min_memorization=options.min_memorization,
        doublings=options.doublings,
        confidence=options.confidence,
    )
    rows = [[str(size), *map(format_number, values)] for size, *values in found.rows()]
    title = f"Predicted IOU at influence {found.threshold:g}, with {found.confidence:.0%} intervals"
    values = {"answer": found.text, "score": score, **vars(found)}
    return Answer([found.text, Table(title, ["models", "IOU", "low", "high"], rows)], values)
