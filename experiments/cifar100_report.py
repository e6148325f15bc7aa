"""Results of `cifar100_subsets` as numbers, figures and words."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.data_kinds import describe_score
from experiments.gallery import draw_pairs
from experiments.outcome import Outcome
from jaxinfl import Dataset, plots
from jaxinfl.arguments import ScoreKind
from jaxinfl.influence import IOUCurve, TopPairs
from jaxinfl.report import Illustration, Section, Table, format_mean, summarize
from jaxinfl.statistics import PairUncertainty, ShareInterval

HEADLINE_THRESHOLD = 0.2
"""The influence at which the summary compares; the paper's gallery and Feldman and Zhang's start near 0.15."""
THRESHOLDS = np.arange(2, 41) / 40
"""Thresholds of Figure 1 and of Appendix D, in the unit of a probability; the default of `iou_curve`."""
HEADLINE = int(np.abs(THRESHOLDS - HEADLINE_THRESHOLD).argmin())
"""Index of the threshold at which scores are compared."""
ENOUGH_DISCOVERIES = 100
"""Number of discovered pairs from which on a curve is said to rest on real influences."""
AGREED = 0.7
"""IOU from which on the paper calls two estimates consistent (Section 3)."""
SHARED_POOL = (
    "The repeats over different subsets draw from one pool of models: their spread understates that of fresh ensembles, "
    "the more the nearer 2 t is to the pool."
)


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    score: str
    """Name of the score that Figure 1 is drawn from."""
    kind: ScoreKind
    """Kind of that score, which decides the unit of the thresholds."""
    curve: IOUCurve
    """IOU of two estimates from models on different subsets."""
    same_subsets: Mapping[int, Float[np.ndarray, "repeats thresholds"]]
    """IOU of two estimates from the same subsets with other seeds, by the number of models per estimate; each is one of `curve`."""
    between_scores: Mapping[str, Float[np.ndarray, "sizes repeats thresholds"]]
    """Figure 5: IOU of two estimates from models on different subsets, by the score that the estimates are computed from."""
    against_all: Mapping[str, Float[np.ndarray, "sizes repeats thresholds"]]
    """Figure 6: IOU of an estimate with the 0-1 estimate of all models, by the score that the estimate is computed from."""
    subset_share: ShareInterval | None
    """Share of the variance of a prediction that the subset decides, over all test examples; None without a comparison on the
    same subsets."""
    num_pairs: Int[np.ndarray, " thresholds"]
    """Number of pairs whose influence, estimated from all models, reaches each threshold."""
    right_pairs: Int[np.ndarray, " thresholds"]
    """The same by 0-1 scores, at the thresholds of Appendix D; empty where that is not drawn."""
    discovered: int
    """Number of compared pairs whose influence is above 0 at a false discovery rate of 5%, from all models."""
    pairs: TopPairs
    """The most influential pairs of a training and a test example."""
    uncertainty: PairUncertainty
    """Standard errors and intervals of the influences of `pairs`."""
    test_score: Float[np.ndarray, " models"]
    """Share of the test examples on which each model is right, or its mean loss on them where nothing is right or wrong."""
    by_right: bool
    """Whether `test_score` is that share, and memorization that of 0-1 scores."""
    diverged: int
    """Number of models that diverged and were left out."""
    min_memorization: float | None
    """Memorization above which a training example is compared; None compares all training examples."""

    @property
    def condition(self) -> str:
        """Which training examples take part, in words."""
        if self.min_memorization is None:
            return f"all {self.curve.num_examples} training examples"
        return f"the {self.curve.num_examples} training examples memorized more than {self.min_memorization:g}"

    @property
    def headline(self) -> int:
        """Index of the threshold at which the tables compare.

        In a unit other than that of a probability it is the first one that at most 100 pairs reach, and no more than are discovered.
        """
        if self.kind != "real":
            return int(np.abs(self.curve.thresholds - HEADLINE_THRESHOLD).argmin())
        return int(np.argmax(self.num_pairs <= np.clip(self.discovered, 1, ENOUGH_DISCOVERIES)))

    @property
    def threshold(self) -> str:
        """The threshold at which the tables compare, in words."""
        value = self.curve.thresholds[self.headline]
        return f"{value:.2f}" if self.kind != "real" else f"{value:.3g}"

    @property
    def quality(self) -> str:
        """How good the models are on the test examples, in words."""
        if self.by_right:
            return f"right on {format_mean(100 * self.test_score, 1)} % of the test examples"
        return f"with a mean loss of {format_mean(self.test_score, 3)} on the test examples"


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its three figures."""
    by = "" if findings.score == "correct" else f", by {describe_score(findings.score)}"
    about = f"{data.name}, {model}{by}: influence of {findings.condition} on {data.num_test} test examples"
    section = Section(
        title="Figure 1, and Figures 5 and 6 of Appendix D: self-consistency of subset influence",
        claim="Two estimates from t models each agree (IOU above 0.7) only from 200 to 400 models on, and hardly better on the "
        "same subsets with other seeds (Section 3). Probabilities agree better with themselves than 0-1 scores, but not with "
        "the 0-1 estimate of all models (Appendix D).",
        setting=f"{about}; {len(findings.test_score)} models, {findings.quality}.",
        finding=" ".join(
            part
            for part in (
                main_finding(findings),
                discovery_finding(findings),
                explanation(findings),
                score_finding(findings),
            )
            if part
        ),
        paper="200 to 400 Inceptions on CIFAR-100 (50,000 training examples), "
        "0.6 at best for 100, near 0 for 25; hardly more agreement on the same subsets; probabilities more self-consistent, but "
        "0-1 scores nearer to the full 0-1 estimate from 100 to 200 models on.",
        tables=[_consistency_table(findings), *([_score_table(findings)] if findings.between_scores else [])],
        illustrations=[
            Illustration("figure1", "Figure 1: IOU of two estimates over the influence threshold."),
            Illustration("gallery", "The most influential pairs of a training and a test example."),
        ],
    )
    figures = {"figure1": _figure1(findings, about), "gallery": _gallery(findings, data)}
    if findings.between_scores:
        section = dataclasses.replace(section, illustrations=[*section.illustrations, _FIGURES_5_6])
        figures["figures5_6"] = plots.scores_figure(
            THRESHOLDS,
            findings.curve.num_models,
            findings.between_scores,
            findings.against_all,
            findings.right_pairs,
            title=f"{data.name}, {model}: 0-1 scores beside probabilities",
        )
    return Outcome(section, numbers(findings), figures)


