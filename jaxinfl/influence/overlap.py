"""Intersection over union of the influential pairs of two estimates, at many thresholds in one pass.

A pair is in the intersection at a threshold iff the lower of its two estimates reaches it, and in the union iff the
higher one does. So it is enough to know, for each pair, how many of the sorted thresholds each of the two reaches: the
histogram of those pairs of numbers holds the whole curve, and no train x test array is ever stored.

Influences of 0-1 scores are compared as whole numbers (`CountTiles.limits`), all others as float32.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int64, Num, UInt16

from jaxinfl.arguments import check_examples, check_masks, check_score, check_thresholds, check_whole
from jaxinfl.influence.counts import with_words
from jaxinfl.influence.tiles import StoredTiles, Tiles, default_rows, is_undefined, make_tiles, starts

AnyTiles = Tiles | StoredTiles

# (thresholds + 1)^2 bins fit uint16 and the cache. More thresholds take several passes over a tile.
_THRESHOLDS_PER_PASS = 63


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
    return _iou_of_tiles(StoredTiles(influence_a, rows), StoredTiles(influence_b, rows), shape[0], limits)


def iou_of_models(
    masks_a: ArrayLike,
    score_a: ArrayLike,
    masks_b: ArrayLike,
    score_b: ArrayLike,
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
      masks_a: bool [models, train]; `masks_a[t, i]` says whether model t was trained on example i.
      score_a: bool or float [models, test].
      masks_b: bool [other models, train], the subsets of the models of the other estimate.
      score_b: bool or float [other models, test].
      thresholds: a scalar or 1-D, as for `iou`.
      examples: the training examples whose pairs count: indices, or a bool mask [train]; None takes all.
      tile: training examples at a time; None takes about 4 million pairs at a time.

    Returns:
      float64 [thresholds], NaN where both sets are empty; as `iou`. Memory beyond the inputs: two copies of the masks
      of `examples`, 1 byte (bool) or 16 (float) for every score, and a few arrays of `tile * test` values.

    Raises:
      TypeError, ValueError: as `influence` and `iou`; also where the two sides have different numbers of training or
        test examples, or `examples` or `tile` is out of range.

    Source: Section 2.3.1 of the paper; Feldman and Zhang (2020).
    """
    masks_a, masks_b = check_masks(masks_a, "masks_a"), check_masks(masks_b, "masks_b")
    score_a = check_score(score_a, len(masks_a), "score_a", masks_name="masks_a")
    score_b = check_score(score_b, len(masks_b), "score_b", masks_name="masks_b")
    for what, a, b in (("masks", masks_a, masks_b), ("score", score_a, score_b)):
        if a.shape[1] != b.shape[1]:
            raise ValueError(
                f"{what}_a has {a.shape[1]} columns and {what}_b {b.shape[1]}: both need the same examples, in order."
            )
    limits = check_thresholds(thresholds)
    kept = check_examples(examples, masks_a.shape[1])
    if kept is not None:
        masks_a, masks_b = masks_a[:, kept], masks_b[:, kept]
    return streamed_iou(masks_a, score_a, masks_b, score_b, limits, tile)


def streamed_iou(
    masks_a: Bool[np.ndarray, "models train"],
    score_a: Bool[np.ndarray, "models test"] | Float32[np.ndarray, "models test"],
    masks_b: Bool[np.ndarray, "others train"],
    score_b: Bool[np.ndarray, "others test"] | Float32[np.ndarray, "others test"],
    thresholds: Float[np.ndarray, " thresholds"],
    tile: int | None = None,
) -> Float[np.ndarray, " thresholds"]:
    """`iou_of_models` of checked arguments, over all training examples."""
    num_train, num_test = masks_a.shape[1], score_a.shape[1]
    rows = default_rows(num_train, num_test) if tile is None else min(check_whole(tile, "tile"), num_train)
    tiles_a, tiles_b = make_tiles(masks_a, score_a, rows), make_tiles(masks_b, score_b, rows)
    return _iou_of_tiles(tiles_a, tiles_b, num_train, thresholds)


