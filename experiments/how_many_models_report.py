"""Results of `how_many_models` as numbers, figures and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.outcome import Outcome
from jaxinfl import Dataset, ModelPlan, plots
from jaxinfl.influence import IOUCurve
from jaxinfl.report import Illustration, Section, Table, format_mean, summarize

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
    illustrations = [Illustration("plan", "Predicted by the pilot, and measured.")]
    tables = [_outcome_table(findings)]
    if findings.trials:
        figures["pilots"] = _pilots_figure(findings)
        illustrations.append(
            Illustration("pilots", "Predictions of disjoint pilots, each beside the models outside of it.")
        )
        tables.append(_trials_table(findings))
    section = Section(
        title="How many models do I need? A pilot's prediction and what came of it",
        claim="A small pilot run predicts at how many models two influence estimates agree, and says where it cannot.",
        setting=f"{about}, then {len(findings.test_accuracy)} with it, right on {format_mean(100 * findings.test_accuracy, 1)} % of "
        f"the test examples. The measured IOU is that of all models, the pilot's among them.",
        finding=" ".join(part for part in (main_finding(findings), trials_finding(findings)) if part),
        paper="200 to 400 models for CIFAR-100 (Section 3); in general the number is hard to quantify, for it depends on "
        "nondeterminism and on how difficult the test examples are.",
        tables=tables,
        illustrations=illustrations,
    )
    return Outcome(section, numbers(findings), figures)


def main_finding(findings: Findings) -> str:
    """The pilot's answer, and what the other models showed."""
    plan, curve = findings.plan, findings.measured
    answer = f"The pilot's answer: {plan.text}"
    size = plan.models_needed
    if size is None:
        return answer
    if size not in curve.num_models:
        return f"{answer} Two estimates of {size} models take more than were trained."
    values = curve.values[list(curve.num_models).index(size), :, -1]
    return (
        f"{answer} Measured with {size} models: IOU {format_mean(values, 2)}, where {plan.target_iou:g} was predicted."
    )


def trials_finding(findings: Findings) -> str:
    """How far the pilots were off, for the models that were trained and for the simulated ones."""
    found = []
    for name, trials in findings.trials.items():
        errors = [errors_of(trials, row) for row in range(_sizes(trials))]
        absolute = np.concatenate([each.absolute for each in errors])
        if np.isnan(absolute).all():
            found.append(f"{name}: no pilot predicts an IOU")
            continue
        of_mean, inside = (np.concatenate([getattr(each, part) for each in errors]) for part in ("of_mean", "inside"))
        found.append(
            f"{name}: off by {np.nanmean(absolute):.3f} a threshold, by {np.nanmean(np.abs(of_mean)):.3f} in the mean over the "
            f"thresholds; {np.nanmean(inside):.0%} of the intervals hold the measured IOU"
        )
    if not found:
        return ""
    number = len(next(iter(findings.trials.values())))
    return f"Over {number} disjoint pilots and all sizes, between influence {LOW} and {HIGH}: {'; '.join(found)}."


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
