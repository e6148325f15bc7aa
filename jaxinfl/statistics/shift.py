"""Influence on being right, from the influence on the margin: many models' margins tell more than their 0-1 scores.

A model that is right by a hair and one that is right by far count the same in a share of right models, which throws away
half of what was measured or more. If training on an example moves the margins of a test example and leaves their spread
about the mean as it is, the share of right models with and without the example follows from the distribution of the
margins and how far it moves.

Not every example does only that, so the 0-1 difference has its say as well, the more the better it is known: a direct
estimate drawn to a synthetic one, by as much as all pairs together say that the synthetic one errs.
"""

import numpy as np
from jaxtyping import Bool, Float

# Standard errors of the margin's influence from which a pair tells how far the shift errs.
_CLEAR = 3.0
# Share of the margins' variance that is left to chance at least, however much an example explains.
_LEAST_VARIANCE = 1e-3


def right_with_and_without(
    effect: Float[np.ndarray, "rows test"],
    share_in: Float[np.ndarray, " rows"],
    margin: Float[np.ndarray, "models test"],
    correct: Bool[np.ndarray, "models test"],
) -> tuple[Float[np.ndarray, "rows test"], Float[np.ndarray, "rows test"]]:
    """Share of right models among those with the example, and among those without it, if it moves margins by `effect`.

    A model counts as right above the quantile of the margins that leaves as many above it as are right: with more than two
    classes the highest probability may be below one half.
    """
    mean, deviation = margin.mean(axis=0), margin.std(axis=0)
    right = correct.mean(axis=0)
    with_it, without = np.tile(right, (len(effect), 1)), np.tile(right, (len(effect), 1))
    level = (np.arange(len(margin)) + 0.5) / len(margin)
    for j in np.flatnonzero((right > 0) & (right < 1) & (deviation > 0)):
        ordered = np.sort((margin[:, j] - mean[j]) / deviation[j])
        limit = np.interp(1 - right[j], level, ordered)
        moved = effect[:, j] / deviation[j]
        rest = np.sqrt(np.maximum(1 - share_in * (1 - share_in) * moved**2, _LEAST_VARIANCE))
        with_it[:, j] = 1 - np.interp((limit - (1 - share_in) * moved) / rest, ordered, level)
        without[:, j] = 1 - np.interp((limit + share_in * moved) / rest, ordered, level)
    return with_it, without


def influence_on_being_right(
    effect: Float[np.ndarray, "rows test"],
    statistic: Float[np.ndarray, "rows test"],
    direct: Float[np.ndarray, "rows test"],
    num_in: Float[np.ndarray, " rows"],
    margin: Float[np.ndarray, "models test"],
    correct: Bool[np.ndarray, "models test"],
) -> Float[np.ndarray, "rows test"]:
    """Difference of the shares of right models.

    Args:
      effect: influence on the margin, shrunk or not.
      statistic: the same before it was shrunk, in standard errors.
      direct: difference of the shares of right models as counted.
      num_in: models with the example.
      margin, correct: the models' scores.

    Source: the shift is that of Robins (1986), standardization; the composite that of Fay and Herriot (1979), JASA 74, whose
    variance of the synthetic estimate's error here grows with the square of the estimate.
    """
    num_out = len(margin) - num_in
    with_it, without = right_with_and_without(effect, num_in / len(margin), margin, correct)
    synthetic = with_it - without
    variance = with_it * (1 - with_it) / num_in[:, None] + without * (1 - without) / num_out[:, None]
    clear = (np.abs(statistic) >= _CLEAR) & (variance > 0)
    size = synthetic[clear] ** 2
    # Direct and synthetic estimate err together: (d - s)^2 is on average var(d) - var(s) + error^2, and var(s) that of the
    # margin's influence carried over.
    excess = (direct - synthetic)[clear] ** 2 - variance[clear] + size / statistic[clear] ** 2
    relative = max(float(excess.sum() / size.sum()), 0.0) if size.sum() > 0 else 0.0
    error = relative * synthetic**2
    total = error + variance
    return synthetic + np.where(total > 0, error / np.where(total > 0, total, 1), 0) * (direct - synthetic)
