"""Influence and memorization: the mean score with an example minus the mean score without it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float32, Int, Int32

from jaxinfl.influence.checks import check_score
from jaxinfl.influence.counts import total
from jaxinfl.influence.fixed_point import FixedPoint, in_units, own_sums, to_fixed_point
from jaxinfl.influence.tiles import default_rows, difference_of_means, make_tiles, starts
from jaxinfl.subsets import check_masks

# Training examples whose digits are held at once, 32 MB at 1000 models.
_COLUMNS = 4096


def influence(masks: ArrayLike, score: ArrayLike) -> Float32[Array, "train test"]:
    """Mean score on example j of the models that were trained on example i, minus that of the models that were not.

    Args:
      masks: bool [models, train], NumPy or JAX; `masks[t, i]` says whether model t was trained on example i.
      score: [models, test], model t's score on test example j: bool (right or wrong), or float, computed with as
        float32. Its unit is the unit of the result: 0-1 correctness gives a difference of probabilities.

    Returns:
      float32 [train, test]. NaN where the example is in no subset or in all of them (with one model: everywhere), for
      then one of the means is over nothing; no epsilon turns it into a number.
      Bool scores: exact counts, then `right_in / num_in - right_out / num_out` in float32.
      Float scores: exact sums of the scores rounded to 2**-27 of the column's range, divided in the same way; within
      2**-21 of the column's range (highest minus lowest score) of the result in exact arithmetic.
      Memory: the result, one tile of 4 million pairs, a copy of `masks`, and 1 byte (bool) or 16 (float) for every score.

    Raises:
      TypeError: `masks` is not bool, or `score` neither bool nor float.
      ValueError: an input is not 2-D or is empty, the numbers of models differ, or a score is NaN or inf.

    Values are checked on the host, so this is not to be called under `jax.jit`; it compiles what it needs.

    Source: Feldman and Zhang (2020), the subsampled influence estimator; Eqn. 2 and Section 2.3 of the paper.
    """
    masks = check_masks(masks)
    score = check_score(score, len(masks))
    num_train, num_test = masks.shape[1], score.shape[1]
    tiles = make_tiles(masks, score, default_rows(num_train, num_test))
    result = jnp.empty((num_train, num_test), jnp.float32)
    for start in starts(num_train, tiles.rows):
        result = _write(result, tiles.tile(start)[: num_train - start], start)
    return result.block_until_ready()  # JAX may be reading the caller's own NumPy arrays


def memorization(masks: ArrayLike, train_score: ArrayLike) -> Float32[np.ndarray, " train"]:
    """Influence of each training example on itself: the diagonal of `influence(masks, train_score)`, bit for bit.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      train_score: [models, train], bool or float: model t's score on training example i.

    Returns:
      float32 [train], in the unit of `train_score`; NaN where the example is in no subset or in all of them. Accuracy as
      for `influence`. Takes O(models * train) time; memory beyond the inputs: about 80 kB a model.

    Raises:
      TypeError: `masks` is not bool, or `train_score` neither bool nor float.
      ValueError: an input is not 2-D or is empty, their shapes differ, or a score is NaN or inf.

    Source: Feldman and Zhang (2020), the subsampled memorization estimator; Appendix E of the paper.
    """
    masks = check_masks(masks)
    num_models, num_train = masks.shape
    train_score = check_score(train_score, num_models, "train_score", num_columns=num_train)
    result = np.empty(num_train, np.float32)
    for start in range(0, num_train, _COLUMNS):
        block = slice(start, start + _COLUMNS)
        if train_score.dtype == np.bool_:
            result[block] = _memorization_of_counts(masks[:, block], train_score[:, block])
        else:
            result[block] = _memorization_of_digits(masks[:, block], to_fixed_point(train_score[:, block]))
    return result


def memorized(memorization: Float32[np.ndarray, " train"], minimum: float | None) -> Int[np.ndarray, " kept"]:
    """Indices of the training examples whose memorization is above `minimum`: the condition of Appendix E.

    NaN is not above anything; a `minimum` of None keeps every example.
    """
    return np.arange(memorization.size) if minimum is None else np.flatnonzero(memorization > minimum)


def _memorization_of_counts(
    masks: Bool[np.ndarray, "models train"], correct: Bool[np.ndarray, "models train"]
) -> Float32[Array, " train"]:
    num_in, num_right, right_in = map(total, (masks, correct, masks & correct))
    return _difference_of_counts(right_in, num_right - right_in, num_in, np.int32(len(masks)))


def _memorization_of_digits(masks: Bool[np.ndarray, "models train"], score: FixedPoint) -> Float32[Array, " train"]:
    num_in = total(masks)
    sum_in = own_sums(masks, score.digits)
    return _difference_of_digits(sum_in, score.totals - sum_in, num_in, np.int32(len(masks)), score.unit)


@jax.jit
def _difference_of_counts(
    right_in: Int32[Array, " train"],
    right_out: Int32[Array, " train"],
    num_in: Int32[Array, " train"],
    num_models: Int32[Array, ""],
) -> Float32[Array, " train"]:
    sum_in, sum_out = right_in.astype(jnp.float32)[:, None], right_out.astype(jnp.float32)[:, None]
    return difference_of_means(sum_in, sum_out, num_in, num_models)[:, 0]


@jax.jit
def _difference_of_digits(
    sum_in: Int32[Array, " digits"],
    sum_out: Int32[Array, " digits"],
    num_in: Int32[Array, " train"],
    num_models: Int32[Array, ""],
    unit: Float32[Array, " train"],
) -> Float32[Array, " train"]:
    inside, outside = in_units(sum_in[None, :]).T, in_units(sum_out[None, :]).T
    return difference_of_means(inside, outside, num_in, num_models)[:, 0] * unit


# Donated: written in place, so that the result exists once.
@partial(jax.jit, donate_argnums=0)
def _write(
    result: Float32[Array, "train test"], tile: Float32[Array, "rows test"], start: Int32[Array, ""] | int
) -> Float32[Array, "train test"]:
    return jax.lax.dynamic_update_slice_in_dim(result, tile, start, axis=0)
