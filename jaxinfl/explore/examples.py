"""What the models say of every single example: right with and without it, memorization, votes for other classes, risk."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import ScoreKind
from jaxinfl.privacy import Membership
from jaxinfl.statistics.means import mean_over_models
from jaxinfl.statistics.memorization_tests import memorization_q_values
from jaxinfl.statistics.proportions import normal_quantile, wilson_interval
from jaxinfl.statistics.uncertainty import memorization_uncertainty
from jaxinfl.store import Ensemble
from jaxinfl.store.scores import has_score
from jaxinfl.tasks import is_lower_better

# Values of models x examples of which votes are counted at once.
_VALUES_AT_ONCE = 2**22

NAMES = {
    "correct": "share of models that are right",
    "probability": "mean probability of the true class",
    "accuracy": "mean share of tokens that are right",
    "margin": "mean margin, in natural log odds",
    "loss": "negative mean loss",
    "residual_norm": "negative mean norm of the residual",
}
"""The mean of a score over models, in words."""


@dataclass(frozen=True)
class Score:
    """One score of the models, of which larger is better."""

    name: str
    kind: ScoreKind
    train: np.ndarray | None
    """[models, train], bool or float; None where the models have none of training examples."""
    test: np.ndarray | None
    """[models, test]; None where the models have none of test examples."""

    @property
    def words(self) -> str:
        """The mean of the score over models, in words."""
        return NAMES.get(self.name, f"mean of the score {self.name}")


@dataclass(frozen=True)
class TrainExamples:
    """Numbers of every training example; NaN where nothing can be said."""

    num_in: Int[np.ndarray, " train"]
    """Number of models that were trained on the example."""
    mean_out: Float[np.ndarray, " train"]
    """Mean score of the models that were trained without it."""
    memorization: Float[np.ndarray, " train"]
    """Mean score of the models with it minus that of the models without it."""
    low: Float[np.ndarray, " train"]
    """Lower end of the 95% interval of the memorization."""
    high: Float[np.ndarray, " train"]
    """Upper end of that interval."""
    q_value: Float[np.ndarray, " train"]
    """The smallest false discovery rate at which the example would be reported as memorized."""
    reason: np.ndarray
    """[train] strings: why there is no interval; empty where there is one."""


@dataclass(frozen=True)
class Votes:
    """What models without an example say of it, or all models of a test example."""

    right: Float[np.ndarray, " examples"]
    """Share of these models that are right."""
    low: Float[np.ndarray, " examples"]
    """Lower end of the 95% interval of that share."""
    high: Float[np.ndarray, " examples"]
    """Upper end of that interval."""
    other: Int[np.ndarray, " examples"] | None
    """The class other than the label that most of these models predict; None where predictions are not known."""
    other_share: Float[np.ndarray, " examples"] | None
    """Share of these models that predict it."""
    other_low: Float[np.ndarray, " examples"] | None
    """Lower end of the 95% interval of that share."""
    other_high: Float[np.ndarray, " examples"] | None
    """Upper end of that interval."""

    @property
    def suspect(self) -> Bool[np.ndarray, " examples"]:
        """Whether the label may be wrong.

        That is where the 95% interval puts more than half of the models on one other class, or, where predictions are not known, fewer
        than half on the label.
        """
        suspect: Bool[np.ndarray, " examples"] = self.high < 0.5 if self.other_low is None else self.other_low > 0.5
        return suspect


def read_score(runs: Ensemble, name: str | None) -> Score:
    """Read a score of both sets: `name`, or whether models are right where they can be, or else the first that there is.

    Scores that good models make small are negated.

    Raises:
      TypeError, ValueError: the ensemble has no such score.
    """
    if name is None:
        preferred = ("correct", "accuracy", "probability", "margin", "loss")
        name = next((each for each in preferred if each in runs.scores), runs.scores[0])
    kind = runs.score_kind(name)
    negated = is_lower_better(name)
    train, test = (_read(runs, split, name) for split in ("train", "test"))
    found = [None if values is None else -values if negated else values for values in (train, test)]
    return Score(name, kind, *found)


def _read(runs: Ensemble, split: str, name: str) -> np.ndarray | None:
    if not has_score(runs, split, name):
        return None
    return runs.train_score(name) if split == "train" else runs.test_score(name)


@contextmanager
def told_on_the_page() -> Iterator[None]:
    """Leave out the warning that subsets depend on each other, which the page itself says."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "masks holds subsets that depend on each other", UserWarning)
        yield


