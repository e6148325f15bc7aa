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
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize

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
        setting=f"{about}, each the target of the others once; right on {format_mean(100 * findings.accuracy, 1)}% of the test examples. "
        "Carlini et al. (2022) tell 8.4% of CIFAR-10's members at 0.1% false alarms with 256 wide ResNets, at an AUC of 0.72.",
        finding=find_answer(findings),
        tables=[_methods_table(findings), *_sizes_tables(findings)],
        illustrations=[
            Illustration(
                "roc",
                f"Share of the members that an attack tells (vertical) over the share of other examples that it takes for members (horizontal), "
                f"both on logarithmic axes; {about}. Each curve is an attack, and guessing is the diagonal. What counts is how far a "
                "curve lies above it on the left, where false alarms are few.",
            ),
            Illustration(
                "shadows",
                f"How well attacks tell members (vertical: area under the curve; share of members told at {FEW_ALARMS:.0%} false alarms) over the "
                f"number of models that are compared (horizontal); {about}. Curves that rise steeply need few models.",
            ),
            Illustration(
                "risk",
                f"Risk of each training example, how surely {LIRA} tells that it was trained on (vertical), over its memorization, how much more "
                f"often models are right on it that were trained on it (horizontal); {about}. Where points rise to the right, it is the memorized examples that are at risk.",
            ),
            Illustration(
                "gallery",
                f"Training examples of {data.name} at most risk of being told (left of each pair) and at least risk (right), from {models} models "
                f"of {model}, with their memorization. What the left ones have in common makes an example easy to tell.",
            ),
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
        ["attack", "AUC", "balanced accuracy", "% told at 1% alarms", "% told at 0.1%", "false alarms at 0.1%"],
        rows,
        "Intervals of 95% are over targets. Guessing has an AUC of 0.5 and tells 1% and 0.1%.",
    )


def _format(rate: Rate, scale: float = 1.0) -> str:
    if not np.isfinite(rate.value):
        return "nothing to tell from"
    digits = 3 if scale == 1 else 2
    value, low, high = (f"{scale * each:.{digits}f}" for each in rate)
    return f"{value} ({low} to {high})" if np.isfinite(rate.low) else value


def _sizes_tables(findings: Findings) -> list[Table]:
    kinds = [
        ("Area under the curve by number of models", findings.auc, 1, 3),
        (f"% of the members told at {FEW_ALARMS:.0%} false alarms by number of models", findings.tpr, 100, 2),
    ]
    return [
        Table(
            title,
            ["models", *values],
            [
                [str(size), *(format_mean(scale * each[row], digits) for each in values.values())]
                for row, size in enumerate(findings.sizes)
            ],
            "Mean ± standard deviation over disjoint groups of models, at most 8. Each model is the target of the others of its group.",
        )
        for title, values, scale, digits in kinds
    ]


def find_answer(findings: Findings) -> Finding:
    """Which attack tells members best, how many models that takes, and whether it is the memorized examples. The paper has none."""
    best = best_attack(findings)
    if best is None:
        return Finding(
            "No attack has models to tell members from, so nothing is known about who was in the training set."
        )
    shadows = "" if by_chance(findings.told[best].auc) else shadows_evidence(findings)
    evidence = [alarms_evidence(findings, best), shadows, risk_evidence(findings)]
    return Finding(answer_for_best(findings, best), [each for each in evidence if each])


def best_attack(findings: Findings) -> str | None:
    """Name of the attack with the largest area under its curve; None where none has one."""
    areas = {name: each.auc.value for name, each in findings.told.items() if np.isfinite(each.auc.value)}
    return max(areas, key=areas.__getitem__) if areas else None


def answer_for_best(findings: Findings, best: str) -> str:
    """Whether the best attack tells members better than guessing, in a sentence."""
    rate = findings.told[best].auc
    area = f"its area under the curve is {_format(rate)}, and guessing has 0.5"
    if by_chance(rate):
        return f"No attack tells members beyond chance: the best is {best}, {area}."
    return f"Members can be told, best by {best}: {area}."


def by_chance(area: Rate) -> bool:
    """Whether an area under the curve may be that of guessing."""
    return bool(np.isfinite(area.low) and area.low <= 0.5)


def alarms_evidence(findings: Findings, best: str) -> str:
    """What the best attack tells at few false alarms, beside one threshold for all examples; empty where that is not known."""
    few, other = (findings.told[name].tpr(FEW_ALARMS).tpr.value for name in (best, THRESHOLD))
    if not np.isfinite(few):
        return ""
    beside = f", and one threshold for all examples {other:.1%}" if best != THRESHOLD and np.isfinite(other) else ""
    return f"At {FEW_ALARMS:.0%} false alarms {best} tells {few:.1%} of the members{beside}."


def shadows_evidence(findings: Findings) -> str:
    """How many models are enough for nine tenths of what all tell beyond chance; empty where none tell anything."""
    enough = {}
    for name, values in findings.auc.items():
        known = np.isfinite(values).any(axis=1)
        if not known[-1]:
            continue
        gain = np.array([np.nanmean(row) for row in values[known]]) - 0.5
        if gain[-1] > 0:
            enough[name] = int(findings.sizes[known][np.argmax(gain >= 0.9 * gain[-1])])
    if not enough:
        return ""
    first, last = min(enough, key=enough.__getitem__), max(enough, key=enough.__getitem__)
    slower = f", and {last} takes {enough[last]}" if enough[last] > enough[first] else ""
    return f"Of what {findings.sizes[-1]} models tell beyond chance, {first} tells nine tenths with {enough[first]}{slower}."


def risk_evidence(findings: Findings) -> str:
    """Whether the memorized examples are at risk; empty where that is not known."""
    if not np.isfinite(findings.correlation):
        return ""
    return f"The rank correlation of an example's risk and its memorization is {findings.correlation:.2f}, where 1 would be the same order and 0 none."
