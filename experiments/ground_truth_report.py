"""Results of `ground_truth` as numbers, figures and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.outcome import Outcome
from jaxinfl import Brittleness, Dataset, plots
from jaxinfl.brittleness import RANDOM
from jaxinfl.report import Finding, Illustration, Section, Table
from jaxinfl.statistics import AttributionScore


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    scores: Mapping[str, AttributionScore]
    """Linear datamodeling score of each attribution."""
    flips: Brittleness
    """Predictions that flip without the examples that the attributions name."""
    subsets: int
    """Number of subsets of the ground truth."""
    subset_seeds: int
    """Models on each of them."""

    @property
    def ceiling(self) -> float:
        """Noise ceiling of the scores. It is that of the best one: others may not vary on some test examples, which do not count then."""
        return self.scores[self.best].ceiling

    @property
    def best(self) -> str:
        """Name of the attribution with the highest score."""
        return max(self.scores, key=lambda name: np.nan_to_num(self.scores[name].mean, nan=-2))


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figures."""
    ends = np.array([[score.mean, score.low, score.high] for score in findings.scores.values()])
    flips = {name: findings.flips.share_flipped(name) for name in findings.flips.names}
    about = f"{data.name}, {model}"
    section = Section(
        title="Ground truth: what attributions predict, and how well any could",
        claim="An attribution is good if its sums over random subsets rank what training on them does (the linear datamodeling score of Park "
        "et al. 2023), and if leaving out the few examples that it names flips a prediction (Ilyas et al. 2022). The noise of training "
        "bounds the first: even the true expectations score below 1. Park et al. report 0.2 to 0.4 for TRAK on CIFAR-10, and Ilyas et al. that half of "
        "its predictions flip without 200 of 50,000 examples.",
        setting=f"{about}: {findings.subsets} subsets with {findings.subset_seeds} models each; {data.num_test} test examples for the scores. The "
        f"predictions that are to flip are the {len(findings.flips.test_index)} least certain ones that most models get right, with "
        f"{findings.flips.seeds} models for each removal.",
        finding=find_answer(findings),
        tables=[_table(findings)],
        illustrations=[
            Illustration(
                "lds",
                f"Linear datamodeling score (horizontal) of each attribution (vertical), with its 95% interval: how well sums of attributions rank "
                f"{findings.subsets} random subsets of the training set by the mean margin of {findings.subset_seeds} models trained on each; "
                f"{about}, {data.num_test} test examples. The noise ceiling is what the true expectations would score.",
            ),
            Illustration(
                "flips",
                f"Share of predictions that flip (vertical) without the training examples that an attribution names, over their number (horizontal); "
                f"{about}, the {len(findings.flips.test_index)} least certain predictions that most models get right, {findings.flips.seeds} models for "
                "each removal. Random examples are what a good attribution must be above.",
            ),
        ],
    )
    figures = {
        "lds": plots.lds_figure(
            list(findings.scores),
            ends,
            findings.ceiling,
            title=f"{about}: how well attributions rank {findings.subsets} subsets by the mean margin of {findings.subset_seeds} models",
        ),
        "flips": plots.flips_figure(
            findings.flips.removals,
            flips,
            title=f"{about}: the least certain right predictions that flip without what an attribution names",
        ),
    }
    return Outcome(section, numbers(findings), figures)


def find_answer(findings: Findings) -> Finding:
    """Which attribution predicts retraining best, how far it is from the ceiling, and what flips. The paper compares none."""
    best = findings.scores[findings.best]
    if not np.isfinite(best.mean):
        answer = (
            "No attribution has a score: on no test example do both the attributions and the retrained models differ."
        )
    else:
        bound = f"of at most {best.ceiling:.2f}" if np.isfinite(best.ceiling) else "of a ceiling that is not known"
        answer = f"The attribution that predicts retraining best is '{findings.best}', with a linear datamodeling score of {best.mean:.2f} {bound}."
    evidence = [expectation_evidence(findings), flips_evidence(findings)]
    return Finding(answer, [each for each in evidence if each])


def expectation_evidence(findings: Findings) -> str:
    """The best score against the true expectations, or its own interval; empty where neither is known."""
    best = findings.scores[findings.best]
    if np.isfinite(best.ceiling) and np.isfinite(best.corrected):
        return (
            f"Against the true expectations, without the noise of training, that score is "
            f"{_between(best.corrected, best.corrected_low, best.corrected_high)}, where 1 ranks all subsets right."
        )
    if not np.isfinite(best.mean):
        return ""
    return f"Its score is {_between(best.mean, best.low, best.high)}; --subset-seeds sets the models on each subset, from which a ceiling is told."


def flips_evidence(findings: Findings) -> str:
    """How many predictions flip without what the strongest attribution names, beside random examples."""
    most, tried = int(findings.flips.removals[-1]), len(findings.flips.test_index)
    shares = {name: findings.flips.share_flipped(name)[-1, 0] for name in findings.flips.names}
    strongest = max((name for name in shares if name != RANDOM), key=lambda name: np.nan_to_num(shares[name], nan=-1))
    if not np.isfinite(shares[strongest]):
        return f"None of the {tried} least certain predictions counts, so nothing is known about flips without {most} examples."
    return (
        f"Without the {most} examples that '{strongest}' names, {_percent(shares[strongest])} of {tried} uncertain predictions flip, and "
        f"{_percent(shares[RANDOM])} without {most} random ones."
    )


def _percent(share: float) -> str:
    return "none that counts" if np.isnan(share) else f"{share:.0%}"


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the table and the figures."""
    return {
        "ceiling": findings.ceiling,
        "lds": {
            name: {
                "mean": score.mean,
                "low": score.low,
                "high": score.high,
                "corrected": score.corrected,
                "corrected_low": score.corrected_low,
                "corrected_high": score.corrected_high,
                "reason": score.reason or score.ceiling_reason,
            }
            for name, score in findings.scores.items()
        },
        "flips": {
            "test_index": findings.flips.test_index,
            "removals": findings.flips.removals,
            "wrong_before": findings.flips.wrong_before,
            "share": {name: findings.flips.share_flipped(name) for name in findings.flips.names},
            "smallest": {name: findings.flips.smallest(name) for name in findings.flips.names},
        },
    }


def _table(findings: Findings) -> Table:
    removals = findings.flips.removals.tolist()
    rows = []
    for name in findings.flips.names:
        shares = [_percent(share) for share in findings.flips.share_flipped(name)[:, 0]]
        if name == RANDOM:
            rows.append(["random examples", "", "", *shares])
            continue
        score = findings.scores[name]
        rows.append(
            [
                name,
                _between(score.mean, score.low, score.high),
                _between(score.corrected, score.corrected_low, score.corrected_high),
                *shares,
            ]
        )
    return Table(
        title="Attributions against retraining",
        columns=[
            "attribution",
            "LDS",
            "against the true expectations",
            *(f"flip without {number}" for number in removals),
        ],
        rows=rows,
        note=f"LDS: mean Spearman correlation with its 95% interval, of at most {findings.ceiling:.2f}. Flips: share of the predictions that "
        "most models get right with nothing left out.",
    )


def _between(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "not known"
    return f"{mean:.2f} ({low:.2f} to {high:.2f})" if np.isfinite(low) else f"{mean:.2f}"
