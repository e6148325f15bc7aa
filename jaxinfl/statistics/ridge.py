"""Ridge regression of the scores on the masks, for all test examples and penalties from one eigendecomposition."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Penalties as multiples of the mean eigenvalue; the last, no regression at all, is what pure noise should choose.
_PENALTIES = np.concatenate([np.logspace(-2, 2, 13), [np.inf]])

# float64 values of one array that is not the result, 64 MB.
_VALUES_AT_ONCE = 2**23


class Spectrum(NamedTuple):
    """The centred masks X as U diag(sqrt(values)) V', without V; each row times the root of its number of models."""

    masks: Bool[np.ndarray, "subsets train"]
    size: Float[np.ndarray, " subsets"]
    """Models of each subset."""
    vectors: Float[np.ndarray, "subsets rank"]
    """U."""
    values: Float[np.ndarray, " rank"]
    """Eigenvalues of X X', falling, those above rounding."""

    def centred(self, examples: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "subsets rows"]:
        """X's columns of some examples."""
        return centred(self.masks[:, examples], self.size)


class Ridge(NamedTuple):
    """The regressions of some test examples."""

    penalty: Float[np.ndarray, " test"]
    """Penalty that was chosen; infinite where no regression predicts better than the mean."""
    dual: Float[np.ndarray, "subsets test"]
    """Weights are X' of it."""
    left_out: Float[np.ndarray, "subsets test"]
    """Mean score of each subset minus its prediction from all other subsets, times the root of its number of models."""


def centred(values: np.ndarray, size: Float[np.ndarray, " subsets"]) -> Float[np.ndarray, "subsets columns"]:
    """Values minus their mean over models, each row times the root of its number of models: what least squares is done on."""
    wide = values.astype(np.float64)
    moved: Float[np.ndarray, "subsets columns"] = wide - np.average(wide, axis=0, weights=size)
    return moved * np.sqrt(size)[:, None]


def decompose(masks: Bool[np.ndarray, "subsets train"], size: Float[np.ndarray, " subsets"]) -> Spectrum:
    """Decompose the centred masks, which every fit on these subsets shares.

    It takes the smaller of the two Gram matrices: O(subsets * train * min(subsets, train)) time, a few float64 masks of memory.

    Args:
      masks: different subsets.
      size: models on each. The errors of models that share a subset differ by a constant from that of their mean, which
        therefore stands for them; left out, a subset is left out with all its models.
    """
    moved = centred(masks, size)
    few_models = len(masks) <= masks.shape[1]
    values, vectors = np.linalg.eigh(moved @ moved.T if few_models else moved.T @ moved)
    # Centring takes one dimension, subsets of one size another.
    kept = np.flatnonzero(values > 1e-9 * max(values.max(initial=0), 1e-300))[::-1]
    values, vectors = values[kept], vectors[:, kept]
    return Spectrum(masks, size, vectors if few_models else moved @ (vectors / np.sqrt(values)), values)


def fit(spectrum: Spectrum, score: Float[np.ndarray, "subsets test"], penalty: float | None = None) -> Ridge:
    """One ridge regression with intercept a test example.

    Args:
      spectrum: of the masks.
      score: float64, the mean over the models of each subset.
      penalty: of the sum of squared weights, added to the sum of squared errors over models, for all test examples; None
        chooses each one's own from 14 by the mean squared error of predicting each subset from the others, exact and
        without a refit.

    Source: Hoerl and Kennard (1970), Technometrics 12; Allen (1974), Technometrics 16, for the left-out residuals.
    """
    # scikit-learn's RidgeCV(alpha_per_target=True) gives the same penalties and weights to 2e-14 of the largest one. From 400
    # models it takes 0.7 to 1.5 times as long for 1,437 training and 360 test examples, and 4 times for 10,000 and 2,000 (20 s
    # and 4.8 s): medians of 3 to 5 interleaved rounds, 2026-11-26, 2 busy cores, scikit-learn 1.9.1. It knows neither "no
    # regression" nor the left-out residuals with their signs, which `adjusted` needs.
    moved = centred(score, spectrum.size)
    projected = spectrum.vectors.T @ moved
    typical = spectrum.values.mean() if spectrum.values.size else 1.0
    penalties = _PENALTIES * typical if penalty is None else np.array([penalty])
    best = Ridge(np.full(score.shape[1], np.inf), np.zeros_like(score), np.zeros_like(score))
    lowest = np.full(score.shape[1], np.inf)
    squares, share = spectrum.vectors**2, spectrum.size / spectrum.size.sum()
    for tried in penalties:
        kept = spectrum.values / (spectrum.values + tried)
        residual = moved - spectrum.vectors @ (kept[:, None] * projected)
        left_out = residual / (1 - share - squares @ kept)[:, None]
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

    What the others predict for a model comes from the regression on the models of all other subsets, so that it is independent of the
    model's own score, and from the weights of the other examples, so that the example's own effect stays whole.

    Source: Wager, Du, Taylor and Tibshirani (2016), "High-dimensional regression adjustments in randomized experiments",
    PNAS 113 (cross-estimation).
    """
    num_subsets, num_test = ridge.left_out.shape
    # The intercept's share stays in: a constant has no influence.
    unpredicted = (1 - spectrum.size / spectrum.size.sum())[:, None] * ridge.left_out
    found = np.empty((examples.size, num_test))
    rows = max(1, _VALUES_AT_ONCE // num_subsets)
    for start in range(0, examples.size, rows):
        part = slice(start, start + rows)
        columns = spectrum.centred(examples[part])
        # Mean with minus mean without the example: x / sum x^2, for centred x.
        contrast = columns / np.maximum((columns**2).sum(axis=0), 1e-300)
        block = contrast.T @ unpredicted + columns.T @ ridge.dual
        for penalty in np.unique(ridge.penalty[np.isfinite(ridge.penalty)]):
            alike = ridge.penalty == penalty
            own = (spectrum.vectors.T @ columns) / (spectrum.values + penalty)[:, None]
            change = spectrum.vectors @ own
            block[:, alike] -= (contrast * columns * change).T @ ridge.left_out[:, alike]
        found[part] = block
    return found
