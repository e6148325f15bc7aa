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
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize
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
PAPER = (
    "On CIFAR-100, estimates from 200 to 400 Inceptions agree with an IOU above 0.7, from 100 with 0.6 at best, and from 25 "
    "hardly at all (Section 3, Figure 1)."
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
            return f"right on {format_mean(100 * self.test_score, 1)}% of the test examples"
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
        setting=f"{about}; {len(findings.test_score)} models, {findings.quality}. The paper's models are Inceptions on the 50,000 training "
        "images of CIFAR-100.",
        finding=find_answer(findings),
        tables=[_consistency_table(findings), *([_score_table(findings)] if findings.between_scores else [])],
        illustrations=[
            Illustration(
                "figure1",
                f"Figure 1. IOU of two influence estimates (vertical) over the influence that a pair must reach (horizontal), a curve for "
                f"each number of models per estimate; {about}. Right, where there is one: the two estimates share their subsets, and only "
                "the seeds differ. Below: number of pairs that reach the influence by all models. The higher a curve, the better the "
                "estimates agree; the dashed line is the 0.7 that counts as agreement.",
            ),
            Illustration(
                "gallery",
                f"The most influential pairs of {data.name}, each a training example (left) and a test example (right), with the influence "
                f"estimated from {len(findings.test_score)} models of {model}, its standard error, and the memorization of the training "
                "example. A large influence often comes from two examples that look alike.",
            ),
        ],
    )
    figures = {"figure1": _figure1(findings, about), "gallery": _gallery(findings, data)}
    if findings.between_scores:
        section = dataclasses.replace(section, illustrations=[*section.illustrations, _figures_5_6(about)])
        figures["figures5_6"] = plots.scores_figure(
            THRESHOLDS,
            findings.curve.num_models,
            findings.between_scores,
            findings.against_all,
            findings.right_pairs,
            title=f"{data.name}, {model}: 0-1 scores beside probabilities",
        )
    return Outcome(section, numbers(findings), figures)


def _figures_5_6(about: str) -> Illustration:
    return Illustration(
        "figures5_6",
        f"Figures 5 and 6. IOU over the influence that a pair must reach, a column for each number of models; {about}. Upper row: two "
        "estimates from the same kind of score. Lower row: an estimate with the 0-1 estimate of all models. Where the curve of "
        "probabilities is the higher one, they need fewer models.",
    )


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
        f"Mean ± standard deviation over {repeats} splits (same subsets: over disjoint sets of them). {SHARED_POOL} "
        f"{explanation(findings)}".rstrip(),
    )


def _score_table(findings: Findings) -> Table:
    at = HEADLINE
    kinds = [("two estimates", findings.between_scores), ("with all models' 0-1", findings.against_all)]
    return Table(
        f"IOU at influence {THRESHOLDS[at]:.2f} by score",
        ["models per estimate", *(f"{kind}: {name}" for kind, panel in kinds for name in panel)],
        [
            [str(size), *(format_mean(values[row][:, at], 2) for _, panel in kinds for values in panel.values())]
            for row, size in enumerate(findings.curve.num_models)
        ],
        "The estimate of all models contains those that are compared with it, as in the paper.",
    )


def find_answer(findings: Findings) -> Finding:
    """The answer to the question of the paper's title, what it rests on, and what the paper found."""
    unit = "" if findings.kind != "real" else f" in {describe_score(findings.score)}"
    evidence = [discovery_evidence(findings), seeds_evidence(findings), score_evidence(findings)]
    return Finding(
        answer_for_curve(findings.curve, findings.headline, f"influence {findings.threshold}{unit}"),
        [each for each in evidence if each],
        PAPER,
    )


def answer_for_curve(curve: IOUCurve, at: int, threshold: str) -> str:
    """A sentence that says from how many models on two estimates agree at one threshold of a curve; `threshold` names it."""
    means, sizes = curve.mean[:, at], [int(size) for size in curve.num_models]
    lasting = [row for row in range(len(sizes)) if np.all(means[row:] >= AGREED)]
    if not np.isfinite(means[-1]):
        return f"No pair reaches {threshold} in estimates from {sizes[-1]} models, so there is nothing to agree on."
    if not lasting:
        return (
            f"Even {sizes[-1]} models are too few: two influence estimates from so many agree with IOU {means[-1]:.2f} at "
            f"{threshold}, and agreement takes {AGREED}."
        )
    fewest = " on" if lasting[0] or len(sizes) == 1 else ", the fewest that were tried"
    return (
        f"Two influence estimates agree from {sizes[lasting[0]]} models each{fewest}: their IOU is {means[lasting[0]]:.2f} at "
        f"{threshold}, and agreement takes {AGREED}."
    )


def discovery_evidence(findings: Findings) -> str:
    """A sentence that says on how many pairs the answer rests, and how many influences above 0 are discovered."""
    number, reached = findings.discovered, int(findings.num_pairs[findings.headline])
    few = f" (fewer than {ENOUGH_DISCOVERIES} are little for a curve)" if number < ENOUGH_DISCOVERIES else ""
    return (
        f"{reached} pair{' reaches' if reached == 1 else 's reach'} that influence by all {len(findings.test_score)} models, and {number} "
        f"{'is' if number == 1 else 'are'} above 0 at a false discovery rate of 5%{few}."
    )


def seeds_evidence(findings: Findings) -> str:
    """How much more estimates agree on the same subsets, by the most models that were compared; empty where none were."""
    at, sizes = findings.headline, [int(size) for size in findings.curve.num_models]
    for size, values in sorted(findings.same_subsets.items(), reverse=True):
        same, other = summarize(values[:, at])["mean"], findings.curve.mean[sizes.index(size), at]
        if same is None or not np.isfinite(other):
            continue
        share = findings.subset_share
        decided = ""
        if share is not None and np.isfinite(share.share):
            decided = f"; the subset decides {np.clip(share.share, 0, 1):.0%} of a prediction's variance"
        return (
            f"On the same subsets, with other seeds, estimates from {size} models agree with IOU {same:.2f}, on different ones "
            f"with {other:.2f}{decided}."
        )
    return ""


def score_evidence(findings: Findings) -> str:
    """What Appendix D asks: whether probabilities agree better than 0-1 scores; empty where it is not known."""
    counts = []
    for panel in (findings.between_scores, findings.against_all):
        if not panel:
            return ""
        hard, soft = (np.array(_means(panel[name][:, :, HEADLINE])) for name in ("0-1 scores", "probabilities"))
        both = np.isfinite(hard) & np.isfinite(soft)
        counts.append((int((soft > hard)[both].sum()), int(both.sum())))
    (agree, of), (near, all_of) = counts
    if not of or not all_of:
        return ""
    return (
        f"Probabilities agree better with each other than 0-1 scores at {agree} of {of} numbers of models, and with the 0-1 estimate "
        f"of all models at {near} of {all_of}."
    )


def _means(values: Float[np.ndarray, "sizes repeats"]) -> list[float]:
    return [np.nan if mean is None else mean for mean in (summarize(row)["mean"] for row in values)]


def explanation(findings: Findings) -> str:
    """Figure 1 (right) in two sentences, from the shares of the variance; empty where nothing was compared or varies."""
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
        f"the variance of a model's {'being right' if findings.by_right else 'loss'} on a test example, and training randomness the other {rest:.0%}. So two estimates "
        f"on the same subsets still differ {alike}."
    )
