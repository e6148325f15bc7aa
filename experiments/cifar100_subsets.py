"""Figure 1: how many models does a self-consistent influence estimate take? With Figures 5 and 6 of Appendix D.

Claim (Section 3): two influence estimates from t models each, trained on different random subsets, agree (IOU above
0.7 over a wide range of thresholds) only from t = 200 to 400 on CIFAR-100; and two sets of 50 models on the SAME
subsets, with other seeds, agree hardly better, so that training nondeterminism is a large part of the noise. Appendix D:
probabilities in place of 0-1 correctness agree better with themselves, but from 100 to 200 models on worse with the 0-1
estimate of all models.

    python -m experiments.cifar100_subsets --preset digits       8x8 digits, 5,600 small MLPs: about a minute, 2 cores
    python -m experiments.cifar100_subsets --preset breast_cancer     a table, 8,000 small MLPs, margins: 1.5 minutes, 2 cores
    python -m experiments.cifar100_subsets --preset text         pieces of Python's help, 1,400 transformers: 5 minutes, 2 cores
    python -m experiments.cifar100_subsets --preset colour --data cifar-10-binary.tar.gz     32x32 colour: 35 minutes, 2 cores
    python -m experiments.cifar100_subsets --preset paper        CIFAR-100, 2,000 small Inceptions: a GPU

Figures: figure1 (left: different subsets; right: same subsets, different seeds), figures5_6 (0-1 scores beside
probabilities) and gallery (the most influential pairs), as PNG and SVG; and explorer.html, in which every example can be
explored in a browser. `--score probability` draws Figure 1 from
probabilities. Expected on digits at influence 0.2: IOU near 0.1 for 50 models, 0.5 for 400, 0.75 for 1600; the subset
decides 30% of the variance of a prediction, training randomness the rest, which is why the same subsets help so little.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Float, Int

import jaxinfl
from experiments.cifar100_report import THRESHOLDS, Findings, outcome
from experiments.command_line import PRESET, Mistake, Options, console, mistakes
from experiments.data_kinds import choose_score, describe_score, read_scores, takes_anything
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.outcome import EXPLORER, Exploration, Outcome
from experiments.presets import BREAST_CANCER, COLOUR, PAPER_CIFAR100, TEXT
from jaxinfl import Dataset, Ensemble, Recipe
from jaxinfl.influence import IOUCurve, Outcomes, count_pairs
from jaxinfl.statistics import ShareInterval, pair_uncertainty, subset_share_of_all

_THRESHOLDS = 40
"""Number of thresholds where the score's unit is not that of a probability."""
FDR = 0.05
"""False discovery rate of the discoveries that the curves rest on."""
_SUBSETS_OF_SHARE = 400


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "breast_cancer", "text", "colour", "paper"], PRESET] = "digits"
    num_models: int = 4000
    """Number of models that are trained, each on its own subset. Half of them is the largest estimate that can be compared."""
    num_repeated: int = 1600
    """Number of subsets that are trained on once more, with other seeds; these are the first ones."""
    ratio: float = 0.7
    """Size of each model's subset, as a share of the training set."""
    sizes: tuple[int, ...] = (25, 50, 100, 200, 400, 800, 1600)
    """Numbers of models per estimate (t); each is one curve of Figure 1, left."""
    same_subset_sizes: tuple[int, ...] = (50, 400)
    """Numbers of models per estimate that are compared on the same subsets (Figure 1, right)."""
    repeats: int = 20
    """Number of random splits of the models into two disjoint sets, over which the mean is taken."""
    score: str | None = None
    """Score that Figure 1 is drawn from, such as correct (0-1, as in the paper), probability (Appendix D), margin or loss; None takes correct, or the loss where no prediction is right or wrong."""
    min_memorization: float | None = 0.25
    """Memorization above which a training example is compared (Appendix E), of 0-1 scores or else in the unit of the score; None compares all training examples."""


