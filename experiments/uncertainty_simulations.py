"""Seeded simulations with known truth: do intervals cover, discoveries keep their rate, planned numbers suffice?"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float

import jaxinfl
from jaxinfl.statistics import models_for_influence, pair_uncertainty
from jaxinfl.statistics.multiple import FDRMethod
from jaxinfl.statistics.power import rejects
from jaxinfl.statistics.uncertainty import IntervalMethod

SHARES = np.round(np.arange(0.02, 0.99, 0.08), 2)
"""Probabilities of being right, 0.02 to 0.98, with the example and without it."""
WITHIN = 0.3
"""Correlation of models on the same subset, where subsets are used twice."""
DESIGNS = tuple((ratio, uses) for uses in (1, 2) for ratio in (0.5, 0.7))
"""Ratio of the subsets, and models on each."""
KINDS = ("0-1 scores", "float scores", "0-1, subsets used twice", "0-1, examples alike")
"""Of simulated tests."""
PLANS = ((0.2, 0.5, 0.7), (0.1, 0.5, 0.7), (-0.2, 0.9, 0.7), (0.1, 0.8, 0.5), (0.3, 0.6, 0.7))
"""Effect, base rate and ratio of planned ensembles."""
INTERVALS: tuple[tuple[str, IntervalMethod], ...] = (
    ("Newcombe", "newcombe"),
    ("Agresti-Caffo", "agresti-caffo"),
    ("Welch, float scores", "welch"),
)
"""Names and methods of the intervals under trial."""

# Score values drawn at once.
_VALUES_AT_ONCE = 2**24

Draw = Callable[[int], tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]]


def coverage(
    num_models: int, ratio: float, uses: int, interval: IntervalMethod, confidence: float, repeats: int, seed: int
) -> Float[np.ndarray, " shares"]:
    """Share of intervals that cover the true influence, by the probability without the example, over all those with it.

    Args:
      num_models: in all, rounded down to a multiple of `uses`.
      ratio: share of the subsets that hold the example.
      uses: models on each subset. With two, the subsets' own probabilities have a beta distribution about the mean.
      interval: "welch" is tried on float scores: 0-1 plus normal noise of variance 1.
      confidence: nominal.
      repeats: ensembles for each pair of probabilities.
      seed: of the simulation.
    """
    rng = np.random.default_rng((seed, num_models, round(100 * ratio), uses))
    subsets = num_models // uses
    members = np.arange(subsets) < round(ratio * subsets)
    # Other examples make every subset's row its own.
    rows = np.concatenate([members[:, None], (np.arange(subsets)[:, None] >> np.arange(12)) % 2 > 0], axis=1)
    masks = np.repeat(rows, uses, axis=0)
    p_in, p_out = (side.ravel() for side in np.meshgrid(SHARES, SHARES))
    covered, done = np.zeros(p_in.size), 0
    step = max(1, _VALUES_AT_ONCE // (num_models * p_in.size))
    while done < repeats:
        ensembles = min(step, repeats - done)
        chance = np.where(members[:, None], np.tile(p_in, ensembles), np.tile(p_out, ensembles))
        if uses > 1:
            scale = (1 - WITHIN) / WITHIN
            chance = rng.beta(chance * scale, (1 - chance) * scale)
        score: np.ndarray = rng.random((len(masks), chance.shape[1])) < np.repeat(chance, uses, axis=0)
        if interval == "welch":
            score = score + rng.normal(size=score.shape)
        own = np.arange(score.shape[1])
        found = pair_uncertainty(masks, score, np.zeros_like(own), own, confidence=confidence, interval=interval)
        truth = np.tile(p_in - p_out, ensembles)
        covered += ((found.low <= truth) & (truth <= found.high)).reshape(ensembles, -1).sum(axis=0)
        done += ensembles
    return (covered / repeats).reshape(SHARES.size, SHARES.size).mean(axis=1)


def draw_tests(
    kind: str, seed: int
) -> tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]:
    """Masks, scores and the pairs with a true influence: 40 of 40 x 30 pairs, none where examples are alike."""
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    models, train, test = 150, 40, 30
    masks = jaxinfl.draw_subsets(models, train, 0.7, seed)
    if kind == "0-1, examples alike":
        # Every discovery is false, and test examples follow one common outcome: the tests depend on each other.
        common = rng.random((models, 1)) < rng.uniform(0.3, 0.9)
        score = np.where(rng.random((models, test)) < 0.9, common, rng.random((models, test)) < 0.5)
        return masks, score, np.zeros((train, test), bool)
    truth = np.zeros((train, test))
    truth.ravel()[rng.choice(train * test, 40, replace=False)] = 0.4
    # The mean influence of the others stays in the middle, so that few probabilities reach 0 or 1.
    chance = np.clip(rng.uniform(0.3, 0.9, test) + (masks - masks.mean()) @ truth, 0, 1)
    correct = rng.random(chance.shape) < chance
    if kind == "float scores":
        return masks, correct + rng.normal(0, 0.2, correct.shape), truth > 0
    if kind == "0-1, subsets used twice":
        again = np.where(rng.random(correct.shape) < 0.7, correct, rng.random(chance.shape) < chance)
        pairs = np.stack([correct, again], axis=1).reshape(2 * models, test)
        return np.repeat(masks, 2, axis=0), pairs, truth > 0
    return masks, correct, truth > 0


def shuffled(masks: Bool[np.ndarray, "models train"], correct: Bool[np.ndarray, "models test"]) -> Draw:
    """Real scores with the masks dealt to other models: all influence is gone, and how the tests depend on each other stays."""

    def draw(seed: int) -> tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]:
        order = np.random.default_rng(seed).permutation(len(masks))
        return masks[order], correct, np.zeros((masks.shape[1], correct.shape[1]), bool)

    return draw


def false_discovery_shares(
    draw: Draw, repeats: int, fdr: float, method: FDRMethod, seed: int
) -> Iterator[tuple[float, int]]:
    """Share of false ones among the discoveries (0 where there is none) and their number, for each of some ensembles."""
    for repeat in range(repeats):
        masks, score, truth = draw(seed + repeat)
        found = jaxinfl.discoveries(masks, score, fdr=fdr, method=method)
        false = ~truth[found.train_index, found.test_index]
        yield (float(false.mean()) if false.size else 0.0), false.size


def achieved_power(
    effect: float, base_rate: float, ratio: float, alpha: float, power: float, repeats: int, seed: int
) -> tuple[int, Float[np.ndarray, " repeats"]]:
    """The number of models planned, and in which of some ensembles of that many the influence was shown."""
    number = int(models_for_influence(effect, base_rate, ratio, alpha, power))
    num_in = round(ratio * number)
    rng = np.random.default_rng((seed, number))
    right_in, right_out = (
        rng.binomial(num_in, base_rate + effect, repeats),
        rng.binomial(number - num_in, base_rate, repeats),
    )
    shown = rejects(right_in, num_in, right_out, number - num_in, alpha)
    signed = np.sign(right_in / num_in - right_out / (number - num_in)) == np.sign(effect)
    return number, (shown & signed).astype(np.float64)