def count_pairs(
    masks: ArrayLike,
    score: ArrayLike,
    thresholds: ArrayLike | Sequence[Any],
    *,
    examples: ArrayLike | Sequence[Any] | None = None,
) -> Int64[np.ndarray, " thresholds"]:
    """Number of pairs (i, j) whose influence is at least a threshold: how many pairs an IOU rests on.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      score: bool or float [models, test].
      thresholds: a scalar or 1-D, as for `iou`.
      examples: the training examples whose pairs count: indices, or a bool mask [train]; None takes all.

    Returns:
      int64 [thresholds]. Pairs of undefined influence (NaN) are not counted. Memory: as `iou_of_models`.

    Raises:
      TypeError, ValueError: as `iou_of_models`.
    """
    masks = check_masks(masks)
    score = check_score(score, len(masks))
    limits = check_thresholds(thresholds)
    kept = check_examples(examples, masks.shape[1])
    masks = masks if kept is None else masks[:, kept]
    rows = default_rows(masks.shape[1], score.shape[1])
    tiles = make_tiles(masks, score, rows)
    return _overlap_of_tiles(tiles, tiles, masks.shape[1], limits)[1]


def _iou_of_tiles(
    tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    intersection, union = _overlap_of_tiles(tiles_a, tiles_b, num_train, thresholds)
    return np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)


def _overlap_of_tiles(
    tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, thresholds: Float[np.ndarray, " thresholds"]
) -> tuple[Int64[np.ndarray, " thresholds"], Int64[np.ndarray, " thresholds"]]:
    """Pairs in the intersection and in the union, for each threshold in the order given."""
    order = np.argsort(thresholds, kind="stable")
    passes = -(-thresholds.size // _THRESHOLDS_PER_PASS)
    # Filled up with NaN, which no estimate reaches, so that each pass is the same compiled function.
    limits = np.full((passes, -(-thresholds.size // passes)), np.nan)
    limits.ravel()[: thresholds.size] = thresholds[order]
    bins = limits.shape[1] + 1
    # int64, on the host: the pairs of a large data set exceed int32.
    histograms = np.zeros((passes, bins * bins), np.int64)
    limits_a, limits_b = ([tiles.limits(each) for each in limits] for tiles in (tiles_a, tiles_b))

    def tally(reached: list[Array]) -> None:
        for histogram, numbers in zip(histograms, reached, strict=True):
            histogram += np.bincount(np.asarray(numbers).ravel(), minlength=bins * bins)

    # One tile ahead: the device computes the next one while the host counts. More would only hold memory.
    waiting: list[Array] | None = None
    for start in starts(num_train, tiles_a.rows):
        a = tiles_a.comparable(start)
        b = a if tiles_b is tiles_a else tiles_b.comparable(start)
        rows = slice(start, start + tiles_a.rows)
        reached = [
            with_words(_thresholds_reached, a, b, _rows_of(limit_a, rows), _rows_of(limit_b, rows))
            for limit_a, limit_b in zip(limits_a, limits_b, strict=True)
        ]
        if waiting is not None:
            tally(waiting)
        waiting = reached
    if waiting is not None:
        tally(waiting)

    tables = histograms.reshape(passes, bins, bins)
    counts = np.empty((2, thresholds.size), np.int64)
    for row, axis in zip(
        counts, (1, 2), strict=True
    ):  # the lower estimate decides the intersection, the higher the union
        row[order] = _at_least(tables.sum(axis=axis)).ravel()[: thresholds.size]
    return counts[0], counts[1]


def _at_least(histogram: np.ndarray) -> np.ndarray:
    """[passes, thresholds] number of pairs that reach each threshold, from how many thresholds each pair reaches."""
    return histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]


def _rows_of(limits: np.ndarray, rows: slice) -> np.ndarray:
    """The limits of some training examples, of which there may be one row for all."""
    return limits if len(limits) == 1 else limits[rows]


@jax.jit
def _thresholds_reached(
    a: Num[Array, "rows test"],
    b: Num[Array, "rows test"],
    limits_a: Num[Array, "rows_a limits"],
    limits_b: Num[Array, "rows_b limits"],
) -> UInt16[Array, "rows test"]:
    """How many of the sorted limits the higher and the lower estimate reach, as one number; 0 where either is undefined."""

    # Written out, 2 ns a pair for 40 limits on 2 cores; `searchsorted` takes 12, a sum over a leading axis 118.
    def reached(estimate: Num[Array, "rows test"], limits: Num[Array, "_ limits"]) -> Array:
        number = jnp.zeros(estimate.shape, jnp.uint16)
        for index in range(limits.shape[1]):
            number += (estimate >= limits[:, index][:, None]).astype(jnp.uint16)
        return number

    one, other = reached(a, limits_a), reached(b, limits_b)
    both = jnp.maximum(one, other) * jnp.uint16(limits_a.shape[1] + 1) + jnp.minimum(one, other)
    return jnp.where(is_undefined(a) | is_undefined(b), jnp.uint16(0), both)
