"""Figure 1 from models that somebody else trained: how well do two halves of a published run agree?

Claim (Figure 1 of the paper, Section 3): two influence estimates from t models each agree only from t = 200 to 400 on CIFAR-100. Feldman
and Zhang's own 2,000 models of each ratio show it without training one.

    python -m experiments.published_runs --path heldout-influence-estimation/cifar100/0.7       their folder of one ratio: minutes, 2 cores
    python -m experiments.published_runs --path runs/train_masks_50pct.npy --models 2000        the first 2,000 of the datamodels' models
    python -m experiments.published_runs --path runs --data cifar100 --pairs cifar100_high_infl_pairs_infl0.15_mem0.25.npz

Figure: figure1 (IOU over the influence threshold, and on how many pairs it rests), as PNG and SVG; results.json has every number. With
`--pairs` the released pairs are compared with the estimate of all models. Expected: as the left panel of the paper's Figure 1.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Int

import jaxinfl
from experiments.cifar100_report import PAPER, SHARED_POOL, THRESHOLDS, answer_for_curve
from experiments.command_line import Mistake, console, mistakes
from experiments.outcome import write_section
from jaxinfl import Dataset, Ensemble, PairsComparison, RunDirectoryError, plots
from jaxinfl.arguments import check_choice, check_whole, expand_home
from jaxinfl.influence import IOUCurve, Outcomes, count_pairs
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize

HEADLINE = 0.2
"""Influence at which the summary compares."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    path: Path
    """Folder of the runs, or for datamodels the file of the masks of one ratio."""
    layout: str | None = None
    """Layout of the files: feldman_zhang, datamodels, lira or dattri; None guesses, and says why."""
    data: str | None = None
    """Data set, as for load_dataset, whose labels tell whether the order is the same; None reads none."""
    pairs: Path | None = None
    """File of released pairs of high influence, to be compared with the estimate of all models."""
    models: int | None = None
    """Number of models to take, the first ones; None takes all, which must fit into memory."""
    score: str = "correct"
    """Name of the score."""
    sizes: tuple[int, ...] = ()
    """Numbers of models per estimate; empty takes 25, 50, 100, ... up to half of the models."""
    repeats: int = 10
    """Number of random splits of the models."""
    min_memorization: float | None = 0.25
    """Only training examples whose memorization is above this are compared; None compares all."""
    seed: int = 0
    """Seed of the splits."""
    out: Path = Path("results/published_runs")
    """Folder of the results."""


def main(config: Config) -> Path:
    """Read the models, compare estimates from disjoint halves, and write results and figure; returns the folder."""
    out = expand_home(config.out, "--out")
    with mistakes():
        data = None if config.data is None else jaxinfl.load_dataset(config.data)
    runs = _read(config, data)
    console.print(f"{len(runs)} models of {config.path}: {runs.masks.shape[1]} training examples", markup=False)
    console.print(f"order of the examples: {runs.order}", markup=False)
    with mistakes():
        check_choice(config.score, "--score", runs.scores)
        given = jaxinfl.pack(runs, config.score)
        thresholds = THRESHOLDS if given.kind != "real" else _thresholds(given)
        sizes = np.asarray(config.sizes) if config.sizes else None
        curve = jaxinfl.iou_curve(
            given,
            num_models=sizes,
            thresholds=thresholds,
            repeats=config.repeats,
            seed=config.seed,
            min_memorization=config.min_memorization,
        )
        compared = None
        if config.pairs is not None:
            compared = jaxinfl.compare_pairs(jaxinfl.read_pairs(config.pairs, data=data), given)
    kept = given.examples_above(config.min_memorization)
    number = count_pairs(given.select(kept), None, thresholds)
    about = f"{'/'.join(config.path.parts[-2:])}, {len(runs)} models: influence of {_describe_examples(kept.size, config.min_memorization)}"
    unit = "" if given.kind != "real" else f"in {config.score}"
    figure = plots.consistency_figure(
        curve.thresholds,
        curve.num_models,
        curve.values,
        {},
        number,
        title=about,
        unit=f", {unit}" if unit else "",
    )
    record = _numbers(config, runs, curve, number, compared)
    section = describe_section(curve, number, compared, about, unit)
    write_section(section, {"figure1": figure}, record, out)
    return out