PRESETS = {
    "tiny": Config(
        preset="tiny",
        recipe=Recipe(epochs=2),
        num_models=24,
        num_repeated=12,
        sizes=(6, 12),
        same_subset_sizes=(6,),
        repeats=3,
        min_memorization=None,
    ),
    "digits": Config(),
    "breast_cancer": Config(
        preset="breast_cancer",
        **BREAST_CANCER,
        score="margin",
        min_memorization=None,
        num_models=6400,
        sizes=(50, 100, 200, 400, 800, 1600, 3200),
        same_subset_sizes=(400, 1600),
    ),
    "text": Config(
        preset="text",
        **TEXT,
        num_models=1200,
        num_repeated=200,
        sizes=(25, 50, 100, 200, 400, 600),
        same_subset_sizes=(50, 200),
    ),
    "colour": Config(
        preset="colour",
        **COLOUR,
        score="margin",
        num_models=800,
        num_repeated=100,
        ratio=0.3,
        sizes=(25, 50, 100, 200, 400),
        same_subset_sizes=(100,),
    ),
    "paper": Config(
        preset="paper",
        **PAPER_CIFAR100,
        num_models=2000,
        num_repeated=50,
        sizes=(25, 50, 100, 200, 400),
        same_subset_sizes=(50,),
    ),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    for option, sizes in (("--sizes", config.sizes), ("--same-subset-sizes", config.same_subset_sizes)):
        if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
            raise Mistake(f"{option} is {' '.join(map(str, sizes)) or 'empty'}; it takes rising numbers of models.")
    if 2 * config.sizes[-1] > config.num_models:
        raise Mistake(
            f"--sizes names {config.sizes[-1]} models per estimate; two disjoint estimates need --num-models "
            f"{2 * config.sizes[-1]}, not {config.num_models}."
        )
    if config.same_subset_sizes[-1] > config.num_repeated:
        raise Mistake(
            f"--same-subset-sizes names {config.same_subset_sizes[-1]} models, but only --num-repeated "
            f"{config.num_repeated} are trained a second time."
        )
    if not set(config.same_subset_sizes) <= set(config.sizes):
        raise Mistake("--same-subset-sizes takes sizes that --sizes names too: the figure compares both.")
    if config.num_repeated > config.num_models:
        raise Mistake(f"--num-repeated is {config.num_repeated}, more than --num-models {config.num_models}.")
    if config.repeats < 1:
        raise Mistake(f"--repeats is {config.repeats}; it takes a whole number from 1 up.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models on subsets of their own, and once more on the first of these subsets."""
    choose_score(config.score, data)  # refused before anything is trained
    with mistakes():
        masks = jaxinfl.draw_subsets(config.num_models, data.num_train, config.ratio, config.seed)
    num_in = masks.sum(axis=0)
    undefined = int(((num_in == 0) | (num_in == len(masks))).sum())
    if undefined:
        console.print(
            f"[yellow]{undefined} of {data.num_train} training examples are in none or all of the subsets; their "
            "influence is undefined, and they take no part. More models would leave none.[/yellow]"
        )
    first, again = jax.random.split(jax.random.key(config.seed))
    return [
        Request(
            "models",
            f"{config.num_models} models, each on its own subset of {config.ratio:.0%}",
            masks,
            jax.random.split(first, config.num_models),
            config.recipe,
        ),
        Request(
            "repeated",
            f"{config.num_repeated} models on the same subsets as the first, with other seeds",
            masks[: config.num_repeated],
            jax.random.split(again, config.num_repeated),
            config.recipe,
        ),
    ]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """How far estimates from different models agree, from both scores, and how much the subsets decide."""
    console.print("\nComparing estimates ...")
    name = choose_score(config.score, data)
    found = outcome(compare(config, runs["models"], runs["repeated"], name), data, config.model)
    return replace(
        found,
        section=replace(found.section, explorer=EXPLORER),
        exploration=Exploration(runs["models"].without_diverged(), name),
    )


def compare(config: Config, first: Ensemble, again: Ensemble, name: str) -> Findings:
    """Everything that the figures and results.json are made from; `name` is the score that is compared."""
    usable, sizes = _usable(config, first)
    diverged = len(first) - len(usable)
    told = "correct" if "correct" in usable.scores else name
    # 0-1 scores say which examples are memorized, whatever score is compared.
    train, test = read_scores(usable, told)
    right = jaxinfl.pack(usable.masks, test, train)
    outcomes = right if name == told else right.with_score(read_scores(usable, name)[1])
    with mistakes():
        examples = right.examples_above(config.min_memorization)
        curve = _curve(config, sizes, outcomes, _thresholds(outcomes.select(examples)))
    # Appendix D compares probabilities with 0-1 scores, where there are both.
    both = {"correct", "probability"} <= set(usable.scores)
    by_score = {"correct": right, "probability": right.with_score(usable.test_probability)} if both else {}
    curves = {each: curve if each == name else _curve(config, sizes, by_score[each], THRESHOLDS) for each in by_score}
    one, other = first.paired(again)
    pairs = jaxinfl.top_pairs(outcomes, k=12, min_memorization=config.min_memorization)
    found = jaxinfl.discoveries(outcomes, fdr=FDR, alternative="greater")
    num_pairs, right_pairs = count_pairs(outcomes, None, curve.thresholds, examples=examples), np.zeros(0, int)
    if both:
        right_pairs = num_pairs if name == told else count_pairs(right, None, THRESHOLDS, examples=examples)
    return Findings(
        score=name,
        kind=outcomes.kind,
        curve=curve,
        same_subsets={
            size: _same_subsets(one, other, size, curve.thresholds, examples, name)
            for size in config.same_subset_sizes
            if size <= len(one) and size in sizes
        },
        between_scores={describe_score(each): values.values for each, values in curves.items()},
        against_all=_against_all(config, sizes, by_score, examples),
        subset_share=_subset_share(one, other, told),
        num_pairs=num_pairs,
        right_pairs=right_pairs,
        discovered=int(np.isin(found.train_index, examples).sum()),
        pairs=pairs,
        uncertainty=pair_uncertainty(outcomes, None, pairs.train_index, pairs.test_index),
        test_score=usable.test_score("correct" if told == "correct" else "loss").mean(axis=1),
        by_right=told == "correct",
        diverged=diverged,
        min_memorization=config.min_memorization,
    )


def _usable(config: Config, first: Ensemble) -> tuple[Ensemble, list[int]]:
    """The models that did not diverge, and the sizes that two estimates of them can have.

    Raises:
      Mistake: too few models are left for two estimates of any size.
    """
    usable = first.without_diverged()
    diverged = len(first) - len(usable)
    if diverged:
        console.print(f"[yellow]{diverged} of {len(first)} models diverged and are left out.[/yellow]")
    sizes = [size for size in config.sizes if 2 * size <= len(usable)]
    if not sizes:
        raise Mistake(
            f"{diverged} of {len(first)} models diverged: too few are left for two estimates of "
            f"{config.sizes[0]} models. Lower --recipe.learning-rate (it is {config.recipe.learning_rate:g})."
        )
    return usable, sizes


def _thresholds(outcomes: Outcomes) -> Float[np.ndarray, " thresholds"]:
    """Thresholds of Figure 1 where the score's unit is that of a probability; else up to the largest influence, in its unit.

    Raises:
      ValueError: no pair has an influence above 0.
    """
    if outcomes.kind != "real":
        return THRESHOLDS
    (largest,) = jaxinfl.top_pairs(outcomes, k=1, min_memorization=None).influence
    if not largest > 0:
        raise ValueError(
            "no pair has an influence above 0, so there is nothing to compare. Train longer, or take another score."
        )
    return float(f"{largest / _THRESHOLDS:.2g}") * np.arange(1, _THRESHOLDS + 1)


def _curve(
    config: Config, sizes: list[int], outcomes: Outcomes, thresholds: Float[np.ndarray, " thresholds"]
) -> IOUCurve:
    """Self-consistency from one kind of test score, on the examples that are memorized."""
    return jaxinfl.iou_curve(
        outcomes,
        thresholds=thresholds,
        num_models=sizes,
        repeats=config.repeats,
        seed=config.seed,
        min_memorization=config.min_memorization,
    )


def _against_all(
    config: Config,
    sizes: list[int],
    by_score: Mapping[str, Outcomes],
    examples: Int[np.ndarray, " examples"],
) -> dict[str, Float[np.ndarray, "sizes repeats thresholds"]]:
    """Figure 6: IOU of estimates from some models with the 0-1 estimate of all, these among them, as in the paper."""
    if not by_score:
        return {}
    everything = by_score["correct"].select(examples)  # packed once for all comparisons
    found = {describe_score(name): np.empty((len(sizes), config.repeats, THRESHOLDS.size)) for name in by_score}
    for repeat in range(config.repeats):
        order = np.random.default_rng((config.seed, repeat)).permutation(len(everything))
        for row, size in enumerate(sizes):
            part = order[:size]
            for name, outcomes in by_score.items():
                found[describe_score(name)][row, repeat] = jaxinfl.iou_of_models(
                    everything.masks[part], outcomes.test_score[part], everything, None, THRESHOLDS
                )
    return found


def _same_subsets(
    one: Ensemble,
    other: Ensemble,
    size: int,
    thresholds: Float[np.ndarray, " thresholds"],
    examples: Int[np.ndarray, " examples"],
    name: str,
) -> Float[np.ndarray, "repeats thresholds"]:
    """IOU between estimates from the same subsets, for disjoint sets of `size` subsets; row t of both ensembles is a pair."""
    a, b = (read_scores(runs, name)[1] for runs in (one, other))
    parts = [slice(k, k + size) for k in range(0, len(one) - size + 1, size)]
    return np.stack(
        [
            jaxinfl.iou_of_models(one.masks[part], a[part], other.masks[part], b[part], thresholds, examples=examples)
            for part in parts
        ]
    )


def _subset_share(one: Ensemble, other: Ensemble, name: str) -> ShareInterval | None:
    """Share of the variance of a score that the subset decides; each subset was trained on with two seeds.

    The interval leaves out each subset in turn, which takes a pass over all of them. `_SUBSETS_OF_SHARE` subsets make the
    interval narrow, and a pass short.
    """
    part = slice(_SUBSETS_OF_SHARE)
    if len(one[part]) < 3:
        return None
    return subset_share_of_all(np.stack([runs[part].test_score(name) for runs in (one, other)], axis=1))


EXPERIMENT = Experiment(
    name="cifar100_subsets",
    question="[bold]Figure 1[/bold]: how many models does a self-consistent influence estimate take?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
    takes=takes_anything,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
