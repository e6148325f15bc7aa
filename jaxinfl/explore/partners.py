"""The most influential partners of every example, in both directions, with how far each influence can be trusted."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.explore.examples import told_on_the_page
from jaxinfl.influence.outcomes import Outcomes
from jaxinfl.influence.tiles import one_ahead, tile_starts
from jaxinfl.statistics import Discoveries, discoveries, pair_uncertainty
from jaxinfl.statistics.clusters import dependent_design

FDR = 0.05
"""False discovery rate up to which q-values are told, and false coverage rate of the intervals."""


class Places(NamedTuple):
    """Where the strongest influences of some examples are."""

    partner: Int[np.ndarray, "examples partners"]
    """The partner of each pair, strongest first; -1 where an example has fewer partners of that sign."""
    influence: Float[np.ndarray, "examples partners"]
    """Influence of each pair, in the unit of the score; NaN where there is no pair."""


@dataclass(frozen=True)
class Partners:
    """The strongest partners of one sign, of every training example or of every test example."""

    partner: Int[np.ndarray, "examples partners"]
    """The partner of each pair, strongest first; -1 where an example has fewer."""
    influence: Float[np.ndarray, "examples partners"]
    """Influence, in the unit of the score."""
    low: Float[np.ndarray, "examples partners"]
    """Lower end of the interval of the influence; NaN where there is none."""
    high: Float[np.ndarray, "examples partners"]
    """Upper end of that interval."""
    q_value: Float[np.ndarray, "examples partners"]
    """q-value among all pairs, where it is at most `FDR`; NaN where it is above."""
    reason: np.ndarray
    """[examples, partners] strings: why there is no interval; empty where there is one."""


@dataclass(frozen=True)
class AllPartners:
    """The partners of all examples."""

    helped_by_train: Partners
    """Test examples on which models do better with a training example, [train, partners]."""
    hurt_by_train: Partners
    """Test examples on which models do worse with it."""
    for_test: Partners
    """Training examples with which models do better on a test example, [test, partners]."""
    against_test: Partners
    """Training examples with which models do worse on it."""
    confidence_of_train: float
    """Confidence of the intervals of the partners of training examples, of which a share of `FDR` is expected to miss its influence."""
    confidence_of_test: float
    """The same for the partners of test examples."""
    num_discovered: int | None
    """Number of pairs, shown or not, that have an influence at a false discovery rate of `FDR`; None where that is not tested."""


def find_partners(outcomes: Outcomes, number: int) -> AllPartners:
    """Find at most `number` partners of each sign of every example.

    The strongest of many influences are overestimated, and 95% intervals of them would mostly miss 0 where there is nothing but noise.
    So intervals have the confidence at which 5% of those that are shown of training examples are expected to miss, and of test examples.

    Memory: one tile of influences and what is returned. Time: some passes over all pairs.

    Source: Benjamini and Yekutieli (2005), "False discovery rate-adjusted multiple confidence intervals for selected parameters",
    Journal of the American Statistical Association 100.
    """
    of_train, of_test = _strongest(outcomes, number)
    found = _discover(outcomes)
    (helped, hurt), confidence_of_train = _tell(outcomes, of_train, found, transposed=False)
    (supporting, opposing), confidence_of_test = _tell(outcomes, of_test, found, transposed=True)
    number_found = None if found is None else len(found)
    return AllPartners(helped, hurt, supporting, opposing, confidence_of_train, confidence_of_test, number_found)


def _discover(outcomes: Outcomes) -> Discoveries | None:
    """The pairs that have an influence; None where the subsets depend on each other, which `discoveries` refuses."""
    return None if dependent_design(outcomes.masks) else discoveries(outcomes, fdr=FDR)


def _tell(
    outcomes: Outcomes, sides: tuple[Places, Places], found: Discoveries | None, *, transposed: bool
) -> tuple[list[Partners], float]:
    """The partners of both signs with intervals and q-values, and the confidence of the intervals."""
    num_test = outcomes.test_score.shape[1]
    numbers = [_pairs(places, num_test, transposed=transposed) for places in sides]
    shown = np.unique(np.concatenate([each.ravel() for each in numbers]))
    shown = shown[shown >= 0]
    confidence = 1 - FDR * max(len(shown), 1) / (outcomes.masks.shape[1] * num_test)
    with told_on_the_page():
        told = pair_uncertainty(outcomes, None, *np.divmod(shown, num_test), confidence=confidence)
    q_value = np.full(len(shown), np.nan)
    if found is not None:
        discovered = found.train_index * num_test + found.test_index
        _, at, source = np.intersect1d(shown, discovered, assume_unique=True, return_indices=True)
        q_value[at] = found.q_value[source]
    partners = []
    for pairs, places in zip(numbers, sides, strict=True):
        # Pairs that are none stand at the front, and get what an undefined pair has.
        at = np.searchsorted(shown, pairs) + 1
        at[pairs < 0] = 0
        low, high, q = (np.append(np.nan, each)[at] for each in (told.low, told.high, q_value))
        partners.append(Partners(places.partner, places.influence, low, high, q, np.append("", told.reason)[at]))
    return partners, confidence


def _pairs(places: Places, num_test: int, *, transposed: bool) -> Int[np.ndarray, "examples partners"]:
    """Number of each pair in the matrix [train, test]; -1 where there is none."""
    own = np.arange(len(places.partner))[:, None]
    pairs = places.partner * num_test + own if transposed else own * num_test + places.partner
    return np.where(places.partner >= 0, pairs, -1)


def _strongest(outcomes: Outcomes, number: int) -> tuple[tuple[Places, Places], tuple[Places, Places]]:
    """The highest and the lowest influences of every training example, and of every test example."""
    tiles = outcomes.tiles()
    num_train, num_test = outcomes.masks.shape[1], outcomes.test_score.shape[1]
    of_train: tuple[list[Places], list[Places]] = ([], [])
    of_test = [Places(np.zeros((num_test, 0), np.intp), np.zeros((num_test, 0))) for _ in range(2)]
    starts = list(tile_starts(num_train, tiles.rows))
    for start, tile in zip(starts, one_ahead(tiles.tile(start, "float64") for start in starts), strict=True):
        block = np.asarray(tile)[: num_train - start]  # without the padding of the last tile
        columns = np.broadcast_to(np.arange(num_test), block.shape)
        rows = np.broadcast_to(np.arange(start, start + len(block)), block.T.shape)
        for side, sign in enumerate((1, -1)):
            of_train[side].append(_highest(block, columns, number, sign))
            index = np.concatenate([of_test[side].partner, rows], axis=1)
            values = np.concatenate([of_test[side].influence, block.T], axis=1)
            of_test[side] = _highest(values, index, number, sign)
    joined = [Places(*(np.concatenate(column) for column in zip(*side, strict=True))) for side in of_train]
    return (joined[0], joined[1]), (of_test[0], of_test[1])


def _highest(
    values: Float[np.ndarray, "examples others"], index: Int[np.ndarray, "examples others"], number: int, sign: int
) -> Places:
    """The partners of the highest (`sign` 1) or lowest (-1) influences of each row, if they have that sign."""
    strength = np.where(np.isfinite(values), sign * values, -np.inf)
    if strength.shape[1] > number:
        kept = np.argpartition(-strength, number - 1, axis=1)[:, :number]
        strength, index = np.take_along_axis(strength, kept, 1), np.take_along_axis(index, kept, 1)
    # By falling strength, equal ones by index.
    order = np.lexsort((index, -strength), axis=1)
    strength, index = np.take_along_axis(strength, order, 1), np.take_along_axis(index, order, 1)
    there = strength > 0
    return Places(np.where(there, index, -1), np.where(there, sign * strength, np.nan))


__all__ = ["FDR", "AllPartners", "Partners", "find_partners"]
