"""Which attribution predicts what retraining does, and how well could any? Linear datamodeling scores and brittleness.

Claim (Park et al. 2023; Ilyas et al. 2022): attributions are judged by how well their sums rank the outcomes of training on random subsets
(LDS), and by how few of the examples that they name must be left out until a prediction flips. Neither can be perfect: the outcomes are
noisy, so that even the true expectations have a score below 1, the noise ceiling.

    python -m experiments.ground_truth --preset digits        8x8 digits, 8,100 small MLPs: about a minute, 2 cores

Attributions: influence on 0-1 scores and on margins from 100, 400 and 1600 models; similarity of gradients at one checkpoint; TRAK, projected
gradients over 10 models. The ground truth are other models: 100 random subsets with 5 models each, and for the 30 least certain of 360
test digits that most models get right models without the top examples of each attribution. Figures: lds and flips, as PNG and SVG. Expected on digits: a ceiling of 0.88, of which margins from 1600
models reach 0.46 and TRAK 0.34; without the 40 examples that they name nine of ten of these predictions flip, and without random ones none.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options, mistakes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.gradient_attribution import Checkpoints, check_baselines, gradient_similarity, trak
from experiments.ground_truth_report import Findings, outcome
from experiments.outcome import Outcome
from jaxinfl import Dataset, Ensemble, Recipe
from jaxinfl.brittleness import read_brittleness, removal_masks

SIMILARITY, TRAK = "gradients, one checkpoint", "TRAK"


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits"], PRESET] = "digits"
    sizes: tuple[int, ...] = (100, 400, 1600)
    """Numbers of models on random subsets from which influence is estimated, rising."""
    ratio: float = 0.5
    """Size of all random subsets, as a share of the training set."""
    subsets: int = 100
    """Number of subsets of the ground truth, which are others."""
    subset_seeds: int = 5
    """Models on each of these subsets, which tell the noise ceiling."""
    checkpoints: int = 10
    """Models on everything whose gradients are taken."""
    tests: int = 30
    """Test examples whose predictions are to flip: the least certain ones that most models get right."""
    removals: tuple[int, ...] = (5, 10, 20, 40, 80)
    """Numbers of training examples that are left out, rising."""
    seeds: int = 5
    """Models of each removal."""


PRESETS = {
    "tiny": Config(
        preset="tiny",
        recipe=Recipe(epochs=1),
        sizes=(10, 20),
        subsets=30,
        subset_seeds=2,
        checkpoints=2,
        tests=3,
        removals=(5, 10),
        seeds=2,
    ),
    "digits": Config(),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    for option, numbers in (("--sizes", config.sizes), ("--removals", config.removals)):
        low = 10 if option == "--sizes" else 1
        if not numbers or min(numbers) < low or list(numbers) != sorted(set(numbers)):
            raise Mistake(
                f"{option} is {' '.join(map(str, numbers)) or 'empty'}; it takes rising numbers from {low} up."
            )
    for option, number, low in (
        ("--subsets", config.subsets, 30),
        ("--subset-seeds", config.subset_seeds, 1),
        ("--checkpoints", config.checkpoints, 1),
        ("--tests", config.tests, 1),
        ("--seeds", config.seeds, 1),
    ):
        if number < low:
            raise Mistake(f"{option} is {number}; it takes a whole number from {low} up.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models for the attributions, models of the ground truth, and models without what the attributions name."""
    check_baselines(data, config.model)
    first, second, third, fourth = jax.random.split(jax.random.key(config.seed), 4)
    with mistakes():
        masks = jaxinfl.draw_subsets(config.sizes[-1], data.num_train, config.ratio, config.seed)
        truth = jaxinfl.draw_subsets(config.subsets, data.num_train, config.ratio, config.seed + 1)
    if config.removals[-1] >= data.num_train:
        raise Mistake(f"--removals names {config.removals[-1]}; {data.name} has {data.num_train} training examples.")
    if config.tests > data.num_test:
        raise Mistake(f"--tests is {config.tests}; {data.name} has {data.num_test} test examples.")
    truth, ones = np.repeat(truth, config.subset_seeds, axis=0), np.ones((config.checkpoints, data.num_train), bool)
    attributions = len(names(config))
    rows = (1 + len(config.removals) * (1 + attributions * config.tests)) * config.seeds
    without = Request(
        "without",
        f"{rows} models without what {attributions} attributions name for each of {config.tests} test examples",
        np.ones((rows, data.num_train), bool),
        jax.random.split(fourth, rows),
        config.recipe,
    )

    def complete(finished: Runs) -> Request:
        return replace(without, masks=masks_without(config, finished, data))

    return [
        Request(
            "models",
            f"{config.sizes[-1]} models on random subsets of {config.ratio:.0%}, for the attributions",
            masks,
            jax.random.split(first, len(masks)),
            config.recipe,
        ),
        Request(
            "truth",
            f"{config.subsets} other subsets with {config.subset_seeds} models each, the ground truth",
            truth,
            jax.random.split(second, len(truth)),
            config.recipe,
        ),
        Request(
            "checkpoints",
            f"{config.checkpoints} models on everything, for gradients",
            ones,
            jax.random.split(third, len(ones)),
            config.recipe,
            keep_weights=True,
        ),
        replace(without, complete=complete),
    ]


