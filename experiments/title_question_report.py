"""Results of `title_question` as numbers, a figure and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from experiments.estimator_comparison import PUBLISHED, models_to_reach
from experiments.estimators_report import Findings as Judged
from experiments.how_many_models_report import REASONS
from jaxinfl import ModelPlan, plots
from jaxinfl.influence import IOUCurve
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize

ESTIMATORS = {
    PUBLISHED: "published",
    "being right, from margins, shrunk": "being right, from margins",
    "probability difference": "probability",
    "margin difference": "margin",
}
"""Estimators that are compared, by the name that the experiment on estimators gives them -> a short name."""
FROM_MARGINS = "being right, from margins, shrunk"


@dataclass(frozen=True)
class Row:
    """The answers for one data set."""

    kind: str
    """Kind of the data, as the command line names it."""
    data: str
    model: str
    num_models: int
    """Number of models that did not diverge."""
    score: Float[np.ndarray, " models"]
    """Share of the test examples on which each model is right."""
    examples: int
    """Number of training examples that are compared."""
    plans: Sequence[Sequence[ModelPlan]]
    """Answers of the pilots: for each influence one plan a pilot."""
    curve: IOUCurve
    """IOU by 0-1 scores, at the influences of the plans."""
    num_pairs: Int[np.ndarray, " thresholds"]
    """Number of pairs that reach each of these influences by the estimate from all models."""
    one_pair: Float[np.ndarray, " thresholds"]
    """Models that show one pair of each influence, chosen beforehand."""
    real: IOUCurve
    """IOU by margins, at the influence of the weakest of the strongest pairs."""
    judged: Judged | None
    """Comparison of estimators; None where no pair is influential enough."""


def needed(curve: IOUCurve, column: int, target: float) -> Float[np.ndarray, "3"]:
    """Lowest, median and highest number of models, over the repeats, from which on the measured IOU stays at the target.

    Infinite where it is not reached, the fewest that were compared where it is reached from there on, NaN where no pair counts.
    """
    found = models_to_reach(curve.num_models.astype(np.float64), curve.values[:, :, column], target)
    found = found[~np.isnan(found)]
    return np.array([found.min(), np.median(found), found.max()]) if found.size else np.full(3, np.nan)


def numbers(rows: Sequence[Row]) -> dict[str, Any]:
    """Every number of the tables and the figure."""
    return {row.kind: _numbers_of(row) for row in rows}


def _numbers_of(row: Row) -> dict[str, Any]:
    target = row.plans[0][0].target_iou
    return {
        "data": row.data,
        "model": row.model,
        "num_models": row.num_models,
        "right": summarize(row.score),
        "examples": row.examples,
        "influences": {
            f"{plans[0].threshold:g}": {
                "pilots": {str(plan.pilot_models): _plan_numbers(plan) for plan in plans},
                "pairs": int(row.num_pairs[column]),
                "one_pair": float(row.one_pair[column]),
                "measured_models_needed": needed(row.curve, column, target).tolist(),
                "measured": _curve_numbers(row.curve, column),
            }
            for column, plans in enumerate(row.plans)
        },
        "margins": {
            "influence": float(row.real.thresholds[0]),
            "measured_models_needed": needed(row.real, 0, target).tolist(),
            "measured": _curve_numbers(row.real, 0),
        },
        "shares": {} if row.judged is None else {name: float(share) for name, share in shares(row.judged).items()},
        "pairs_of_shares": 0 if row.judged is None else row.judged.references.num_pairs,
    }


def _plan_numbers(plan: ModelPlan) -> dict[str, Any]:
    return {
        "verdict": plan.verdict,
        "text": plan.text,
        "models_needed": plan.models_needed,
        "interval": plan.interval,
    }


def _curve_numbers(curve: IOUCurve, column: int) -> dict[str, dict[str, Any]]:
    return {str(size): summarize(curve.values[k, :, column]) for k, size in enumerate(curve.num_models)}


def shares(judged: Judged) -> dict[str, float]:
    """Share of the models with which each estimator agrees with its own reference as well as the published one with its own.

    The published one has the largest number that was tried, a quarter of all models; infinite where an estimator does not get there.
    """
    return {each.estimator.name: float(judged.share_for_the_same(each, "own")[-1]) for each in judged.judged}


def _pilots(rows: Sequence[Row]) -> str:
    return " and ".join(str(plan.pilot_models) for plan in rows[0].plans[0])


def describe_section(rows: Sequence[Row], target: float, strongest: int) -> Section:
    """The section of the page: one table for 0-1 scores, one for real scores and one for other estimators."""
    return Section(
        title="How many models do I need? An answer for every kind of data",
        claim="How many models make two influence estimates agree differs between data sets; a pilot tells it for some of them.",
        setting=f"{', '.join(row.data for row in rows)}; pilots of {_pilots(rows)} models; estimates from up to half of all models are compared.",
        finding=find_answer(rows, target),
        tables=[_answers(rows, target), _real_scores(rows, target, strongest), _estimators(rows)],
        illustrations=[
            Illustration(
                "curves",
                f"IOU of two influence estimates (vertical) over the number of models of each (horizontal), by data set: "
                f"{', '.join(f'{row.data} ({row.model})' for row in rows)}. A panel for each influence of 0-1 scores, and one for the {strongest} "
                f"strongest pairs by margins. The further right a curve crosses {target:g}, the more models the data set needs.",
            )
        ],
    )


def find_answer(rows: Sequence[Row], target: float) -> Finding:
    """How far apart the data sets are, what came of the pilots' answers, and how often the target is reached."""
    first = {row.kind: needed(row.curve, 0, target)[1] for row in rows}
    reached = {kind: number for kind, number in first.items() if np.isfinite(number)}
    influence = f"IOU {target:g} at influence {rows[0].plans[0][0].threshold:g}"
    if reached:
        fewest, most = min(reached, key=lambda kind: reached[kind]), max(reached, key=lambda kind: reached[kind])
        answer = f"For {influence} the number of models is {reached[fewest]:.0f} on {fewest} and {reached[most]:.0f} on {most}."
        if len(reached) == 1:
            answer = f"For {influence} the number of models is {reached[fewest]:.0f} on {fewest}."
    else:
        answer = f"No data set reaches {influence} with as many models as were trained."
    plans = [
        (plan, needed(row.curve, column, target)[1])
        for row in rows
        for column, each in enumerate(row.plans)
        for plan in each
    ]
    answered = sum(plan.verdict in ("answered", "more models") for plan, _ in plans)
    held = [
        _holds(plan, number) for plan, number in plans if plan.interval[0] is not None or plan.verdict == "more models"
    ]
    pilots = f"Pilots of {_pilots(rows)} models answer {answered} of {len(plans)} questions"
    evidence = [
        f"{pilots}; {sum(held)} of their {len(held)} intervals hold the measured number.",
        f"The target is reached on {len(reached)} of {len(rows)} data sets by estimates from half of the models that were trained.",
    ]
    return Finding(answer, evidence, "On CIFAR-100 it takes 200 to 400 models (Section 3).")


