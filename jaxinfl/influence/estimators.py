"""Influence and memorization: the mean score with an example minus the mean score without it."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float32, Float64, Int

from jaxinfl.arguments import check_masks, check_score
from jaxinfl.influence.counts import total
from jaxinfl.influence.fixed_point import in_units, own_sums, to_fixed_point
from jaxinfl.influence.thresholds import simplest_fraction
from jaxinfl.influence.tiles import default_rows, make_tiles, starts

# Training examples whose digits are held at once, 32 MB at 1000 models.
_COLUMNS = 4096


def influence(masks: ArrayLike, score: ArrayLike) -> Float32[np.ndarray, "train test"]:
    """Mean score on example j of the models that were trained on example i, minus that of the models that were not.

    Args:
      masks: bool [models, train], NumPy or JAX; `masks[t, i]` says whether model t was trained on example i.
      score: [models, test], model t's score on test example j: bool (right or wrong), or float, computed with as
        float32. Its unit is the unit of the result: 0-1 correctness gives a difference of probabilities.

    Returns:
      float32 [train, test]. NaN where the example is in no subset or in all of them (with one model: everywhere), for
      then one of the means is over nothing; no epsilon turns it into a number.
      Bool scores: the fraction right_in / num_in - right_out / num_out, rounded once: equal influences are equal numbers,
      and one that equals a threshold of 0.2 is float32(0.2).
      Float scores: the same for scores that are rounded to 2**-27 of the column's range; within 2**-21 of the column's
      range (highest minus lowest score) of the result in exact arithmetic.
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
    result = np.empty((num_train, num_test), np.float32)
    for start in starts(num_train, tiles.rows):
        result[start : start + tiles.rows] = np.asarray(tiles.tile(start))[: num_train - start]
    return result


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
    return _memorization(masks, train_score)[0]


def memorized(
    masks: ArrayLike, train_score: ArrayLike, minimum: float | None
) -> tuple[Int[np.ndarray, " kept"], Float32[np.ndarray, " train"]]:
    """Indices of the training examples whose memorization is above `minimum`, and the memorization of all of them.

    This is the condition of Appendix E. NaN is not above anything; a `minimum` of None keeps every example. The fraction
    that a memorization is gets compared with the simplest fraction that `minimum` may stand for: one of exactly 0.2
    (4/5 - 3/5) is not above 0.2.
    """
    rounded, exact = _memorization(masks, train_score)
    if minimum is None:
        return np.arange(exact.size), rounded
    limit = float(simplest_fraction(minimum))
    # float64 tells fractions of up to a million models from any other.
    return np.flatnonzero(exact > limit), rounded


def _memorization(
    masks: ArrayLike, train_score: ArrayLike
) -> tuple[Float32[np.ndarray, " train"], Float64[np.ndarray, " train"]]:
    """Memorization in float32, as it is reported, and in float64, as it is compared."""
    checked = check_masks(masks)
    num_models, num_train = checked.shape
    scores = check_score(train_score, num_models, "train_score", num_columns=num_train)
    exact = np.empty(num_train, np.float64)
    for start in range(0, num_train, _COLUMNS):
        block = slice(start, start + _COLUMNS)
        members, score = checked[:, block], scores[:, block]
        num_in = np.asarray(total(members)).astype(np.float64)
        if score.dtype == np.bool_:
            sum_in, sum_all = (np.asarray(total(flags)).astype(np.float64) for flags in (members & score, score))
            unit = np.ones(1)
        else:
            digits = to_fixed_point(score)
            sum_in, sum_all = in_units(own_sums(members, digits.digits)), in_units(np.asarray(digits.totals))
            unit = np.asarray(digits.unit).astype(np.float64)
        numerator, denominator = num_models * sum_in - num_in * sum_all, num_in * (num_models - num_in)
        quotient = np.full(num_in.size, np.nan)
        exact[block] = np.divide(numerator, denominator, out=quotient, where=denominator > 0) * unit
    return exact.astype(np.float32), exact