_FIGURES_5_6 = Illustration("figures5_6", "Figures 5 and 6: 0-1 scores beside probabilities.")


def _figure1(findings: Findings, about: str) -> Any:
    curve = findings.curve
    return plots.consistency_figure(
        curve.thresholds,
        curve.num_models,
        curve.values,
        findings.same_subsets,
        findings.num_pairs,
        title=about,
        unit="" if findings.kind != "real" else f", in {describe_score(findings.score)}",
    )


def _gallery(findings: Findings, data: Dataset) -> Any:
    pairs = findings.pairs
    errors = findings.uncertainty.standard_error
    captions = [
        f"influence {value:.2f} ± {error:.2f}, memorization {memorized:.2f}"
        for value, error, memorized in zip(pairs.influence, errors, pairs.memorization, strict=True)
    ]
    return draw_pairs(
        data,
        pairs.train_index,
        pairs.test_index,
        captions,
        title=f"The most influential pairs of {data.name}, from {len(findings.test_score)} models "
        "(± standard error; the top of many is overestimated)",
    )


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figures with its n and spread, as results.json keeps it."""
    curve = findings.curve
    return {
        "test_accuracy" if findings.by_right else "test_loss": summarize(findings.test_score),
        "score": findings.score,
        "discovered_pairs": findings.discovered,
        "diverged_models": findings.diverged,
        "compared_examples": curve.num_examples,
        "thresholds": curve.thresholds,
        "pairs_at_threshold": findings.num_pairs,
        "note": SHARED_POOL,
        "iou_different_subsets": {
            size: [summarize(column) for column in values.T]
            for size, values in zip(curve.num_models, curve.values, strict=True)
        },
        "iou_same_subsets": {
            size: [summarize(column) for column in values.T] for size, values in findings.same_subsets.items()
        },
        "subset_share_of_variance": None if findings.subset_share is None else findings.subset_share._asdict(),
        "appendix_d": {
            kind: {
                name: {
                    int(size): [summarize(column) for column in each.T]
                    for size, each in zip(curve.num_models, values, strict=True)
                }
                for name, values in panel.items()
            }
            for kind, panel in (("two_estimates", findings.between_scores), ("with_all_models", findings.against_all))
        },
        "top_pairs": dataclasses.asdict(findings.pairs) | findings.uncertainty._asdict(),
    }


def _consistency_table(findings: Findings) -> Table:
    curve, at = findings.curve, findings.headline
    rows = []
    for size, values in zip(curve.num_models, curve.values, strict=True):
        same = findings.same_subsets.get(int(size))
        rows.append([str(size), format_mean(values[:, at], 2), "" if same is None else format_mean(same[:, at], 2)])
    repeats = curve.values.shape[1]
    return Table(
        f"IOU of two estimates at influence {findings.threshold} ({findings.num_pairs[at]} pairs reach it by all models)",
        ["models per estimate", "different subsets", "same subsets, other seeds"],
        rows,
        f"Mean ± standard deviation over {repeats} splits (same subsets: over disjoint sets of them). {SHARED_POOL}",
    )


def _score_table(findings: Findings) -> Table:
    at = HEADLINE
    kinds = [("of two estimates", findings.between_scores), ("with all models' 0-1", findings.against_all)]
    return Table(
        f"IOU at influence {THRESHOLDS[at]:.2f} by score",
        ["models per estimate", *(f"{kind}: {name}" for kind, panel in kinds for name in panel)],
        [
            [str(size), *(format_mean(values[row][:, at], 2) for _, panel in kinds for values in panel.values())]
            for row, size in enumerate(findings.curve.num_models)
        ],
        "The estimate of all models contains those that are compared with it, as in the paper.",
    )


def score_finding(findings: Findings) -> str:
    """The answer to what Appendix D asks: whether probabilities agree better than 0-1 scores."""
    if not findings.between_scores:
        return ""
    at, sizes = HEADLINE, findings.curve.num_models
    found = []
    for question, panel in (
        ("agree better with each other than 0-1 scores", findings.between_scores),
        ("are nearer to the 0-1 estimate of all models than 0-1 scores", findings.against_all),
    ):
        hard, soft = (_means(panel[name][:, :, at]) for name in ("0-1 scores", "probabilities"))
        with np.errstate(invalid="ignore"):
            better = [int(size) for size, one, other in zip(sizes, soft, hard, strict=True) if one > other]
        where = "at no number of models" if not better else f"at {', '.join(map(str, better))} models"
        found.append(f"{question} {where}")
    at_influence = "At the same threshold" if findings.kind != "real" else f"At influence {THRESHOLDS[at]:.2f}"
    return f"{at_influence} probabilities {' and '.join(found)} of {', '.join(map(str, sizes))}."


def _means(values: Float[np.ndarray, "sizes repeats"]) -> list[float]:
    return [np.nan if mean is None else mean for mean in (summarize(row)["mean"] for row in values)]


def main_finding(findings: Findings) -> str:
    """The answer to the question of the paper's title, in words."""
    curve, at = findings.curve, findings.headline
    means, sizes = curve.mean[:, at], [int(size) for size in curve.num_models]
    threshold, pairs = f"influence {findings.threshold}", int(findings.num_pairs[at])
    lasting = [size for k, size in enumerate(sizes) if np.all(means[k:] >= AGREED)]
    if not np.isfinite(means[-1]):
        answer = f"no pair reaches {threshold}, so there is nothing to agree on."
    elif lasting:
        answer = f"estimates from {lasting[0]} models or more agree (IOU {AGREED} or above) at {threshold}."
    else:
        answer = (
            f"even estimates from {sizes[-1]} models do not agree at {threshold} (IOU {means[-1]:.2f}, below {AGREED})."
        )
    if 0 < pairs < 30:
        answer += f" That rests on {pairs} pair{'s' if pairs > 1 else ''} only."
    for size, values in findings.same_subsets.items():
        same, other = summarize(values[:, at])["mean"], means[sizes.index(size)]
        if same is not None and np.isfinite(other):
            answer += (
                f" With {size} models on the same subsets, where only the seeds differ, IOU is {same:.2f}; on different "
                f"ones it is {other:.2f}."
            )
    return answer


