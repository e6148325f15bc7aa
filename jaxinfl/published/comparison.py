"""Published estimates beside an estimate of one's own."""

from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float32, Int

from jaxinfl.arguments import as_array, check_number, quote
from jaxinfl.influence.outcomes import Models, Score, take_outcomes
from jaxinfl.influence.tiles import tile_starts
from jaxinfl.published.order import tell_order
from jaxinfl.published.released import PublishedPairs, PublishedScores
from jaxinfl.statistics.correlation import correlate
from jaxinfl.statistics.means import mean_over_models
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store.scores import known_labels


class PairsComparison(NamedTuple):
    """How far published pairs and an estimate of one's own agree."""

    iou: float
    """Pairs that both have, divided by the pairs that at least one has, at `threshold`; NaN where neither has one."""
    rank_correlation: float
    """Spearman's correlation of both influences over the published pairs; NaN of fewer than two, or where one does not vary."""
    threshold: float
    """Influence from which on a pair counts."""
    num_published: int
    """Number of published pairs at the threshold."""
    num_own: int
    """Number of one's own pairs at the threshold, of training examples whose memorization is at least `min_memorization` of the published."""
    num_both: int
    """Number of pairs that both have."""
    influence: Float32[np.ndarray, " pairs"]
    """One's own influence of each published pair; NaN where it is undefined."""


def compare_pairs(
    published: PublishedPairs,
    masks: Models,
    score: Score = None,
    train_score: Score = None,
    *,
    threshold: float | None = None,
) -> PairsComparison:
    """Compare published pairs with the influence of models of one's own on the same examples.

    Args:
      published: what `read_pairs` read.
      masks: bool [models, train]; or an `Ensemble`, whose diverged models are left out, or `Outcomes` with both scores.
      score: bool or float [models, test], for an `Ensemble` the name of a score; "correct" is what was published.
      train_score: bool or float [models, train], whose memorization decides which training examples take part; for an `Ensemble` the name
        of a score, by default that of `score`.
      threshold: influence from which on a pair counts, at least the one of the published pairs, which is the default.

    Returns:
      `PairsComparison`. Where only pairs of one class were published, one's own pairs are of one class, too.

    Raises:
      TypeError, ValueError: arguments that do not fit, or other numbers of examples.
    """
    if not isinstance(published, PublishedPairs):
        raise TypeError(f"published is {quote(published)}; it takes PublishedPairs, which read_pairs reads.")
    given = take_outcomes(masks, score, train_score)
    if given.kind == "real":
        raise ValueError(
            "score is neither 0-1 nor from 0 to 1; published influences are differences of probabilities. Take a score such as 'correct'."
        )
    limit = (
        published.min_influence if threshold is None else check_number(threshold, "threshold", "influence", -1e30, 1e30)
    )
    if limit < published.min_influence:
        raise ValueError(
            f"threshold is {limit}; only pairs from {published.min_influence:g} on were published, so it takes at least that."
        )
    num_train, num_test = given.masks.shape[1], given.test_score.shape[1]
    _check_sizes(published, num_train, num_test)
    _check_order(published, masks)
    own = np.full(len(published), np.nan, np.float32)
    memorized = given.memorization.rounded >= np.float32(published.min_memorization)
    count, tiles = 0, given.tiles()
    for start in tile_starts(num_train, tiles.rows):
        tile = np.asarray(tiles.tile(start))[: num_train - start]
        taken = (tile >= np.float32(limit)) & memorized[start : start + len(tile), None]
        count += int((taken & _asked(published, slice(start, start + len(tile)), num_test)).sum())
        here = np.flatnonzero((published.train_index >= start) & (published.train_index < start + len(tile)))
        own[here] = tile[published.train_index[here] - start, published.test_index[here]]
    stated = published.influence >= limit
    both = int((stated & (own >= np.float32(limit)) & memorized[published.train_index]).sum())
    either = int(stated.sum()) + count - both
    return PairsComparison(
        iou=both / either if either else float("nan"),
        rank_correlation=_rank_correlation(published.influence, own),
        threshold=float(limit),
        num_published=int(stated.sum()),
        num_own=count,
        num_both=both,
        influence=own,
    )


