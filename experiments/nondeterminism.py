"""Figure 2a, Tables 2b and 3: how often do two models agree that differ in their seeds alone? With Appendix B's augmentation.

Claim (Section 4.1, Appendix C): models trained on the same data agree on 95 % of CIFAR-10's test examples, 75 to 82 % of
CIFAR-100's, and 40 to 67 % of those of DTD and Flowers, about the same whether the initialization differs, the data order, or
both. Appendix B: averaging the logits over ten views of a test image makes them agree only slightly more often.

    python -m experiments.nondeterminism --preset digits     8x8 digits, 2 networks x 62 models: about a minute, 2 cores
    python -m experiments.nondeterminism --preset cifar10_12k --data cifar10.npz     32x32 colour: minutes, 2 cores
    python -m experiments.nondeterminism --preset paper      CIFAR-100, 2 networks x 62 models, 200 epochs: a GPU

All models are trained on everything. Where the initialization differs, all have one key for the data order and one for
augmentation; where the data order differs, one for the initialization. Augmentation (crops, flips) follows the data
order: which crop an example gets is decided step by step, as in a data loader that one seed drives. 20 seeds in place of the
paper's three, so that the spread is known; Figure 2a shows the first three. As a control two models share all keys: they
must agree on everything, or something random is left out.

`--tta` (on in the presets) evaluates the kept weights of the models that differ in both over ten views of each image: five
crops and their mirror images; five where the recipe trains without flips, because then a mirror image may mean something
else (a digit's does).

Figures: figure2a (agreement matrices), figure4 (distribution of p over the test examples, without and with TTA). Expected on
digits: agreement 0.98 to 0.99 by any source, about the models' accuracy; 0.99 with TTA.
"""

import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Bool, Int

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options, console
from experiments.data_kinds import takes_images_of_classes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.nondeterminism_report import Findings, Network, Stable, outcome
from experiments.outcome import Outcome
from experiments.paper_numbers import BOTH, INIT, ORDER
from experiments.presets import CIFAR10_12K, PAPER_CIFAR100, with_networks
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe
from jaxinfl.statistics import agreement_of_pairs
from jaxinfl.training.inputs import Views

SOURCES = (INIT, ORDER, BOTH)
CONTROL = 2
"""Number of models that share all keys; they must agree on everything."""


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "cifar10_12k", "paper"], PRESET] = "digits"
    model: Annotated[str, tyro.conf.Suppress] = ""
    models: tuple[str, ...] = ("small_cnn", "mlp")
    """Registered names of the networks, such as small_mlp, small_cnn, small_inception or resnet18_cifar."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10, crop_padding=1))
    """Recipe by which each model is trained."""
    seeds: int = 20
    """Number of models for each source of randomness."""
    tta: bool = True
    """Whether predictions with test-time augmentation are compared, too (Appendix B)."""


PRESETS = {
    "tiny": Config(preset="tiny", models=("small_mlp", "mlp"), recipe=Recipe(epochs=1, crop_padding=1), seeds=3),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        **with_networks(CIFAR10_12K, "small_cnn"),
        seeds=4,
    ),
    "paper": Config(preset="paper", **with_networks(PAPER_CIFAR100, "small_inception", "resnet18_cifar")),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    if config.seeds < 3:
        raise Mistake(f"--seeds is {config.seeds}; it takes a whole number from 3 up, as Figure 2a shows three models.")
    if not config.models or len(set(config.models)) < len(config.models):
        raise Mistake(f"--models is {' '.join(config.models) or 'empty'}; it takes different architectures.")


def choose_views(config: Config) -> Views:
    """The views of each image that predictions are averaged over."""
    return "one" if not config.tta else "ten" if config.recipe.flip else "five"


def keys(seed: int, seeds: int) -> ModelKeys:
    """Keys of 3 x `seeds` models that differ in one source after the other (`SOURCES`), and of the control's models."""
    parts = []
    for source, root in zip(SOURCES, jax.random.split(jax.random.key(seed), len(SOURCES)), strict=True):
        fresh = ModelKeys.split(jax.random.split(root, seeds))
        shared = fresh[np.zeros(seeds, int)]
        parts.append(
            ModelKeys(
                init=shared.init if source == ORDER else fresh.init,
                order=shared.order if source == INIT else fresh.order,
                augment=shared.augment if source == INIT else fresh.augment,
            )
        )
    parts.append(parts[-1][np.zeros(CONTROL, int)])
    return ModelKeys(
        *(jnp.concatenate([getattr(part, name) for part in parts]) for name in ("init", "order", "augment"))
    )