def _describe_examples(number: int, min_memorization: float | None) -> str:
    condition = "" if min_memorization is None else f" memorized more than {min_memorization:g}"
    return f"{number} training examples{condition}"


def _read(config: Config, data: Dataset | None) -> Ensemble:
    with mistakes():
        runs = jaxinfl.read_run(config.path, config.layout, data=data)
        if not isinstance(runs, Ensemble):
            raise Mistake(
                f"--path is {config.path}, an estimate without models; give it as --pairs beside the folder of models."
            )
        if config.models is not None:
            runs = runs[: check_whole(config.models, "--models", 2, len(runs), "models")]
    return runs


def _thresholds(given: Outcomes) -> np.ndarray:
    """Thresholds in the unit of a score: up to the largest influence of some training examples.

    `top_pairs`, by which `cifar100_subsets` finds the largest of all, takes train scores, which some published runs lack.
    """
    some = given.select(np.arange(min(given.masks.shape[1], 200)))
    return np.linspace(0.05, 1, 40) * float(np.nanmax(jaxinfl.influence(some)))


def _numbers(
    config: Config,
    runs: Ensemble,
    curve: IOUCurve,
    number: Int[np.ndarray, " thresholds"],
    compared: PairsComparison | None,
) -> dict[str, object]:
    return {
        "config": {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()},
        "layout": runs.layout,
        "order": runs.order,
        "models": len(runs),
        "thresholds": curve.thresholds,
        "num_pairs": number,
        "iou": {
            str(size): [summarize(values[:, column]) for column in range(curve.thresholds.size)]
            for size, values in zip(curve.num_models, curve.values, strict=True)
        },
        "released_pairs": None if compared is None else compared._replace(influence=np.zeros(0))._asdict(),
    }


def describe_section(
    curve: IOUCurve, number: Int[np.ndarray, " thresholds"], compared: PairsComparison | None, about: str, unit: str
) -> Section:
    """The section of the page: how well two estimates agree, and how well all models agree with the released pairs.

    `unit` is the unit of the thresholds in words, such as "in margin"; it is empty where that is a probability's.
    """
    at = int(np.abs(curve.thresholds - HEADLINE).argmin())
    threshold = f"influence {curve.thresholds[at]:.3g} {unit}".rstrip()
    rows = zip(curve.num_models, curve.values, strict=True)
    return Section(
        title="Figure 1 from models that somebody else trained",
        claim="Two estimates from t models each agree (IOU above 0.7) only from 200 to 400 models on (Section 3).",
        setting=f"{about}.",
        finding=Finding(
            answer_for_curve(curve, at, threshold),
            [
                f"By all models {number[at]} pair{' reaches' if number[at] == 1 else 's reach'} that influence.",
                *([] if compared is None else [_describe_released(compared)]),
            ],
            PAPER,
        ),
        tables=[
            Table(
                f"IOU of two estimates at {threshold}, which {number[at]} pairs reach by all models",
                ["models per estimate", "different subsets"],
                [[str(size), format_mean(values[:, at])] for size, values in rows],
                f"Mean ± standard deviation over {curve.values.shape[1]} splits. {SHARED_POOL}",
            )
        ],
        illustrations=[
            Illustration(
                "figure1",
                "Figure 1, left. IOU of two influence estimates (vertical) over the influence that a pair must reach (horizontal), a curve for each "
                f"number of models per estimate; {about}. Below: number of pairs that reach the influence by all models. The higher a curve, the "
                "better the estimates agree; the dashed line is the 0.7 that counts as agreement.",
            )
        ],
    )


def _describe_released(compared: PairsComparison) -> str:
    known = np.isfinite(compared.rank_correlation)
    rank = f"; rank correlation of their influences {compared.rank_correlation:.2f}" if known else ""
    iou = f" (IOU {compared.iou:.2f})" if np.isfinite(compared.iou) else ""
    return f"Of {compared.num_published} released pairs {compared.num_both} are among the {compared.num_own} of these models{iou}{rank}."


def launch() -> int:
    """Run the command line and return its exit status: 2 for what the user can mend."""
    config = tyro.cli(Config, prog="python -m experiments.published_runs", description=(__doc__ or "").split("\n\n")[0])
    try:
        main(config)
    except (Mistake, RunDirectoryError, OSError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(launch())
