"""Seeded simulations with known truth: do intervals cover, discoveries keep their rate, planned numbers suffice?"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

import jaxinfl
from jaxinfl.statistics import models_for_influence, pair_uncertainty, subset_share_intervals
from jaxinfl.statistics.multiple import FDRMethod
from jaxinfl.statistics.power import rejects
from jaxinfl.statistics.uncertainty import IntervalMethod

SHARES = np.round(np.arange(0.02, 0.99, 0.08), 2)
"""Probabilities of being right that are simulated, 0.02 to 0.98, with the example and without it."""
WITHIN = 0.3
"""Correlation of models on the same subset, where subsets are used twice."""
DESIGNS = tuple((ratio, uses) for uses in (1, 2) for ratio in (0.5, 0.7))
"""Designs of ensembles: ratio of the subsets, and number of models on each subset."""
KINDS = (
    "0-1 scores",
    "float scores",
    "0-1, subsets used twice",
    "0-1, examples alike",
    "0-1 as floats, ratio 0.9",
    "saturated floats, ratio 0.9",
    "rounded floats, ratio 0.9",
    "20 examples, 2000 models",
)
"""Kinds of simulated tests."""
PLANS = ((0.2, 0.5, 0.7), (0.1, 0.5, 0.7), (-0.2, 0.9, 0.7), (0.1, 0.8, 0.5), (0.3, 0.6, 0.7))
"""Ensembles that are planned: effect, base rate and ratio."""
INTERVALS: tuple[tuple[str, IntervalMethod], ...] = (
    ("Newcombe", "newcombe"),
    ("Agresti-Caffo", "agresti-caffo"),
    ("Welch, float scores", "welch"),
)
"""Names and methods of the intervals under trial."""

SHARE_DESIGNS = tuple((subsets, seeds, share, 0.5) for subsets, seeds in ((10, 5), (50, 3)) for share in (0.1, 0.5))
"""Designs for the subset's share of the variance: subsets, shared seeds, true share, and the seeds' share of the rest."""
SCORE_DESIGNS = tuple(
    (subsets, tests, common) for subsets, tests in ((20, 5), (50, 1), (100, 50)) for common in (0.0, 1.0)
)
"""Designs for the linear datamodeling score: subsets, test examples, and their common noise."""

# Score values drawn at once.
_VALUES_AT_ONCE = 2**24

Draw = Callable[[int], tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]]


def coverage(
    num_models: int, ratio: float, uses: int, interval: IntervalMethod, confidence: float, repeats: int, seed: int
) -> Float[np.ndarray, " shares"]:
    """Share of intervals that cover the true influence, by the probability without the example, over all those with it.

    Only intervals that are defined are counted; NaN where so few subsets have none.

    Args:
      num_models: number of models in all, rounded down to a multiple of `uses`.
      ratio: share of the subsets that hold the example.
      uses: number of models on each subset. With two, the subsets' own probabilities have a beta distribution about the mean.
      interval: "welch" is tried on float scores: 0-1 plus normal noise of variance 1.
      confidence: nominal coverage.
      repeats: number of ensembles for each pair of probabilities.
      seed: seed of the simulation.
    """
    rng = np.random.default_rng((seed, num_models, round(100 * ratio), uses))
    subsets = num_models // uses
    members = np.arange(subsets) < round(ratio * subsets)
    # Other examples make every subset's row its own.
    rows = np.concatenate([members[:, None], (np.arange(subsets)[:, None] >> np.arange(12)) % 2 > 0], axis=1)
    masks = np.repeat(rows, uses, axis=0)
    p_in, p_out = (side.ravel() for side in np.meshgrid(SHARES, SHARES))
    covered, defined, done = np.zeros(p_in.size), np.zeros(p_in.size), 0
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
        defined += np.isfinite(found.low).reshape(ensembles, -1).sum(axis=0)
        done += ensembles
    by_share = np.array([part.reshape(SHARES.size, SHARES.size).sum(axis=1) for part in (covered, defined)])
    return np.divide(by_share[0], by_share[1], out=np.full(SHARES.size, np.nan), where=by_share[1] > 0)


def draw_tests(
    kind: str, seed: int
) -> tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]:
    """Draw masks, scores and the pairs with a true influence: 40 of all pairs, 30 of 20 x 30, none where examples are alike."""
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    models, train, test, ratio = 150, 40, 30, 0.7
    if kind.endswith("ratio 0.9"):
        models, train, ratio = 200, 200, 0.9
    if kind == "20 examples, 2000 models":
        models, train = 2000, 20
    masks = jaxinfl.draw_subsets(models, train, ratio, seed)
    if kind == "0-1, examples alike":
        # Every discovery is false, and test examples follow one common outcome: the tests depend on each other.
        common = rng.random((models, 1)) < rng.uniform(0.3, 0.9)
        score = np.where(rng.random((models, test)) < 0.9, common, rng.random((models, test)) < 0.5)
        return masks, score, np.zeros((train, test), bool)
    truth = np.zeros((train, test))
    truth.ravel()[rng.choice(train * test, 40, replace=False)] = 0.4
    if kind == "20 examples, 2000 models":
        truth[:] = 0
        truth[rng.integers(0, train, test), np.arange(test)] = 0.4
    if kind.endswith("ratio 0.9"):
        # Strong effects on a latent score; a few scores lie far below the many that are equal.
        return masks, _tie_scores(kind, 4 * (masks - ratio) @ truth + rng.normal(size=(models, test))), truth > 0
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


def _tie_scores(kind: str, latent: Float[np.ndarray, "models test"]) -> np.ndarray:
    """Turn latent scores into scores of which many are equal."""
    if kind.startswith("0-1"):
        return (latent > -1.9).astype(np.float32)
    if kind.startswith("saturated"):
        return np.asarray(expit(22 + 5 * latent), np.float32)
    return np.asarray(expit(1.5 + 2 * latent).round(1))


def share_coverage(subsets: int, seeds: int, share: float, of_rest: float, repeats: int, seed: int) -> np.ndarray:
    """Whether the 95% interval of each subset share holds it; shared seeds make `of_rest` of the rest of the variance."""
    rng = np.random.default_rng((seed, subsets, seeds))
    parts = share, (1 - share) * of_rest, (1 - share) * (1 - of_rest)
    shapes = (subsets, 1, repeats), (1, seeds, repeats), (subsets, seeds, repeats)
    score = sum(np.sqrt(part) * rng.normal(size=shape) for part, shape in zip(parts, shapes, strict=True))
    found = subset_share_intervals(score)
    return (found.low <= share) & (share <= found.high)


def lds_coverage(subsets: int, tests: int, common: float, repeats: int, seed: int) -> np.ndarray:
    """Whether the 95% interval of the linear datamodeling score holds that of 10,000 subsets, for some ensembles.

    Args:
      subsets: number of subsets of each ensemble.
      tests: number of test examples, the same for all ensembles; their scores share noise of deviation `common`, and have 0.7 of their own.
    """
    weights = np.random.default_rng((seed, tests)).normal(size=(60, tests))

    def draw(models: int, number: int) -> tuple[Bool[np.ndarray, "models train"], Float[np.ndarray, "models test"]]:
        rng = np.random.default_rng((seed, tests, number))
        masks = jaxinfl.draw_subsets(models, 60, 0.5, seed + number)
        noise = common * rng.normal(size=(models, 1)) + 0.7 * rng.normal(size=(models, tests))
        return masks, 0.15 * masks @ weights + noise

    truth = jaxinfl.lds(weights, *draw(10_000, 0), repeats=1).mean
    found = [jaxinfl.lds(weights, *draw(subsets, 1 + number), repeats=300) for number in range(repeats)]
    return np.array([each.low <= truth <= each.high for each in found])


def shuffle_masks(masks: Bool[np.ndarray, "models train"], correct: Bool[np.ndarray, "models test"]) -> Draw:
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
