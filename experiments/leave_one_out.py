"""Equation 1 itself: what does one training example do to predictions? p with it, q without it, and how sure that is.

Claim (Sections 2.1 and 4.3): the influence of example i on a prediction is p - q, the probability of being right for models
trained on everything less that for models trained on everything but i. Telling p from q takes tens to hundreds of models,
depending on both; most p are near 1, where few suffice.

    python -m experiments.leave_one_out --preset digits     8x8 digits, 4 examples, 3,800 small MLPs: a minute, 2 cores
    python -m experiments.leave_one_out --preset digits --examples 5 17 --num-models 2000
    python -m experiments.leave_one_out --preset paper --screened-by results/cifar100_subsets/paper-cifar100/models
                                                            CIFAR-100, 200 small Inceptions a side: a GPU

Which examples: those named by `--examples`; else the ones that a finished run on random subsets (`--screened-by`, of
experiments.cifar100_subsets) says are memorized most (Feldman and Zhang's estimate, Equation 2); else those of a quick run of the
same kind. The models that choose are others than those that estimate, so the choice does not bias the estimates.

Models come in pairs by default: model t with the example and model t without it share all keys, and see the other examples in the
same order. That changes neither p nor q, makes their difference more precise where the two of a pair resemble each other,
and is what the paired interval is for. `--no-paired` gives every model keys of its own, the setting of Section 4.3, whose number of
models counts independent ones.

Intervals: for the example itself 95 %; for the test examples simultaneous ones, 95 % for all of them together (Bonferroni), since
those shown are picked by their estimates. Whether the models sufficed: `models_needed(p, q, delta)` of Section 4.3, at the estimates.

Figure: influence, estimates with intervals. Expected on digits: the most memorized examples have a self-influence near 1,
some of them an influence on single test examples that is beyond doubt.
"""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options, mistakes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.leave_one_out_report import Example, Findings, outcome
from experiments.outcome import Outcome
from experiments.presets import PAPER_CIFAR100
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe
from jaxinfl.statistics import newcombe_interval, newcombe_paired_interval
from jaxinfl.statistics.proportions import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "paper"], PRESET] = "digits"
    num_models: int = 600
    """Number of models that are trained on everything, and of those without each example."""
    examples: tuple[int, ...] = ()
    """Indices of the training examples to leave out; where none is named, the most memorized ones are."""
    num_examples: int = 4
    """Number of training examples to leave out where --examples names none."""
    screened_by: Path | None = None
    """Run directory of models on random subsets of this data, from which the most memorized examples are chosen."""
    screening_models: int = 800
    """Number of models on random subsets that are trained to choose the examples, where no run directory is named."""
    ratio: float = 0.7
    """Size of the random subsets of these models, as a share of the training set."""
    paired: bool = True
    """Whether each model with an example shares its keys with a model without it."""
    delta: float = 0.05
    """Largest probability of an error for which Section 4.3's number of models is computed."""
    shown: int = 6
    """Number of test examples that are shown for each training example, those with the largest estimates."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=1), num_models=6, num_examples=2, screening_models=12, shown=3),
    "digits": Config(),
    "paper": Config(
        preset="paper",
        **PAPER_CIFAR100,
        num_models=200,
        screening_models=400,
    ),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    for option, number, low in (
        ("--num-models", config.num_models, 2),
        ("--num-examples", config.num_examples, 1),
        ("--screening-models", config.screening_models, 2),
        ("--shown", config.shown, 1),
    ):
        if number < low:
            raise Mistake(f"{option} is {number}; it takes a whole number from {low} up.")
    if not 0 < config.delta < 0.5:
        raise Mistake(f"--delta is {config.delta:g}; it takes a number between 0 and 0.5.")
    if config.examples and config.screened_by is not None:
        raise Mistake("--examples names the examples; leave out --screened-by, which would choose them.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models that choose the examples where nothing else does, models on everything, and models without each example."""
    screen, first, second = jax.random.split(jax.random.key(config.seed), 3)
    found = []
    if not config.examples and config.screened_by is None:
        with mistakes():
            masks = jaxinfl.draw_subsets(config.screening_models, data.num_train, config.ratio, config.seed)
        found.append(
            Request(
                "screening",
                f"{config.screening_models} models on random subsets of {config.ratio:.0%}, to find what is memorized",
                masks,
                jax.random.split(screen, config.screening_models),
                config.recipe,
            )
        )
    # Which examples is known now, or once the screening is trained; how many always.
    known = not found
    chosen = choose(config, data, screen_memorization(config, data, {})) if known else np.arange(config.num_examples)
    keys = ModelKeys.split(jax.random.split(first, config.num_models))
    again = np.tile(np.arange(config.num_models), len(chosen))
    without = Request(
        "without",
        f"{config.num_models} models without each of {len(chosen)} examples",
        _masks(config, data, chosen),
        keys[again] if config.paired else jax.random.split(second, len(again)),
        config.recipe,
    )

    def complete(finished: Mapping[str, Ensemble]) -> Request:
        screened = choose(config, data, screen_memorization(config, data, finished))
        return dataclasses.replace(without, masks=_masks(config, data, screened))

    found.append(
        Request(
            "everything",
            f"{config.num_models} models on everything",
            np.ones((config.num_models, data.num_train), bool),
            keys,
            config.recipe,
        )
    )
    return [*found, without if known else dataclasses.replace(without, complete=complete)]


