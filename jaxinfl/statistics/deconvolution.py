"""Distribution of the true influences, given noisy ones: the mixing distribution of pairs of binomial proportions.

Of a training and a test example a run knows how many of the models with the example are right, and how many of those
without it. Both are binomial, with probabilities that differ from pair to pair; their distribution over all pairs is the one
that makes the counts most likely: the nonparametric maximum likelihood estimate, found on a grid (`mixture`).

Source: Efron (2016), "Empirical Bayes deconvolution estimates", Biometrika 103.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array, kron

_REACH = 3.5
"""A pair says nothing of base rates that lie more standard deviations than this from its own."""
_RATES_TOGETHER = 15
"""Number of neighbouring base rates, a standard error apart, that share a distribution of effects."""
_NEGLIGIBLE = 1e-6
"""Likelihoods below this share of a pair's highest one are left out."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Pairs of probabilities that a distribution may put mass on: base rates times log odds ratios."""

    with_example: Float[np.ndarray, "rates effects"]
    """Probability that a model trained on the example is right."""
    without: Float[np.ndarray, "rates effects"]
    """Probability that a model not trained on it is."""
    effects: Float[np.ndarray, " effects"]
    """Log odds ratios of the two."""
    start: Float[np.ndarray, " atoms"]
    """A broad distribution over the atoms to start from."""

    @property
    def effects_of_atoms(self) -> Float[np.ndarray, " atoms"]:
        """Log odds ratio of each atom."""
        return np.tile(self.effects, len(self.with_example))

    @property
    def influence(self) -> Float[np.ndarray, " atoms"]:
        """Influence of each atom: probability with the example minus probability without it."""
        return (self.with_example - self.without).ravel()


@dataclass(frozen=True, eq=False)
class Counts:
    """Distinct outcomes of pairs."""

    right_in: Int[np.ndarray, " cells"]
    """Number of models with the training example that are right."""
    num_in: Int[np.ndarray, " cells"]
    """Number of models with the training example."""
    right_out: Int[np.ndarray, " cells"]
    """Number of models without the training example that are right."""
    num_out: Int[np.ndarray, " cells"]
    """Number of models without the training example."""


def make_grid(num_models: int, ratio: float, *, strongest: float, start_width: float) -> Grid:
    """A grid that is as fine as so many models can tell values apart.

    Base rates follow one another at one standard error, evenly on the arcsine scale; effects at a third of one around no
    effect, and at ever larger steps away from it, from -3 to `strongest` in log odds.

    Args:
      num_models: number of models of the run.
      ratio: share of the models that are trained on an example.
      strongest: the largest effect of the grid, as the natural logarithm of an odds ratio.
      start_width: half width at half maximum of the starting distribution (Cauchy) of the effects.
    """
    rates = np.ceil(np.pi * np.sqrt(num_models)).astype(np.intp)
    base = (1 - np.cos((np.arange(rates) + 0.5) / rates * np.pi)) / 2
    step = 2 / np.sqrt(num_models * ratio * (1 - ratio)) / 3
    effects = np.concatenate([-_steps(step, 3.0)[:0:-1], _steps(step, strongest)])
    with_example, without = _probabilities(base[:, None], effects[None, :], ratio)
    density = np.gradient(effects) / (1 + (effects / start_width) ** 2)
    start = np.tile(density / density.sum() / rates, rates)
    return Grid(with_example, without, effects, start)


def _steps(step: float, last: float) -> Float[np.ndarray, " steps"]:
    """0, step, 2 step, ... up to 1.5, then wider in proportion to the distance from there."""
    values = [0.0]
    while values[-1] < last:
        values.append(values[-1] + step * (1 + max(values[-1] - 1.5, 0.0)))
    return np.array(values)


