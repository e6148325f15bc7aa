"""Results of `how_many_models` as numbers, figures and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.outcome import Outcome
from jaxinfl import Dataset, ModelPlan, plots
from jaxinfl.influence import IOUCurve
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize

LOW, HIGH = 0.1, 0.3
"""Thresholds of influence between which errors are averaged."""


class Trial(NamedTuple):
    """One pilot of many, and the models outside of it."""

    plan: ModelPlan
    measured: IOUCurve
    """IOU that the models outside of the pilot have; its last threshold is the influence that the plan is for."""


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    plan: ModelPlan
    """Prediction of the pilot."""
    measured: IOUCurve
    """IOU that all models have; its last threshold is the influence that the plan is for."""
    seconds_per_model: float | None
    """Seconds that one model of the pilot took to train; None where that is not known."""
    trials: Mapping[str, Sequence[Trial]]
    """Predictions of many pilots, by the source of their models, trained or simulated; empty without `--pilots`."""
    test_accuracy: Float[np.ndarray, " models"]
    """Share of the test examples on which each model is right."""


class Errors(NamedTuple):
    """Predicted minus measured IOU of many pilots at one size, over the thresholds at which a pilot predicts one."""

    absolute: Float[np.ndarray, " pilots"]
    """Mean over the thresholds from 0.1 to 0.3 of the absolute error of each pilot."""
    of_mean: Float[np.ndarray, " pilots"]
    """Error of the mean IOU over these thresholds, of each pilot."""
    inside: Float[np.ndarray, " pilots"]
    """Share of these thresholds at which the interval holds the measured IOU, of each pilot."""


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figures."""
    plan = findings.plan
    about = f"{data.name}, {model}: a pilot of {plan.pilot_models} models"
    figures = {"plan": plots.plan_figure(plan, findings.measured, title=about)}
    illustrations = [
        Illustration(
            "plan",
            f"IOU of two influence estimates of {data.name} from models of {model} (vertical). Left: over the influence that a pair must reach, by number "
            f"of models per estimate. Right: over the number of models, at influence {plan.threshold:g}. Lines and bands are what a pilot "
            f"of {plan.pilot_models} models predicts, with {plan.confidence:.0%} intervals; dots are measured. The pilot is right where dots lie "
            "in bands.",
        )
    ]
    tables = [_outcome_table(findings)]
    if findings.trials:
        figures["pilots"] = _pilots_figure(findings)
        illustrations.append(
            Illustration(
                "pilots",
                f"IOU of two influence estimates (vertical) over the influence that a pair must reach (horizontal). Thin: what disjoint pilots "
                f"of {plan.pilot_models} models predict; thick: what the models outside of them measure. A panel each for the models of {model} "
                f"on {data.name} and for simulated ones, a colour for each number of models per estimate.",
            )
        )
        tables.append(_trials_table(findings))
    section = Section(
        title="How many models do I need? A pilot's prediction and what came of it",
        claim="A small pilot run predicts at how many models two influence estimates agree, and says where it cannot.",
        setting=f"{about}, then {len(findings.test_accuracy)} with it, right on {format_mean(100 * findings.test_accuracy, 1)}% of "
        f"the test examples. The measured IOU is that of all models, the pilot's among them.",
        finding=find_answer(findings),
        tables=tables,
        illustrations=illustrations,
    )
    return Outcome(section, numbers(findings), figures)


def find_answer(findings: Findings) -> Finding:
    """The pilot's answer, what the other models showed, and what the paper found."""
    evidence = [interval_evidence(findings.plan), largest_evidence(findings), trials_evidence(findings)]
    return Finding(
        answer_of_pilot(findings),
        [each for each in evidence if each],
        "On CIFAR-100 it takes 200 to 400 models (Section 3); in general the number depends on nondeterminism and on how "
        "difficult the test examples are (Abstract).",
    )


REASONS = {
    "too uncertain": "the ends of its interval are too far apart",
    "few pairs": "too few pairs have so large an influence",
    "no clear pairs": "that pairs have so large an influence may be noise",
    "no memorized example": "no training example is likely to be memorized enough to take part",
    "small pilot": "it has too few models",
}
"""Verdict -> why the pilot cannot tell."""


def answer_of_pilot(findings: Findings) -> str:
    """What the pilot says, beside what so many models measured."""
    plan, curve = findings.plan, findings.measured
    goal = f"For two influence estimates to agree (IOU {plan.target_iou:g} at influence {plan.threshold:g})"
    pilot, size = f"a pilot of {plan.pilot_models} models", plan.models_needed
    if plan.verdict == "more models":
        return f"{goal}, {pilot} asks for more than {plan.steps[-1]:.0f} models each."
    if size is None:
        return f"A{pilot[1:]} cannot tell how many models make influence estimates agree: {REASONS[plan.verdict]}."
    if size not in curve.num_models:
        return f"{goal}, {pilot} asks for {size} models each, more than were trained."
    measured = format_mean(curve.values[list(curve.num_models).index(size), :, -1], 2)
    return f"{goal}, {pilot} asks for {size} models each, and so many measure {measured}."


def interval_evidence(plan: ModelPlan) -> str:
    """Between which numbers of models the answer lies; empty where the pilot has no interval."""
    fewest, most = plan.interval
    if fewest is None:
        return ""
    highest = f"more than {plan.steps[-1]:.0f}" if most is None else f"{most}"
    return f"The {plan.confidence:.0%} interval of the pilot's number is {fewest} to {highest} models for each of two estimates."


def largest_evidence(findings: Findings) -> str:
    """What the most models measured that were compared; empty where the answer says it, or no pair is as influential."""
    curve = findings.measured
    values = curve.values[-1, :, -1]
    if not np.isfinite(values).any() or curve.num_models[-1] == findings.plan.models_needed:
        return ""
    return (
        f"Estimates from {curve.num_models[-1]} models, the most that were compared, measure IOU {format_mean(values, 2)} at influence "
        f"{curve.thresholds[-1]:g}."
    )