def _holds(plan: ModelPlan, number: float) -> bool:
    """Whether the interval of a pilot holds the measured number of models; an end is open where the plan has none."""
    fewest, most = plan.interval
    low = float(plan.steps[-1]) if plan.verdict == "more models" else float(fewest or 0)
    if low <= plan.steps[0]:  # which stands for anything below
        low = 0.0
    return bool(low <= number <= (np.inf if most is None else most))


def _answers(rows: Sequence[Row], target: float) -> Table:
    cells = []
    for row in rows:
        for column, plans in enumerate(row.plans):
            values = row.curve.values[-1, :, column]
            cells.append(
                [
                    row.kind,
                    f"{100 * row.score.mean():.1f}%",
                    f"{plans[0].threshold:g}",
                    str(row.num_pairs[column]),
                    *(_said(plan, row.curve, column) for plan in plans),
                    f"{format_mean(values, 2)} with {row.curve.num_models[-1]}"
                    if np.isfinite(values).any()
                    else "no pair counts",
                    _number(needed(row.curve, column, target)),
                    _models(row.one_pair[column]),
                ]
            )
    first = rows[0].plans[0]
    return Table(
        f"Models for IOU {target:g} of two estimates by 0-1 scores",
        [
            "data",
            "right",
            "influence",
            "pairs",
            *(f"a pilot of {plan.pilot_models} says" for plan in first),
            "IOU with the most",
            "measured number",
            "for one pair",
        ],
        cells,
        f"Intervals of the pilots are at {first[0].confidence:.0%}, and behind an answer stands the IOU that so many models measured. IOUs are means ± "
        f"standard deviations over {rows[0].curve.values.shape[1]} splits. The measured number is the median, with its range, over the same splits. "
        "'For one pair' are the models in all that show one pair of that influence, chosen beforehand.",
    )


