"""Pairs that reach thresholds in both and in either of two estimates, a tile at a time.

A pair is in the intersection at a threshold iff the lower of its two estimates reaches it, and in the union iff the
higher one does. No train x test array is ever stored.

Influences of 0-1 scores are compared as whole numbers (`CountTiles.limits`), all others as float32. On CPUs with a C++ compiler
kernels written by hand count the pairs (`jaxinfl/native/overlap.cpp`). Elsewhere the device finds how many of the sorted
thresholds each of the two estimates of a pair reaches: the histogram of those pairs of numbers holds the whole curve.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int64, Num, UInt16

from jaxinfl import native
from jaxinfl.influence.counts import call_with_64_bits
from jaxinfl.influence.place import platform
from jaxinfl.influence.tiles import StoredTiles, Tiles, is_undefined, one_ahead, tile_starts

AnyTiles = Tiles | StoredTiles

# (thresholds + 1)^2 bins fit uint16 and the cache. More thresholds take several passes over a tile.
_THRESHOLDS_PER_PASS = 63

# Pairs times thresholds from which on the kernel written by hand is compiled if it is not there yet: that takes some seconds,
# once a machine, in which XLA's loop and the histogram do as much.
_WORTH_COMPILING = 1e9


def count_overlap(
    tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, thresholds: Float[np.ndarray, " thresholds"]
) -> tuple[Int64[np.ndarray, " thresholds"], Int64[np.ndarray, " thresholds"]]:
    """Number of pairs in the intersection and in the union, for each threshold in the order given.

    Args:
      tiles_a, tiles_b: two estimates of the same pairs, with equally many rows a tile; they may be the same object.
      num_train: training examples; the last tile may hold more rows, which are undefined.
      thresholds: in the unit of the influence; NaN is never reached.
    """
    order = np.argsort(thresholds, kind="stable")
    count = _count_natively if _is_native(tiles_a, tiles_b, num_train, thresholds.size) else _count_by_histogram
    counts = np.empty((2, thresholds.size), np.int64)
    counts[:, order] = count(tiles_a, tiles_b, num_train, thresholds[order])
    return counts[0], counts[1]


def is_worth_native(num_train: int, num_test: int, num_thresholds: int) -> bool:
    """Whether kernels written by hand can count so many pairs here, and there are enough to compile them for."""
    if platform() != "cpu" or num_train * num_test * num_thresholds < _WORTH_COMPILING:
        return False
    return native.why_unavailable() is None


def _is_native(tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, num_thresholds: int) -> bool:
    """Whether the kernel written by hand counts these pairs."""
    taken = tiles_a.dtype in native.OVERLAP_DTYPES and tiles_b.dtype in native.OVERLAP_DTYPES
    return taken and is_worth_native(num_train, tiles_a.num_test, num_thresholds)


def _estimates(tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int) -> Iterator[tuple[Array, Array, slice]]:
    """Both estimates of each tile, and the training examples that it holds."""
    for start in tile_starts(num_train, tiles_a.rows):
        a = tiles_a.comparable(start)
        b = a if tiles_b is tiles_a else tiles_b.comparable(start)
        yield a, b, slice(start, start + tiles_a.rows)


def _count_natively(
    tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, thresholds: Float[np.ndarray, " thresholds"]
) -> Int64[np.ndarray, "2 thresholds"]:
    """Pairs in the intersection and in the union; the thresholds rise."""
    limits_a, limits_b = tiles_a.limits(thresholds), tiles_b.limits(thresholds)
    counted = (
        call_with_64_bits(_overlap_counts, a, b, _rows_of(limits_a, rows), _rows_of(limits_b, rows))
        for a, b, rows in _estimates(tiles_a, tiles_b, num_train)
    )
    counts = np.zeros((2, thresholds.size), np.int64)
    for of_tile in one_ahead(counted):
        counts += np.asarray(of_tile)
    return counts


_overlap_counts = jax.jit(native.overlap_counts)


def _count_by_histogram(
    tiles_a: AnyTiles, tiles_b: AnyTiles, num_train: int, thresholds: Float[np.ndarray, " thresholds"]
) -> Int64[np.ndarray, "2 thresholds"]:
    """Pairs in the intersection and in the union; the thresholds rise."""
    passes = -(-thresholds.size // _THRESHOLDS_PER_PASS)
    # Filled up with NaN, which no estimate reaches, so that each pass is the same compiled function.
    limits = np.full((passes, -(-thresholds.size // passes)), np.nan)
    limits.ravel()[: thresholds.size] = thresholds
    bins = limits.shape[1] + 1
    limits_a, limits_b = ([tiles.limits(each) for each in limits] for tiles in (tiles_a, tiles_b))
    reached = (
        [
            call_with_64_bits(_thresholds_reached, a, b, _rows_of(limit_a, rows), _rows_of(limit_b, rows))
            for limit_a, limit_b in zip(limits_a, limits_b, strict=True)
        ]
        for a, b, rows in _estimates(tiles_a, tiles_b, num_train)
    )
    # int64, on the host: the pairs of a large data set exceed int32.
    histograms = np.zeros((passes, bins * bins), np.int64)
    for of_tile in one_ahead(reached):
        for histogram, numbers in zip(histograms, of_tile, strict=True):
            histogram += np.bincount(np.asarray(numbers).ravel(), minlength=bins * bins)
    tables = histograms.reshape(passes, bins, bins)
    # The lower estimate decides the intersection, the higher one the union.
    return np.stack([_count_at_least(tables.sum(axis=axis)).ravel()[: thresholds.size] for axis in (1, 2)])


def _count_at_least(histogram: Int64[np.ndarray, "passes bins"]) -> Int64[np.ndarray, "passes thresholds"]:
    """Number of pairs that reach each threshold, from how many pairs reach exactly so many thresholds."""
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
