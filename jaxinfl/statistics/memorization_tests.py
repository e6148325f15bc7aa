"""Which training examples are memorized at all: tests of no memorization, corrected for how many examples are tested."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr
from scipy.stats import false_discovery_control, hypergeom, rankdata

from jaxinfl.arguments import check_masks, check_values
from jaxinfl.influence.outcomes import Models, Score, take_given
from jaxinfl.statistics.clusters import find_clusters
from jaxinfl.statistics.pair_tests import one_score_a_subset

# Values of models x examples that are ranked at once.
_VALUES_AT_ONCE = 2**21


def memorization_q_values(masks: Models, train_score: Score = None) -> Float[np.ndarray, " train"]:
    """The smallest false discovery rate at which each training example would be reported as memorized.

    Of the examples whose q-value is at most 0.05, 5% at most are expected not to be memorized.

    Args:
      masks: bool [models, train]; or an `Ensemble`, whose diverged models are left out, or `Outcomes` with a train score.
      train_score: bool or float [models, train], larger where a model does better; for an `Ensemble` the name of a score.

    Returns:
      float64 [train], by Fisher's exact test of bool scores and by the normal approximation of Wilcoxon's rank-sum test of floats, both
      one-sided. NaN where an example is in no subset or in all. Models that share a subset count once, as in `discoveries`.
      Few models (under 10 on a side) or many equal floats make the approximation too sure of itself.

    Raises:
      TypeError, ValueError: as `memorization_uncertainty`.

    Source: Fisher (1935); Wilcoxon (1945), Biometrics 1; Benjamini and Hochberg (1995).
    """
    given = take_given(masks, train_score=train_score)
    checked, scores = check_masks(given.masks), check_values(given.train_score, "train_score", "[models, train]")
    if scores.shape != checked.shape:
        raise ValueError(f"train_score has shape {scores.shape}; it takes that of masks, {checked.shape}.")
    clusters = find_clusters(checked)
    subsets = checked[clusters.first]
    step = max(1, _VALUES_AT_ONCE // len(checked))
    found = np.full(checked.shape[1], np.nan)
    for start in range(0, found.size, step):
        block = slice(start, start + step)
        found[block] = _p_values(subsets[:, block], one_score_a_subset(scores[:, block], clusters))
    tested = ~np.isnan(found)
    if tested.any():
        found[tested] = false_discovery_control(found[tested])
    return found


def _p_values(seen: Bool[np.ndarray, "subsets train"], score: np.ndarray) -> Float[np.ndarray, " train"]:
    number, num_in = len(seen), seen.sum(axis=0)
    defined = (num_in > 0) & (num_in < number)
    if score.dtype == np.bool_:
        right_in = (seen & score).sum(axis=0)
        p_value = hypergeom.sf(right_in - 1, number, score.sum(axis=0), num_in)
    else:
        ranks = rankdata(score, axis=0) - (number + 1) / 2
        deviation = np.sqrt((ranks**2).mean(axis=0) / max(number - 1, 1) * num_in * (number - num_in))
        sums = np.where(seen, ranks, 0).sum(axis=0)
        # Where all scores are equal nothing tells the sides apart.
        p_value = np.where(deviation > 0, ndtr(-sums / np.where(deviation > 0, deviation, 1)), 1.0)
    return np.where(defined, np.clip(p_value, 0, 1), np.nan)


__all__ = ["memorization_q_values"]