def measure_train(masks: Bool[np.ndarray, "models train"], score: np.ndarray) -> TrainExamples:
    """Memorization of every training example, with its uncertainty."""
    num_in = masks.sum(axis=0)
    with told_on_the_page():
        told = memorization_uncertainty(masks, score)
    mean_in, mean_out = (mean_over_models(score, members) for members in (masks, ~masks))
    return TrainExamples(
        num_in, mean_out, mean_in - mean_out, told.low, told.high, memorization_q_values(masks, score), told.reason
    )


def count_votes(
    runs: Ensemble, split: str, members: Bool[np.ndarray, "models examples"], num_classes: int, score: Score
) -> Votes | None:
    """What the models of `members` say of each example; None where no prediction is right or wrong.

    Models trained elsewhere may call it something else than "correct": then it is the score itself, where that is 0-1.
    """
    if "correct" in runs.scores:
        right = _read(runs, split, "correct")
    else:
        right = (score.train if split == "train" else score.test) if score.kind == "0-1" else None
    if right is None:
        return None
    number = members.sum(axis=0).astype(np.float64)
    share = mean_over_models(right, members)
    interval = wilson_interval(share, number, normal_quantile(0.95))
    if f"{split}_prediction" not in runs.attributes["row_arrays"] or not num_classes:
        return Votes(share, interval.low, interval.high, None, None, None, None)
    prediction, targets = (getattr(runs, f"{split}_{name}") for name in ("prediction", "targets"))
    other, count = _most_voted(prediction, members, targets, num_classes)
    other_share = np.divide(count, number, where=number > 0, out=np.full(len(number), np.nan))
    others = wilson_interval(other_share, number, normal_quantile(0.95))
    return Votes(share, interval.low, interval.high, other, other_share, others.low, others.high)


def _most_voted(
    prediction: Int[np.ndarray, "models examples"],
    members: Bool[np.ndarray, "models examples"],
    targets: Int[np.ndarray, " examples"],
    num_classes: int,
) -> tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " examples"]]:
    """The class other than the target with most votes for each example, and their number."""
    num_examples = prediction.shape[1]
    votes = np.zeros((num_examples, num_classes), np.int64)
    example = np.arange(num_examples)
    step = max(1, _VALUES_AT_ONCE // num_examples)
    for start in range(0, len(prediction), step):
        rows = slice(start, start + step)
        cell = example * num_classes + prediction[rows]
        counted = members[rows] & (prediction[rows] >= 0)
        votes += np.bincount(cell[counted], minlength=votes.size).reshape(votes.shape)
    votes[example, targets] = -1
    other = votes.argmax(axis=1)
    return other, votes[example, other]


def check_membership(membership: object, num_train: int) -> None:
    """Raise unless `membership` is None or tells the risk of these training examples.

    Raises:
      TypeError, ValueError: it is something else, or is about another number of examples.
    """
    if membership is None:
        return
    if not isinstance(membership, Membership):
        raise TypeError(
            f"membership is {type(membership).__name__}; it takes what jaxinfl.membership(runs) returns, or None."
        )
    if membership.score.shape[1] != num_train:
        raise ValueError(
            f"membership is about {membership.score.shape[1]} examples and the run has {num_train} training examples. "
            "Compute it from the same run."
        )


__all__ = [
    "Score",
    "TrainExamples",
    "Votes",
    "check_membership",
    "count_votes",
    "measure_train",
    "read_score",
    "told_on_the_page",
]
