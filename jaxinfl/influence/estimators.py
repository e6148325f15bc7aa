"""Influence and memorization: the mean score with an example minus the mean score without it."""

import numpy as np
from jaxtyping import Float32

from jaxinfl.influence.outcomes import Models, Score, take_outcomes
from jaxinfl.influence.streamed import find_source, stream_influence, stream_memorization
from jaxinfl.influence.tiles import tile_starts


def influence(masks: Models, score: Score = None) -> Float32[np.ndarray, "train test"]:
    """Mean score on example j of the models that were trained on example i, minus that of the models that were not.

    Args:
      masks: bool [models, train], NumPy or JAX: `masks[t, i]` says whether model t was trained on example i. Or an `Ensemble`,
        whose diverged models are left out, or `Outcomes`, which `pack` makes.
      score: [models, test], model t's score on test example j: bool (right or wrong), or float, computed with as
        float32. Its unit is the unit of the result: 0-1 correctness gives a difference of probabilities. For an `Ensemble` the
        name of a score, such as "correct" or "margin"; none for `Outcomes`.

    Returns:
      float32 [train, test]. NaN where the example is in no subset or in all of them (with one model: everywhere), for
      then one of the means is over nothing; no epsilon turns it into a number.
      Bool scores: the fraction right_in / num_in - right_out / num_out, rounded once: equal influences are equal numbers,
      and one that equals a threshold of 0.2 is float32(0.2).
      Float scores: the same for scores that are rounded to 2**-27 of the column's range; within 2**-21 of the column's
      range (highest minus lowest score) of the result in exact arithmetic.
      Memory: the result, one tile of 4 million pairs, a copy of `masks`, and 1 byte (bool) or 16 (float) for every score. Masks of
      more than 256 MB in a mapped file (`read_run`) are read some models at a time, for 0.5 GB and the result.

    Raises:
      TypeError: `masks` is not bool, `score` is neither bool nor float, or a name is given without an `Ensemble`.
      ValueError: an input is not 2-D or is empty, the numbers of models differ, or a score is NaN or inf; an `Ensemble` has no
        score of that name.

    Values are checked on the host, so this is not to be called under `jax.jit`; it compiles what it needs.

    Source: Feldman and Zhang (2020), the subsampled influence estimator; Eqn. 2 and Section 2.3 of the paper.
    """
    source = find_source(masks, score, "test")
    if source is not None:
        return stream_influence(source)
    given = take_outcomes(masks, score)
    num_train, tiles = given.masks.shape[1], given.tiles()
    result = np.empty((num_train, given.test_score.shape[1]), np.float32)
    for start in tile_starts(num_train, tiles.rows):
        result[start : start + tiles.rows] = np.asarray(tiles.tile(start))[: num_train - start]
    return result


def memorization(masks: Models, train_score: Score = None) -> Float32[np.ndarray, " train"]:
    """Influence of each training example on itself: the diagonal of `influence(masks, train_score)`, bit for bit.

    Args:
      masks: bool [models, train]; or an `Ensemble`, or `Outcomes` with a train score, whose memorization is computed once.
      train_score: [models, train], bool or float: model t's score on training example i. For an `Ensemble` the name of a
        score, which is taken of the training examples.

    Returns:
      float32 [train], in the unit of `train_score`; NaN where the example is in no subset or in all of them. Accuracy as
      for `influence`. Takes O(models * train) time; memory beyond the inputs: about 80 kB a model, or 0.2 GB for masks of more than
      256 MB in a mapped file.

    Raises:
      TypeError: `masks` is not bool, or `train_score` is neither bool nor float.
      ValueError: an input is not 2-D or is empty, their shapes differ, or a score is NaN or inf.

    Source: Feldman and Zhang (2020), the subsampled memorization estimator; Appendix E of the paper.
    """
    source = find_source(masks, train_score, "train")
    if source is not None:
        return stream_memorization(source).astype(np.float32)
    return take_outcomes(masks, train_score=train_score).memorization.rounded.copy()
