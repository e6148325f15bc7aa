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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

import jaxinfl
from experiments.command_line import Mistake, Options, console, describe_data, launch, load, mistakes
from experiments.ensembles import Request, carry_out
from experiments.leave_one_out_report import Example, Findings, outcome
from experiments.outcome import publish
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe, recipes
from jaxinfl.statistics import newcombe_interval, newcombe_paired_interval
from jaxinfl.statistics.proportions import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Config(Options):
    """Options; each preset sets them all."""

    preset: Literal["tiny", "digits", "paper"] = "digits"
    """Where the defaults of the other options come from."""
    model: str = "small_mlp"
    """Registered name of the architecture."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """How each model is trained."""
    num_models: int = 600
    """Models on everything, and as many without each example."""
    examples: tuple[int, ...] = ()
    """Training examples to leave out, by index; none: the most memorized ones."""
    num_examples: int = 4
    """How many of the most memorized ones."""
    screened_by: Path | None = None
    """Run directory of models on random subsets of this data, which says what is memorized."""
    screening_models: int = 800
    """Models on random subsets that are trained for that, where no run is named."""
    ratio: float = 0.7
    """Size of their subsets as a share of the training set."""
    paired: bool = True
    """Models with and without an example share their keys."""
    delta: float = 0.05
    """Largest probability of an error in Section 4.3's number of models."""
    shown: int = 6
    """Test examples shown for each training example, those with the largest estimates."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=1), num_models=6, num_examples=2, screening_models=12, shown=3),
    "digits": Config(),
    "paper": Config(
        preset="paper",
        data="cifar100",
        model="small_inception",
        recipe=recipes.CIFAR,
        num_models=200,
        screening_models=400,
    ),
}


def main(config: Config) -> Path:
    """Train or read the models, estimate, write the results; returns their directory."""
    check(config)
    data, out = load(config, "leave_one_out", config.preset)
    console.print("[bold]Equation 1[/bold]: what does one training example do to predictions?")
    console.print(describe_data(data), markup=False)
    runs = carry_out(requests(config, data), data, config.model, out, cost_only=config.cost, part=config.part)
    findings = analyse(config, runs, memorized(config, data, runs))
    publish(outcome(findings, data, config.model), "leave_one_out", config, data, out, runs)
    return out


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
    chosen = choose(config, data, memorized(config, data, {})) if known else np.arange(config.num_examples)
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
        screened = choose(config, data, memorized(config, data, finished))
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


def memorized(config: Config, data: Dataset, finished: Mapping[str, Ensemble]) -> Float[np.ndarray, " train"] | None:
    """Memorization of the training examples by the models that choose; None where the examples are named."""
    if config.examples:
        return None
    if config.screened_by is None:
        runs = finished["screening"]
    else:
        runs = Ensemble.open(config.screened_by)
        if runs.attributes["identity"]["data"]["fingerprint"] != data.fingerprint:
            raise Mistake(f"--screened-by {config.screened_by} was trained on other data than {data.name}.")
    with mistakes():
        return jaxinfl.memorization(runs, "correct")


def choose(
    config: Config, data: Dataset, memorization: Float[np.ndarray, " train"] | None
) -> Int[np.ndarray, " examples"]:
    """The examples to leave out: those named, or the most memorized, the most memorized first."""
    if memorization is None:
        return np.asarray(config.examples)
    defined = np.flatnonzero(np.isfinite(memorization))
    if len(defined) < config.num_examples:
        raise Mistake(
            f"the memorization of {len(defined)} of {data.num_train} examples is defined, fewer than --num-examples "
            f"{config.num_examples}. More --screening-models would define that of more."
        )
    return defined[np.argsort(-memorization[defined], kind="stable")[: config.num_examples]]


def analyse(config: Config, runs: Mapping[str, Ensemble], memorization: Float[np.ndarray, " train"] | None) -> Findings:
    """Estimates with intervals, for every example that was left out."""
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
        examples.append(_example(config, index, with_it, without_it, memorization))
    return Findings(
        examples, num_models=config.num_models, paired=config.paired, shown=config.shown, delta=config.delta
    )


def _example(
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


if __name__ == "__main__":
    sys.exit(launch(main, PRESETS, "leave_one_out", __doc__))
