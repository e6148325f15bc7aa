"""Made-up runs with influences unlike those of digits, to try the planner on.

Claim: in six simulated worlds, at influences of 0.1, 0.15 and 0.2, pilots of 200 models predict the IOU of estimates from 2, 4
and 8 times as many models: 90% intervals hold it, and numbers of models that are called enough are enough.

    python -m experiments.planner_simulations --preset tiny     two pilots in each world: a minute, 2 cores
    python -m experiments.planner_simulations                   100 pilots in each world: hours, 2 cores

Table and figure (planner.png and planner.svg, numbers in results.json): for each world and threshold how many pilots give a
prediction, how often its intervals hold the IOU that 16 times the pilot's models measure, and of the answers how many are too
small by more than 0.05 of IOU. Expected of 100 pilots: 90% to 100% of the intervals hold it in 51 of 54 cells, 77% in the worst
one (influence 0.1, 8 times the pilot). Too small are no answers in the worlds with a gap between strong and no influence, and up to a quarter in
those with smooth tails.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float
from rich.progress import track
from scipy.special import expit
from scipy.stats import binomtest

import jaxinfl
from experiments.command_line import Mistake, console, parse
from experiments.outcome import write_section
from jaxinfl import plots
from jaxinfl.report import Finding, Illustration, Section, Table
from jaxinfl.statistics.planner import FEWEST_MODELS

Kind = Literal["many weak", "twins", "all alike", "heavy tails", "gamma", "power law"]
KINDS: tuple[Kind, ...] = get_args(Kind)


TIMES = (2, 4, 8)
"""Numbers of models that are predicted, as multiples of the pilot's."""
TOO_SMALL = 0.05
"""An answer is too small if the IOU at its number of models is below the one asked for by more than this."""


@dataclass(frozen=True)
class Config:
    """Options of the trials."""

    preset: Literal["tiny", "digits"] = "digits"
    """Preset that sets the defaults of all other options: tiny tries whether it runs, digits is the long trial."""
    pilots: int = 100
    """Number of pilots in each world."""
    pilot: int = 200
    """Number of models of each pilot."""
    thresholds: tuple[float, ...] = (0.1, 0.15, 0.2)
    """Influences at which the IOU is predicted."""
    target_iou: float = 0.7
    """IOU for which a number of models is asked."""
    resamples: int = 15
    """Number of bootstrap samples that the intervals are computed from."""
    splits: int = 20
    """Number of random splits of the models from which the IOU is measured."""
    num_train: int = 400
    """Number of training examples of a world."""
    num_test: int = 150
    """Number of test examples of a world."""
    seed: int = 0
    """Seed of the worlds and of the runs."""
    out: Path = Path("results/planner_simulations")
    """Folder of the table, the figure and the numbers."""


PRESETS = {
    "tiny": Config("tiny", pilots=2, pilot=60, resamples=2, splits=2, num_train=120, num_test=60),
    "digits": Config(),
}


class World(NamedTuple):
    """What decides whether a simulated model is right."""

    alone: Float[np.ndarray, " train"]
    """Probability to be right on a training example without training on it."""
    base: Float[np.ndarray, " test"]
    """Log odds to be right on a test example when examples are present as often as not."""
    effect: Float[np.ndarray, "train test"]
    """What the presence of a training example adds to these log odds."""


