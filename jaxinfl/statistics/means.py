"""Means over some of the models."""

import numpy as np
from jaxtyping import Bool, Float


def mean_over_models(score: np.ndarray, members: Bool[np.ndarray, "models examples"]) -> Float[np.ndarray, " examples"]:
    """Mean score on each example over its own models, those of `members`, in float64; NaN where it has none.

    Args:
      score: bool or float [models, examples].
      members: which models count for each example, such as `masks` for those that were trained on it.
    """
    number = members.sum(axis=0)
    total = np.sum(score, axis=0, where=members, dtype=np.float64)
    return np.divide(total, number, where=number > 0, out=np.full(len(number), np.nan))


__all__ = ["mean_over_models"]
