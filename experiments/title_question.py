"""How many models do I need? One answer for each kind of data: digits, colour images, a table, a regression and a text.

Claim (the paper's title question, asked of other data than CIFAR-100): how many models make two influence estimates agree differs
between data sets; a pilot of 200 or 800 models tells it for some of them and says for the others that it cannot; estimates of being
right that are told from margins need fewer models.

    python -m experiments.title_question                                without colour images: 20 minutes, 2 cores
    python -m experiments.title_question --colour cifar10.npz           with 12x12 colour images: 25 minutes, 2 cores
    python -m experiments.title_question --preset tiny                  tries whether it runs: a minute, 2 cores

Every data set has a row in three tables. The first says what `jaxinfl.plan` answers from the first 200 and 800 models, and what all
models then measured. The second is the same question about real scores, margins or absolute residuals, for which there is no plan. The third
says which share of the models other estimators need. Models are kept in a folder for each data set, and the same command reads them.
Beside results.json and the figure, tables.md has the tables for docs/how_many_models.md.

In a regression no prediction is right or wrong. Here it counts as right where it is off by less than half a standard deviation of the
training targets, and its margin is that distance less the absolute residual.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Float, Int

import jaxinfl
from experiments import estimator_comparison as comparison
from experiments.command_line import PRESET, Mistake, Options, console, mistakes, parse, results_folder
from experiments.data_kinds import describe_data, standardized
from experiments.ensembles import Request, carry_out, print_costs
from experiments.estimator_comparison import PUBLISHED, References, Scores
from experiments.estimators_report import Findings as Judged
from experiments.experiment import tell
from experiments.outcome import write_section
from experiments.presets import BREAST_CANCER, TEXT
from experiments.title_question_report import ESTIMATORS, Row, describe_section, draw_figures, numbers
from jaxinfl import Dataset, Ensemble, ModelPlan, Recipe
from jaxinfl.cli.data_options import choose_examples, load_named
from jaxinfl.compilation_cache import use_compilation_cache
from jaxinfl.files import write_atomically
from jaxinfl.influence import IOUCurve, Outcomes, count_pairs
from jaxinfl.statistics.planner import FEWEST_MODELS
from jaxinfl.tasks import Regression

Kind = Literal["digits", "breast_cancer", "diabetes", "text", "colour"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TOLERANCE = 0.5
"""Error up to which the prediction of a regression counts as right, in standard deviations of the training targets."""
_MOST_PAIRS = 500
"""Number of pairs whose base rates are looked at, evenly spread over those that reach an influence."""


@dataclass(frozen=True)
class Setting(Options):
    """One data set, its network and recipe, and how many models answer for it."""

    num_models: int = 8000
    """Number of models that are trained, the pilot's among them; half of them is the largest estimate that can be compared."""
    ratio: float = 0.7
    """Size of each model's subset, as a share of the training set."""
    min_memorization: float | None = 0.25
    """Memorization above which a training example is compared; None compares all training examples."""


SETTINGS: dict[Kind, Setting] = {
    "digits": Setting(),
    "breast_cancer": Setting(**BREAST_CANCER, min_memorization=None),
    "diabetes": Setting(data="diabetes", recipe=Recipe(epochs=30)),
    "text": Setting(**TEXT, num_models=2400),
    "colour": Setting(data="", image_size=12, train_examples=1000, test_examples=500),
}
"""Kind of data -> how it is trained; the colour images are those that `--colour` names."""


@dataclass(frozen=True)
class Config:
    """Options of this experiment."""

    preset: Annotated[Literal["tiny", "digits"], PRESET] = "digits"
    kinds: tuple[Kind, ...] = KINDS
    """Data sets that are asked about: digits, breast_cancer (a table), diabetes (a regression), text, and colour if `--colour` names images."""
    colour: str = ""
    """File or folder of colour images for the kind colour, such as an .npz file of CIFAR-10; without it that kind is left out."""
    pilots: tuple[int, ...] = (200, 800)
    """Numbers of models of the pilots, rising; each pilot is the first so many models."""
    num_models: int | None = None
    """Number of models for each data set; None takes 8,000, and 2,400 for the text."""
    target_iou: float = 0.7
    """IOU of two estimates that is wanted."""
    thresholds: tuple[float, ...] = (0.1, 0.2)
    """Influences at which that IOU is wanted, rising; estimators are compared at the first."""
    strongest: int = 50
    """Number of strongest pairs by real scores whose agreement is measured."""
    repeats: int = 10
    """Number of random splits or choices of the models, over which means and ranges are taken."""
    seed: int = 0
    """Seed of every random number: subsets, initial weights, data order."""
    cost: bool = False
    """Print what the training would cost on this machine, and train nothing."""
    out: Path | None = None
    """Folder of the results and of the finished models; None takes results/title_question/PRESET."""


