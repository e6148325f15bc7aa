"""Models whose loss or logits stop being finite: a few happen, many are a recipe that does not work."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxinfl.store import ABSENT, DIVERGED
from jaxinfl.training.recipe import Recipe

MAX_DIVERGED = 0.05
"""Share of the models of a run."""


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


__all__ = ["MAX_DIVERGED", "TooManyDiverged", "check_diverged"]
