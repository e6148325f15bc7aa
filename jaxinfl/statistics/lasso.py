"""LASSO of the scores on the masks, for all test examples at once, the penalty by cross-validation."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.statistics.ridge import centred

# Penalties as shares of the smallest one at which every weight is 0.
_SHARES = np.logspace(0, -1.5, 10)
_FOLDS = 4
_TOLERANCE = 1e-3
_MOST_STEPS = 500


class _Problem(NamedTuple):
    """Least squares on centred masks, by the smaller product."""

    masks: Float[np.ndarray, "subsets train"]
    """Centred, each row times the root of its number of models."""
    num_models: float
    gram: Float[np.ndarray, "train train"] | None
    """X' X / models, where there are more subsets than training examples."""
    moment: Float[np.ndarray, "train test"]
    """X' y / models."""
    curvature: float
    """Largest eigenvalue of X' X / models."""

    def gradient(self, weights: Float[np.ndarray, "train test"]) -> Float[np.ndarray, "train test"]:
        if self.gram is None:
            product = self.masks.T @ (self.masks @ weights) / self.num_models
        else:
            product = self.gram @ weights
        found: Float[np.ndarray, "train test"] = product - self.moment
        return found


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

    Source: Tibshirani (1996); Beck and Teboulle (2009) for the iteration, O'Donoghue and Candes (2015) for its restarts.
    """
    varying = np.flatnonzero(np.ptp(score, axis=0) > 0)
    if varying.size < score.shape[1]:
        found = np.zeros((masks.shape[1], score.shape[1]))
        found[:, varying] = lasso_weights(masks, score[:, varying], size, penalty)
        return found
    problem = _problem(masks, score, size)
    if penalty is not None:
        return _solve(problem, np.full(score.shape[1], penalty), np.zeros_like(problem.moment))
    highest = np.abs(problem.moment).max(axis=0)
    best = _choose(masks, score, highest, size)
    weights = np.zeros_like(problem.moment)
    for number, share in enumerate(_SHARES[: int(best.max(initial=0)) + 1]):
        # A column waits at its own penalty; warm starts make the others' path cheap.
        ahead = np.flatnonzero(best >= number)
        part = problem._replace(moment=problem.moment[:, ahead])
        weights[:, ahead] = _solve(part, share * highest[ahead], weights[:, ahead])
    return weights


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
        problem = _problem(masks[kept], score[kept], size[kept])
        others = masks[out] - np.average(masks[kept], axis=0, weights=size[kept])
        expected = score[out] - np.average(score[kept], axis=0, weights=size[kept])
        weights = np.zeros_like(problem.moment)
        for number, share in enumerate(_SHARES):
            weights = _solve(problem, share * highest, weights)
            error[number] += size[out] @ (expected - others @ weights) ** 2
    return error.argmin(axis=0)


def _problem(
    masks: Bool[np.ndarray, "subsets train"],
    score: Float[np.ndarray, "subsets test"],
    size: Float[np.ndarray, " subsets"],
) -> _Problem:
    moved, num_models = centred(masks, size), float(size.sum())
    few = len(masks) <= masks.shape[1]
    product = (moved @ moved.T if few else moved.T @ moved) / num_models
    moment = moved.T @ centred(score, size) / num_models
    return _Problem(moved, num_models, None if few else product, moment, _largest_eigenvalue(product))


def _largest_eigenvalue(matrix: Float[np.ndarray, "n n"]) -> float:
    """By power iteration from a fixed start, 5% added: the step must not be too long."""
    vector = np.random.default_rng(0).normal(size=len(matrix))
    size = 0.0
    for _ in range(50):
        vector = matrix @ vector
        size = float(np.linalg.norm(vector))
        if size == 0:
            return 1.0
        vector /= size
    return 1.05 * size


def _solve(
    problem: _Problem, penalty: Float[np.ndarray, " test"], start: Float[np.ndarray, "train test"]
) -> Float[np.ndarray, "train test"]:
    """Accelerated proximal gradient steps until every column moves by less than a thousandth of what soft thresholding cuts."""
    weights, ahead, momentum = start, start, 1.0
    limit = penalty / problem.curvature
    for _ in range(_MOST_STEPS):
        moved = ahead - problem.gradient(ahead) / problem.curvature
        following = np.sign(moved) * np.maximum(np.abs(moved) - limit, 0)
        change = following - weights
        done = (np.abs(change).max(axis=0, initial=0) <= _TOLERANCE * limit).all()
        rising = ((ahead - following) * change).sum() > 0
        following_momentum = 1.0 if rising else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following if rising else following + (momentum - 1) / following_momentum * change
        weights, momentum = following, following_momentum
        if done:
            break
    return weights
