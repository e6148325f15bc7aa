"""Options that name a run directory and one of its scores, and what they name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxinfl.arguments import expand_home
from jaxinfl.influence import Outcomes, pack
from jaxinfl.store import Ensemble
from jaxinfl.store.scores import has_score
from jaxinfl.tasks import is_lower_better


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every sub-command that reads a run."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory, which `jaxinfl train --out` or train_ensemble(..., run_dir=...) made, whole or in parts."""
    score: str | None = None
    """Score that is compared, such as correct, margin or loss; None takes "correct", or the loss where nothing is right or wrong."""


def open_run(path: Path) -> Ensemble:
    """The finished models of a run directory.

    Raises:
      ValueError: the path is a URL or cannot be a folder.
      RunDirectoryError: there is no run, or it is damaged.
    """
    return Ensemble.open(expand_home(path, "RUN"))


def choose_score(runs: Ensemble, asked: str | None) -> str:
    """The score that is asked for; by default whether a model is right, or the loss where nothing is right or wrong.

    Models that were trained elsewhere may have neither, and then the first of their scores is taken.

    Raises:
      ValueError: the run has no such score.
    """
    if asked is None:
        return next((name for name in ("correct", "loss") if name in runs.scores), runs.scores[0])
    if asked not in runs.scores:
        raise ValueError(f"--score is {asked!r}; this run has the scores {', '.join(runs.scores)}.")
    return asked


def describe_score(score: str) -> str:
    """The score that is compared, for people."""
    return f"the negative of {score}, so that a positive influence helps" if is_lower_better(score) else score


def pack_scores(runs: Ensemble, score: str) -> Outcomes:
    """Masks and scores of the models that did not diverge, larger scores being better.

    The train scores are those of `runs`, or missing where it has none.

    Raises:
      ValueError: the run has no test scores of that name, or no healthy model.
    """
    packed = pack(runs, score)
    if not is_lower_better(score):
        return packed
    train = packed.train_score if has_score(runs, "train", score) else None
    return pack(packed.masks, -packed.test_score, None if train is None else -train)


def describe_run(runs: Ensemble) -> Mapping[str, Any]:
    """What a run is, for machines."""
    data = runs.attributes["identity"]["data"]
    return {
        "models": runs.num_models,
        "diverged": runs.num_diverged,
        "complete": runs.complete,
        "num_train": data["num_train"],
        "num_test": data["num_test"],
        "data": runs.attributes["data_name"],
        "scores": {name: runs.score_kind(name) for name in runs.scores},
        "layout": runs.layout,
        "order": runs.order,
    }


__all__ = [
    "RunOptions",
    "choose_score",
    "describe_run",
    "describe_score",
    "open_run",
    "pack_scores",
]
