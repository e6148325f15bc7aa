"""Table 1: does fine-tuning without an example give the model that retraining without it gives?

Claim (Section 4.2): a model fine-tuned without one example for 6 % of the epochs, and a model trained from scratch without it,
agree on 76 and 82 % of CIFAR-100's test examples (Inception, ResNet-18) and 54 and 67 % of Flowers', so that
fine-tuning is no stand-in for retraining in influence estimation.

    python -m experiments.finetune_vs_retrain --preset digits     8x8 digits, 2 networks x 205 models: about a minute, 2 cores
    python -m experiments.finetune_vs_retrain --preset cifar10_12k --data cifar10.npz    32x32 colour: minutes, 2 cores
    python -m experiments.finetune_vs_retrain --preset paper      CIFAR-100, 2 networks x 63 models, 200 epochs: a GPU

For each seed a model is trained on everything and, for each of 10 random training examples, fine-tuned from its weights without
that example (F); another is trained from scratch without it (R). R has keys of its own: whoever retrains to estimate an influence
has a new seed. The paper does not say with which learning rate it fine-tunes. Here it is constant, the average of the rate
that the training itself had over its last 6 % (of a stepwise schedule its last value); momentum starts at 0, all else is the
training's.

To judge the agreement of R and F, three more: R with R of another seed (what seeds alone leave), F with F of another seed, and
F with the model that it started from (what fine-tuning changes). 5 seeds in place of the paper's three at the digits preset.

Figure: agreement, all of these side by side. Expected on digits: R and F agree as often as R and R of another seed, about 0.99,
and F with the model that it started from on all but a few examples: what separates R from F is the seed, not the example.
"""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float, Int

import jaxinfl
from experiments.command_line import Mistake, Options, console, describe_data, launch, load
from experiments.ensembles import Request, carry_out
from experiments.finetune_report import Findings, Network, outcome
from experiments.outcome import publish
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe, recipes
from jaxinfl.models import Variables
from jaxinfl.statistics import agreement_between, agreement_of_pairs
from jaxinfl.training.optimizer import learning_rate


@dataclass(frozen=True)
class Config(Options):
    """Options; each preset sets them all."""

    preset: Literal["tiny", "digits", "cifar10_12k", "paper"] = "digits"
    """Where the defaults of the other options come from."""
    model: Annotated[str, tyro.conf.Suppress] = ""
    models: tuple[str, ...] = ("small_cnn", "mlp")
    """Registered names of the architectures."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=17, crop_padding=1))
    """How the models are trained."""
    seeds: int = 5
    """Models on everything, each fine-tuned without each example; and as many retrained without each."""
    num_dropped: int = 10
    """Training examples left out, one at a time; drawn at random."""
    finetune_share: float = 0.06
    """Epochs of fine-tuning as a share of those of training; at least one epoch."""
    finetune_rate: float | None = None
    """Learning rate of fine-tuning; by default the training's average over as many epochs at its end."""


PRESETS = {
    "tiny": Config(
        preset="tiny", models=("small_mlp",), recipe=Recipe(epochs=2, crop_padding=1), seeds=2, num_dropped=2
    ),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        data="",
        train_examples=2000,
        test_examples=1000,
        models=("small_cnn",),
        recipe=Recipe(epochs=8, batch_size=128, crop_padding=4, flip=True),
        seeds=3,
        num_dropped=4,
    ),
    # Appendix A.3.
    "paper": Config(
        preset="paper", data="cifar100", models=("small_inception", "resnet18_cifar"), recipe=recipes.CIFAR, seeds=3
    ),
}


def main(config: Config) -> Path:
    """Train or read the models, compare, write the results; returns their directory."""
    check(config)
    data, out = load(config, "finetune_vs_retrain", config.preset)
    console.print("[bold]Table 1[/bold]: does fine-tuning without an example give what retraining without it gives?")
    console.print(describe_data(data), markup=False)
    runs = carry_out(requests(config, data), data, config.models[0], out, cost_only=config.cost, part=config.part)
    findings = Findings(
        {name: analyse(config, name, runs, data) for name in config.models},
        dropped=dropped(config, data.num_train),
        epochs=config.recipe.epochs,
        fine_tuning=fine_tuning(config),
    )
    publish(outcome(findings, data), "finetune_vs_retrain", config, data, out, runs)
    return out


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    if config.seeds < 2:
        raise Mistake(f"--seeds is {config.seeds}; it takes a whole number from 2 up, to compare seeds.")
    if config.num_dropped < 1:
        raise Mistake(f"--num-dropped is {config.num_dropped}; it takes a whole number from 1 up.")
    if not 0 < config.finetune_share <= 1:
        raise Mistake(f"--finetune-share is {config.finetune_share:g}; it takes a share above 0 and at most 1.")
    if not config.models or len(set(config.models)) < len(config.models):
        raise Mistake(f"--models is {' '.join(config.models) or 'empty'}; it takes different architectures.")
    if config.recipe.epochs < 1:
        raise Mistake(f"--recipe.epochs is {config.recipe.epochs}; it takes a whole number from 1 up.")


