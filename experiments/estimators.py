"""Which estimator needs the fewest models? The published one beside datamodels, shrinkage, margins and other designs.

Question: does the influence on being right, told from margins and shrunk by empirical Bayes, agree with a reference of many
models, its own or the published one, from half the models that the published difference of 0-1 scores needs? Regressions on
the masks can gain no more than subsets explain of a score.

    python -m experiments.estimators --preset digits       8x8 digits, 44,800 small MLPs: 15 minutes, 2 cores
    python -m experiments.estimators --preset cifar10_12k --data cifar10.npz     12x12 colour, 38,400 small MLPs: an hour

Figures: curves (IOU over the number of models) and needed (models for the target), as PNG and SVG. Every estimator is
judged on models that its references have not seen. Estimates of one size are compared by equal numbers of pairs: as many of
the highest as reach the threshold in the published reference, since margins know no influence of 0.1.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import numpy as np
from rich.progress import Progress

import jaxinfl
from experiments import estimator_comparison as comparison
from experiments.command_line import PRESET, Mistake, Options, console, mistakes
from experiments.ensembles import Request, Runs
from experiments.estimator_comparison import Estimator, References, Scores
from experiments.estimators_report import Findings, outcome
from experiments.experiment import Experiment
from experiments.outcome import Outcome
from jaxinfl import Dataset, Recipe

Design = Literal["balanced", "half", "complementary"]
ENSEMBLES = ("reference", "models", "balanced", "reference_half", "half", "complementary")
"""Names of the ensembles, in the order of their keys."""


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "cifar10_12k"], PRESET] = "digits"
    num_reference: int = 16_000
    """Number of models of each reference."""
    num_models: int = 3200
    """Number of other models, on which estimators are judged; each design of subsets has as many."""
    ratio: float = 0.7
    """Size of each model's subset, as a share of the training set."""
    designs: tuple[Design, ...] = ("balanced", "half", "complementary")
    """Designs of subsets that are tried besides independent ones; "half" and "complementary" hold half of the training set."""
    sizes: tuple[int, ...] = (50, 100, 200, 400, 800, 1600)
    """Numbers of models per estimate, rising."""
    threshold: float = 0.1
    """Influence on 0-1 scores from which on a pair counts."""
    target: float = 0.7
    """IOU, and rank correlation, that is to be reached."""
    repeats: int = 12
    """Number of random choices of the models, over which the mean is taken."""
    slow_repeats: int = 3
    """Number of random choices of the models for regressions on the masks, which take hundreds of times as long."""
    min_memorization: float | None = 0.25
    """Memorization above which a training example is compared (Appendix E); None compares all training examples."""


