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
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float, Int

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options
from experiments.data_kinds import takes_images_of_classes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.finetune_report import Findings, Network, outcome
from experiments.outcome import Outcome
from experiments.presets import CIFAR10_12K, PAPER_CIFAR100, with_networks
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe
from jaxinfl.models import Variables
from jaxinfl.statistics import agreement_between, agreement_of_pairs
from jaxinfl.training.optimizer import learning_rate


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "cifar10_12k", "paper"], PRESET] = "digits"
    model: Annotated[str, tyro.conf.Suppress] = ""
    models: tuple[str, ...] = ("small_cnn", "mlp")
    """Registered names of the networks, such as small_mlp, small_cnn, small_inception or resnet18_cifar."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=17, crop_padding=1))
    """Recipe by which the models are trained."""
    seeds: int = 5
    """Number of seeds. For each one model is trained on everything, and one fine-tuned and one retrained without each example."""
    num_dropped: int = 10
    """Number of training examples that are left out, one at a time; they are drawn at random."""
    finetune_share: float = 0.06
    """Epochs of fine-tuning, as a share of the epochs of training; at least one epoch."""
    finetune_rate: float | None = None
    """Learning rate of fine-tuning; None takes the training's average over as many epochs at its end."""


PRESETS = {
    "tiny": Config(
        preset="tiny", models=("small_mlp",), recipe=Recipe(epochs=2, crop_padding=1), seeds=2, num_dropped=2
    ),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        **with_networks(CIFAR10_12K, "small_cnn"),
        seeds=3,
        num_dropped=4,
    ),
    "paper": Config(preset="paper", **with_networks(PAPER_CIFAR100, "small_inception", "resnet18_cifar"), seeds=3),
}


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
    """The recipe of the fine-tuning, at a constant learning rate."""
    epochs = max(1, round(config.finetune_share * config.recipe.epochs))
    rate = config.finetune_rate
    if rate is None:
        rate = last_rate(config.recipe, epochs)
    return dataclasses.replace(
        config.recipe, epochs=epochs, learning_rate=rate, schedule="constant", milestones=(), warmup_epochs=0.0
    )


def last_rate(recipe: Recipe, epochs: int) -> float:
    """Average learning rate over the last `epochs` of a recipe, taken at the middles of 100 parts."""
    at = recipe.epochs - epochs * (1 - (np.arange(100) + 0.5) / 100)
    rates = [float(learning_rate(recipe, jnp.float32(epoch))) for epoch in at]
    return float(f"{np.mean(rates):.6g}")


def draw_dropped(config: Config, num_train: int) -> Int[np.ndarray, " dropped"]:
    """Draw the indices of the training examples that are left out, in rising order."""
    if config.num_dropped >= num_train:
        raise Mistake(f"--num-dropped is {config.num_dropped}; there are {num_train} training examples.")
    order = np.random.default_rng((config.seed, num_train)).permutation(num_train)
    return np.sort(order[: config.num_dropped])


def requests(config: Config, data: Dataset) -> list[Request]:
    """The ensembles of each network: models on everything, these fine-tuned without each example, and models without it from scratch.

    Row `k * seeds + s` of the latter two is seed s without example k.
    """
    masks = jaxinfl.leave_one_out(data.num_train, draw_dropped(config, data.num_train), config.seeds)
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
            initial=partial(repeat_weights, name=trained.name, times=config.num_dropped),
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


def repeat_weights(finished: Mapping[str, Ensemble], name: str, times: int) -> Variables:
    """The weights of every model of a finished ensemble, once for each example that is left out."""
    runs = finished[name]
    if runs.diverged.any():
        raise Mistake(
            f"{runs.diverged.sum()} of {runs.num_models} models of {name} diverged, and there is nothing to fine-tune. Lower "
            "--recipe.learning-rate."
        )
    weights: Variables = jax.tree.map(lambda w: np.concatenate([w] * times), runs.weights())
    return weights


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """How often fine-tuned and retrained models agree, beside what seeds alone change."""
    findings = Findings(
        {name: compare(config, name, runs) for name in config.models},
        dropped=draw_dropped(config, data.num_train),
        epochs=config.recipe.epochs,
        fine_tuning=fine_tuning(config),
    )
    return outcome(findings, data)


def compare(config: Config, name: str, runs: Mapping[str, Ensemble]) -> Network:
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


EXPERIMENT = Experiment(
    name="finetune_vs_retrain",
    question="[bold]Table 1[/bold]: does fine-tuning without an example give what retraining without it gives?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
    takes=takes_images_of_classes,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
