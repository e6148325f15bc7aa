"""Influence of some training examples at a time on all test examples, so that train x test need never be stored.

An estimate is a fraction: of N models n hold the example, whose scores sum to S, and all scores sum to R; then the
difference of means is (N S - n R) / (n (N - n)). Numerator and denominator are exact, so an estimate has the same bits in
whatever tile it is computed, streamed results equal stored ones, and equal influences are equal numbers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Num

from jaxinfl.influence.counts import (
    Chunk,
    Packed,
    add_counts,
    call_with_64_bits,
    choose_kernel,
    leading_counts,
    pack_models,
    tile_of,
)
from jaxinfl.influence.fixed_point import DigitSums, FixedPoint, in_units, sum_digits, to_fixed_point
from jaxinfl.influence.place import in_place
from jaxinfl.influence.thresholds import smallest_numerators
from jaxinfl.undefined import nan_is_an_answer

# 16 MB a float32 tile: large enough to hide the dispatch of a kernel, small enough to stay near the caches.
_PAIRS_PER_TILE = 2**22


MOST_MODELS_INT32 = 92_681
"""Models up to which no numerator overflows int32."""

Width = Literal["float32", "float64"]


class Totals(NamedTuple):
    """Counts of each example alone, apart from the pairs."""

    num_in: Int32[Any, " padded"]
    """Number of models that are trained on each training example."""
    num_right: Int32[Any, " test"]
    """Number of models that are right on each test example."""
    num_models: Any


@dataclass(frozen=True, eq=False)
class CountTiles:
    """Estimates from 0-1 scores, by joint counts."""

    train: Packed
    num_in: Int32[np.ndarray, " padded"]
    test: Packed
    num_right: Int32[Array, " test"]
    num_models: int
    rows: int

    def tile(self, start: int, width: Width = "float32") -> Float[Array, "rows test"]:
        """Influence of training examples `start` to `start + rows`, correctly rounded."""
        return self._call(_influence_of_counts, start, width=width)

    def comparable(self, start: int) -> Int[Array, "rows test"]:
        """Numerators of these influences, to be compared with `limits`; an undefined influence is the lowest integer."""
        return self._call(_numerators_of_counts, start, dtype=self.dtype)

    def limits(self, thresholds: Float[np.ndarray, " thresholds"]) -> Int[np.ndarray, "padded thresholds"]:
        """The numerator at which the influence of each training example reaches each threshold."""
        num_in = self.num_in.astype(np.int64)
        return smallest_numerators(thresholds, num_in * (self.num_models - num_in)).astype(self.dtype)

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self.num_right)

    @property
    def dtype(self) -> str:
        """The type of what is compared; int32 while no numerator overflows it."""
        return "int32" if self.num_models <= MOST_MODELS_INT32 else "int64"

    def _call(self, kernel: Any, start: int, **static: str) -> Array:
        leading = leading_counts(self.train, self.test, start, self.rows)
        result: Array = call_with_64_bits(
            kernel,
            leading,
            self.train[-1],
            self.test[-1],
            Totals(self.num_in, self.num_right, np.int32(self.num_models)),
            np.int32(start),
            rows=self.rows,
            **static,
        )
        return result


@dataclass(frozen=True, eq=False)
class FloatTiles:
    """Estimates from float scores, by exact sums of their digits."""

    masks: Bool[np.ndarray, "models padded"]
    score: FixedPoint
    rows: int
    dtype = "float32"

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self.score.unit)

    def tile(self, start: int, width: Width = "float32") -> Float[Array, "rows test"]:
        """Influence of training examples `start` to `start + rows`, of the scores in fixed point, correctly rounded."""
        estimate: Float[Array, "rows test"] = call_with_64_bits(
            _influence_of_digits, self.masks[:, start : start + self.rows], self.score, width=width
        )
        return estimate

    def comparable(self, start: int) -> Float[Array, "rows test"]:
        """These influences, to be compared with `limits`; NaN where one is undefined."""
        return self.tile(start)

    def limits(self, thresholds: Float[np.ndarray, " thresholds"]) -> Float32[np.ndarray, "1 thresholds"]:
        """The influence at which each threshold is reached: the thresholds in float32, one row for all training examples."""
        return thresholds.astype(np.float32)[None, :]


@dataclass(frozen=True, eq=False)
class StoredTiles:
    """Estimates that are stored as one array of floats."""

    estimate: Any
    """Floats [train, test], NumPy or JAX."""
    rows: int
    dtype = "float32"

    @property
    def num_test(self) -> int:
        """Test examples."""
        return int(self.estimate.shape[1])

    def comparable(self, start: int) -> Float32[Array, "rows test"]:
        """Training examples `start` to `start + rows`; the last tile is filled up with NaN, so that all have one shape."""
        with nan_is_an_answer(), in_place():
            block = jnp.asarray(self.estimate[start : start + self.rows], jnp.float32)
            missing = self.rows - len(block)
            return jnp.pad(block, ((0, missing), (0, 0)), constant_values=jnp.nan) if missing else block

    def limits(self, thresholds: Float[np.ndarray, " thresholds"]) -> Float32[np.ndarray, "1 thresholds"]:
        """The influence at which each threshold is reached: the thresholds in float32, one row for all training examples."""
        return thresholds.astype(np.float32)[None, :]


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
    return CountTiles(train, np.asarray(num_in), test, num_right, len(masks), rows)


def default_rows(num_train: int, num_test: int) -> int:
    """Training examples in a tile of about 4 million pairs, shared out evenly, so that little of the last tile is padding."""
    num_tiles = -(-num_train * num_test // _PAIRS_PER_TILE)
    return -(-num_train // min(num_tiles, num_train))


def tile_starts(num_train: int, rows: int) -> Iterator[int]:
    """First training example of each tile."""
    return iter(range(0, num_train, rows))


T = TypeVar("T")


def one_ahead(results: Iterable[T]) -> Iterator[T]:
    """Yield each result after the next one is dispatched, so that device and host work side by side.

    More than one ahead would only hold memory.
    """
    iterator = iter(results)
    try:
        waiting = next(iterator)
    except StopIteration:
        return
    for result in iterator:
        yield waiting
        waiting = result
    yield waiting


def is_undefined(comparable: Num[Array, "rows test"]) -> Bool[Array, "rows test"]:
    """Where an estimate is undefined, as `comparable` returns it: it is over no model with, or without, the example."""
    if jnp.issubdtype(comparable.dtype, jnp.floating):
        return jnp.isnan(comparable)
    return comparable == jnp.iinfo(comparable.dtype).min


@partial(jax.jit, static_argnames=("rows", "dtype"))
def _numerators_of_counts(
    leading: Int32[Array, "rows test"] | None,
    train: Chunk,
    test: Chunk,
    totals: Totals,
    start: Int32[Array, ""],
    *,
    rows: int,
    dtype: str,
) -> Int[Array, "rows test"]:
    right_in = add_counts(leading, tile_of(train, start, rows), test)
    inside, everything = (
        jax.lax.dynamic_slice_in_dim(totals.num_in, start, rows)[:, None].astype(dtype),
        totals.num_models.astype(dtype),
    )
    # Either product may overflow; their difference does not, and whole numbers wrap around.
    numerator = everything * right_in.astype(dtype) - inside * totals.num_right[None, :].astype(dtype)
    defined = (inside > 0) & (inside < everything)
    return jnp.where(defined, numerator, jnp.iinfo(dtype).min)


@partial(jax.jit, static_argnames=("rows", "width"))
def _influence_of_counts(
    leading: Int32[Array, "rows test"] | None,
    train: Chunk,
    test: Chunk,
    totals: Totals,
    start: Int32[Array, ""],
    *,
    rows: int,
    width: Width,
) -> Float[Array, "rows test"]:
    right_in = add_counts(leading, tile_of(train, start, rows), test)
    inside = jax.lax.dynamic_slice_in_dim(totals.num_in, start, rows)
    num_right = totals.num_right.astype(jnp.float64)
    return _quotient(right_in.astype(jnp.float64), num_right, inside, totals.num_models).astype(width)


@partial(jax.jit, static_argnames="width")
def _influence_of_digits(
    masks: Bool[Array, "models rows"], score: FixedPoint, *, width: Width
) -> Float[Array, "rows test"]:
    sum_in: DigitSums = sum_digits(masks, score.digits)
    num_in = jnp.sum(masks, axis=0, dtype=jnp.int32)
    quotient = _quotient(in_units(sum_in), in_units(score.totals[None, :])[0], num_in, jnp.int32(len(masks)))
    return (quotient * score.unit.astype(jnp.float64)[None, :]).astype(width)


def _quotient(
    sum_in: Float[Array, "rows test"],
    total: Float[Array, " test"],
    num_in: Int32[Array, " rows"],
    num_models: Int32[Array, ""],
) -> Float[Array, "rows test"]:
    """The difference of means as one fraction, in float64; NaN where either mean is over no model (0 / 0)."""
    inside, everything = num_in.astype(jnp.float64)[:, None], num_models.astype(jnp.float64)
    numerator = everything * sum_in - inside * total[None, :]
    # The barrier hides that the divisor is one value a row: XLA would multiply by its reciprocal for most shapes, and
    # divide for others, and a quarter of the quotients would depend on the shape in their last bit.
    divisor = jnp.broadcast_to(inside * (everything - inside), numerator.shape)
    return numerator / jax.lax.optimization_barrier(divisor)
