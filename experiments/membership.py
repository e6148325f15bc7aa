"""Membership inference: who was in the training set, how many shadow models does it take to tell, and is it the memorized ones?

Claim (Carlini et al. 2022; Zarifzadeh et al. 2024): comparing a model with others that were, or were not, trained on an example tells
members at rates of false alarms at which one threshold for all examples tells none; LiRA takes many such shadow models, RMIA few.
Examples that are memorized are told first (Feldman and Zhang 2020).

    python -m experiments.membership --preset digits             8x8 digits, 256 small MLPs: seconds, 2 cores
    python -m experiments.membership --preset breast_cancer      a table, 256 small MLPs: seconds, 2 cores
    python -m experiments.membership --preset paper              CIFAR-10, 256 ResNet-9: a GPU

Each model is trained on a random half, so that every example is in half of the models, and is the target of all others once.
Figures: roc (on logarithmic axes), shadows (over the number of models), risk (over memorization), gallery (the examples at most and at
least risk), as PNG and SVG. Expected on digits: an area of 0.6 under the curves of LiRA and RMIA and of 0.53 for one
threshold; RMIA tells with 4 models nearly what it tells with 256, and LiRA needs 64; a rank correlation of risk and memorization of 0.6.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.stats import spearmanr

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options, console, mistakes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.membership_report import FEW_ALARMS, LIRA, THRESHOLD, Findings, outcome
from experiments.outcome import Outcome
from experiments.presets import BREAST_CANCER
from jaxinfl import Dataset, Ensemble, Lira, Recipe, recipes
from jaxinfl.privacy import Attack, Membership

ATTACKS: dict[str, Attack] = {
    LIRA: "lira",
    "LiRA, one deviation": Lira(deviation="residuals"),
    "LiRA, offline": "lira_offline",
    "RMIA": "rmia",
    "RMIA, offline": "rmia_offline",
    THRESHOLD: "threshold",
}
"""The attacks that are compared, by their names in tables and figures. With one deviation for all examples few shadows suffice."""
SHADOW_ATTACKS = (LIRA, "LiRA, one deviation", "LiRA, offline", "RMIA")
"""The attacks for which the number of shadows is varied."""
_MOST_GROUPS = 8
"""Number of disjoint groups of models at most, over which a number of shadows is averaged."""


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "breast_cancer", "paper"], PRESET] = "digits"
    num_models: int = 256
    """Number of models, each of which is the target of the others once; an even number, so that every example is in half of them."""
    sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    """Numbers of models for which the attacks are compared."""
    shown: int = 10
    """Number of examples at most risk, and at least, in the gallery."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=2), num_models=16, sizes=(4, 16), shown=3),
    "digits": Config(),
    "breast_cancer": Config(preset="breast_cancer", **BREAST_CANCER),
    "paper": Config(preset="paper", data="cifar10", model="resnet9", recipe=recipes.CIFAR_FAST),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if config.num_models < 4 or config.num_models % 2:
        raise Mistake(f"--num-models is {config.num_models}; it takes an even number from 4 up.")
    if not config.sizes or min(config.sizes) < 4 or list(config.sizes) != sorted(set(config.sizes)):
        raise Mistake(
            f"--sizes is {' '.join(map(str, config.sizes)) or 'empty'}; it takes rising numbers of models from 4 up."
        )
    if config.sizes[-1] > config.num_models:
        raise Mistake(f"--sizes names {config.sizes[-1]} models; --num-models is {config.num_models}.")
    if config.shown < 1:
        raise Mistake(f"--shown is {config.shown}; it takes a whole number from 1 up.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models on random halves, balanced so that every example is in half of them."""
    with mistakes():
        masks = jaxinfl.draw_subsets(config.num_models, data.num_train, 0.5, config.seed, design="balanced")
    return [
        Request(
            "models",
            f"{config.num_models} models, each on a random half; every example is in half of them",
            masks,
            jax.random.split(jax.random.key(config.seed), config.num_models),
            config.recipe,
        )
    ]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Compare the attacks, over the number of models too, and risk with memorization."""
    console.print("\nTelling members ...")
    usable = runs["models"].without_diverged()
    diverged = len(runs["models"]) - len(usable)
    if len(usable) < config.sizes[0]:
        raise Mistake(
            f"{diverged} of {len(runs['models'])} models diverged, and too few are left. Lower --recipe.learning-rate (it is "
            f"{config.recipe.learning_rate:g})."
        )
    told = {name: jaxinfl.membership(usable, method=attack) for name, attack in ATTACKS.items()}
    memorization = jaxinfl.memorization(usable, "correct")
    sizes = [size for size in config.sizes if size <= len(usable)]
    auc, tpr = _over_sizes(usable, sizes)
    findings = Findings(
        told=told,
        memorization=memorization,
        correlation=_rank_correlation(memorization, told[LIRA].risk.told_apart),
        sizes=np.array(sizes),
        auc=auc,
        tpr=tpr,
        extremes=_extremes(told[LIRA], config.shown),
        accuracy=usable.test_correct.mean(axis=1),
        diverged=diverged,
    )
    return outcome(findings, data, config.model)


def _over_sizes(usable: Ensemble, sizes: list[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Area under the curve and share of members told, by attack, for each number of models [sizes, groups]."""
    areas, shares = ({name: np.full((len(sizes), _MOST_GROUPS), np.nan) for name in SHADOW_ATTACKS} for _ in range(2))
    for row, size in enumerate(sizes):
        for group in range(min(len(usable) // size, _MOST_GROUPS)):
            part = usable[group * size : (group + 1) * size]
            for name in SHADOW_ATTACKS:
                result = jaxinfl.membership(part, method=ATTACKS[name])
                areas[name][row, group] = result.auc.value
                shares[name][row, group] = result.tpr(FEW_ALARMS).tpr.value
    return areas, shares


def _rank_correlation(memorization: Float[np.ndarray, " train"], risk: Float[np.ndarray, " train"]) -> float:
    both = np.isfinite(memorization) & np.isfinite(risk)
    return float(spearmanr(memorization[both], risk[both]).statistic) if both.sum() > 2 else float("nan")


def _extremes(told: Membership, number: int) -> tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]]:
    """The examples at most risk, the greatest first, and at least risk, the least first: by how far they are told apart."""
    distance = told.risk.distance
    known = np.flatnonzero(np.isfinite(distance))
    ordered = known[np.argsort(distance[known], kind="stable")]
    return ordered[::-1][:number], ordered[:number]


EXPERIMENT = Experiment(
    name="membership",
    question="[bold]Membership inference[/bold]: who was in the training set, and how many shadow models does it take to tell?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
