"""Results of `membership` as numbers, figures and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.gallery import draw_pairs
from experiments.outcome import Outcome
from jaxinfl import Dataset, plots
from jaxinfl.privacy import Membership, OperatingPoint, Rate
from jaxinfl.report import Illustration, Section, Table, format_mean, summarize

FEW_ALARMS, FEWEST_ALARMS = 0.01, 0.001
"""Rates of false alarms at which the share of members told is given."""
LIRA, THRESHOLD = "LiRA", "one threshold"
"""Names of the attack by which risk is measured, and of the one that compares with no other model."""


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    told: Mapping[str, Membership]
    """What each attack tells, all models being targets."""
    memorization: Float[np.ndarray, " train"]
    """Memorization of each training example, by 0-1 scores."""
    correlation: float
    """Rank correlation of memorization and the risk by LiRA."""
    sizes: Int[np.ndarray, " sizes"]
    """Numbers of models that the attacks are compared at."""
    auc: Mapping[str, Float[np.ndarray, "sizes groups"]]
    """Area under the curve by attack, of disjoint groups of models."""
    tpr: Mapping[str, Float[np.ndarray, "sizes groups"]]
    """Share of members told at `FEW_ALARMS`, likewise."""
    extremes: tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]]
    """Training examples at most and at least risk."""
    accuracy: Float[np.ndarray, " models"]
    """Share of the test examples on which each model is right."""
    diverged: int
    """Number of models that diverged and were left out."""


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figures."""
    models = len(findings.accuracy)
    about = f"{data.name}, {model}: {models} models on random halves"
    section = Section(
        title="Membership inference: who was in the training set",
        claim="Comparing a model with others that were, or were not, trained on an example tells members at rates of false alarms at "
        "which one threshold for all examples tells none. LiRA takes many such shadow models, RMIA few. Memorized examples are told first.",
        setting=f"{about}, each the target of the others once; right on {format_mean(100 * findings.accuracy, 1)} % of the test examples.",
        finding=" ".join(part for part in (_attacks(findings), _shadows(findings), _risk(findings)) if part),
        paper="not in the paper. Carlini et al. (2022) tell 8.4% of CIFAR-10's members at a rate of 0.1% with 256 wide ResNets, and one threshold "
        "0.0%; their AUC is 0.72.",
        tables=[_methods_table(findings), _sizes_table(findings)],
        illustrations=[
            Illustration("roc", "Share of members told over the rate of false alarms."),
            Illustration("shadows", "How well members are told over the number of models."),
            Illustration("risk", "Risk of each training example over its memorization."),
            Illustration("gallery", "Examples at most risk (left of each pair) and at least risk (right)."),
        ],
    )
    figures = {
        "roc": plots.roc_figure({name: each.roc for name, each in findings.told.items()}, title=about),
        "shadows": plots.shadows_figure(
            findings.sizes,
            findings.auc,
            findings.tpr,
            fpr=FEW_ALARMS,
            title=about,
        ),
        "risk": plots.risk_figure(
            findings.memorization, findings.told[LIRA].risk.told_apart, findings.correlation, title=about
        ),
        "gallery": _gallery(findings, data, models),
    }
    return Outcome(section, numbers(findings), figures)


