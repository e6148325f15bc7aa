"""Intersection over union of the influential pairs of two estimates, at many thresholds in one pass."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int64

from jaxinfl.arguments import check_thresholds, check_whole
from jaxinfl.influence.outcomes import Models, Names, Outcomes, Score, take_outcomes
from jaxinfl.influence.overlap_of_models import count_overlap_of_models
from jaxinfl.influence.overlap_of_tiles import count_overlap
from jaxinfl.influence.tiles import StoredTiles, default_rows


def iou(
    influence_a: ArrayLike, influence_b: ArrayLike, thresholds: ArrayLike | Sequence[Any]
) -> Float[np.ndarray, " thresholds"]:
    """Intersection over union of the pairs (i, j) whose influence is at least a threshold, in two estimates.

    Args:
      influence_a: [train, test] floats, NumPy or JAX; compared as float32.
      influence_b: the same shape.
      thresholds: a scalar or 1-D, in the unit of the influence and in any order; rounded to float32, as the estimates
        are. An estimate equal to the threshold is in the set: `influence` rounds once, so 4/5 - 3/5 is float32(0.2).

    Returns:
      float64 [thresholds] in [0, 1], in the order given (one value for a scalar). NaN where both sets are empty. A pair
      whose estimate is NaN on either side takes no part. Memory: one tile of about 4 million pairs.

    Raises:
      TypeError: an estimate or the thresholds are not numbers.
      ValueError: shapes differ, are not 2-D or are empty; thresholds are empty or NaN.

    Source: Section 2.3.1 of the paper; Feldman and Zhang (2020).
    """
    limits = check_thresholds(thresholds)
    for name, estimate in (("influence_a", influence_a), ("influence_b", influence_b)):
        dtype = getattr(estimate, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{name} is {dtype or type(estimate).__name__}; it takes a float array [train, test].")
    shape = np.shape(influence_a)
    if shape != np.shape(influence_b):
        raise ValueError(
            f"influence_a has shape {shape} and influence_b {np.shape(influence_b)}: both need the same examples."
        )
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"influence_a and influence_b have shape {shape}, but take [train, test], not empty.")
    rows = default_rows(*shape)
    return _divide(*count_overlap(StoredTiles(influence_a, rows), StoredTiles(influence_b, rows), shape[0], limits))


def iou_of_models(
    masks_a: Models,
    score_a: Score,
    masks_b: Models,
    score_b: Score,
    thresholds: ArrayLike | Sequence[Any],
    *,
    examples: ArrayLike | Sequence[Any] | None = None,
    tile: int | None = None,
) -> Float[np.ndarray, " thresholds"]:
    """`iou(influence(masks_a, score_a)[examples], influence(masks_b, score_b)[examples], thresholds)`, streamed.

    That value, whatever the tile, but without storing a train x test array. Of 0-1 scores the fractions are compared, by
    whole numbers, with the simplest fractions that round to the same float32 as the thresholds: for some thousands of models
    and more that is finer than float32, which may round what is just below a threshold up to it.

    Args:
      masks_a: bool [models, train]; or an `Ensemble`, whose diverged models are left out, or `Outcomes`.
      score_a: bool or float [models, test]; the name of a score for an `Ensemble`, None for `Outcomes`.
      masks_b: bool [other models, train], the subsets of the models of the other estimate; or an `Ensemble` or `Outcomes`.
      score_b: bool or float [other models, test]; the name of a score for an `Ensemble`, None for `Outcomes`.
      thresholds: a scalar or 1-D, in the unit of the influence, as for `iou`.
      examples: the training examples whose pairs count: indices, or a bool mask [train]; None takes all. `Outcomes` are packed
        anew for them: call `Outcomes.select(examples)` once instead where they are compared many times.
      tile: training examples at a time, from 1 up; None takes about 4 million pairs at a time. The result does not depend on it.

    Returns:
      float64 [thresholds], NaN where both sets are empty; as `iou`. Memory beyond the inputs: two copies of the masks
      of `examples`, 1 byte (bool) or 16 (float) for every score, and a few arrays of `tile * test` values.

    Raises:
      TypeError, ValueError: as `influence` and `iou`; also where the two sides have different numbers of training or
        test examples, or `examples` or `tile` is out of range.

    Source: Section 2.3.1 of the paper; Feldman and Zhang (2020).
    """
    a = take_outcomes(masks_a, score_a, names=Names("masks_a", "score_a"))
    b = take_outcomes(masks_b, score_b, names=Names("masks_b", "score_b"))
    for what, one, other in (("masks", a.masks, b.masks), ("score", a.test_score, b.test_score)):
        if one.shape[1] != other.shape[1]:
            raise ValueError(
                f"{what}_a has {one.shape[1]} columns and {what}_b {other.shape[1]}: both need the same examples, in order."
            )
    limits = check_thresholds(thresholds)
    rows = None if tile is None else check_whole(tile, "tile")
    return iou_of_outcomes(a.select(examples), b.select(examples), limits, rows)


def iou_of_outcomes(
    a: Outcomes, b: Outcomes, thresholds: Float[np.ndarray, " thresholds"], rows: int | None = None
) -> Float[np.ndarray, " thresholds"]:
    """`iou_of_models` of checked outcomes with the same examples, over all training examples, `rows` of them at a time."""
    return _divide(*count_overlap_of_models(a, b, thresholds, rows))


def count_pairs(
    masks: Models,
    score: Score,
    thresholds: ArrayLike | Sequence[Any],
    *,
    examples: ArrayLike | Sequence[Any] | None = None,
) -> Int64[np.ndarray, " thresholds"]:
    """Number of pairs (i, j) whose influence is at least a threshold: how many pairs an IOU rests on.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble` or `Outcomes`.
      score: bool or float [models, test]; the name of a score for an `Ensemble`, None for `Outcomes`.
      thresholds: a scalar or 1-D, in the unit of the influence, as for `iou`.
      examples: the training examples whose pairs count: indices, or a bool mask [train]; None takes all.

    Returns:
      int64 [thresholds]. Pairs of undefined influence (NaN) are not counted. Memory: as `iou_of_models`.

    Raises:
      TypeError, ValueError: as `iou_of_models`.
    """
    given = take_outcomes(masks, score)
    limits = check_thresholds(thresholds)
    kept = given.select(examples)
    return count_overlap_of_models(kept, kept, limits)[1]


def _divide(
    intersection: Int64[np.ndarray, " thresholds"], union: Int64[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Intersection over union; NaN where both sets are empty."""
    return np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
