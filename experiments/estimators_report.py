"""Results of `estimators` as numbers, figures and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.estimator_comparison import COLUMNS, PUBLISHED, Judgement, References, models_to_reach
from experiments.outcome import Outcome
from jaxinfl import Dataset, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize

DRAWN = (
    PUBLISHED,
    "0-1 difference, shrunk",
    "0-1 ridge datamodel",
    "being right, from margins",
    "being right, from margins, shrunk",
    "probability difference",
    "margin difference",
)
"""Names of the estimators whose curves are drawn; the other figure and the tables have all of them."""
REFERENCES = {"own": "with its own reference", "published": "with the published reference"}


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    sizes: tuple[int, ...]
    judged: Sequence[Judgement]
    """One judgement an estimator, the published one first."""
    references: References
    target: float
    min_memorization: float | None
    test_accuracy: Float[np.ndarray, " models"]

    def costs(self, judgement: Judgement) -> Float[np.ndarray, " sizes"]:
        """Numbers of models, counted in models of the published estimator that cost as much."""
        return judgement.cost * np.array(self.sizes, float)

    def count_models(self, judgement: Judgement, measure: str) -> Float[np.ndarray, " repeats"]:
        """Number of models that reach the target, for each repeat; infinite where it is not reached."""
        values = judgement.values[:, :, COLUMNS.index(measure)]
        return models_to_reach(self.costs(judgement), values, self.target)

    def interval(self, judgement: Judgement, measure: str) -> Float[np.ndarray, "3"]:
        """Lowest, median and highest of `count_models`."""
        return _range_of(self.count_models(judgement, measure))

    def share(self, judgement: Judgement, measure: str) -> Float[np.ndarray, "3"]:
        """Lowest, median and highest of the models needed over those that the published estimator needs in the same repeat.

        Where the published one does not get there, the largest number tried is taken for it: the true share is lower.
        """
        published = np.minimum(self.count_models(self.judged[0], measure), max(self.sizes))
        return _range_of(self.count_models(judgement, measure) / published)

    def share_for_the_same(self, judgement: Judgement, measure: str) -> Float[np.ndarray, " sizes"]:
        """Find the share of each number of models that suffices to agree as well as the published estimator does with all.

        Median over repeats; infinite where no number that was tried suffices. The fewest that were tried stand for any below.
        """
        column = COLUMNS.index(measure)
        published = self.judged[0].values[:, :, column]
        needed = [
            models_to_reach(self.costs(judgement), judgement.values[:, :, column], level)
            for level in np.nanmean(published, axis=1)
        ]
        return np.array([_range_of(each)[1] for each in needed]) / np.array(self.sizes)


def _range_of(values: Float[np.ndarray, " repeats"]) -> Float[np.ndarray, "3"]:
    """Lowest, median and highest of the values that are defined; the middle of a number and infinity is infinite."""
    ordered = np.sort(values[~np.isnan(values)])
    if ordered.size == 0:
        return np.full(3, np.nan)
    return np.array([ordered[0], (ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2, ordered[-1]])


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figures."""
    references = findings.references
    who = (
        f"all {references.examples.size} training examples"
        if findings.min_memorization is None
        else f"the {references.examples.size} training examples memorized more than {findings.min_memorization:g}"
    )
    about = f"{data.name}, {model}: influence of {who} on {data.num_test} test examples"
    section = Section(
        title="Estimators: fewer models for the same trust",
        claim="To be shown: influence on being right, told from margins and shrunk by empirical Bayes, needs half the "
        "models of the published difference of 0-1 scores, or fewer.",
        setting=f"{about}; references of {references.num_models['reference']} models, judged by others, right on "
        f"{format_mean(100 * findings.test_accuracy, 1)}% of the test examples. {references.num_pairs} pairs have an influence of "
        f"{references.threshold:g} or more by the published reference, and as many of each estimate's highest are compared.",
        finding=find_answer(findings),
        tables=[
            _needed_table(findings),
            _share_table(findings),
            _same_trust_table(findings),
            *(_iou_table(findings, measure) for measure in REFERENCES),
        ],
        illustrations=[
            Illustration(
                "curves",
                f"IOU of an estimate with references of {references.num_models['reference']} models (vertical) over the number of models that it is "
                f"computed from (horizontal), by estimator; {about}. Left: the reference is of the estimator's own kind; right: the published "
                f"difference of 0-1 scores. The further left a curve crosses {findings.target:g}, the fewer models the estimator needs.",
            ),
            Illustration(
                "needed",
                f"Number of models (horizontal) with which each estimator (vertical) reaches an IOU of {findings.target:g} with its reference; "
                f"{about}. Dots are medians and lines ranges over repeats; an open triangle is not reached. Dots left of the dotted line need "
                "half the models of the published estimator, or fewer.",
            ),
        ],
    )
    return Outcome(section, numbers(findings), _figures(findings, about))