def names(config: Config) -> list[str]:
    """Names of the attributions, in the order of tables and figures."""
    estimates = [f"{score}, {size} models" for score in ("0-1 scores", "margins") for size in config.sizes]
    return [*estimates, SIMILARITY, f"{TRAK}, {config.checkpoints} models"]


def attribute(
    config: Config, runs: Mapping[str, Ensemble], data: Dataset
) -> dict[str, Float[np.ndarray, "train test"]]:
    """The attributions by name: how much each training example helps the prediction of each test example."""
    models = runs["models"]
    found = []
    for score in ("correct", "margin"):
        for size in config.sizes:
            influence = jaxinfl.influence(models[:size], score)
            # An example that is in all subsets, or in none, has no influence that could be known.
            found.append(np.nan_to_num(influence.astype(np.float64)))
    checkpoints = Checkpoints(runs["checkpoints"], data, config.model)
    found += [gradient_similarity(checkpoints), trak(checkpoints, config.seed)]
    return dict(zip(names(config), found, strict=True))


def choose_tests(config: Config, models: Ensemble) -> Int[np.ndarray, " tests"]:
    """The test examples that most models get right, those first whose mean margin is the smallest."""
    healthy = models.without_diverged()
    right, margin = healthy.test_correct.mean(axis=0), healthy.test_margin.mean(axis=0)
    order = np.lexsort((margin, right <= 0.5))
    return np.sort(order[: config.tests])


def masks_without(config: Config, runs: Runs, data: Dataset) -> Bool[np.ndarray, "models train"]:
    """Subsets without what the attributions name."""
    tests = choose_tests(config, runs["models"])
    masks = removal_masks(
        runs.once("attributions", lambda: attribute(config, runs, data)),
        tests,
        np.asarray(config.removals),
        data.num_train,
        config.seed,
    )
    return np.repeat(masks, config.seeds, axis=0)


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Scores with their ceiling, and the share of predictions that flip."""
    attributions = runs.once("attributions", lambda: attribute(config, runs, data))
    with mistakes():
        scores = {name: jaxinfl.lds(values, runs["truth"], "margin") for name, values in attributions.items()}
    tests = choose_tests(config, runs["models"])
    flips = read_brittleness(runs["without"], tuple(attributions), tests, np.asarray(config.removals))
    findings = Findings(scores, flips, config.subsets, config.subset_seeds)
    return outcome(findings, data, config.model)


def takes(data: Dataset) -> None:
    """Raise `Mistake` unless the data are images of classes, of which the gradients of the baselines are computed."""
    if not data.are_images or not data.num_classes:
        raise Mistake(
            f"{data.name} holds no images with class labels; this experiment takes these, for its baselines by gradients."
        )


EXPERIMENT = Experiment(
    name="ground_truth",
    question="[bold]Ground truth[/bold]: which attribution predicts what retraining does, and how well could any?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
    takes=takes,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
