"""Fisher's exact test of one training example on one test example, by tables of whole numbers."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

Alternative = Literal["two-sided", "greater", "less"]


def fisher_table(
    num_in: int, totals: Int[np.ndarray, " totals"], num_models: int, alternative: Alternative
) -> Float[np.ndarray, "counts totals"]:
    """p-values of every number of right models among those trained with an example.

    If the example has no influence, which of the models are right is unrelated to which were trained on it: given the
    totals, the number among `num_in` is hypergeometric. That is exact whatever the number of models.

    Args:
      num_in: models trained with the example, from 1 to num_models - 1.
      totals: models that are right on a test example.
      num_models: models in all.
      alternative: "greater": more right models with the example than chance gives (positive influence); "less": fewer;
        "two-sided": twice the smaller of both, at most 1.

    Returns:
      float64 [num_in + 1, totals]: row k, column j is the p-value of k right models with the example out of
      `totals[j]`; 1 where k cannot occur.

    Source: Fisher (1935), "The logic of inductive inference", Journal of the Royal Statistical Society 98; doubling for two
    sides: Fay (2010), "Confidence intervals that match Fisher's exact or Blaker's exact tests", Biostatistics 11.
    """
    right = np.arange(num_in + 1)[:, None]
    probability, possible = _hypergeometric(right, num_in, totals[None, :], num_models)
    # Each tail is summed from its far end, so that the smallest values keep their digits.
    at_most = np.minimum(np.cumsum(probability, axis=0), 1)
    at_least = np.minimum(np.cumsum(probability[::-1], axis=0)[::-1], 1)
    if alternative == "greater":
        value = at_least
    elif alternative == "less":
        value = at_most
    else:
        value = np.minimum(2 * np.minimum(at_least, at_most), 1)
    return np.where(possible, value, 1.0)


def smallest_p_value(
    num_in: Int[np.ndarray, " sizes"], totals: Int[np.ndarray, " totals"], num_models: int, alternative: Alternative
) -> Float[np.ndarray, "sizes totals"]:
    """The smallest p-value that `fisher_table` can give with these totals, 1 where there is nothing to test."""
    sizes, right = num_in[:, None], totals[None, :]
    highest, lowest = np.minimum(sizes, right), np.maximum(0, right - (num_models - sizes))
    at_highest, _ = _hypergeometric(highest, sizes, right, num_models)
    at_lowest, _ = _hypergeometric(lowest, sizes, right, num_models)
    if alternative == "greater":
        value = at_highest
    elif alternative == "less":
        value = at_lowest
    else:
        value = np.minimum(2 * np.minimum(at_highest, at_lowest), 1)
    return np.where(highest > lowest, value, 1.0)


def _hypergeometric(
    right: Int[np.ndarray, "_ _"], num_in: np.ndarray | int, total: Int[np.ndarray, "1 totals"], num_models: int
) -> tuple[Float[np.ndarray, "_ totals"], np.ndarray]:
    """Probability of so many right models among `num_in`, and whether that can occur."""
    factorial = gammaln(np.arange(num_models + 1) + 1.0)
    num_out = num_models - num_in
    right_out = total - right
    possible = (right <= total) & (right_out <= num_out)
    inside, outside = np.where(possible, right, 0), np.where(possible, right_out, 0)
    logarithm = (
        factorial[num_in] - factorial[inside] - factorial[num_in - inside]
        + factorial[num_out] - factorial[outside] - factorial[num_out - outside]
        - (factorial[num_models] - factorial[total] - factorial[num_models - total])
    )  # fmt: skip
    return np.where(possible, np.exp(logarithm), 0.0), possible
