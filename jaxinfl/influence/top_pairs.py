"""The most influential pairs of a training and a test example, without the matrix of all pairs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float32, Float64, Int

from jaxinfl.arguments import check_min_memorization, check_whole
from jaxinfl.influence.outcomes import Models, Names, Score, take_outcomes
from jaxinfl.influence.tiles import one_ahead, tile_starts


@dataclass(frozen=True, eq=False)
class TopPairs:
    """Pairs of examples by falling influence; equal ones by rising train and then test index.

    Influences are compared in float64, which tells the fractions that 0-1 scores of up to 10,000 models lead to from one
    another, and gives equal ones equal numbers.
    """

    train_index: Int[np.ndarray, " pairs"]
    """The training example of each pair."""
    test_index: Int[np.ndarray, " pairs"]
    """The test example of each pair."""
    influence: Float32[np.ndarray, " pairs"]
    """Influence of the training on the test example, in the unit of `test_score`."""
    memorization: Float32[np.ndarray, " pairs"]
    """Memorization of the training example, in the unit of `train_score`."""


def top_pairs(
    masks: Models,
    train_score: Score = None,
    test_score: Score = None,
    k: int = 100,
    min_memorization: float | None = 0.25,
    *,
    tile: int | None = None,
) -> TopPairs:
    """The `k` pairs of highest influence: the first rows of the sorted `influence(masks, test_score)`, streamed.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out, or `Outcomes` with both scores.
      train_score: [models, train], bool or float; its memorization decides which training examples take part. For an
        `Ensemble` the name of a score.
      test_score: [models, test], bool or float; its influence is what is ranked. For an `Ensemble` the name of a score; by
        default the one that `train_score` names.
      k: number of pairs, from 1 up.
      min_memorization: only training examples whose memorization is above this take part (Appendix E), in the unit of
        `train_score`; None takes all.
      tile: training examples at a time, from 1 up; None takes about 4 million pairs at a time. The result does not depend on it.

    Returns:
      `TopPairs` of `k` rows, or of fewer where fewer pairs exist (none, if no example is above `min_memorization`).
      Pairs of undefined influence (NaN) never appear. Memory beyond the inputs: two copies of the masks of
      the examples that take part, 1 byte (bool) or 16 (float) for every test score, a few tiles, and O(k).

    Raises:
      TypeError: `masks` is not bool, a score neither bool nor float, `k` or `tile` not an int.
      ValueError: shapes do not fit, a score is NaN or inf, `k` or `tile` is below 1.

    Source: Feldman and Zhang (2020), their figures of influential pairs; Section 2.3.1 and Appendix E of the paper.
    """
    given = take_outcomes(masks, test_score, train_score, Names(score="test_score"))
    k = check_whole(k, "k")
    check_min_memorization(min_memorization)
    if tile is not None:
        tile = check_whole(tile, "tile")
    examples, num_test = given.examples_above(min_memorization), given.test_score.shape[1]
    if examples.size == 0:
        pairs, values = np.zeros(0, np.intp), np.zeros(0)
    else:
        tiles = given.select(examples).tiles(tile)
        pairs, values = _largest((tiles.tile(start, "float64") for start in tile_starts(examples.size, tiles.rows)), k)
    own = given.memorization.rounded
    train, test = np.divmod(pairs, num_test)
    return TopPairs(examples[train], test, values.astype(np.float32), own[examples[train]])


def _largest(tiles: Iterable[Array], k: int) -> tuple[Int[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """Flat indices and values of the `k` largest values of stacked tiles, equal ones by rising index, without NaN."""
    indices, values = np.zeros(0, np.intp), np.zeros(0)
    first = 0
    for tile in one_ahead(tiles):
        block = np.asarray(tile).ravel()
        # Once k are found, a later pair has to beat the last of them: an equal one comes after it. NaN beats nothing.
        found = np.flatnonzero(block > (values[-1] if values.size == k else -np.inf))
        if found.size > k:
            candidates = block[found]
            found = found[candidates >= np.partition(candidates, -k)[-k]]
        indices, values = np.concatenate([indices, first + found]), np.concatenate([values, block[found]])
        order = np.argsort(-values, kind="stable")[:k]
        indices, values = indices[order], values[order]
        first += block.size
    return indices, values
