"""How far an estimated influence may be off."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.subsets import check_masks


class PairUncertainty(NamedTuple):
    """For some pairs of a training and a test example."""

    standard_error: Float[np.ndarray, " pairs"]
    """Of the influence, in its unit; NaN where fewer than two models are on either side."""
    num_in: Int[np.ndarray, " pairs"]
    """Models trained on the training example."""
    num_out: Int[np.ndarray, " pairs"]
    """Models trained without it."""


def pair_uncertainty(
    masks: ArrayLike,
    score: ArrayLike,
    train_index: Int[np.ndarray, " pairs"],
    test_index: Int[np.ndarray, " pairs"],
) -> PairUncertainty:
    """Standard error of the influence of some pairs, and the numbers of models behind it.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t was trained on example i.
      score: bool or float [models, test].
      train_index, test_index: the pairs, [pairs] each.

    Returns:
      sqrt(var_in / num_in + var_out / num_out) with sample variances: the models are independent given their subsets,
      and nothing is pooled (Welch, 1947). It is 0 where all models of each side agree, which says that the models were
      too few to disagree, not that the influence is known. Nor does it know of selection: of many pairs, those with the
      highest estimates are overestimated.

    Raises:
      TypeError, ValueError: masks that are not bool [models, train], a score with another number of models.
    """
    checked, scores = check_masks(masks), np.asarray(score)
    if scores.ndim != 2 or len(scores) != len(checked):
        raise ValueError(f"score has shape {scores.shape}; it takes one row for each of the {len(checked)} models.")
    seen = checked[:, train_index]
    values = scores[:, test_index].astype(np.float64)
    num_in = seen.sum(axis=0)
    squares = [_squared_error(values, members) for members in (seen, ~seen)]
    return PairUncertainty(np.sqrt(squares[0] + squares[1]), num_in, len(checked) - num_in)


def _squared_error(
    values: Float[np.ndarray, "models pairs"], members: Bool[np.ndarray, "models pairs"]
) -> Float[np.ndarray, " pairs"]:
    """Squared standard error of the mean over the members."""
    number = members.sum(axis=0)
    enough = number >= 2
    safe = np.where(enough, number, 2)
    mean = np.where(members, values, 0).sum(axis=0) / safe
    variance = np.where(members, (values - mean) ** 2, 0).sum(axis=0) / (safe - 1)
    return np.where(enough, variance / safe, np.nan)
