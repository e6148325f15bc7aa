"""Estimators of influence, and how near each comes to references with a growing number of models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from jaxinfl import Ensemble, estimate
from jaxinfl.statistics.estimate import Method

Score = Literal["correct", "probability", "margin"]
PUBLISHED = "0-1 difference (published)"
COLUMNS = ("own", "published", "threshold", "own rank", "published rank")
"""The five measures of agreement, in order: IOU of as many pairs as reach the threshold in the published estimate, with the estimator's own
reference and with the published one; IOU with the published reference at the threshold itself; Spearman's correlation over
all pairs, with both."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Masks and scores of the models that did not diverge."""

    masks: Bool[np.ndarray, "models train"]
    train_correct: Bool[np.ndarray, "models train"]
    correct: Bool[np.ndarray, "models test"]
    probability: Float[np.ndarray, "models test"]
    margin: Float[np.ndarray, "models test"]

    def __len__(self) -> int:
        return len(self.masks)

    def part(self, models: Int[np.ndarray, " part"]) -> "Scores":
        """The scores of some of the models."""
        fields = (self.masks, self.train_correct, self.correct, self.probability, self.margin)
        return Scores(*(values[models] for values in fields))

    @classmethod
    def of(cls, runs: Ensemble) -> "Scores":
        """The scores of a finished ensemble, without models that diverged."""
        healthy = runs.without_diverged()
        return cls(
            healthy.masks, healthy.train_correct, healthy.test_correct, healthy.test_probability, healthy.test_margin
        )


@dataclass(frozen=True)
class Estimator:
    """One way to estimate influence, and the models that it is applied to."""

    name: str
    score: Score
    """Score that the estimate is computed from."""
    method: Method = "difference"
    shrink: bool = False
    being_right: bool = False
    """Whether margins are converted to a change in the probability of being right."""
    models: str = "models"
    """Name of the ensemble that it is judged on."""
    reference: str = "reference"
    """Name of the ensemble that its own reference is computed from."""

    @property
    def slow(self) -> bool:
        """Whether it is a regression, which takes so long that it is judged in fewer repeats."""
        return self.method != "difference"

    @property
    def estimand(self) -> str:
        """Quantity on which the estimator measures influence, in words."""
        right = self.score == "correct" or self.being_right
        where = "" if self.reference == "reference" else ", subsets of half"
        return ("being right" if right else self.score) + where

    def __call__(self, scores: Scores, examples: Int[np.ndarray, " examples"]) -> Float[np.ndarray, "examples test"]:
        return estimate(
            scores.masks,
            getattr(scores, self.score),
            self.method,
            shrink=self.shrink,
            correct=scores.correct if self.being_right else None,
            examples=examples,
        ).influence


ESTIMATORS = (
    Estimator(PUBLISHED, "correct"),
    Estimator("0-1 difference, shrunk", "correct", shrink=True),
    Estimator("0-1 adjusted", "correct", "adjusted"),
    Estimator("0-1 ridge datamodel", "correct", "ridge"),
    Estimator("0-1 LASSO datamodel", "correct", "lasso"),
    Estimator("being right, from margins", "margin", being_right=True),
    Estimator("being right, from margins, shrunk", "margin", shrink=True, being_right=True),
    Estimator("being right, from margins, adjusted and shrunk", "margin", "adjusted", shrink=True, being_right=True),
    Estimator("probability difference", "probability"),
    Estimator("probability adjusted and shrunk", "probability", "adjusted", shrink=True),
    Estimator("margin difference", "margin"),
    Estimator("margin adjusted and shrunk", "margin", "adjusted", shrink=True),
    Estimator("margin ridge datamodel", "margin", "ridge"),
)


def estimator_of_design(design: str) -> Estimator:
    """The published estimator on models whose subsets have another design."""
    reference = "reference" if design == "balanced" else "reference_half"
    return Estimator(f"0-1 difference, {DESIGNS[design]}", "correct", models=design, reference=reference)


DESIGNS = {
    "balanced": "balanced subsets",
    "half": "subsets of half",
    "complementary": "complementary halves",
}


@dataclass(frozen=True, eq=False)
class References:
    """Estimates from all models of the references, which the others are compared with."""

    published: Float[np.ndarray, "examples test"]
    """Estimate of the published estimator."""
    own: Mapping[str, Float[np.ndarray, "examples test"]]
    """Name of each estimator -> its own estimate from all models of its reference."""
    threshold: float
    """Influence from which on a pair counts."""
    examples: Int[np.ndarray, " examples"]
    """Indices of the training examples that are compared."""
    num_models: Mapping[str, int]
    """Name of each reference's ensemble -> its number of models."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs that reach the threshold in the published estimate."""
        return int((self.published >= self.threshold).sum())


@dataclass(frozen=True, eq=False)
class Judgement:
    """How near one estimator comes to the references."""

    estimator: Estimator
    cost: float
    """Cost of one of its models, in models of the published estimator, by the training examples that they see."""
    values: Float[np.ndarray, "sizes repeats measures"]
    """The measures of `COLUMNS` by number of models and repeat; NaN where a number was not tried."""
    ceiling: Float[np.ndarray, " measures"]
    """The measures of its own reference, the most that it can reach with as many models as that has."""


