"""Counts of the training examples and pairs of a pilot run, to be deconvolved."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinfl.influence.blocks import count_blocks
from jaxinfl.statistics.deconvolution import Counts, likelihood, make_grid
from jaxinfl.statistics.mixture import fit_mixture

_UNLIKELY = 0.02
"""Training examples that are memorized with a lower probability than this are left out."""
_MOST_PAIRS = 2**14
"""Number of pairs of little influence that are taken, about; they are a random part of all."""
_STRIKING = 4.0
"""Every pair is taken whose count lies so many standard errors or more from no influence."""
_STEPS = 300
_SEED = 0
"""Seed of the pairs that are drawn where there are too many: the same pilot has the same answer."""


@dataclass(frozen=True, eq=False)
class PilotPairs:
    """Pairs of training examples that may be memorized and test examples on which models disagree."""

    counts: Counts
    cell: Int[np.ndarray, " pairs"]
    """The outcome of each pair, as a row of `counts`."""
    row: Int[np.ndarray, " pairs"]
    """The training example of each pair, counted among those that are taken."""
    column: Int[np.ndarray, " pairs"]
    """The test example of each pair, counted among those that are taken."""
    weight: Float[np.ndarray, " pairs"]
    """Weight of each pair: the probability that its training example is memorized, over the probability that it is taken."""

    def cell_weights(
        self, rows: Float[np.ndarray, " rows"] | None = None, columns: Float[np.ndarray, " columns"] | None = None
    ) -> Float[np.ndarray, " cells"]:
        """Sum of the weights of the pairs of each outcome; each example counts as often as given, or once."""
        weight = self.weight
        if rows is not None and columns is not None:
            weight = weight * rows[self.row] * columns[self.column]
        return np.bincount(self.cell, weights=weight, minlength=self.counts.num_in.size)


def memorization_chance(
    masks: Bool[np.ndarray, "models train"], train_correct: Bool[np.ndarray, "models train"], minimum: float | None
) -> Float[np.ndarray, " train"]:
    """Probability that the true memorization of each training example is above `minimum`, given the pilot.

    An estimate of the pilot is above it by chance for some, and below for others: the distribution of true values is
    deconvolved, and each example has its posterior under it. 1 where `minimum` is None; 0 where an example is in no subset
    or in all.
    """
    num_models, num_train = masks.shape
    num_in = masks.sum(axis=0)
    defined = (num_in > 0) & (num_in < num_models)
    chance = np.zeros(num_train)
    if minimum is None or not defined.any():
        chance[defined] = 1
        return chance
    right_in = (masks & train_correct).sum(axis=0)
    outcomes = np.stack([right_in, num_in, train_correct.sum(axis=0) - right_in], axis=1)[defined]
    distinct, cell, number = np.unique(outcomes, axis=0, return_inverse=True, return_counts=True)
    # Of what a model was trained on it is nearly always right: log odds ratios far beyond those between two examples.
    grid = make_grid(num_models, float(masks.mean()), strongest=14.0, start_width=2.0)
    table = likelihood(grid, _counts(distinct, num_models))
    distribution = fit_mixture(table, number.astype(np.float64), grid.start, _STEPS, extrapolate=True)
    above = table @ (distribution * (grid.influence > minimum))
    chance[defined] = (above / (table @ distribution))[cell.ravel()]
    return chance


def pilot_pairs(
    masks: Bool[np.ndarray, "models train"],
    test_correct: Bool[np.ndarray, "models test"],
    chance: Float[np.ndarray, " train"],
) -> PilotPairs | None:
    """The pairs, or None where there are none: no example is memorized, or models never disagree.

    Test examples on which all models are right, or all wrong, are left out: an influence of theirs is near 0.
    """
    num_models = len(masks)
    totals = test_correct.sum(axis=0)
    (rows,) = np.nonzero(chance > _UNLIKELY)
    (columns,) = np.nonzero((totals > 0) & (totals < num_models))
    if not rows.size or not columns.size:
        return None
    rng = np.random.default_rng(_SEED)
    share = min(1.0, _MOST_PAIRS / (rows.size * columns.size))
    parts = []
    num_in, total = masks[:, rows].sum(axis=0)[:, None], totals[columns][None, :]
    for start, right_in in count_blocks(masks[:, rows], test_correct[:, columns]):
        inside = num_in[start : start + len(right_in)]
        expected = inside * (total / num_models)
        variance = expected * (1 - total / num_models) * (1 - inside / num_models)
        striking = np.abs(right_in - expected) > _STRIKING * np.sqrt(variance)
        taken = striking | (rng.random(right_in.shape) < share)
        row, column = np.nonzero(taken)
        weight = chance[rows[start + row]] / np.where(striking[row, column], 1.0, share)
        outcome = np.stack([right_in[row, column], inside[row, 0], total[0, column] - right_in[row, column]], axis=1)
        parts.append((outcome, start + row, column, weight))
    outcomes, row, column, weight = map(np.concatenate, zip(*parts, strict=True))
    distinct, cell = np.unique(outcomes, axis=0, return_inverse=True)
    return PilotPairs(_counts(distinct, num_models), cell.ravel(), row, column, weight)


def _counts(distinct: Int[np.ndarray, "cells 3"], num_models: int) -> Counts:
    right_in, num_in, right_out = distinct.astype(np.int64).T
    return Counts(right_in, num_in, right_out, num_models - num_in)