def fine_tuning(config: Config) -> Recipe:
    """The recipe of fine-tuning."""
    epochs = max(1, round(config.finetune_share * config.recipe.epochs))
    rate = config.finetune_rate
    if rate is None:
        rate = last_rate(config.recipe, epochs)
    return dataclasses.replace(
        config.recipe, epochs=epochs, learning_rate=rate, schedule="constant", milestones=(), warmup_epochs=0.0
    )


def last_rate(recipe: Recipe, epochs: int) -> float:
    """Average learning rate of the last so many epochs, taken at the middles of 100 parts."""
    at = recipe.epochs - epochs * (1 - (np.arange(100) + 0.5) / 100)
    rates = [float(learning_rate(recipe, jnp.float32(epoch))) for epoch in at]
    return float(f"{np.mean(rates):.6g}")


def dropped(config: Config, num_train: int) -> Int[np.ndarray, " dropped"]:
    """The examples that are left out, in rising order."""
    if config.num_dropped >= num_train:
        raise Mistake(f"--num-dropped is {config.num_dropped}; there are {num_train} training examples.")
    order = np.random.default_rng((config.seed, num_train)).permutation(num_train)
    return np.sort(order[: config.num_dropped])


def requests(config: Config, data: Dataset) -> list[Request]:
    """The ensembles of each network: models on everything, these fine-tuned without each example, and models without it from scratch.

    Row `k * seeds + s` of the latter two is seed s without example k.
    """
    masks = jaxinfl.leave_one_out(data.num_train, dropped(config, data.num_train), config.seeds)
    first, second, third = jax.random.split(jax.random.key(config.seed), 3)
    found = []
    for name in config.models:
        trained = Request(
            f"{name}-trained",
            f"{name}: {config.seeds} models on everything",
            np.ones((config.seeds, data.num_train), bool),
            jax.random.split(first, config.seeds),
            config.recipe,
            model=name,
            keep_weights=True,
        )
        tuned = Request(
            f"{name}-finetuned",
            f"{name}: each of them fine-tuned without each of {config.num_dropped} examples",
            masks,
            jax.random.split(second, len(masks)),
            fine_tuning(config),
            model=name,
            initial=_Started(trained.name, config.num_dropped),
        )
        retrained = Request(
            f"{name}-retrained",
            f"{name}: as many trained from scratch without it",
            masks,
            # A seed has one key whatever example is left out: R of one seed differ by the example alone.
            ModelKeys.split(jax.random.split(third, config.seeds))[
                np.tile(np.arange(config.seeds), config.num_dropped)
            ],
            config.recipe,
            model=name,
        )
        found += [trained, tuned, retrained]
    return found


@dataclass(frozen=True)
class _Started:
    """The weights of every seed, once for each example that is left out."""

    name: str
    times: int

    def __call__(self, finished: Mapping[str, Ensemble]) -> Variables:
        runs = finished[self.name]
        if runs.diverged.any():
            raise Mistake(
                f"{runs.diverged.sum()} of {runs.num_models} models of {self.name} diverged, and there is nothing to "
                "fine-tune. Lower --recipe.learning-rate."
            )
        weights: Variables = jax.tree.map(lambda w: np.concatenate([w] * self.times), runs.weights())
        return weights


def analyse(config: Config, name: str, runs: Mapping[str, Ensemble], data: Dataset) -> Network:
    """Table 1's numbers for one network."""
    trained, tuned, retrained = (runs[f"{name}-{kind}"] for kind in ("trained", "finetuned", "retrained"))
    models = len(tuned)
    tuned, retrained = tuned.paired(retrained)
    if len(tuned) < models:
        raise Mistake(
            f"{models - len(tuned)} of {models} fine-tuned or retrained models of {name} diverged. Lower "
            f"--recipe.learning-rate (it is {config.recipe.learning_rate:g})."
        )
    start = np.tile(trained.test_prediction, (config.num_dropped, 1))
    return Network(
        retrained_with_tuned=agreement_between(retrained.test_prediction, tuned.test_prediction),
        between_retrained=_other_seeds(config, retrained),
        between_tuned=_other_seeds(config, tuned),
        tuned_with_start=agreement_between(tuned.test_prediction, start),
        retrained_accuracy=retrained.test_correct.mean(axis=1),
        tuned_accuracy=tuned.test_correct.mean(axis=1),
        trained_accuracy=trained.test_correct.mean(axis=1),
    )


def _other_seeds(config: Config, runs: Ensemble) -> Float[np.ndarray, " pairs"]:
    """Agreement of models without the same example and with different seeds, for all examples."""
    by_example = runs.test_prediction.reshape(config.num_dropped, config.seeds, -1)
    return np.concatenate([agreement_of_pairs(predictions) for predictions in by_example])


if __name__ == "__main__":
    sys.exit(launch(main, PRESETS, "finetune_vs_retrain", __doc__))