PRESETS = {
    "tiny": Config(
        preset="tiny",
        recipe=Recipe(epochs=2),
        train_examples=60,
        test_examples=30,
        num_reference=30,
        num_models=24,
        sizes=(8, 24),
        repeats=2,
        slow_repeats=1,
        min_memorization=None,
    ),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        data="",
        image_size=12,
        train_examples=1000,
        test_examples=500,
        num_reference=8000,
        num_models=5600,
        sizes=(50, 100, 200, 400, 800, 1600, 3200, 5600),
        repeats=6,
        slow_repeats=1,
    ),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if not config.sizes or min(config.sizes) < 4 or list(config.sizes) != sorted(set(config.sizes)):
        raise Mistake(f"--sizes is {' '.join(map(str, config.sizes)) or 'empty'}; it takes rising numbers from 4 up.")
    if config.sizes[-1] > config.num_models:
        raise Mistake(f"--sizes names {config.sizes[-1]} models, but --num-models is {config.num_models}.")
    if config.num_reference < config.sizes[-1]:
        raise Mistake(
            f"--num-reference is {config.num_reference}; a reference takes at least the {config.sizes[-1]} models of --sizes."
        )
    if not 0 < config.target < 1:
        raise Mistake(f"--target is {config.target}; it takes a number between 0 and 1.")
    if not 1 <= config.slow_repeats <= config.repeats:
        raise Mistake(
            f"--repeats is {config.repeats} and --slow-repeats {config.slow_repeats}; both take whole numbers from 1 up, the "
            "second no more than the first."
        )
    if "complementary" in config.designs and config.num_models % 2:
        raise Mistake(f"--num-models is {config.num_models}; complementary subsets come in pairs: make it even.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """The ensembles of the references and the models that estimators are judged on, with subsets and keys of their own."""
    keys = dict(zip(ENSEMBLES, jax.random.split(jax.random.key(config.seed), len(ENSEMBLES)), strict=True))
    halves = [design for design in config.designs if design != "balanced"]
    names = ["reference", "models", *config.designs, *(["reference_half"] if halves else [])]
    made = []
    for name in names:
        with mistakes():
            masks = _masks(name, config, data.num_train)
        title = f"{len(masks)} models, {TITLES[name]}"
        made.append(Request(name, title, masks, jax.random.split(keys[name], len(masks)), config.recipe))
    return made


TITLES = {
    "reference": "each on its own subset: the reference",
    "models": "on other subsets: estimators are judged on them",
    "balanced": "on balanced subsets",
    "half": "each on its own half of the training set",
    "complementary": "on complementary halves",
    "reference_half": "on other halves: the reference of halves",
}


def _masks(name: str, config: Config, num_train: int) -> np.ndarray:
    """The subsets of an ensemble. Judged models continue the list of their reference; other designs have their own seed."""
    own = {"balanced": config.ratio, "complementary": 0.5}
    if name in own:
        return jaxinfl.draw_subsets(config.num_models, num_train, own[name], config.seed + 1, name)  # type: ignore[arg-type]
    ratio = config.ratio if name in ("reference", "models") else 0.5
    masks = jaxinfl.draw_subsets(config.num_reference + config.num_models, num_train, ratio, config.seed)
    return masks[: config.num_reference] if name.startswith("reference") else masks[config.num_reference :]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """How many models each estimator needs to agree with the references."""
    return outcome(compare(config, runs), data, config.model)


def compare(config: Config, runs: Runs) -> Findings:
    """Everything that the figures and results.json are made from."""
    ensembles = {name: Scores.of(each) for name, each in runs.items()}
    for name, scores in ensembles.items():
        if len(scores) < max(config.sizes[0], 3):
            raise Mistake(
                f"{runs[name].num_models - len(scores)} of {runs[name].num_models} models of {name} diverged. Lower "
                f"--recipe.learning-rate (it is {config.recipe.learning_rate:g})."
            )
    estimators = [*comparison.ESTIMATORS, *map(comparison.estimator_of_design, config.designs)]
    references = _references(config, estimators, ensembles)
    if references.num_pairs == 0:
        raise Mistake(f"no pair has an influence of {config.threshold} in the reference; lower --threshold.")
    steps = sum(len(config.sizes) * (config.slow_repeats if each.slow else config.repeats) for each in estimators)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("judging estimators", total=steps)
        judged = comparison.judge(
            estimators,
            ensembles,
            references,
            config.sizes,
            config.repeats,
            config.slow_repeats,
            config.seed,
            lambda: progress.advance(task),
        )
    accuracy = ensembles["models"].correct.mean(axis=1)
    return Findings(config.sizes, judged, references, config.target, config.min_memorization, accuracy)


def _references(config: Config, estimators: list[Estimator], ensembles: dict[str, Scores]) -> References:
    reference = ensembles["reference"]
    packed = jaxinfl.pack(reference.masks, train_score=reference.train_correct)
    examples = packed.examples_above(config.min_memorization)
    if examples.size == 0:
        raise Mistake(
            f"no training example is memorized more than {config.min_memorization}; lower --min-memorization."
        )
    own = {}
    for estimator in estimators:
        console.print(f"reference: {estimator.name}", markup=False)
        own[estimator.name] = estimator(ensembles[estimator.reference], examples)
    sizes = {name: len(scores) for name, scores in ensembles.items() if name.startswith("reference")}
    return References(own[comparison.PUBLISHED], own, config.threshold, examples, sizes)


EXPERIMENT = Experiment(
    name="estimators",
    question="[bold]Estimators[/bold]: which one needs the fewest models?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
