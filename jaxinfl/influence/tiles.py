"""Influence of some training examples at a time on all test examples, so that train x test need never be stored.

One function computes every estimate in this package, from sums over models that are exact integers. Hence an estimate
has the same bits in whatever tile it is computed, and streamed results equal stored ones exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32

from jaxinfl.influence.counts import (
    Chunk,
    Packed,
    add_counts,
    choose_kernel,
    leading_counts,
    pack_models,
    tile_of,
    with_words,
)
from jaxinfl.influence.fixed_point import DigitSums, FixedPoint, in_units, sum_digits, to_fixed_point

# 16 MB a float32 tile: large enough to hide the dispatch of a kernel, small enough to stay near the caches.
_PAIRS_PER_TILE = 2**22


@dataclass(frozen=True, eq=False)
class CountTiles:
    """Estimates from 0-1 scores, by joint counts."""

    train: Packed
    num_in: Int32[Array, " padded"]
    test: Packed
    num_right: Int32[Array, " test"]
    num_models: int
    rows: int

    def tile(self, start: int) -> Float32[Array, "rows test"]:
        """Influence of training examples `start` to `start + rows`."""
        leading = leading_counts(self.train, self.test, start, self.rows)
        estimate: Float32[Array, "rows test"] = with_words(
            _influence_of_counts,
            leading,
            self.train[-1],
            self.num_in,
            self.test[-1],
            self.num_right,
            np.int32(self.num_models),
            np.int32(start),
            rows=self.rows,
        )
        return estimate


@dataclass(frozen=True, eq=False)
class FloatTiles:
    """Estimates from float scores, by exact sums of their digits."""

    masks: Bool[np.ndarray, "models padded"]
    score: FixedPoint
    rows: int

    def tile(self, start: int) -> Float32[Array, "rows test"]:
        """Influence of training examples `start` to `start + rows`."""
        estimate: Float32[Array, "rows test"]
        estimate = _influence_of_digits(self.masks[:, start : start + self.rows], self.score)
        return estimate


Tiles = CountTiles | FloatTiles


def make_tiles(
    masks: Bool[np.ndarray, "models train"],
    score: Bool[np.ndarray, "models test"] | Float32[np.ndarray, "models test"],
    rows: int,
) -> Tiles:
    """Everything that is prepared once for all tiles.

    The last tile is filled up with examples that are in no subset. Their influence is NaN, so they take no part in
    anything, and every tile has one shape: a second one would be compiled again.
    """
    padding = -masks.shape[1] % rows
    padded = np.pad(masks, ((0, 0), (0, padding))) if padding else masks
    if score.dtype != np.bool_:
        return FloatTiles(padded, to_fixed_point(score), rows)
    kernel = choose_kernel("auto", len(masks), masks.shape[1], score.shape[1])
    train, num_in = pack_models(padded, kernel)
    test, num_right = pack_models(score, kernel)
    return CountTiles(train, num_in, test, num_right, len(masks), rows)


def default_rows(num_train: int, num_test: int) -> int:
    """Rows of a tile of about 4 million pairs, shared out evenly, so that little of the last tile is padding."""
    num_tiles = -(-num_train * num_test // _PAIRS_PER_TILE)
    return -(-num_train // min(num_tiles, num_train))


def starts(num_train: int, rows: int) -> Iterator[int]:
    """First training example of each tile."""
    return iter(range(0, num_train, rows))


def difference_of_means(
    sum_in: Float32[Array, "rows test"],
    sum_out: Float32[Array, "rows test"],
    num_in: Int32[Array, " rows"],
    num_models: Int32[Array, ""],
) -> Float32[Array, "rows test"]:
    """Mean over the models with the example minus that over the models without; NaN where either has no model (0 / 0)."""

    def mean(total: Float32[Array, "rows test"], number: Int32[Array, " rows"]) -> Float32[Array, "rows test"]:
        # The barrier hides that the divisor is one value a row: XLA would multiply by its reciprocal for most shapes, and
        # divide for others, and a quarter of the quotients would depend on the shape in their last bit.
        spread = jnp.broadcast_to(number.astype(jnp.float32)[:, None], total.shape)
        return total / jax.lax.optimization_barrier(spread)

    return mean(sum_in, num_in) - mean(sum_out, num_models - num_in)


@partial(jax.jit, static_argnames="rows")
def _influence_of_counts(
    leading: Int32[Array, "rows test"] | None,
    train: Chunk,
    num_in: Int32[Array, " padded"],
    test: Chunk,
    num_right: Int32[Array, " test"],
    num_models: Int32[Array, ""],
    start: Int32[Array, ""],
    *,
    rows: int,
) -> Float32[Array, "rows test"]:
    right_in = add_counts(leading, tile_of(train, start, rows), test)
    right_out = num_right[None, :] - right_in
    return difference_of_means(
        right_in.astype(jnp.float32),
        right_out.astype(jnp.float32),
        jax.lax.dynamic_slice_in_dim(num_in, start, rows),
        num_models,
    )


@jax.jit
def _influence_of_digits(masks: Bool[Array, "models rows"], score: FixedPoint) -> Float32[Array, "rows test"]:
    sum_in: DigitSums = sum_digits(masks, score.digits)
    sum_out: DigitSums = score.totals.astype(sum_in.dtype)[None, :] - sum_in
    num_in = jnp.sum(masks, axis=0, dtype=jnp.int32)
    difference = difference_of_means(in_units(sum_in), in_units(sum_out), num_in, jnp.int32(len(masks)))
    return difference * score.unit[None, :]