def make_world(kind: Kind, seed: int, num_train: int = 400, num_test: int = 150) -> World:
    """Make a simulated world, in which a third of the training examples is memorized to some degree; these have influence.

    "many weak": normal effects of all of them on everything, hardly any strong. "twins": some test examples depend on one
    training example, strongly. "all alike": four influences a hard test example, all near 0.2. "heavy tails": Laplace
    effects, and now and then a strong one. "gamma", "power law": a tenth or a fiftieth of the pairs has an effect, of a smooth
    distribution that reaches from next to nothing, or from 0.3 in log odds, to the strongest.
    """
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    alone = np.where(rng.random(num_train) < 0.7, rng.beta(30, 1, num_train), rng.random(num_train))
    memorized = np.flatnonzero(alone < 0.9)
    easy = rng.random(num_test) < 0.5
    base = np.where(easy, rng.normal(4, 1, num_test), rng.normal(1, 1.5, num_test))
    effect = np.zeros((num_train, num_test))
    shape = (memorized.size, num_test)
    hard = rng.choice(num_test, 2 * num_test // 5, replace=False)
    if kind == "many weak":
        effect[memorized] = rng.normal(0.15, 0.45, shape)
    elif kind == "heavy tails":
        rare = rng.random(shape) < 0.03
        effect[memorized] = rng.laplace(0, 0.25, shape) + rare * rng.exponential(1.2, shape)
    elif kind == "gamma":
        effect[memorized] = (rng.random(shape) < 0.1) * rng.gamma(0.6, 0.9, shape)
    elif kind == "power law":
        effect[memorized] = (rng.random(shape) < 0.02) * np.minimum(0.3 * (rng.pareto(1.3, shape) + 1), 7)
    elif kind == "twins":
        base[hard] = rng.normal(0.5, 1, hard.size)
        effect[rng.choice(memorized, hard.size), hard] = rng.uniform(2, 6, hard.size)
    else:
        base[hard] = rng.normal(0.3, 0.5, hard.size)
        for test in hard:
            effect[rng.choice(memorized, 4, replace=False), test] = rng.normal(1.0, 0.25, 4)
    return World(alone, base, effect)


def draw_run(
    world: World, num_models: int, seed: int, ratio: float = 0.7
) -> tuple[Bool[np.ndarray, "models train"], Bool[np.ndarray, "models train"], Bool[np.ndarray, "models test"]]:
    """Draw masks, train_correct and test_correct of `num_models` simulated models."""
    rng = np.random.default_rng(seed)
    num_train = world.alone.size
    masks = np.zeros((num_models, num_train), bool)
    for row in masks:
        row[rng.permutation(num_train)[: int(ratio * num_train)]] = True
    right = expit(world.base + (masks - ratio) @ world.effect)
    own = np.where(masks, 0.985, world.alone)
    return masks, rng.random(own.shape) < own, rng.random(right.shape) < right


class Trials(NamedTuple):
    """What the pilots of one world predict at one influence."""

    held: Float[np.ndarray, "pilots sizes"]
    """Whether the interval holds the measured IOU at 2, 4 and 8 times the pilot, 0 or 1; NaN where a pilot predicts none."""
    shortfall: Float[np.ndarray, " pilots"]
    """The IOU asked for less the one measured at the answered number of models; NaN without an answer."""


def try_world(kind: Kind, threshold: float, config: Config) -> Trials:
    """Predict from many pilots of one world, and compare with the IOU that many other models of it have."""
    world = make_world(kind, config.seed, config.num_train, config.num_test)
    sizes = config.pilot * 2.0 ** np.arange(-2, 4)
    others = draw_run(world, 16 * config.pilot, config.seed + 10_000)
    measured = jaxinfl.iou_curve(
        *others, num_models=sizes.astype(int), thresholds=threshold, repeats=config.splits, seed=config.seed
    ).mean[:, 0]
    held, shortfall = np.full((config.pilots, 3), np.nan), np.full(config.pilots, np.nan)
    for number in track(range(config.pilots), f"{kind}, {threshold:g}", console=console, transient=True):
        found = jaxinfl.plan(
            draw_run(world, config.pilot, config.seed + number),
            config.target_iou,
            threshold,
            thresholds=threshold,
            repeats=config.resamples,
        )
        low, high = found.curve.low[:, 0], found.curve.high[:, 0]
        held[number] = np.where(np.isnan(low), np.nan, (low <= measured[3:]) & (measured[3:] <= high))
        if found.models_needed is not None:
            shortfall[number] = config.target_iou - np.interp(np.log(found.models_needed), np.log(sizes), measured)
    return Trials(held, shortfall)


def summarize_trials(trials: Mapping[tuple[str, float], Trials], config: Config) -> dict[str, dict[str, float | int]]:
    """Counts of each world and influence: predictions, intervals that hold the IOU, answers, answers that are too small."""
    rows: dict[str, dict[str, float | int]] = {}
    for (kind, threshold), found in trials.items():
        defined = np.isfinite(found.held)
        row: dict[str, float | int] = {"pilots": config.pilots}
        for column, times in enumerate(TIMES):
            row[f"predicted_{times}"] = int(defined[:, column].sum())
            row[f"held_{times}"] = int(np.nansum(found.held[:, column]))
        row["answers"] = int(np.isfinite(found.shortfall).sum())
        row["too_small"] = int((found.shortfall > TOO_SMALL).sum())
        rows[f"{kind}, influence {threshold:g}"] = row
    return rows


def run(config: Config) -> dict[str, dict[str, float | int]]:
    """Try all worlds, print the table, and write the numbers and the figure."""
    if config.pilots < 1 or config.pilot < FEWEST_MODELS or not config.thresholds:
        raise Mistake(
            f"--pilots is {config.pilots}, --pilot {config.pilot} and --thresholds {config.thresholds}; they take at least 1 pilot, "
            f"{FEWEST_MODELS} models and 1 influence."
        )
    rows = summarize_trials(
        {(kind, at): try_world(kind, at, config) for kind in KINDS for at in config.thresholds}, config
    )
    shares = {}
    for name, row in rows.items():
        for times in TIMES:
            number, held = int(row[f"predicted_{times}"]), int(row[f"held_{times}"])
            if number:
                ends = binomtest(held, number).proportion_ci(0.99)
                shares[f"{name}, {times} times"] = (held / number, float(ends.low), float(ends.high))
    figures = {}
    if shares:
        title = "90% intervals of pilots that hold the measured IOU, of those that predict one; bars are 99% intervals of the share"
        figures["planner"] = plots.coverage_figure(shares, 0.9, title=title)
    record = {"experiment": "planner_simulations", "config": config, "results": rows}
    write_section(describe_section(rows, shares, config), figures, record, config.out)
    return rows


def describe_section(
    rows: Mapping[str, Mapping[str, float | int]], shares: Mapping[str, tuple[float, float, float]], config: Config
) -> Section:
    """The section of the page: how often intervals hold the measured IOU, and how often an answer is too small."""
    return Section(
        title="The planner in simulated worlds",
        claim="Pilots predict the IOU of estimates from 2, 4 and 8 times as many models: 90% intervals hold it, and numbers of models "
        "that are called enough are enough.",
        setting=f"{len(KINDS)} simulated worlds with {config.num_train} training and {config.num_test} test examples; {config.pilots} pilots of "
        f"{config.pilot} models in each; the IOU is measured by {16 * config.pilot} other models.",
        finding=find_answer(rows, shares),
        tables=[
            Table(
                "Intervals that hold the measured IOU, of the pilots that predict one",
                ["world", *(f"{times} times the pilot" for times in TIMES), "answers too small"],
                [
                    [
                        name,
                        *(f"{row[f'held_{times}']} of {row[f'predicted_{times}']}" for times in TIMES),
                        f"{row['too_small']} of {row['answers']}",
                    ]
                    for name, row in rows.items()
                ],
                f"An answer is too small if the IOU at its number of models is below {config.target_iou:g} by more than {TOO_SMALL:g}.",
            )
        ],
        illustrations=[Illustration("planner", _CAPTION)] if shares else [],
    )


_CAPTION = (
    "Share of pilots whose 90% interval holds the measured IOU (horizontal), of those that predict one, by simulated world, influence and "
    "number of models as a multiple of the pilot's (vertical); bars are 99% intervals of the share. Intervals are honest whose bar "
    "reaches the line at 90%."
)


def find_answer(
    rows: Mapping[str, Mapping[str, float | int]], shares: Mapping[str, tuple[float, float, float]]
) -> Finding:
    """Whether intervals hold what is measured, where they do so least, and how many answers are too small. It is not in the paper."""
    answers, small = (sum(int(row[part]) for row in rows.values()) for part in ("answers", "too_small"))
    counted = (
        f"Too small, by more than {TOO_SMALL:g} of IOU, is the answer of {small} of {answers} pilots that have one."
    )
    if not shares:
        return Finding("No pilot predicts an IOU in any of the simulated worlds.", [counted])
    held, predicted = (
        sum(int(row[f"{part}_{times}"]) for row in rows.values() for times in TIMES) for part in ("held", "predicted")
    )
    worst = min(shares, key=lambda name: shares[name][0])
    good = sum(share >= 0.9 for share, _, _ in shares.values())
    return Finding(
        f"Of the 90% intervals that pilots predict for the IOU, {held / predicted:.1%} hold what many more models measure.",
        [
            f"In {good} of {len(shares)} cases, a world, an influence and a number of models, at least 90% of the intervals hold it.",
            f"The worst case is '{worst}', where {shares[worst][0]:.0%} hold it.",
            counted,
        ],
    )


def main() -> int:
    """Run the trials that the command line asks for."""
    try:
        run(parse(PRESETS, program="experiments.planner_simulations", description=__doc__))
    except Mistake as mistake:
        console.print(str(mistake), style="red", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
