"""Figure 3: how many models does it take to detect the influence of one training on one test example?

Claim (Section 4.3): the closer the probabilities p and q of being right with and without the example, the more models
are needed (left), so that small influences take many more than large ones (middle). Most test examples of CIFAR-100 have p
close to 1, where fewer than 10 models suffice for a wide range of q; the rest is a long tail (right).

    python -m experiments.models_needed --preset digits       8x8 digits, 20 small MLPs: seconds, 2 cores
    python -m experiments.models_needed --preset paper        CIFAR-100, 20 small Inceptions: a GPU

Figure: figure3, as PNG and SVG. Expected: 67 models for p = 0.6 and q = 0.4 whatever the data (the numbers of the left
and middle panels are exact); on digits more than nine tenths of the test examples with p = 1.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import numpy as np

from experiments.command_line import PRESET, Mistake, Options, console
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.models_needed_report import find, outcome
from experiments.outcome import Outcome
from experiments.presets import PAPER_CIFAR100
from jaxinfl import Dataset, Recipe


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "paper"], PRESET] = "digits"
    num_models: int = 20
    """Number of models that are trained on everything, each with its own seed; p is estimated from them."""
    delta: float = 0.05
    """Largest probability of taking p for q, or q for p."""
    grid: int = 101
    """Number of values of p, and of q, in the heat map; they are spaced evenly from 0 to 1."""
    curves: tuple[float, ...] = (1.0, 0.95, 0.9, 0.8, 0.6)
    """Values of p that the middle panel shows, each as one curve."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=2), num_models=4, grid=21),
    "digits": Config(),
    "paper": Config(preset="paper", **PAPER_CIFAR100),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if config.num_models < 1:
        raise Mistake(f"--num-models is {config.num_models}; it takes a whole number from 1 up.")
    if not 0 < config.delta < 0.5:
        raise Mistake(f"--delta is {config.delta}; it takes a number between 0 and 0.5.")
    if not 2 <= config.grid <= 1001:
        raise Mistake(f"--grid is {config.grid}; it takes a whole number from 2 to 1001.")
    if not config.curves or not all(0 < share <= 1 for share in config.curves):
        raise Mistake(
            f"--curves is {' '.join(map(str, config.curves)) or 'empty'}; it takes values of p, above 0 to 1."
        )


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models that differ in nothing but their seeds."""
    return [
        Request(
            "models",
            f"{config.num_models} models on all of the training set, each with its own seed",
            np.ones((config.num_models, data.num_train), bool),
            jax.random.split(jax.random.key(config.seed), config.num_models),
            config.recipe,
        )
    ]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Estimate p of every test example, beside the exact numbers of models."""
    models = runs["models"]
    usable = ~models.diverged
    if not usable.any():
        raise Mistake(
            f"all {len(usable)} models diverged. Lower --recipe.learning-rate (it is {config.recipe.learning_rate:g})."
        )
    if not usable.all():
        console.print(f"[yellow]{(~usable).sum()} of {len(usable)} models diverged and are left out.[/yellow]")
    findings = find(
        models.test_correct[usable],
        delta=config.delta,
        grid=config.grid,
        curves=config.curves,
        diverged=int((~usable).sum()),
    )
    return outcome(findings, data, config.model)


EXPERIMENT = Experiment(
    name="models_needed",
    question="[bold]Figure 3[/bold]: how many models does it take to detect one influence?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