def _gallery(findings: Findings, data: Dataset, models: int) -> Any:
    most, least = findings.extremes
    risk = findings.told[LIRA].risk.told_apart
    captions = [
        f"risk {risk[one]:.2f}, memorization {findings.memorization[one]:.2f}; "
        f"{risk[other]:.2f}, {findings.memorization[other]:.2f}"
        for one, other in zip(most, least, strict=True)
    ]
    title = f"{data.name}: examples at most risk, each beside one at least risk, from {models} models"
    return draw_pairs(data, most, least, captions, title=title, second="train")


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the tables and figures, as results.json keeps it."""
    risk = findings.told[LIRA].risk
    return {
        "test_accuracy": summarize(findings.accuracy),
        "diverged_models": findings.diverged,
        "attacks": {
            name: {
                "auc": each.auc._asdict(),
                "balanced_accuracy": each.balanced_accuracy._asdict(),
                "tpr": {str(fpr): _point(each.tpr(fpr)) for fpr in (FEW_ALARMS, FEWEST_ALARMS)},
            }
            for name, each in findings.told.items()
        },
        "over_models": {
            name: {
                int(size): {"auc": summarize(findings.auc[name][row]), "tpr": summarize(findings.tpr[name][row])}
                for row, size in enumerate(findings.sizes)
            }
            for name in findings.auc
        },
        "rank_correlation_of_risk_and_memorization": findings.correlation,
        "risk": risk.told_apart,
        "risk_low": risk.low,
        "risk_high": risk.high,
        "memorization": findings.memorization,
        "most_and_least_at_risk": findings.extremes,
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    return point._asdict() | {"tpr": point.tpr._asdict()}


def _methods_table(findings: Findings) -> Table:
    rows = []
    for name, each in findings.told.items():
        few, fewest = each.tpr(FEW_ALARMS), each.tpr(FEWEST_ALARMS)
        rows.append(
            [
                name,
                _format(each.auc),
                _format(each.balanced_accuracy),
                _format(few.tpr, 100),
                _format(fewest.tpr, 100),
                f"{fewest.false_alarms} of {fewest.targets} models",
            ]
        )
    return Table(
        "Attacks",
        ["attack", "AUC", "balanced accuracy", "% told at 1 % alarms", "% told at 0.1 %", "false alarms at 0.1 %"],
        rows,
        "Intervals of 95% are over targets. Guessing has an AUC of 0.5 and tells 1% and 0.1%.",
    )


def _format(rate: Rate, scale: float = 1.0) -> str:
    if not np.isfinite(rate.value):
        return "nothing to tell from"
    digits = 3 if scale == 1 else 2
    value, low, high = (f"{scale * each:.{digits}f}" for each in rate)
    return f"{value} ({low} to {high})" if np.isfinite(rate.low) else value


def _sizes_table(findings: Findings) -> Table:
    return Table(
        "How many models",
        ["models", *(f"{kind}, {name}" for name in findings.auc for kind in ("AUC", "% told at 1 %"))],
        [
            [
                str(size),
                *(
                    format_mean(scale * values[name][row], digits)
                    for name in findings.auc
                    for values, scale, digits in ((findings.auc, 1, 3), (findings.tpr, 100, 2))
                ),
            ]
            for row, size in enumerate(findings.sizes)
        ],
        "Mean and standard deviation over disjoint groups of models, at most 8. Each model is the target of the others of its group.",
    )


def _attacks(findings: Findings) -> str:
    best = max(findings.told, key=lambda name: findings.told[name].auc.value)
    rate, threshold = findings.told[best].auc, findings.told[THRESHOLD].auc
    found = (
        f"{best} tells members best, with an area of {_format(rate)} under its curve; one threshold for all examples has "
        f"{_format(threshold)}."
    )
    few = findings.told[best].tpr(FEW_ALARMS)
    if np.isfinite(few.tpr.value):
        found += (
            f" At a rate of {FEW_ALARMS:.0%} false alarms it tells {few.tpr.value:.1%} of the members, which rests on {few.false_alarms} "
            f"false alarms about {few.examples} examples in {few.targets} models."
        )
    return found


def _shadows(findings: Findings) -> str:
    """Say from how many models on the area under the curve hardly grows."""
    parts = []
    for name, values in findings.auc.items():
        known = np.isfinite(values)
        if not known.any(axis=1).all():
            continue
        mean = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
        gain = mean - 0.5
        enough = findings.sizes[np.argmax(gain >= 0.9 * gain[-1])] if gain[-1] > 0 else None
        if enough is not None:
            parts.append(f"{name} with {enough}")
    return (
        f"Nine tenths of what {findings.sizes[-1]} models tell beyond chance is told by {', by '.join(parts)}."
        if parts
        else ""
    )


def _risk(findings: Findings) -> str:
    if not np.isfinite(findings.correlation):
        return ""
    return f"The rank correlation of an example's risk and its memorization is {findings.correlation:.2f}."