def _probabilities(
    base: Float[np.ndarray, "rates 1"], effects: Float[np.ndarray, "1 effects"], ratio: float
) -> tuple[Float[np.ndarray, "rates effects"], Float[np.ndarray, "rates effects"]]:
    """Solve for the rates with and without the example: ratio * with + (1 - ratio) * without is the base rate.

    The odds without the example solve a quadratic equation.
    """
    odds_ratio = np.exp(effects)
    square = odds_ratio * (1 - base)
    linear = ratio * odds_ratio + 1 - ratio - base * (1 + odds_ratio)
    odds = (np.sqrt(linear**2 + 4 * square * base) - linear) / (2 * square)
    return odds_ratio * odds / (1 + odds_ratio * odds), odds / (1 + odds)


def likelihood(grid: Grid, counts: Counts) -> csr_array:
    """Likelihood of each outcome at each atom, [cells, atoms], each row up to a factor."""
    rates, effects = grid.with_example.shape
    total, near = counts.num_in + counts.num_out, nearest_rates(grid, counts)
    half = int(np.ceil(_REACH * rates / (np.pi * np.sqrt(total.min()))))
    columns = near[:, None] + np.arange(-half, half + 1)[None, :]
    cell, place = np.nonzero((columns >= 0) & (columns < rates))
    rate = columns[cell, place]
    wrong_in, wrong_out = counts.num_in - counts.right_in, counts.num_out - counts.right_out
    log = np.zeros((cell.size, effects))
    for number, share in (
        (counts.right_in, grid.with_example),
        (wrong_in, 1 - grid.with_example),
        (counts.right_out, grid.without),
        (wrong_out, 1 - grid.without),
    ):
        log += number[cell][:, None] * np.log(np.maximum(share, 1e-300))[rate]
    highest = np.full(near.size, -np.inf)
    np.maximum.at(highest, cell, log.max(axis=1))
    value = np.exp(log - highest[cell][:, None])
    kept, effect = np.nonzero(value > _NEGLIGIBLE)
    return csr_array(
        (value[kept, effect], (cell[kept], rate[kept] * effects + effect)), shape=(near.size, rates * effects)
    )


def smoothing(grid: Grid, width: float, at_rate: Float[np.ndarray, " rates"]) -> csr_array:
    """The parts of a smooth distribution, [atoms, parts], each of sum 1: no effect, and bell curves of effects.

    Neighbouring base rates share the distribution of effects: at one rate there are the pairs of a test example or two, whose
    noise alone would otherwise be taken for influence.

    Args:
      grid: the atoms that mass may lie on.
      width: standard deviation of the bell curves, in steps of the grid of effects (3 to a standard error); they follow one another
        at half of it.
      at_rate: how many pairs have each base rate, which the counts tell nearly.

    Source: Gaussian kernels for a smooth mixing distribution: Magder and Zeger (1996), "A smooth nonparametric estimate of a
    mixing distribution using mixtures of Gaussians", Journal of the American Statistical Association 91.
    """
    rates, effects = grid.with_example.shape
    place = np.arange(effects)
    none = int(np.argmin(np.abs(grid.effects)))
    centres = place[(none - place) % max(int(width / 2), 1) == 0]
    bell = np.exp(-0.5 * ((place[:, None] - centres) / width) ** 2)
    bell[bell < 1e-2] = 0
    at_none = centres == none
    bell[none, :] = 0
    bell[:, at_none] = 0
    bell[none, at_none] = 1
    group = np.arange(rates) // _RATES_TOGETHER
    share = np.where(group[:, None] == np.arange(group[-1] + 1), at_rate[:, None] + 1e-3 * at_rate.mean(), 0)
    found: csr_array = csr_array(kron(csr_array(share / share.sum(axis=0)), csr_array(bell / bell.sum(axis=0))))
    return found


def nearest_rates(grid: Grid, counts: Counts) -> Int[np.ndarray, " cells"]:
    """The base rate that each outcome is nearest to."""
    total = counts.num_in + counts.num_out
    angle = np.arccos(1 - 2 * (counts.right_in + counts.right_out) / total)
    return np.rint(angle / np.pi * len(grid.with_example) - 0.5).astype(np.intp)