PRESETS = {
    "tiny": Config(
        "tiny", ("digits", "diabetes"), pilots=(50,), num_models=112, thresholds=(0.1,), strongest=10, repeats=2
    ),
    "digits": Config(),
}


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if not config.kinds:
        raise Mistake(f"--kinds is empty; it takes some of {', '.join(KINDS)}.")
    if not config.pilots or list(config.pilots) != sorted(set(config.pilots)) or config.pilots[0] < FEWEST_MODELS:
        raise Mistake(f"--pilots is {config.pilots}; it takes rising numbers of models, {FEWEST_MODELS} or more.")
    least = config.num_models or min(SETTINGS[kind].num_models for kind in config.kinds)
    if least < 2 * config.pilots[-1]:
        raise Mistake(
            f"{least} models are trained; to compare two estimates takes twice the largest pilot, {2 * config.pilots[-1]} or more. "
            "Raise --num-models or lower --pilots."
        )
    shares = config.thresholds
    if not shares or list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise Mistake(f"--thresholds is {shares}; it takes rising numbers between 0 and 1.")
    if not 0 < config.target_iou < 1:
        raise Mistake(f"--target-iou is {config.target_iou}; it takes a number between 0 and 1.")
    if config.strongest < 1 or config.repeats < 2:
        raise Mistake(
            f"--strongest is {config.strongest} and --repeats {config.repeats}; they take whole numbers from 1 and from 2 up."
        )


def settings(config: Config) -> dict[Kind, Setting]:
    """How each data set that is asked about is trained."""
    found = {}
    for kind in dict.fromkeys(config.kinds):
        if kind == "colour" and not config.colour:
            console.print("[yellow]Colour images are left out: name some by --colour.[/yellow]")
            continue
        setting = replace(SETTINGS[kind], seed=config.seed)
        if kind == "colour":
            setting = replace(setting, data=config.colour)
        found[kind] = setting if config.num_models is None else replace(setting, num_models=config.num_models)
    return found


def run(config: Config) -> Mapping[str, Any]:
    """Train the models of every data set or read them, answer for each, print the tables, and write numbers and figure."""
    check(config)
    out = results_folder(config.out) or Path("results") / "title_question" / config.preset
    rows, trained = [], {}
    for kind, setting in settings(config).items():
        with mistakes():
            data = choose_examples(load_named(setting), setting)
        console.print(f"\n[bold]{kind}[/bold]")
        console.print(describe_data(data), markup=False)
        setting = replace(setting, recipe=standardized(setting.recipe, data))
        request = request_models(setting, data)
        if config.cost:
            print_costs([request], data, setting.model, out / kind)
            continue
        runs = carry_out([request], data, setting, out / kind)
        rows.append(answer(config, kind, setting, runs["models"], data))
        trained[kind] = {"setting": setting, "data": {"name": data.name, "fingerprint": data.fingerprint}}
    if not rows:
        return {}
    results = numbers(rows)
    section = describe_section(rows, config.target_iou, config.strongest)
    record = {"experiment": "title_question", "config": config, "trained": trained, "results": results}
    write_section(section, draw_figures(rows, config.target_iou), record, out)
    tables = "\n\n".join(table.markdown() for table in section.tables)
    write_atomically(out / "tables.md", f"{tables}\n".encode())
    return results


def request_models(setting: Setting, data: Dataset) -> Request:
    """The models of one data set, each on its own subset; the first of them are the pilot."""
    with mistakes():
        masks = jaxinfl.draw_subsets(setting.num_models, data.num_train, setting.ratio, setting.seed)
    keys = jax.random.split(jax.random.key(setting.seed), len(masks))
    return Request("models", f"{len(masks)} models, each on its own subset", masks, keys, setting.recipe)