def _masks(config: Config, data: Dataset, examples: Int[np.ndarray, " examples"]) -> Bool[np.ndarray, "models train"]:
    with mistakes():
        return jaxinfl.leave_one_out(data.num_train, examples.tolist(), config.num_models)


def screen_memorization(
    config: Config, data: Dataset, finished: Mapping[str, Ensemble]
) -> Float[np.ndarray, " train"] | None:
    """Memorization of the training examples by the models that choose; None where the examples are named."""
    if config.examples:
        return None
    if config.screened_by is None:
        runs = finished["screening"]
    else:
        runs = Ensemble.open(config.screened_by)
        if runs.data_fingerprint != data.fingerprint:
            raise Mistake(f"--screened-by {config.screened_by} was trained on other data than {data.name}.")
    with mistakes():
        return jaxinfl.memorization(runs, "correct")


def choose(
    config: Config, data: Dataset, memorization: Float[np.ndarray, " train"] | None
) -> Int[np.ndarray, " examples"]:
    """Indices of the examples to leave out: those that are named, or the most memorized ones in falling order."""
    if memorization is None:
        return np.asarray(config.examples)
    defined = np.flatnonzero(np.isfinite(memorization))
    if len(defined) < config.num_examples:
        raise Mistake(
            f"the memorization of {len(defined)} of {data.num_train} examples is defined, fewer than --num-examples "
            f"{config.num_examples}. More --screening-models would define that of more."
        )
    return defined[np.argsort(-memorization[defined], kind="stable")[: config.num_examples]]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Estimates with intervals, for every example that was left out."""
    memorization = screen_memorization(config, data, runs)
    everything, without = runs["everything"], runs["without"]
    examples = []
    for first in range(0, without.num_models, config.num_models):
        index = int(np.flatnonzero(~without.masks[first])[0])
        pair = everything.paired(without[first : first + config.num_models], same_subsets=False)
        if len(pair[0]) < 2:
            raise Mistake(
                f"{config.num_models - len(pair[0])} of {config.num_models} models with or without example {index} diverged. Lower "
                f"--recipe.learning-rate (it is {config.recipe.learning_rate:g})."
            )
        # The example itself in column 0, then the test examples.
        with_it, without_it = (np.column_stack([side.train_correct[:, index], side.test_correct]) for side in pair)
        examples.append(estimate_example(config, index, with_it, without_it, memorization))
    findings = Findings(
        examples, num_models=config.num_models, paired=config.paired, shown=config.shown, delta=config.delta
    )
    return outcome(findings, data, config.model)


def estimate_example(
    config: Config,
    index: int,
    with_it: Bool[np.ndarray, "models predictions"],
    without_it: Bool[np.ndarray, "models predictions"],
    memorization: Float[np.ndarray, " train"] | None,
) -> Example:
    p, q = with_it.mean(axis=0), without_it.mean(axis=0)
    own = _interval(config, with_it[:, :1], without_it[:, :1], CONFIDENCE)
    others = _interval(config, with_it[:, 1:], without_it[:, 1:], 1 - (1 - CONFIDENCE) / (p.size - 1))
    return Example(
        index=index,
        memorization=None if memorization is None else float(memorization[index]),
        num_models=len(with_it),
        p=p,
        q=q,
        low=np.concatenate([own.low, others.low]),
        high=np.concatenate([own.high, others.high]),
        needed=jaxinfl.models_needed(p, q, config.delta),
    )


def _interval(config: Config, with_it: np.ndarray, without_it: np.ndarray, confidence: float) -> Interval:
    if config.paired:
        return newcombe_paired_interval(with_it, without_it, confidence)
    share, other = with_it.mean(axis=0), without_it.mean(axis=0)
    number = np.full(share.shape, float(len(with_it)))
    return newcombe_interval(share, number, other, number, confidence)


EXPERIMENT = Experiment(
    name="leave_one_out",
    question="[bold]Equation 1[/bold]: what does one training example do to predictions?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