@dataclass
class Judge:
    """Compares estimates from a few models with the references."""

    references: References
    _sets: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def measures(
        self, estimator: Estimator, found: Float[np.ndarray, "examples test"]
    ) -> Float[np.ndarray, " measures"]:
        """The measures of `COLUMNS` for one estimate."""
        published = self.references.published >= self.references.threshold
        top = select_highest(found, self.references.num_pairs)
        own_top, own_rank = self._top_and_ranks(estimator.name, self.references.own[estimator.name])
        _, published_rank = self._top_and_ranks("", self.references.published)
        rank = _standard_ranks(found)
        same_unit = estimator.estimand.startswith(("being right", "probability"))
        return np.array(
            [
                overlap(top, own_top),
                overlap(top, published),
                overlap(found >= self.references.threshold, published) if same_unit else np.nan,
                float(rank @ own_rank),
                float(rank @ published_rank),
            ]
        )

    def _top_and_ranks(self, name: str, values: Float[np.ndarray, "examples test"]) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._sets:
            self._sets[name] = select_highest(values, self.references.num_pairs), _standard_ranks(values)
        return self._sets[name]


def judge(
    estimators: Sequence[Estimator],
    ensembles: Mapping[str, Scores],
    references: References,
    sizes: Sequence[int],
    repeats: int,
    slow_repeats: int,
    seed: int,
    on_step: Callable[[], object] = lambda: None,
) -> list[Judgement]:
    """Judge every estimator at every number of models; all of them see the same models in a repeat."""
    holder = Judge(references)
    base = float(ensembles["reference"].masks.mean())
    judged = []
    for estimator in estimators:
        scores = ensembles[estimator.models]
        values = np.full((len(sizes), repeats, len(COLUMNS)), np.nan)
        for repeat in range(slow_repeats if estimator.slow else repeats):
            for row, size in enumerate(sizes):
                if size <= len(scores):
                    chosen = draw_models(estimator.models, len(scores), size, (seed, repeat))
                    values[row, repeat] = holder.measures(
                        estimator, estimator(scores.part(chosen), references.examples)
                    )
                on_step()
        own = holder.measures(estimator, references.own[estimator.name])
        judged.append(Judgement(estimator, float(scores.masks.mean()) / base, values, own))
    return judged


def draw_models(design: str, pool: int, size: int, seed: tuple[int, int]) -> Int[np.ndarray, " size"]:
    """Draw some of the models: larger draws of a repeat contain the smaller ones, and what makes a design is kept."""
    rng = np.random.default_rng(seed)
    if design == "balanced":
        # Neighbours: it is subsets in a row that hold every example equally often.
        return (rng.integers(pool) + np.arange(size)) % pool
    if design == "complementary":
        pairs = rng.permutation(pool // 2)[: -(-size // 2)]
        return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()[:size]
    return rng.permutation(pool)[:size]


def select_highest(values: Float[np.ndarray, "examples test"], number: int) -> Bool[np.ndarray, "examples test"]:
    """Marks the `number` highest values, equal ones in the order of the pairs. NaN is never among them."""
    order = np.argsort(-values, axis=None, kind="stable")[:number]
    chosen = np.zeros(values.size, bool)
    chosen[order] = ~np.isnan(values.ravel()[order])
    return chosen.reshape(values.shape)


def overlap(a: Bool[np.ndarray, "examples test"], b: Bool[np.ndarray, "examples test"]) -> float:
    """Intersection over union of two sets; NaN where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else np.nan


def models_to_reach(
    costs: Float[np.ndarray, " sizes"], values: Float[np.ndarray, "sizes repeats"], target: float
) -> Float[np.ndarray, " repeats"]:
    """Cost from which on each repeat's curve stays at the target, interpolated along the logarithm of the cost.

    Infinite where the curve ends below the target; the lowest cost where it starts at it; NaN where nothing was measured.
    """
    reached = np.full(values.shape[1], np.nan)
    for repeat, curve in enumerate(values.T):
        known = np.flatnonzero(~np.isnan(curve))
        if known.size == 0:
            continue
        below = known[curve[known] < target]
        if below.size == 0:
            reached[repeat] = costs[known[0]]
        elif below[-1] == known[-1]:
            reached[repeat] = np.inf
        else:
            last, following = below[-1], known[np.searchsorted(known, below[-1]) + 1]
            share = (target - curve[last]) / (curve[following] - curve[last])
            reached[repeat] = np.exp((1 - share) * np.log(costs[last]) + share * np.log(costs[following]))
    return reached


def _standard_ranks(values: Float[np.ndarray, "examples test"]) -> Float[np.ndarray, " pairs"]:
    """Ranks of norm 1 about their mean, so that Spearman's correlation is a product; NaN ranks as 0 influence."""
    ranks = rankdata(np.nan_to_num(values, nan=0.0), axis=None)
    ranks = ranks - ranks.mean()
    norm = np.linalg.norm(ranks)
    found: Float[np.ndarray, " pairs"] = ranks / norm if norm > 0 else ranks
    return found
