"""Membership of every example in every model of an ensemble, against the loop by which it is published.

    python -m benchmarks.membership            256 models and 60,000 examples: about two minutes on 2 cores
    python -m benchmarks.membership --quick    24 models and 500 examples, for tests

The published program takes one model after the other as the target, and collects the other models' scores of each example in a Python
loop, because examples are in different models. A few targets are timed, and the rest counted. jaxinfl takes all targets at once.
Scores are made up: normal margins, higher where a model saw the example. Both tell the same membership, which is checked.

Target: 10 seconds and 2 GB on 2 cores for 256 models and 60,000 examples, curve and intervals included.
"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from scipy.stats import norm

import jaxinfl
from benchmarks.compare import report, run_in_turns
from benchmarks.record import console
from jaxinfl.arguments import expand_home

OURS = "LiRA, curve and intervals"
"""Name of the contender that the others are compared with."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    models: int = 256
    """Number of models."""
    examples: int = 60_000
    """Number of examples."""
    population: int = 10_000
    """Number of examples of the population, for RMIA."""
    rounds: int = 3
    """Number of rounds; the table shows medians."""
    targets: int = 2
    """Number of targets for which the published loop is timed."""
    quick: bool = False
    """Whether to take few models and examples, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file."""
    config = replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = replace(config, models=24, examples=500, population=100, rounds=1, targets=1)
    rng = np.random.default_rng(0)
    masks = jaxinfl.draw_subsets(config.models, config.examples, 0.5, design="balanced")
    margin = (rng.standard_normal(masks.shape, np.float32) + masks).astype(np.float32)
    probability = 1 / (1 + np.exp(-margin))
    population = rng.uniform(0.01, 1, (config.models, config.population)).astype(np.float32)
    # The peak of memory is that of our own calls: the published loop comes behind them.
    told = jaxinfl.membership(masks, margin)
    _curve(told)
    peak = _peak()
    differences: list[float] = []

    def published() -> float:
        seconds, theirs = _published(masks, margin, config.targets)
        differences.append(float(np.abs(theirs - told.score[: config.targets]).max()))
        return seconds * config.models

    contenders = {
        OURS: lambda: _seconds(lambda: _curve(jaxinfl.membership(masks, margin))),
        "LiRA": lambda: _seconds(lambda: jaxinfl.membership(masks, margin)),
        "LiRA, offline": lambda: _seconds(lambda: jaxinfl.membership(masks, margin, method="lira_offline")),
        "RMIA": lambda: _seconds(lambda: jaxinfl.membership(masks, probability, population=population, method="rmia")),
        "published loop": published,
    }
    measured = run_in_turns(contenders, config.rounds, warm_up=False)
    console.print(
        f"The published loop was timed for {config.targets} target(s), and its time is that for all {config.models}. Both tell the same "
        f"membership to {max(differences):.1e}. Memory: {peak / 1e9:.2f} GB at most."
    )
    return report(
        "membership",
        f"{config.models} models, {config.examples:,} examples, each model as the target once",
        "seconds",
        measured,
        ours=OURS,
        higher_is_better=False,
        out=config.out,
        more={"peak_bytes": peak, "largest_difference": max(differences), "timed_targets": config.targets},
    )


def _curve(result: jaxinfl.Membership) -> object:
    return result.auc, result.balanced_accuracy, result.tpr(0.001)


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _peak() -> int:
    """Most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _published(masks: np.ndarray, margin: np.ndarray, targets: int) -> tuple[float, np.ndarray]:
    """Seconds of the published loop for one target, and what it tells about the first targets, [targets, examples]."""
    begun = time.perf_counter()
    told = [
        _loop_over_examples(np.delete(masks, target, 0), np.delete(margin, target, 0), margin[target])
        for target in range(targets)
    ]
    return (time.perf_counter() - begun) / targets, np.stack(told)


def _loop_over_examples(masks: np.ndarray, margin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """LiRA for one target as it is published: scores collected example by example, cut to one number, then medians and deviations."""
    sides = []
    for kind in (masks, ~masks):
        collected = [margin[kind[:, example], example] for example in range(masks.shape[1])]
        least = min(map(len, collected))
        values = np.array([each[:least] for each in collected], np.float64)
        sides.append(norm.logpdf(target, np.median(values, axis=1), values.std(axis=1) + 1e-30))
    return sides[0] - sides[1]


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
