"""How many models do I need? A small pilot run predicts the number, and more models show whether it was right.

Claim (the paper's title question, which Section 3 answers by "200 to 400" for CIFAR-100 and its conclusion by "hard to
quantify"): a pilot of 200 models predicts the IOU of estimates from 2, 4 and 8 times as many, says how many are needed for an
IOU of 0.7 at an influence of 0.2, and says where it cannot tell.

    python -m experiments.how_many_models --preset digits     8x8 digits, 200 small MLPs, then up to 4,000: minutes, 2 cores
    python -m experiments.how_many_models --preset digits --pilots 13 --max-models 5200      the long test, also on simulations
    python -m experiments.how_many_models --preset cifar10_12k --data cifar10.npz     32x32 colour: hours, 2 cores
    python -m experiments.how_many_models --preset paper      CIFAR-100, 200 small Inceptions, then up to 2,000: a GPU

The answer is printed when the pilot is trained, with the time that it takes at the pilot's rate. Then twice that many models
are trained, the pilot's among them, up to `--max-models` (as many where the pilot cannot tell), so that two estimates can be
compared. `--pilots` draws so many disjoint pilots from all models, predicts from each alone and compares with the IOU that
the models outside of it have.

Figures: plan (predicted curves with bands and the measured IOU), with `--pilots` also pilots. Expected on digits: some 10 pairs
reach an influence of 0.2, so the answer is a wide range, or that the pilot cannot tell. Over 13 disjoint pilots of 200 models
the mean IOU over influences from 0.1 to 0.3 was predicted within 0.038 on average (400, 800 and 1600 models taken together),
that of a single threshold within 0.065, and 99.6% of the 90% intervals held what 16,000 other models measured. In six simulated
worlds (smooth, dense, and with a gap between strong and no influence; 12 pilots each) 92% to 100% of the intervals held the IOU
at 2, 4 and 8 times the pilot and influences of 0.1, 0.15 and 0.2, and of the answers 0% to 22% were too small by more than 0.05
of IOU. Smooth tails and dense weak influences are mostly answered by "too uncertain", or "no clear pairs".
"""

import dataclasses
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import jax
import numpy as np
from rich.progress import track

import jaxinfl
from experiments.command_line import PRESET, Mistake, Options, console, mistakes
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.how_many_models_report import Findings, Trial, outcome
from experiments.outcome import Outcome
from experiments.planner_simulations import KINDS, draw_run, make_world
from experiments.presets import CIFAR10_12K, PAPER_CIFAR100
from jaxinfl import Dataset, Ensemble, ModelPlan, Recipe
from jaxinfl.influence import IOUCurve
from jaxinfl.report import read_results
from jaxinfl.statistics.planner import FEWEST_MODELS
from jaxinfl.units import format_seconds

Run = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The arrays masks, train_correct and test_correct of some models."""


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits", "cifar10_12k", "paper"], PRESET] = "digits"
    pilot: int = 200
    """Number of models of the pilot."""
    target_iou: float = 0.7
    """IOU of two estimates that is wanted."""
    threshold: float = 0.2
    """Influence at which that IOU is wanted."""
    max_models: int = 4000
    """Largest number of models that are trained, the pilot's among them."""
    ratio: float = 0.7
    """Size of each model's subset, as a share of the training set."""
    doublings: int = 3
    """Number of doublings of the pilot's models up to which the IOU is predicted."""
    resamples: int = 25
    """Number of bootstrap samples that the intervals are computed from."""
    repeats: int = 20
    """Number of random splits of the models into two estimates whose IOU is measured."""
    min_memorization: float | None = 0.25
    """Memorization above which a training example is compared (Appendix E); None compares all training examples."""
    pilots: int = 0
    """Number of disjoint pilots that are tried, on simulated influences too. Then --max-models are trained; 0 tries none."""


PRESETS = {
    "tiny": Config(
        preset="tiny", recipe=Recipe(epochs=2), pilot=FEWEST_MODELS, max_models=112, doublings=1, resamples=2, repeats=2
    ),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        **CIFAR10_12K,
        max_models=400,
    ),
    "paper": Config(preset="paper", **PAPER_CIFAR100, max_models=2000, repeats=10),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if config.pilot < FEWEST_MODELS:
        raise Mistake(f"--pilot is {config.pilot}; it takes {FEWEST_MODELS} models or more.")
    if config.max_models < 2 * config.pilot:
        raise Mistake(
            f"--max-models is {config.max_models}; to compare two estimates takes twice the pilot, {2 * config.pilot} or more."
        )
    for option, share in (("--target-iou", config.target_iou), ("--threshold", config.threshold)):
        if not 0 < share < 1:
            raise Mistake(f"{option} is {share}; it takes a number between 0 and 1.")
    for option, number, least in (
        ("--doublings", config.doublings, 1),
        ("--resamples", config.resamples, 2),
        ("--repeats", config.repeats, 2),
        ("--pilots", config.pilots, 0),
    ):
        if number < least:
            raise Mistake(f"{option} is {number}; it takes a whole number from {least} up.")
    if config.pilots and config.max_models < max(config.pilots, 5) * config.pilot:
        raise Mistake(
            f"--max-models is {config.max_models}; {config.pilots} disjoint pilots, each with two estimates of twice its size "
            f"outside of it, take {max(config.pilots, 5) * config.pilot}."
        )