def compare_scores(published: PublishedScores, masks: Models, train_score: Score = None) -> float:
    """Spearman's correlation of C-scores with the mean score of one's own models that were not trained on the example.

    Args:
      published: C-scores that `read_run` read.
      masks: bool [models, train]; or an `Ensemble`, whose diverged models are left out, or `Outcomes`.
      train_score: bool or float [models, train]; for an `Ensemble` the name of a score, "correct" for one.

    Returns:
      The correlation over the examples that some model lacks.

    Raises:
      TypeError, ValueError: arguments that do not fit, or another number of examples.
    """
    if not isinstance(published, PublishedScores):
        raise TypeError(f"published is {quote(published)}; it takes PublishedScores, which read_run reads.")
    given = take_outcomes(masks, train_score=train_score)
    if given.masks.shape[1] != len(published.values):
        raise ValueError(
            f"masks has {given.masks.shape[1]} training examples, and {len(published.values)} scores were published."
        )
    own = _labels_of(masks, "train")
    if own is not None and not np.array_equal(own, published.labels):
        raise ValueError(_OTHER_ORDER.format(split="training"))
    return _rank_correlation(published.values, mean_over_models(given.train_score, ~given.masks))


def _check_sizes(published: PublishedPairs, num_train: int, num_test: int) -> None:
    for name, labels, number, index in (
        ("training", published.train_labels, num_train, published.train_index),
        ("test", published.test_labels, num_test, published.test_index),
    ):
        if labels is not None and len(labels) != number:
            raise ValueError(f"the models have {number} {name} examples, and the published estimate {len(labels)}.")
        if len(index) and index.max() >= number:
            raise ValueError(
                f"the models have {number} {name} examples, and a published pair has number {index.max()}."
            )


def _check_order(published: PublishedPairs, masks: Any) -> None:
    """Compare the labels of both sides, as far as they are known.

    Raises:
      ValueError: the examples lie in different orders.
    """
    labels = {split: _labels_of(masks, split) for split in ("train", "test")}
    for split, own in labels.items():
        stated = published.train_labels if split == "train" else published.test_labels
        if own is not None and stated is not None and not np.array_equal(own, stated):
            raise ValueError(_OTHER_ORDER.format(split="training" if split == "train" else "test"))
    train, test = labels["train"], labels["test"]
    if train is None or test is None or published.train_labels is not None:
        return
    try:
        tell_order(
            published.train_index, published.test_index, train, test, ("the published pairs", "the models' data")
        )
    except RunDirectoryError as error:
        raise ValueError(str(error)) from error


def _labels_of(masks: Any, split: str) -> Int[np.ndarray, " examples"] | None:
    """Labels of an ensemble that knows them; None of anything else."""
    return known_labels(masks, split) if isinstance(masks, Ensemble) else None


_OTHER_ORDER = (
    "the labels of the {split} examples differ between the published estimate and the models: other data, or another order of the same. "
    "TensorFlow Datasets shuffles its data sets; take models of the data set's own order, or the other way round."
)


def _asked(published: PublishedPairs, train: slice, num_test: int) -> Any:
    """Pairs that could have been published."""
    if not published.same_class or published.train_labels is None or published.test_labels is None:
        return True
    return published.train_labels[train][:, None] == published.test_labels[None, :]


def _rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    sides = np.stack([as_array(each, "values", "numbers") for each in (one, other)]).astype(np.float64)
    sides = sides[:, np.isfinite(sides).all(axis=0)]
    if sides.shape[1] < 2:
        return float("nan")
    return float(correlate(sides[0][:, None], sides[1][:, None], "spearman").value[0])


__all__ = ["PairsComparison", "compare_pairs", "compare_scores"]