def discovery_finding(findings: Findings) -> str:
    """Say how many influences above 0 are discovered, and how many pairs reach the threshold."""
    number, reached = findings.discovered, int(findings.num_pairs[findings.headline])
    few = "" if number >= ENOUGH_DISCOVERIES else f" Fewer than {ENOUGH_DISCOVERIES} are little to draw a curve from."
    return (
        f"All models together show {number} compared pairs whose influence is above 0 at a false discovery rate of 5%; {reached} "
        f"reach that threshold.{few}"
    )


def explanation(findings: Findings) -> str:
    """Figure 1 (right) in one sentence, from the shares of the variance; empty where nothing was compared or varies."""
    found = findings.subset_share
    if found is None or not np.isfinite(found.share):
        return ""
    share, low, high = (float(np.clip(part, 0, 1)) for part in (found.share, found.low, found.high))
    rest = 1 - share
    within = f" ({low:.0%} to {high:.0%})" if np.isfinite(low) else ""
    alike = (
        f"as much as estimates from {1 / rest:.1f} times as many models on different ones" if rest > 0 else "in nothing"
    )
    return (
        f"Why the same subsets help {'so little' if share < 0.5 else 'this much'}: the subset decides {share:.0%}{within} of "
        f"the variance of a model's being right on a test example and training randomness the other {rest:.0%}, so "
        f"that two estimates on the same subsets still differ {alike}."
    )