def _figures(findings: Findings, about: str) -> dict[str, Any]:
    panels = {
        f"IOU {words}": {
            each.estimator.name: (findings.costs(each), each.values[:, :, COLUMNS.index(measure)])
            for each in findings.judged
            if each.estimator.name in DRAWN
        }
        for measure, words in REFERENCES.items()
    }
    pairs = f"the {findings.references.num_pairs} highest pairs"
    return {
        "curves": plots.estimator_curves_figure(panels, target=findings.target, ylabel=f"IOU of {pairs}", title=about),
        "needed": plots.models_for_target_figure(
            [each.estimator.name for each in findings.judged],
            {
                f"IOU {words}": np.stack([findings.interval(each, measure) for each in findings.judged])
                for measure, words in REFERENCES.items()
            },
            largest=float(max(findings.sizes)),
            title=f"Models for an IOU of {findings.target:g}. {about}, {pairs}. Dot: median, line: range over repeats; open "
            "triangle: not reached; dashed: the published estimator's number, dotted: half of it",
        ),
    }


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figures with its n and spread, as results.json keeps it."""
    references = findings.references
    return {
        "note": "needed: models for the target in each repeat, null where it is not reached; all repeats draw from one pool. "
        "Numbers of models count what is trained at the cost of one model of the published estimator.",
        "measures": COLUMNS,
        "threshold": references.threshold,
        "target": findings.target,
        "compared_pairs": references.num_pairs,
        "compared_examples": references.examples.size,
        "reference_models": references.num_models,
        "test_accuracy": summarize(findings.test_accuracy),
        "estimators": {each.estimator.name: _summarize_estimator(findings, each) for each in findings.judged},
    }


def _summarize_estimator(findings: Findings, judgement: Judgement) -> dict[str, Any]:
    return {
        "estimand": judgement.estimator.estimand,
        "cost_of_a_model": judgement.cost,
        "own_reference": dict(zip(COLUMNS, judgement.ceiling, strict=True)),
        "agreement": {
            measure: {size: summarize(judgement.values[row, :, column]) for row, size in enumerate(findings.sizes)}
            for column, measure in enumerate(COLUMNS)
        },
        "needed": {measure: findings.count_models(judgement, measure) for measure in COLUMNS},
        "share_for_the_same_agreement": {
            measure: dict(zip(findings.sizes, findings.share_for_the_same(judgement, measure), strict=True))
            for measure in ("own", "published", "own rank", "published rank")
        },
        "share_of_published": {measure: findings.share(judgement, measure) for measure in COLUMNS},
    }


def _needed_table(findings: Findings) -> Table:
    rows = [
        [
            each.estimator.name,
            each.estimator.estimand,
            *(_range(findings.interval(each, measure), findings) for measure in COLUMNS),
            f"{each.ceiling[COLUMNS.index('published')]:.2f}",
        ]
        for each in findings.judged
    ]
    return Table(
        f"Models for {findings.target:g}: median (lowest-highest)",
        [
            "estimator",
            "influence on",
            "IOU, own reference",
            "IOU, published",
            f"IOU at {findings.references.threshold:g}, published",
            "rank, own",
            "rank, published",
            "IOU of both references",
        ],
        rows,
        f"Over {_repeats(findings.judged)} repeats, which draw from one pool of models. Counted in models of the "
        "published estimator that cost as much: on halves of the training set a model costs less. rank: Spearman's over all "
        "pairs. The last column is what an estimator can reach with the published reference from as many models as its own has.",
    )


def _share_table(findings: Findings) -> Table:
    measures = ("own", "published", "threshold")
    rows = []
    for each in findings.judged[1:]:
        cells = []
        for measure in measures:
            share = findings.share(each, measure)
            low, middle, high = (f"{value:.2f}" if np.isfinite(value) else "none" for value in share)
            told = middle if low == high else f"{middle} ({low}-{high})"
            cells.append("no such unit" if np.isnan(share[1]) else told)
        rows.append([each.estimator.name, each.estimator.estimand, *cells])
    return Table(
        f"Models for {findings.target:g} as a share of the published estimator's: median (lowest-highest)",
        ["estimator", "influence on", "IOU, own reference", "IOU, published", "IOU at the threshold, published"],
        rows,
        "In the same repeat, at equal cost. none: not reached. Where the published estimator does not reach it, the largest "
        "number tried stands for its own, and the true share is lower.",
    )


def _same_trust_table(findings: Findings) -> Table:
    rows = []
    for each in findings.judged[1:]:
        shares = findings.share_for_the_same(each, "published")
        rows.append([each.estimator.name, *(f"{share:.2f}" if np.isfinite(share) else "none" for share in shares)])
    return Table(
        "Share of the published estimator's models for the IOU with the published reference that it has from so many",
        ["estimator", *map(str, findings.sizes)],
        rows,
        f"Medians over repeats, at equal cost; none: not reached. {findings.sizes[0]} models or fewer are counted as "
        f"{findings.sizes[0]}.",
    )


def _repeats(judged: Sequence[Judgement]) -> str:
    numbers = sorted({int((~np.isnan(each.values[0, :, 0])).sum()) for each in judged})
    return " (regressions) or ".join(map(str, numbers))


def _range(interval: Float[np.ndarray, "3"], findings: Findings) -> str:
    if np.isnan(interval[1]):
        return "no such unit"
    low, middle, high = (f"{value:.0f}" if np.isfinite(value) else f"> {max(findings.sizes)}" for value in interval)
    return middle if low == high else f"{middle} ({low}-{high})"


def _iou_table(findings: Findings, measure: str) -> Table:
    column = COLUMNS.index(measure)
    return Table(
        f"IOU {REFERENCES[measure]}, by number of models",
        ["estimator", *map(str, findings.sizes)],
        [
            [each.estimator.name, *(format_mean(each.values[row, :, column], 2) for row in range(len(findings.sizes)))]
            for each in findings.judged
        ],
        "Mean ± standard deviation over repeats; models as trained, whatever they cost.",
    )


def find_answer(findings: Findings) -> Finding:
    """Who reaches the target with how many models, and what the paper found of other scores."""
    references = findings.references
    compared = (
        f"Compared are {references.num_pairs} pairs, as many as have influence {references.threshold:g} or more in the published reference from "
        f"{references.num_models['reference']} models."
    )
    return Finding(
        f"To agree with its own reference (IOU {findings.target:g}), {answer_for(findings, 'own')}.",
        [
            f"To agree with the published reference, {answer_for(findings, 'published')}.",
            halves_evidence(findings),
            compared,
        ],
        "Probabilities agree better with each other than 0-1 scores, but from 100 to 200 models on worse with the 0-1 estimate of all "
        "models (Appendix D).",
    )


def answer_for(findings: Findings, measure: str) -> str:
    """How many models the published estimator and the best other one need for the target, without a full stop."""
    published = findings.interval(findings.judged[0], measure)[1]
    known = bool(np.isfinite(published))
    says = f"the published estimator needs {f'{published:.0f}' if known else f'more than {findings.sizes[-1]}'} models"
    reached = _shares_reached(findings, measure)
    if not reached:
        return f"{says}, and {'no other gets there' if known else 'so does every other one'}"
    share, name = reached[0]
    return f"{says}, and '{name}' {'' if known else 'at most '}{share:.2f} times as many"


def halves_evidence(findings: Findings) -> str:
    """A sentence that says for how many estimators half of the published one's models are enough."""
    own, published = (
        sum(share <= 0.5 for share, _ in _shares_reached(findings, measure)) for measure in ("own", "published")
    )
    return (
        f"Half the models of the published estimator or fewer are enough for {own} of {len(findings.judged) - 1} others with their own "
        f"reference, and for {published} with the published one."
    )


def _shares_reached(findings: Findings, measure: str) -> list[tuple[float, str]]:
    """Share of the published estimator's models that each other one needs, and its name, for those that reach the target."""
    shares = sorted((float(findings.share(each, measure)[1]), each.estimator.name) for each in findings.judged[1:])
    return [(share, name) for share, name in shares if np.isfinite(share)]