def trials_evidence(findings: Findings) -> str:
    """How far the predictions of many pilots of trained models were off; empty without them. The table has the simulated ones."""
    for trials in findings.trials.values():
        errors = [errors_of(trials, row) for row in range(_sizes(trials))]
        absolute, inside = (np.concatenate([getattr(each, part) for each in errors]) for part in ("absolute", "inside"))
        if np.isnan(absolute).all():
            return f"None of {len(trials)} disjoint pilots predicts an IOU between influence {LOW} and {HIGH}."
        return (
            f"Over {len(trials)} disjoint pilots, predicted IOUs between influence {LOW} and {HIGH} are off by {np.nanmean(absolute):.3f}, and "
            f"{np.nanmean(inside):.0%} of the intervals hold what is measured."
        )
    return ""


def errors_of(trials: Sequence[Trial], row: int) -> Errors:
    """Errors of every pilot at its `row`-th number of models; NaN where a pilot predicts nothing."""
    parts = []
    for trial in trials:
        plan, curve = trial.plan, trial.measured
        at = list(curve.num_models).index(plan.num_models[row])
        between = (plan.thresholds > LOW - 1e-9) & (plan.thresholds < HIGH + 1e-9)
        truth = curve.mean[at, :-1][between]
        iou, low, high = (part[row][between] for part in plan.curve)
        told = np.isfinite(iou) & np.isfinite(truth)
        if not told.any():
            parts.append((np.nan,) * 3)
            continue
        error = (iou - truth)[told]
        inside = ((low <= truth) & (truth <= high))[told]
        parts.append((float(np.abs(error).mean()), float(error.mean()), float(inside.mean())))
    return Errors(*np.array(parts).T)


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figures with its n and spread, as results.json keeps it."""
    plan, curve = findings.plan, findings.measured
    return {
        "plan": plan,
        "seconds_per_model": findings.seconds_per_model,
        "test_accuracy": summarize(findings.test_accuracy),
        "compared_examples": curve.num_examples,
        "note": "the last measured IOU of each size is at the influence asked for; the splits share models.",
        "measured": {
            int(size): [summarize(column) for column in values.T]
            for size, values in zip(curve.num_models, curve.values, strict=True)
        },
        "pilots": {
            name: {
                int(trials[0].plan.num_models[row]): {
                    part: summarize(values) for part, values in errors_of(trials, row)._asdict().items()
                }
                for row in range(_sizes(trials))
            }
            | {"answers": [trial.plan.text for trial in trials]}
            for name, trials in findings.trials.items()
        },
    }


def _sizes(trials: Sequence[Trial]) -> int:
    """Predicted sizes of which the models outside of a pilot hold two estimates."""
    return len(set(trials[0].plan.num_models.tolist()) & set(trials[0].measured.num_models.tolist()))


def _outcome_table(findings: Findings) -> Table:
    plan, curve = findings.plan, findings.measured
    rows = []
    for size, values in zip(curve.num_models, curve.values, strict=True):
        iou, low, high = (np.interp(size, plan.steps, part) for part in plan.at_threshold)
        shown = f"{iou:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(iou) else "cannot tell"
        rows.append([str(size), shown, format_mean(values[:, -1], 2)])
    return Table(
        f"IOU of two estimates at influence {plan.threshold:g}",
        ["models per estimate", f"predicted ({plan.confidence:.0%} interval)", "measured"],
        rows,
        f"Measured: mean ± standard deviation over {curve.values.shape[1]} splits, which share models; the interval is for the "
        "mean.",
    )


def _trials_table(findings: Findings) -> Table:
    rows = []
    for name, trials in findings.trials.items():
        for row in range(_sizes(trials)):
            errors = errors_of(trials, row)
            told = np.count_nonzero(~np.isnan(errors.absolute))
            inside = f"{np.nanmean(errors.inside):.0%}" if told else "none"
            rows.append(
                [
                    "" if row else name,
                    str(trials[0].plan.num_models[row]),
                    format_mean(errors.absolute),
                    format_mean(errors.of_mean),
                    format_mean(np.abs(errors.of_mean)),
                    inside,
                    f"{told} of {len(trials)}",
                ]
            )
    plan = findings.plan
    return Table(
        f"Pilots of {plan.pilot_models} models: predicted minus measured IOU, thresholds {LOW} to {HIGH}",
        [
            "models from",
            "models per estimate",
            "absolute, a threshold",
            "of the mean",
            "absolute, of the mean",
            "in interval",
            "pilots that tell",
        ],
        rows,
        f"Mean ± standard deviation over pilots; intervals of {plan.confidence:.0%}. Thresholds that too few pairs reach, or none "
        "beyond doubt, are left out, as the pilot leaves them.",
    )


def _pilots_figure(findings: Findings) -> Any:
    panels = {}
    for name, trials in findings.trials.items():
        sizes = trials[0].plan.num_models[: _sizes(trials)]
        predicted = np.stack([trial.plan.curve.iou[: len(sizes)] for trial in trials])
        rows = [[list(trial.measured.num_models).index(size) for size in sizes] for trial in trials]
        truth = np.stack([trial.measured.mean[row, :-1] for trial, row in zip(trials, rows, strict=True)])
        panels[name] = (sizes, predicted, truth)
    first = next(iter(findings.trials.values()))
    return plots.pilots_figure(
        first[0].plan.thresholds,
        panels,
        title=f"Thin: predictions of {len(first)} disjoint pilots of {findings.plan.pilot_models} models; thick: IOU of the models "
        "outside of them",
    )
