"""LASSO of the scores on the masks, for all test examples at once, the penalty by cross-validation."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.statistics.ridge import centred

# Penalties as shares of the smallest one at which every weight is 0.
_SHARES = np.logspace(0, -1.5, 10)
_FOLDS = 4
_TOLERANCE = 1e-5
"""Duality gap at which a column is done, as a share of its sum of squares."""
_MOST_STEPS = 100_000


def lasso_weights(
    masks: Bool[np.ndarray, "subsets train"],
    score: Float[np.ndarray, "subsets test"],
    size: Float[np.ndarray, " subsets"],
    penalty: float | None = None,
) -> Float[np.ndarray, "train test"]:
    """Weights with the lowest mean squared error / 2 + penalty * sum of absolute weights; the intercept is free.

    Args:
      masks: different subsets.
      score: float64, the mean over the models of each subset.
      size: models on each subset; errors are over models, folds of subsets.
      penalty: for all test examples; None chooses each one's own from 10, by 4-fold cross-validation over the subsets in
        their order.

    Source: Tibshirani (1996); Friedman, Hastie and Tibshirani (2010), Journal of Statistical Software 33, for coordinate descent.
    """
    varying = np.flatnonzero(np.ptp(score, axis=0) > 0)
    if varying.size < score.shape[1]:
        found = np.zeros((masks.shape[1], score.shape[1]))
        found[:, varying] = lasso_weights(masks, score[:, varying], size, penalty)
        return found
    if penalty is not None:
        penalties = np.full((1, score.shape[1]), penalty)
        best = np.zeros(score.shape[1], np.intp)
    else:
        penalties = _SHARES[:, None] * _highest(masks, score, size)
        best = _choose(masks, score, penalties[0], size)
    found = np.zeros((masks.shape[1], score.shape[1]))
    for column, path in enumerate(_paths(masks, score, size, penalties, best + 1)):
        found[:, column] = path[:, -1]
    return found


def _highest(
    masks: Bool[np.ndarray, "subsets train"],
    score: Float[np.ndarray, "subsets test"],
    size: Float[np.ndarray, " subsets"],
) -> Float[np.ndarray, " test"]:
    """The smallest penalty of each column at which every weight is 0."""
    found: Float[np.ndarray, " test"] = np.abs(centred(masks, size).T @ centred(score, size)).max(axis=0) / size.sum()
    return found


def _choose(
    masks: Bool[np.ndarray, "subsets train"],
    score: Float[np.ndarray, "subsets test"],
    highest: Float[np.ndarray, " test"],
    size: Float[np.ndarray, " subsets"] | None = None,
) -> Int[np.ndarray, " test"]:
    """Number of the penalty that predicts subsets left out best, for each column: of all 10, the larger of equal ones.

    `size` is the number of models of each subset, None one each.
    """
    size = np.ones(len(masks)) if size is None else size
    fold = np.arange(len(masks)) % min(_FOLDS, len(masks))
    error = np.zeros((_SHARES.size, score.shape[1]))
    for held in range(int(fold.max()) + 1):
        kept, out = fold != held, fold == held
        others = masks[out] - np.average(masks[kept], axis=0, weights=size[kept])
        expected = score[out] - np.average(score[kept], axis=0, weights=size[kept])
        penalties, steps = _SHARES[:, None] * highest, np.full(score.shape[1], _SHARES.size)
        for column, path in enumerate(_paths(masks[kept], score[kept], size[kept], penalties, steps)):
            error[:, column] += size[out] @ (expected[:, [column]] - others @ path) ** 2
    return error.argmin(axis=0)


def _paths(
    masks: Bool[np.ndarray, "subsets train"],
    score: Float[np.ndarray, "subsets test"],
    size: Float[np.ndarray, " subsets"],
    penalties: Float[np.ndarray, "penalties test"],
    steps: Int[np.ndarray, " test"],
) -> Iterator[Float[np.ndarray, "train steps"]]:
    """Weights at the first so many of a column's penalties, which fall; one column after another, by coordinate descent."""
    # Beside accelerated gradient steps for all columns at once, which this replaces, a path of 10 penalties from 400 models takes
    # 2.0 to 2.6 times as long for 1,437 training and 360 test examples and 0.9 to 1.3 times for 10,000 and 2,000, extrapolated
    # from 6 and 2 columns (2026-11-26, 2 very busy cores, scikit-learn 1.9.1); for 12 columns with cross-validation it took 21 s
    # in place of 336 s (at a tolerance of 1e-4; 46 s at 1e-6). The objective is up to 5e-7 lower at 10,000, where the gradient steps ran
    # into their limit, and up to 3e-8 higher at the smallest penalties of 1,437.
    # Imported here, because it takes a second to import, and no other statistic needs it.
    from sklearn.linear_model import lasso_path

    moved, wide = np.asfortranarray(centred(masks, size)), centred(score, size)
    gram = moved.T @ moved if len(masks) > masks.shape[1] else False
    moment = moved.T @ wide
    # scikit-learn halves the mean over rows, and this one the mean over models.
    scale = size.sum() / len(masks)
    for column, number in enumerate(steps.tolist()):
        # A penalty of 0, where no mask varies, would be another problem; its weights are 0.
        alphas = np.maximum(scale * penalties[:number, column], 1e-300)
        _, path, _ = lasso_path(
            moved,
            wide[:, column].copy(),
            alphas=alphas,
            precompute=gram,
            Xy=moment[:, column].copy(),
            tol=_TOLERANCE,
            max_iter=_MOST_STEPS,
            check_input=False,
        )
        yield path


__all__ = ["lasso_weights"]
