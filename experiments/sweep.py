"""Appendix A.3: which learning rate and weight decay? The paper's grid as one ensemble.

Claim (A.3, after Kornblith et al. 2018): for DTD and Flowers learning rate and weight decay were found by a sweep over "7
logarithmically spaced learning rates between 0.001 to 1.0 and 7 logarithmically spaced weight decay to learning rate
ratios between 1e-5 to 1e-2, as well as no weight decay". The paper does not print what the sweep found.

    python -m experiments.sweep --preset digits       8x8 digits, 56 settings x 3 seeds: under a minute, 2 cores
    python -m experiments.sweep --preset paper        Flowers 102 at 224 pixels: a GPU

All settings are trained side by side by one compiled program (`train_ensemble(overrides=...)`), on a training set from
which a validation set is cut: as masks, so that the validation examples have no effect at all. The setting with the best
mean validation accuracy, among those of which no model diverged, is chosen (of equals the one with the smaller learning
rate, then the smaller weight decay); then models are trained with it on all training examples, and these alone are ever
scored on the test set. Weight decay is ratio x learning rate, the same for all of training: of the peak, where
the learning rate has a schedule.

Figure: sweep, a heat map with the chosen cell framed. Expected on digits: accuracy rises with the learning rate to a
plateau, chosen between 0.1 and 1; test accuracy of the chosen setting 97 to 98 %.
"""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Bool

from experiments.command_line import PRESET, Mistake, Options
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.outcome import Outcome
from experiments.sweep_report import Findings, outcome
from jaxinfl import Dataset, Ensemble, Recipe, recipes


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "paper"], PRESET] = "digits"
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """Recipe by which each model is trained; the grid takes the place of its learning rate and weight decay."""
    learning_rates: tuple[float, ...] = tuple(float(rate) for rate in np.logspace(-3, 0, 7).round(6))
    """Learning rates of the grid, rising."""
    decay_ratios: tuple[float, ...] = (0.0, *(float(f"{ratio:.4g}") for ratio in np.logspace(-5, -2, 7)))
    """Ratios of weight decay to learning rate of the grid, rising; 0 is no weight decay."""
    repeats: int = 3
    """Number of seeds that each setting of the grid is trained with."""
    validation_share: float = 0.2
    """Share of the training set that is held out to choose the setting by."""
    final_models: int = 10
    """Number of models with the chosen setting, which are trained on all training examples and scored on the test set."""


PRESETS = {
    "tiny": Config(
        preset="tiny",
        recipe=Recipe(epochs=2),
        learning_rates=(0.001, 0.1),
        decay_ratios=(0.0, 0.01),
        repeats=2,
        final_models=2,
    ),
    "digits": Config(),
    # Appendix A.3 for Flowers with ResNet-18. It names no number of seeds and no validation set.
    "paper": Config(
        preset="paper",
        data="oxford_flowers102",
        image_size=recipes.stored_side(224),
        model="resnet18",
        recipe=recipes.FINE_GRAINED_224,
        repeats=1,
        final_models=3,
    ),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    for option, values in (("--learning-rates", config.learning_rates), ("--decay-ratios", config.decay_ratios)):
        if not values or list(values) != sorted(set(values)) or not values[0] >= 0:
            shown = " ".join(f"{value:g}" for value in values) or "empty"
            raise Mistake(f"{option} is {shown}; it takes rising numbers from 0 up.")
    for option, number in (("--repeats", config.repeats), ("--final-models", config.final_models)):
        if number < 1:
            raise Mistake(f"{option} is {number}; it takes a whole number from 1 up.")
    if not 0 < config.validation_share < 1:
        raise Mistake(f"--validation-share is {config.validation_share:g}; it takes a share between 0 and 1.")


def draw_validation(config: Config, num_train: int) -> Bool[np.ndarray, " train"]:
    """Draw the training examples on which settings are compared."""
    size = round(config.validation_share * num_train)
    if not 1 <= size < num_train:
        raise Mistake(
            f"--validation-share {config.validation_share:g} of {num_train} training examples leaves {size} to choose by and "
            f"{num_train - size} to train on; it takes a share that leaves some of both."
        )
    held_out = np.zeros(num_train, bool)
    held_out[np.random.default_rng((config.seed, num_train)).permutation(num_train)[:size]] = True
    return held_out


def requests(config: Config, data: Dataset) -> list[Request]:
    """The grid, and the chosen setting on all training examples."""
    shape = (config.repeats, len(config.decay_ratios), len(config.learning_rates))
    rate = np.broadcast_to(np.asarray(config.learning_rates), shape)
    decay = rate * np.asarray(config.decay_ratios)[:, None]
    kept = ~draw_validation(config, data.num_train)
    first, last = jax.random.split(jax.random.key(config.seed))
    # A seed is the same in all cells, so that they differ in their settings alone.
    seeds = jax.random.split(first, config.repeats)
    grid = Request(
        "grid",
        f"{rate[0].size} settings x {config.repeats} seeds on {kept.sum()} of {data.num_train} training examples",
        np.broadcast_to(kept, (rate.size, data.num_train)),
        seeds[np.arange(rate.size) // rate[0].size],
        config.recipe,
        overrides={"learning_rate": rate.ravel(), "weight_decay": decay.ravel()},
        max_diverged=1.0,
    )
    final = Request(
        "chosen",
        f"{config.final_models} models with the chosen setting, on all training examples",
        np.ones((config.final_models, data.num_train), bool),
        jax.random.split(last, config.final_models),
        config.recipe,
    )

    def complete(finished: Mapping[str, Ensemble]) -> Request:
        row, column = compare(config, finished["grid"], None).chosen
        learning_rate = config.learning_rates[column]
        recipe = dataclasses.replace(
            config.recipe, learning_rate=learning_rate, weight_decay=learning_rate * config.decay_ratios[row]
        )
        return dataclasses.replace(final, recipe=recipe)

    return [grid, dataclasses.replace(final, complete=complete)]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Which setting is best on the validation set, and what it is worth on the test set."""
    return outcome(compare(config, runs["grid"], runs["chosen"]), data, config.model)


def compare(config: Config, grid: Ensemble, final: Ensemble | None) -> Findings:
    """What the grid says, and the models of the chosen setting where they are trained."""
    shape = (config.repeats, len(config.decay_ratios), len(config.learning_rates))
    # The models were trained on one subset; what it leaves out is the validation set.
    held_out = ~grid.masks[0]
    accuracy = grid.train_correct[:, held_out].mean(axis=1)
    findings = Findings(
        learning_rates=config.learning_rates,
        decay_ratios=config.decay_ratios,
        accuracy=np.where(grid.diverged, np.nan, accuracy).reshape(shape),
        num_validation=int(held_out.sum()),
        num_trained=int((~held_out).sum()),
        test_accuracy=np.empty(0) if final is None else final.test_correct[~final.diverged].mean(axis=1),
    )
    if findings.diverged.all():
        raise Mistake(f"a model diverged in each of the {findings.diverged.size} settings. Lower --learning-rates.")
    return findings


EXPERIMENT = Experiment(
    name="sweep",
    question="[bold]Appendix A.3[/bold]: which learning rate and weight decay?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