def _said(plan: ModelPlan, curve: IOUCurve, column: int) -> str:
    """What a pilot says, and the IOU that so many models measured."""
    fewest, most = plan.interval
    if plan.verdict == "more models":
        return f"more than {plan.steps[-1]:.0f}"
    high = f"more than {plan.steps[-1]:.0f}" if most is None else f"{most}"
    if plan.models_needed is None:
        return f"cannot tell: {REASONS[plan.verdict] if fewest is None else f'{fewest} to {high}'}"
    sizes = list(curve.num_models)
    if plan.models_needed not in sizes:
        return f"{plan.models_needed} ({fewest} to {high}), more than were compared"
    measured = format_mean(curve.values[sizes.index(plan.models_needed), :, column], 2)
    return f"{plan.models_needed} ({fewest} to {high}): {measured}"


def _number(found: Float[np.ndarray, "3"]) -> str:
    low, middle, high = found
    if np.isnan(middle):
        return "no pair counts"
    if np.isinf(middle):
        return "not reached"
    return f"{_models(middle)} ({_models(low)} to {_models(high)})"


def _models(number: float) -> str:
    """A number of models to two digits."""
    if not np.isfinite(number):
        return "none" if np.isnan(number) else "not reached"
    return f"{float(f'{number:.2g}'):.0f}"


def _real_scores(rows: Sequence[Row], target: float, strongest: int) -> Table:
    cells = []
    for row in rows:
        sizes, values = list(row.real.num_models), row.real.values[:, :, 0]
        pilot = sizes.index(row.plans[0][0].pilot_models // 2)
        cells.append(
            [
                row.kind,
                f"{row.real.thresholds[0]:.3g}",
                format_mean(values[pilot], 2),
                f"{format_mean(values[-1], 2)} with {sizes[-1]}",
                _number(needed(row.real, 0, target)),
            ]
        )
    half = rows[0].plans[0][0].pilot_models // 2
    return Table(
        f"The same question about margins: the {strongest} strongest pairs",
        ["data", "influence", f"IOU from {half} models", "IOU from the most", f"measured number for {target:g}"],
        cells,
        "The influence is that of the weakest of these pairs, in the unit of the margin. There is no plan for real scores: the first IOU is "
        "what a pilot can measure, whose halves are two estimates.",
    )


def _estimators(rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        if row.judged is None:
            cells.append([row.kind, "0", *["no pair counts"] * (len(ESTIMATORS) - 1)])
            continue
        found = shares(row.judged)
        told = [_share(found.get(name)) for name in ESTIMATORS if name != PUBLISHED]
        cells.append([row.kind, str(row.judged.references.num_pairs), *told])
    return Table(
        "Share of the published estimator's models that other estimators need",
        ["data", "pairs", *(words for name, words in ESTIMATORS.items() if name != PUBLISHED)],
        cells,
        "Shares with which an estimator agrees with a reference of its own kind, from half of all models, as well as the published one does with "
        "a quarter of all. As many of the highest pairs are compared as reach the first influence in the published reference.",
    )


def _share(share: float | None) -> str:
    if share is None:
        return "no such score"
    return f"{share:.2f}" if np.isfinite(share) else "more than 1"


def draw_figures(rows: Sequence[Row], target: float) -> Mapping[str, Figure]:
    """The figure of the section: measured IOU over the number of models, a line for each data set."""
    panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {
        f"influence {plans[0].threshold:g}": {
            row.kind: (row.curve.num_models.astype(np.float64), row.curve.values[:, :, column]) for row in rows
        }
        for column, plans in enumerate(rows[0].plans)
    }
    panels["strongest pairs by margins"] = {
        row.kind: (row.real.num_models.astype(np.float64), row.real.values[:, :, 0]) for row in rows
    }
    title = "Agreement of two influence estimates, by data set"
    return {"curves": plots.estimator_curves_figure(panels, target=target, ylabel="IOU of two estimates", title=title)}
