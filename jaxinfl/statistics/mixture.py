"""Which distribution of true values makes noisy outcomes most likely: the mixing distribution, by EM on a grid of atoms.

Source: Kiefer and Wolfowitz (1956), Annals of Mathematical Statistics 27; Laird (1978), Journal of the American Statistical
Association 73 (by EM); Koenker and Mizera (2014), Journal of the American Statistical Association 109 (on a grid).
"""

import numpy as np
from jaxtyping import Float, Real
from scipy.sparse import csr_array

_FARTHEST = 8.0
"""Steps that an extrapolation goes at most: longer ones leave the simplex, and what is cut off there is lost."""


def fit_mixture(
    likelihood: csr_array | Float[np.ndarray, "outcomes atoms"],
    weight: Real[np.ndarray, " outcomes"],
    start: Float[np.ndarray, " atoms"],
    steps: int,
    *,
    extrapolate: bool = False,
) -> Float[np.ndarray, " atoms"]:
    """Return the distribution over the atoms under which the outcomes are most likely; its values sum to 1.

    Args:
      likelihood: dense or sparse [outcomes, atoms]; each row may have a factor of its own.
      weight: how often each outcome was seen.
      start: a distribution; where it is 0, the result is 0.
      steps: number of EM steps. Early ones find the bulk, late ones sharpen single atoms.
      extrapolate: start each third step from an extrapolation of the two before it, which comes closer to the maximum in as
        many steps. Single atoms become sharper, which is noise where nothing smooths the atoms.

    Source: Laird (1978); Varadhan and Roland (2008), "Simple and globally convergent methods for accelerating the
    convergence of any EM algorithm" (SQUAREM), Scandinavian Journal of Statistics 35, for the extrapolation.
    """
    transposed = likelihood.T if isinstance(likelihood, np.ndarray) else csr_array(likelihood.T)
    share = weight / weight.sum()

    def step(density: Float[np.ndarray, " atoms"]) -> Float[np.ndarray, " atoms"]:
        chance = likelihood @ density
        # An outcome of weight 0 may be impossible under a start without its atoms.
        updated = density * (transposed @ np.divide(share, chance, out=np.zeros_like(share), where=chance > 0))
        return updated / updated.sum()

    density = start
    for _ in range(steps // 3 if extrapolate else 0):
        once = step(density)
        density = step(_extrapolate(density, once, step(once)))
    for _ in range(steps % 3 if extrapolate else steps):
        density = step(density)
    return density


def _extrapolate(
    density: Float[np.ndarray, " atoms"], once: Float[np.ndarray, " atoms"], twice: Float[np.ndarray, " atoms"]
) -> Float[np.ndarray, " atoms"]:
    """Where many more steps would lead, judged by a distribution and what one step and two steps make of it."""
    first, second = once - density, twice - 2 * once + density
    length = np.sqrt((first**2).sum() / max((second**2).sum(), 1e-300))
    factor = -min(max(length, 1.0), _FARTHEST)
    jumped = np.maximum(density - 2 * factor * first + factor**2 * second, 1e-3 * twice)
    found: Float[np.ndarray, " atoms"] = jumped / jumped.sum()
    return found


__all__ = ["fit_mixture"]
