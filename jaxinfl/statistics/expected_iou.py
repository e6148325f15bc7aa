"""The IOU of two estimates that a distribution of true influences leads to."""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr


def chance_to_reach(
    with_example: Float[np.ndarray, "*atoms"],
    without: Float[np.ndarray, "*atoms"],
    num_models: float,
    ratio: float,
    thresholds: Float[np.ndarray, " thresholds"],
) -> Float[np.ndarray, "thresholds atoms"]:
    """Probability that the influence estimated from so many models is at least a threshold.

    The difference of two binomial proportions, normal with a correction for its skewness (one term of Edgeworth's
    expansion): the numbers of models with and without an example vary from example to example, which smooths away the steps
    of the exact distribution.

    Args:
      with_example: true probability that a model with the example is right, 0 to 1; of any shape, which is flattened in the result.
      without: the same of a model without the example, in the same shape.
      num_models: number of models of the estimate.
      ratio: share of these models that are trained with the example.
      thresholds: influences to be reached.
    """
    p, q = with_example.ravel(), without.ravel()
    num_in = ratio * num_models
    num_out = num_models - num_in
    variance_in, variance_out = p * (1 - p) / num_in, q * (1 - q) / num_out
    deviation = np.sqrt(np.maximum(variance_in + variance_out, 1e-12))
    third = variance_in * (1 - 2 * p) / num_in - variance_out * (1 - 2 * q) / num_out
    # Beyond a skewness of 1 the expansion means nothing any more; such pairs have next to no influence or noise.
    skewness = np.clip(third / deviation**3, -1, 1)[None, :]
    z = (thresholds[:, None] - (p - q)[None, :]) / deviation[None, :]
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return np.clip(ndtr(-z) + skewness * (z**2 - 1) / 6 * density, 0, 1)


def expected_iou(
    reach: Float[np.ndarray, "thresholds atoms"], distribution: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, " thresholds"]:
    """Expected number of pairs in the intersection of two independent estimates, over that in their union."""
    union = (2 * reach - reach**2) @ distribution
    return np.divide(reach**2 @ distribution, union, out=np.full(union.shape, np.nan), where=union > 0)