def requests(config: Config, data: Dataset) -> list[Request]:
    """One ensemble for each network."""
    models = len(SOURCES) * config.seeds + CONTROL
    return [
        Request(
            name,
            f"{name}: {config.seeds} models for each of {len(SOURCES)} sources of randomness, and {CONTROL} alike",
            np.ones((models, data.num_train), bool),
            keys(config.seed, config.seeds),
            config.recipe,
            model=name,
            keep_weights=config.tta,
        )
        for name in config.models
    ]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """How often the models of each network agree, without and with test-time augmentation."""
    networks = {name: compare(config, name, runs[name], data) for name in config.models}
    return outcome(Findings(networks, choose_views(config)), data)


def compare(config: Config, name: str, runs: Ensemble, data: Dataset) -> Network:
    """How often the models of one network agree."""
    parts = {source: slice(k * config.seeds, (k + 1) * config.seeds) for k, source in enumerate(SOURCES)}
    rows = {source: np.arange(runs.num_models)[part][~runs.diverged[part]] for source, part in parts.items()}
    short = [source for source in SOURCES if len(rows[source]) < 3]
    if short:
        raise Mistake(
            f"{name}: only {len(rows[short[0]])} of {config.seeds} models that differ in {short[0]} did not diverge. Lower "
            f"--recipe.learning-rate (it is {config.recipe.learning_rate:g})."
        )
    if runs.diverged.any():
        console.print(
            f"[yellow]{runs.diverged.sum()} of {runs.num_models} models of {name} diverged and are left out.[/yellow]"
        )
    both = rows[BOTH]
    control = runs.test_prediction[-CONTROL:]
    augmented = _predict_augmented(config, name, runs, both, data)
    return Network(
        sources={source: _summarize(runs.test_prediction[own], data) for source, own in rows.items()},
        matrix=jaxinfl.agreement(runs.test_prediction[both[:3]]),
        right=runs.test_correct[both].mean(axis=0),
        control=float((control[:1] == control).mean()),
        augmented=None if augmented is None else _summarize(augmented, data),
        augmented_right=None if augmented is None else (augmented == data.test_targets[None]).mean(axis=0),
    )


def _summarize(predictions: Int[np.ndarray, "models test"], data: Dataset) -> Stable:
    correct: Bool[np.ndarray, "models test"] = predictions == data.test_targets[None]
    return Stable(agreement_of_pairs(predictions), correct.mean(axis=1))


def _predict_augmented(
    config: Config, name: str, runs: Ensemble, rows: Int[np.ndarray, " models"], data: Dataset
) -> Int[np.ndarray, "models test"] | None:
    """Predictions of some models over several views of each image."""
    views = choose_views(config)
    if views == "one":
        return None
    console.print(f"\nPredicting with {name} over {views} views of each image ...")
    found = runs.predict(views=views, models=rows, data=data)
    predictions: Int[np.ndarray, "models test"] = found.test_prediction[~found.diverged]
    return predictions


EXPERIMENT = Experiment(
    name="nondeterminism",
    question="[bold]Figure 2, Tables 2, 2b and 3[/bold]: how often do models agree that differ in their seeds alone?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
    takes=takes_images_of_classes,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
