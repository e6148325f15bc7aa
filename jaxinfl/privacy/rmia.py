"""The robust membership inference attack (RMIA): is an example more probable under the target, against its shadows, than others are?

Source: Zarifzadeh, Liu and Shokri (2024), "Low-Cost High-Power Membership Inference Attacks", ICML.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxinfl.arguments import check_number
from jaxinfl.privacy.lira import Scores
from jaxinfl.privacy.sides import Side, measure_side


@dataclass(frozen=True)
class Population:
    """Examples that no model was trained on, with which the example is compared."""

    shadows: Sequence[Float[np.ndarray, "models population"]]
    """Probabilities of their targets by the shadows, for each view."""
    targets: Sequence[Float[np.ndarray, "targets population"]] | None = None
    """Probabilities by the targets; None where each model is the target once."""


@dataclass(frozen=True)
class Rmia:
    """One variant of the attack. Scores are probabilities of an example's target."""

    offline: float | None = None
    """The number a of the paper, by which P(x) = ((1 + a) P_out(x) + 1 - a) / 2 is told from models that did not see the example; None
    takes the mean of P_in and P_out."""
    gamma: float = 1.0
    """The ratio above which an example is more probable than one of the population."""

    def __post_init__(self) -> None:
        if self.offline is not None:
            check_number(self.offline, "Rmia: offline", "a number from 0 to 1, or None", 0.0, 1.0)
        check_number(self.gamma, "Rmia: gamma", "a number above 0", 0.0, inside=True)

    def membership(self, scores: Scores, population: Population) -> Float[np.ndarray, "targets examples"]:
        """Tell the membership of each example in each target: the share of the population that it is more probable than; the mean over
        views."""
        result = np.zeros((scores.num_targets, scores.num_examples))
        for view in range(len(scores.views)):
            compared = [np.sort(row) for row in self._population_ratios(population, view)]
            for block in scores.blocks():
                ratio = scores.target(view, block) / self._probability(scores, view, block)
                for target, row in enumerate(compared):
                    # `searchsorted` counts those strictly below: ratio / row > gamma.
                    share = np.searchsorted(row, ratio[:, target] / self.gamma, side="left") / row.size
                    result[target, block] += np.where(np.isnan(ratio[:, target]), np.nan, share)
        return result / len(scores.views)

    def _probability(self, scores: Scores, view: int, block: slice) -> Float[np.ndarray, "examples targets"]:
        """P(x) of a block of examples."""
        member, shadows = scores.members(block), scores.shadows(view, block)

        def mean(inside: np.ndarray) -> Side:
            return measure_side(shadows, inside, leave_out=scores.targets is None, center_at="mean")

        outside = mean(~member).center
        if self.offline is not None:
            return self._approximate(outside)
        both: Float[np.ndarray, "examples targets"] = (mean(member).center + outside) / 2
        return both

    def _approximate(self, outside: np.ndarray) -> np.ndarray:
        assert self.offline is not None
        probability: np.ndarray = ((1 + self.offline) * outside + 1 - self.offline) / 2
        return probability

    def _population_ratios(self, population: Population, view: int) -> Float[np.ndarray, "targets population"]:
        """Probability of each example of the population by each target, over its P(z)."""
        shadows = np.asarray(population.shadows[view], np.float64)
        if population.targets is None:
            targets = shadows
            outside = (shadows.sum(axis=0) - shadows) / max(len(shadows) - 1, 1)
        else:
            targets = np.asarray(population.targets[view], np.float64)
            outside = shadows.mean(axis=0, keepdims=True)
        # No model has seen the population, so that online P(z) is the mean over all shadows.
        probability = outside if self.offline is None else self._approximate(outside)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios: Float[np.ndarray, "targets population"] = targets / probability
        return ratios


__all__ = ["Population", "Rmia"]