def answer(config: Config, kind: str, setting: Setting, runs: Ensemble, data: Dataset) -> Row:
    """What a pilot says about one data set, and what all of its models measure."""
    console.print("\nComparing estimates ...")
    scores = read_scores(runs, data)
    right = jaxinfl.pack(scores.masks, scores.correct, scores.train_correct)
    with mistakes():
        plans = [[_plan(config, setting, scores, pilot, at) for pilot in config.pilots] for at in config.thresholds]
        planned = {plan.models_needed for each in plans for plan in each if plan.models_needed is not None}
        curve = _measure(config, setting, right, np.array(config.thresholds), planned)
        margins = right.with_score(scores.margin)
        examples = right.examples_above(setting.min_memorization)
        found = jaxinfl.top_pairs(margins, k=config.strongest, min_memorization=setting.min_memorization)
        real = _measure(config, setting, margins, found.influence[-1:], {config.pilots[0] // 2})
    return Row(
        kind=kind,
        data=data.name,
        model=setting.model,
        num_models=len(scores),
        score=scores.correct.mean(axis=1),
        examples=examples.size,
        plans=plans,
        curve=curve,
        num_pairs=count_pairs(right, None, curve.thresholds, examples=examples),
        one_pair=models_for_one_pair(scores, examples, config.thresholds),
        real=real,
        judged=judge_estimators(config, scores, examples, setting.min_memorization),
    )


def read_scores(runs: Ensemble, data: Dataset) -> Scores:
    """The scores of the models that did not diverge; in a regression, being right is being off by less than the tolerance.

    A regression has no probability of its target, which is NaN.
    """
    if not isinstance(data.task, Regression):
        return Scores.of(runs)
    healthy = runs.without_diverged()
    tolerance = np.float32(TOLERANCE * data.train_targets.std())
    train, test = (
        tolerance - np.abs(residual) for residual in (healthy.train_score("residual"), healthy.test_score("residual"))
    )
    return Scores(healthy.masks, train > 0, test > 0, np.full_like(test, np.nan), test)


def _plan(config: Config, setting: Setting, scores: Scores, pilot: int, threshold: float) -> ModelPlan:
    """What the first models say."""
    first = scores.part(np.arange(pilot))
    return jaxinfl.plan(
        (first.masks, first.train_correct, first.correct),
        config.target_iou,
        threshold,
        min_memorization=setting.min_memorization,
    )


def _measure(
    config: Config, setting: Setting, outcomes: Outcomes, thresholds: Float[np.ndarray, " thresholds"], more: set[int]
) -> IOUCurve:
    """The IOU of estimates from 25, 50, 100, ... models, from half of all, and from `more` as far as there are models for two."""
    half = len(outcomes) // 2
    return jaxinfl.iou_curve(
        outcomes,
        num_models=sorted({*_double_up_to(half), *(size for size in more if size <= half)}),
        thresholds=thresholds,
        repeats=config.repeats,
        seed=config.seed,
        min_memorization=setting.min_memorization,
    )


def _double_up_to(most: int) -> tuple[int, ...]:
    """The numbers 25, 50, 100, ... below `most`, and `most`."""
    return (*(size for size in (25 * 2**power for power in range(20)) if size < most), most)


def models_for_one_pair(
    scores: Scores, examples: Int[np.ndarray, " examples"], thresholds: tuple[float, ...]
) -> Float[np.ndarray, " thresholds"]:
    """Models that show one pair chosen beforehand, at the base rates of the pairs that reach each influence; NaN without any.

    It is the median of `models_for_influence` over these pairs, at level 0.05 and power 0.8.
    """
    found = jaxinfl.influence(scores.masks, scores.correct)[examples]
    ratio, medians = float(scores.masks.mean()), []
    for threshold in thresholds:
        train, test = np.nonzero(found >= threshold)
        some = np.unique(np.linspace(0, train.size - 1, min(_MOST_PAIRS, train.size)).astype(int))
        rates = [
            scores.correct[~scores.masks[:, examples[i]], j].mean()
            for i, j in zip(train[some], test[some], strict=True)
        ]
        needed = jaxinfl.models_for_influence(threshold, np.minimum(rates, 1 - threshold), ratio) if rates else [np.nan]
        medians.append(float(np.median(needed)))
    return np.array(medians)


def judge_estimators(
    config: Config, scores: Scores, examples: Int[np.ndarray, " examples"], min_memorization: float | None
) -> Judged | None:
    """How near estimators from up to a quarter of the models come to references of half of them; None if no pair is influential."""
    half = len(scores) // 2
    ensembles = {"models": scores.part(np.arange(half)), "reference": scores.part(np.arange(half, 2 * half))}
    known = [each for each in comparison.ESTIMATORS if each.name in ESTIMATORS]
    known = [each for each in known if np.isfinite(getattr(scores, each.score)).all()]
    own = {each.name: each(ensembles["reference"], examples) for each in known}
    references = References(own[PUBLISHED], own, config.thresholds[0], examples, {"reference": half})
    if references.num_pairs == 0:
        return None
    sizes = _double_up_to(half // 2)
    judged = comparison.judge(known, ensembles, references, sizes, config.repeats, 1, config.seed)
    accuracy = scores.correct.mean(axis=1)
    return Judged(sizes, judged, references, config.target_iou, min_memorization, accuracy)


def main() -> int:
    """Do what the command line asks for; returns the exit status, 2 for what the user can mend and 130 after an interrupt."""
    use_compilation_cache()
    config = parse(PRESETS, program="experiments.title_question", description=(__doc__ or "").split("\n\n")[0])
    return tell(lambda: run(config))


if __name__ == "__main__":
    sys.exit(main())
