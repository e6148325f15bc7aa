"""Ridge regression of the scores on the masks, for all test examples and penalties from one eigendecomposition."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Penalties as multiples of the mean eigenvalue; the last, no regression at all, is what pure noise should choose.
_PENALTIES = np.concatenate([np.logspace(-2, 2, 13), [np.inf]])

# float64 values of one array that is not the result, 64 MB.
_VALUES_AT_ONCE = 2**23


class Spectrum(NamedTuple):
    """The centred masks X as U diag(sqrt(values)) V', without V."""

    masks: Bool[np.ndarray, "models train"]
    vectors: Float[np.ndarray, "models rank"]
    """U."""
    values: Float[np.ndarray, " rank"]
    """Eigenvalues of X X', falling, those above rounding."""

    def centred(self, examples: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "models rows"]:
        """X's columns of some examples."""
        part = self.masks[:, examples].astype(np.float64)
        return part - part.mean(axis=0)


class Ridge(NamedTuple):
    """The regressions of some test examples."""

    penalty: Float[np.ndarray, " test"]
    """As chosen; infinite where no regression predicts better than the mean."""
    dual: Float[np.ndarray, "models test"]
    """Weights are X' of it."""
    left_out: Float[np.ndarray, "models test"]
    """Score of each model minus its prediction from all other models."""


def decompose(masks: Bool[np.ndarray, "models train"]) -> Spectrum:
    """By the smaller of the two Gram matrices: O(models * train * min(models, train)) time, a few float64 masks of memory."""
    centred = masks.astype(np.float64)
    centred -= centred.mean(axis=0)
    few_models = len(masks) <= masks.shape[1]
    values, vectors = np.linalg.eigh(centred @ centred.T if few_models else centred.T @ centred)
    # Centring takes one dimension, subsets of one size another.
    kept = np.flatnonzero(values > 1e-9 * max(values.max(initial=0), 1e-300))[::-1]
    values, vectors = values[kept], vectors[:, kept]
    return Spectrum(masks, vectors if few_models else centred @ (vectors / np.sqrt(values)), values)


def fit(spectrum: Spectrum, score: Float[np.ndarray, "models test"], penalty: float | None = None) -> Ridge:
    """One ridge regression with intercept a test example.

    Args:
      spectrum: of the masks.
      score: float64.
      penalty: of the sum of squared weights, for all test examples; None chooses each one's own from 14 by the mean
        squared error of predicting each model from the others, exact and without a refit.

    Source: Hoerl and Kennard (1970), Technometrics 12; Allen (1974), Technometrics 16, for the left-out residuals.
    """
    num_models = len(score)
    centred = score - score.mean(axis=0)
    projected = spectrum.vectors.T @ centred
    typical = spectrum.values.mean() if spectrum.values.size else 1.0
    penalties = _PENALTIES * typical if penalty is None else np.array([penalty])
    best = Ridge(np.full(score.shape[1], np.inf), np.zeros_like(score), np.zeros_like(score))
    lowest = np.full(score.shape[1], np.inf)
    squares = spectrum.vectors**2
    for tried in penalties:
        kept = spectrum.values / (spectrum.values + tried)
        residual = centred - spectrum.vectors @ (kept[:, None] * projected)
        left_out = residual / (1 - 1 / num_models - squares @ kept)[:, None]
        error = (left_out**2).mean(axis=0)
        better = error < lowest
        lowest[better] = error[better]
        best.penalty[better] = tried
        best.left_out[:, better] = left_out[:, better]
        # (X X' + penalty)^-1 of the part that U spans; outside of it the masks do not reach.
        part = (projected / (spectrum.values + tried)[:, None])[:, better]
        best.dual[:, better] = spectrum.vectors @ part
    return best


def weights(spectrum: Spectrum, ridge: Ridge, examples: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows test"]:
    """Ridge weights of some training examples."""
    found: Float[np.ndarray, "rows test"] = spectrum.centred(examples).T @ ridge.dual
    return found


def adjusted(spectrum: Spectrum, ridge: Ridge, examples: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows test"]:
    """Difference of means, with and without the example, of what the OTHER examples do not predict.

    What the others predict for a model comes from the regression on all other models, so that it is independent of the
    model's own score, and from the weights of the other examples, so that the example's own effect stays whole.

    Source: Wager, Du, Taylor and Tibshirani (2016), "High-dimensional regression adjustments in randomized experiments",
    PNAS 113 (cross-estimation).
    """
    num_models, num_test = ridge.left_out.shape
    # The intercept's share stays in: a constant has no influence.
    unpredicted = (1 - 1 / num_models) * ridge.left_out
    found = np.empty((examples.size, num_test))
    rows = max(1, _VALUES_AT_ONCE // num_models)
    for start in range(0, examples.size, rows):
        part = slice(start, start + rows)
        centred = spectrum.centred(examples[part])
        # Mean with minus mean without the example: x / sum x^2, for centred x.
        contrast = centred / np.maximum((centred**2).sum(axis=0), 1e-300)
        block = contrast.T @ unpredicted + centred.T @ ridge.dual
        for penalty in np.unique(ridge.penalty[np.isfinite(ridge.penalty)]):
            columns = ridge.penalty == penalty
            own = (spectrum.vectors.T @ centred) / (spectrum.values + penalty)[:, None]
            change = spectrum.vectors @ own
            block[:, columns] -= (contrast * centred * change).T @ ridge.left_out[:, columns]
        found[part] = block
    return found
