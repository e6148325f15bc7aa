"""Data Banzhaf values from models on random subsets."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import chdtri

from jaxinfl.influence.outcomes import Models, Score, take_outcomes

_UNLIKELY = 1e-6
"""Probability with which independent subsets are refused."""


def data_banzhaf(masks: Models, score: Score = None) -> Float[np.ndarray, "train test"]:
    """Data Banzhaf values: what an example adds to the score of a random subset of the others, averaged over all subsets.

    Every model tells about every example (maximum sample reuse), which makes this the difference of means that
    `jaxinfl.influence` computes, faster and in float32, from subsets in which every example is or is not by itself.

    Args:
      masks: bool [models, train], or an `Ensemble`, whose diverged models are left out, or `Outcomes`; every example in or out with probability 1/2, independently (`rng.random(shape) < 0.5`,
        or all 2^train subsets once: then the values are exact). Subsets of one size, as `draw_subsets(..., ratio=0.5)` draws
        them, are refused: who is in keeps others out, so the difference of means is an example's value minus the mean
        value of the others, and no number of models tells that mean. In an additive game of 1, 2, ..., 10 it is -5 to 5.
      score: bool or float [models, test], the subset's utility; for an `Ensemble` the name of a score.

    Returns:
      float64 [train, test]; NaN where an example is in no subset or in all of them.

    Raises:
      TypeError, ValueError: shapes that do not fit, NaN; examples whose share of the subsets is not 1/2 (by five standard
        errors); subsets whose sizes vary less than those of independent examples do.

    Source: Wang and Jia (2023), "Data Banzhaf: a robust data valuation framework for machine learning", AISTATS, and
    its estimator of maximum sample reuse; Banzhaf (1965).
    """
    given = take_outcomes(masks, score)
    checked, measured = given.masks, given.test_score.astype(np.float64)
    share = checked.mean(axis=0)
    off = np.flatnonzero(np.abs(share - 0.5) > 2.5 / np.sqrt(len(checked)))
    if off.size:
        raise ValueError(
            f"masks holds {off.size} of {share.size} examples that are not in about half of the subsets (first: example "
            f"{off[0]}, in {share[off[0]]:.0%}); Banzhaf values take subsets of ratio 1/2: rng.random((models, train)) < 0.5."
        )
    _check_sizes(checked)
    seen = checked.astype(np.float64).T
    num_in = seen.sum(axis=1)[:, None]
    num_out = len(checked) - num_in
    sum_in = seen @ measured
    sum_out = measured.sum(axis=0) - sum_in
    defined = (num_in > 0) & (num_out > 0)
    return np.where(defined, sum_in / np.maximum(num_in, 1) - sum_out / np.maximum(num_out, 1), np.nan)


def _check_sizes(masks: Bool[np.ndarray, "models train"]) -> None:
    """Raise `ValueError` where the sizes of the subsets vary less than a binomial number does."""
    models, train = masks.shape
    sizes = masks.sum(axis=1)
    # Of independent examples the variance is train / 4; a sample of it has a chi-squared distribution.
    least = train / 4 * chdtri(models - 1, 1 - _UNLIKELY) / (models - 1) if models > 1 else -1.0
    if train > 1 and sizes.var(ddof=min(models - 1, 1)) < least:
        raise ValueError(
            f"masks holds subsets of {sizes.min()} to {sizes.max()} of {train} examples, a size that is fixed, or nearly so: "
            "differences of means are then values minus the mean value of the other examples, and tell nothing of that mean. "
            "Draw rng.random((models, train)) < 0.5, or take jaxinfl.influence for such differences."
        )
