"""Pairs that reach thresholds in both and in either of two estimates, from masks and scores.

Of two 0-1 scores on CPUs one kernel makes the joint counts and compares them where they are made; all else goes by tiles.
"""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, Int64

from jaxinfl import native
from jaxinfl.influence.counts import call_with_64_bits
from jaxinfl.influence.outcomes import Outcomes
from jaxinfl.influence.overlap_of_tiles import count_overlap, is_worth_native
from jaxinfl.influence.thresholds import smallest_numerators
from jaxinfl.influence.tiles import MOST_MODELS_INT32, one_ahead, tile_starts

# Pairs of one call of the kernel, which takes 0.1 s: between calls the process can be stopped.
_PAIRS_PER_CALL = 2**26


def count_overlap_of_models(
    a: Outcomes, b: Outcomes, thresholds: Float[np.ndarray, " thresholds"], rows: int | None = None
) -> tuple[Int64[np.ndarray, " thresholds"], Int64[np.ndarray, " thresholds"]]:
    """Number of pairs in the intersection and in the union, for each threshold in the order given.

    Args:
      a, b: outcomes with the same training and test examples; they may be the same object.
      thresholds: in the unit of the influence.
      rows: training examples at a time, where tiles are made; None takes about 4 million pairs at a time.
    """
    num_train = a.masks.shape[1]
    if not _is_native(a, b, thresholds.size):
        return count_overlap(a.tiles(rows), b.tiles(rows), num_train, thresholds)
    order = np.argsort(thresholds, kind="stable")
    counts = np.zeros((2, thresholds.size), np.int64)
    for of_part in one_ahead(_counts_of_parts(a, b, thresholds[order])):
        counts[:, order] += np.asarray(of_part)
    return counts[0], counts[1]


def _is_native(a: Outcomes, b: Outcomes, num_thresholds: int) -> bool:
    are_counts = a.test_score.dtype == np.bool_ and b.test_score.dtype == np.bool_
    fit = max(len(a), len(b)) <= MOST_MODELS_INT32
    return are_counts and fit and is_worth_native(a.masks.shape[1], a.test_score.shape[1], num_thresholds)


def _counts_of_parts(a: Outcomes, b: Outcomes, thresholds: Float[np.ndarray, " thresholds"]) -> Iterator[Array]:
    """Counts of some training examples at a time; the thresholds rise."""
    rows = max(1, _PAIRS_PER_CALL // a.test_score.shape[1])
    for start in tile_starts(a.masks.shape[1], rows):
        part = slice(start, start + rows)
        one = _population(a, part, thresholds)
        other = one if b is a else _population(b, part, thresholds)
        yield call_with_64_bits(_overlap_of_models, one, other)


def _population(outcomes: Outcomes, part: slice, thresholds: Float[np.ndarray, " thresholds"]) -> native.Population:
    """Make the kernel's input for some training examples."""
    num_in = outcomes.num_in[part]
    wide = num_in.astype(np.int64)
    limits = smallest_numerators(thresholds, wide * (len(outcomes) - wide)).astype(np.int32)
    masks = np.ascontiguousarray(outcomes.masks[:, part])
    return native.Population(masks, outcomes.test_score, num_in, outcomes.num_right, limits)


_overlap_of_models = jax.jit(native.overlap_of_models)