def requests(config: Config, data: Dataset) -> list[Request]:
    """The pilot, and as many other models as its answer asks for; until it is trained, as many as are allowed."""
    with mistakes():
        masks = jaxinfl.draw_subsets(config.max_models, data.num_train, config.ratio, config.seed)

    def complete(finished: Runs) -> Request:
        predicted = predict_from_pilot(config, finished["pilot"])
        answer = describe_answer(predicted, seconds_per_model(finished))
        console.print(f"\n[bold]Answer:[/bold] {answer}", highlight=False)
        last = choose_number(config, predicted)
        return _request("more", "More models, to see whether it is so", masks, slice(config.pilot, last), config)

    more = _request("more", "At most, after it", masks, slice(config.pilot, config.max_models), config)
    return [
        _request("pilot", "The pilot", masks, slice(0, config.pilot), config),
        dataclasses.replace(more, complete=complete),
    ]


def _request(name: str, title: str, masks: np.ndarray, part: slice, config: Config) -> Request:
    """Some of the models; each has the subset and keys of its number, however many there are."""
    root = jax.random.key(config.seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(root, number))(np.arange(part.start, part.stop))
    subsets = masks[part]
    return Request(name, f"{title}: {len(subsets)} models, each on its own subset", subsets, keys, config.recipe)


def seconds_per_model(runs: Runs) -> float | None:
    """Seconds that a model of the pilot took, now or when it was trained; None where that is not known."""
    if "pilot" in runs.seconds_per_model:
        return runs.seconds_per_model["pilot"]
    last_time = read_results(runs.out)
    return None if last_time is None else last_time["results"]["seconds_per_model"]


def describe_answer(predicted: ModelPlan, seconds_per_model: float | None) -> str:
    """The pilot's answer in words, and how long it takes to train the models that are missing."""
    if predicted.models_needed is None:
        return predicted.text
    missing = predicted.models_needed - predicted.pilot_models
    if missing <= 0:
        return f"{predicted.text} The pilot has them."
    time_left = (
        "" if seconds_per_model is None else f", about {format_seconds(missing * seconds_per_model)} on this machine"
    )
    return f"{predicted.text} That is {missing} more models than the pilot's{time_left}."


def choose_number(config: Config, predicted: ModelPlan) -> int:
    """Twice as many models as are needed, for two estimates; all that are allowed where that is not known, or for `--pilots`."""
    if predicted.models_needed is None or config.pilots:
        return config.max_models
    return int(np.clip(2 * predicted.models_needed, 2 * config.pilot, config.max_models))


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """The pilot's prediction beside the IOU that all models show, and many pilots' where they are asked for."""
    predicted = predict_from_pilot(config, runs["pilot"])
    pool = join_runs(runs["pilot"], runs["more"])
    console.print("\nComparing estimates ...")
    findings = Findings(
        plan=predicted,
        measured=_measure(config, pool, predicted, config.seed),
        seconds_per_model=seconds_per_model(runs),
        trials=try_pilots(config, pool) if config.pilots else {},
        test_accuracy=pool[2].mean(axis=1),
    )
    return outcome(findings, data, config.model)


@lru_cache(maxsize=1)
def predict_from_pilot(config: Config, pilot: Ensemble) -> ModelPlan:
    """What the trained pilot predicts; kept, since it is asked for before the other models are trained and after."""
    return _predict(config, pilot)


def _predict(config: Config, pilot: Ensemble | Run) -> ModelPlan:
    with mistakes():
        return jaxinfl.plan(
            pilot,
            config.target_iou,
            config.threshold,
            min_memorization=config.min_memorization,
            doublings=config.doublings,
            repeats=config.resamples,
        )


def join_runs(*runs: Ensemble) -> Run:
    """The models of all runs together, without those that diverged."""
    parts = [(each.masks, each.train_correct, each.test_correct) for each in runs]
    usable = np.concatenate([~each.diverged for each in runs])
    if usable.sum() < len(usable):
        console.print(f"[yellow]{(~usable).sum()} of {len(usable)} models diverged and are left out.[/yellow]")
    masks, train, test = (np.concatenate(arrays)[usable] for arrays in zip(*parts, strict=True))
    return masks, train, test


def _measure(config: Config, pool: Run, predicted: ModelPlan, seed: int) -> IOUCurve:
    """The IOU of estimates from the predicted numbers of models, as far as there are models for two."""
    sizes = {predicted.pilot_models // 2, predicted.pilot_models, *map(int, predicted.num_models)}
    if predicted.models_needed is not None:
        sizes.add(predicted.models_needed)
    limits = np.append(predicted.thresholds, predicted.threshold)
    with mistakes():
        return jaxinfl.iou_curve(
            *pool,
            num_models=sorted(size for size in sizes if 2 * size <= len(pool[0])),
            thresholds=limits,
            repeats=config.repeats,
            seed=seed,
            min_memorization=config.min_memorization,
        )


def try_pilots(config: Config, pool: Run) -> dict[str, list[Trial]]:
    """Compare what each of many disjoint pilots predicts with what the models outside of it measure."""

    def trial(everything: Run, number: int) -> Trial:
        inside = np.zeros(len(everything[0]), bool)
        inside[number * config.pilot : (number + 1) * config.pilot] = True
        masks, train, test = everything
        predicted = _predict(config, (masks[inside], train[inside], test[inside]))
        outside = masks[~inside], train[~inside], test[~inside]
        return Trial(predicted, _measure(config, outside, predicted, number))

    pools = {"trained": pool} | {
        kind: draw_run(make_world(kind, config.seed), len(pool[0]), config.seed, config.ratio) for kind in KINDS
    }
    total = [(name, number) for name in pools for number in range(config.pilots)]
    trials: dict[str, list[Trial]] = {name: [] for name in pools}
    for name, number in track(total, "pilots", console=console, transient=True):
        trials[name].append(trial(pools[name], number))
    return trials


EXPERIMENT = Experiment(
    name="how_many_models",
    question="[bold]How many models do I need?[/bold] A pilot run predicts, the rest of the models show.",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
