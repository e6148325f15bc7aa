"""Seeded simulations with known truth: do intervals cover, discoveries keep their rate, planned numbers suffice?"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

import jaxinfl
from jaxinfl.statistics import models_for_influence, pair_uncertainty, subset_share_intervals, subset_share_of_all
from jaxinfl.statistics.attribution import Over
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
POOLED_DESIGNS = tuple(
    (kind, subsets, seeds, tests, share)
    for kind, subsets, seeds, tests in (
        ("0-1", 20, 5, 20),
        ("0-1", 50, 2, 100),
        ("0-1", 50, 5, 1),
        ("normal", 20, 3, 1),
        ("normal", 50, 2, 40),
    )
    for share in (0.1, 0.5, 0.9)
)
"""Designs for the share of the variance over all test examples: kind of scores, subsets, seeds, test examples, true share."""
SCORE_DESIGNS: tuple[tuple[int, int, float, int, Over], ...] = (
    *(
        (subsets, tests, truth, uses, "both")
        for subsets, tests, uses in ((30, 30, 1), (50, 30, 3), (100, 60, 1), (400, 200, 1))
        for truth in (0.2, 0.5, 0.8)
    ),
    *((subsets, tests, 0.5, uses, "models") for subsets, tests, uses in ((30, 20, 1), (50, 1, 1), (200, 50, 3))),
)
"""Designs for the linear datamodeling score: subsets, test examples, true score, models a subset, what the interval is over."""
SKEWED_DESIGNS = tuple(
    (kind, models, ratio)
    for kind in ("normal", "exponential", "lognormal")
    for models, ratio in ((20, 0.7), (26, 0.5), (100, 0.7), (100, 0.9), (400, 0.95))
)
"""Designs for Welch's interval of skewed scores: distribution, models, ratio."""

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


def pooled_share_coverage(
    kind: str, subsets: int, seeds: int, tests: int, share: float, repeats: int, seed: int
) -> Float[np.ndarray, " repeats"]:
    """Whether the 95% interval of the share over all test examples holds it; NaN where there is no interval.

    0-1 scores: what a subset does has a beta distribution about a probability of `SHARES`, which are taken in turn.
    """
    rng = np.random.default_rng((seed, subsets, seeds, tests))
    found = []
    for repeat in range(repeats):
        score = np.sqrt(share) * rng.normal(size=(subsets, 1, tests))
        score = score + np.sqrt(1 - share) * rng.normal(size=(subsets, seeds, tests))
        if kind == "0-1":
            mean, scale = SHARES[repeat % len(SHARES)], (1 - share) / share
            chance = rng.beta(mean * scale, (1 - mean) * scale, (subsets, 1, tests))
            score = rng.random((subsets, seeds, tests)) < chance
        found.append(subset_share_of_all(score))
    return np.array([_holds(float(each.low), share, float(each.high)) for each in found])


def _holds(low: float, truth: float, high: float) -> float:
    return np.nan if np.isnan(low) else float(low <= truth <= high)


def lds_coverage(
    subsets: int, tests: int, truth: float, uses: int, over: Over, repeats: int, seed: int
) -> Float[np.ndarray, " repeats"]:
    """Whether the 95% interval of the linear datamodeling score holds the true one, for some ensembles.

    Sums of attributions over half of 100 examples, and scores, are nearly normal with a correlation r, for which Spearman's is
    6 / pi arcsin(r / 2). Test examples have different r; they share 0.3 of their attributions and of the noise.

    Args:
      subsets: number of subsets of each ensemble.
      tests: number of test examples; new ones for each ensemble if `over` is "both".
      truth: Spearman's correlation of a typical test example.
      uses: number of models on each subset.
      over: what the interval is over.
    """
    typical = 2 * np.sin(np.pi * truth / 6)
    spread = min(0.18, 0.98 - typical, 0.8 * typical)
    population = np.random.default_rng((seed, tests))
    shared = population.normal(size=(100, 1))
    inside = np.zeros(repeats)
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, tests, subsets, repeat))
        of_tests = rng if over == "both" else np.random.default_rng((seed, tests))
        r = typical + spread * of_tests.uniform(-1, 1, tests)
        weights = np.sqrt(0.3) * shared + np.sqrt(0.7) * of_tests.normal(size=(100, tests))
        weights -= weights.mean(axis=0)
        weights /= np.sqrt((weights**2).sum(axis=0) * 0.25 * 100 / 99)
        masks = jaxinfl.draw_subsets(subsets, 100, 0.5, repeat)
        noise = np.sqrt(0.3) * rng.normal(size=(subsets, 1)) + np.sqrt(0.7) * rng.normal(size=(subsets, tests))
        score = r * (masks @ weights) + np.sqrt(1 - r**2) * noise
        seeds = rng.normal(size=(subsets, uses, tests))
        models = (score[:, None] + seeds - seeds.mean(axis=1, keepdims=True)).reshape(-1, tests)
        found = jaxinfl.lds(weights, np.repeat(masks, uses, axis=0), models, over=over, repeats=300, seed=repeat)
        among = typical + spread * np.linspace(-1, 1, 10_001) if over == "both" else r
        inside[repeat] = found.low <= (6 / np.pi * np.arcsin(among / 2)).mean() <= found.high
    return inside


def skewed_coverage(kind: str, models: int, ratio: float, repeats: int, seed: int) -> Float[np.ndarray, " repeats"]:
    """Whether Welch's 95% interval holds an influence of 1 on scores of this distribution; NaN where there is no interval."""
    rng = np.random.default_rng((seed, models))
    members = np.arange(models) < round(ratio * models)
    rows = np.concatenate([members[:, None], (np.arange(models)[:, None] >> np.arange(12)) % 2 > 0], axis=1)
    shape = (models, repeats)
    noise = {
        "normal": lambda: rng.normal(size=shape),
        "exponential": lambda: rng.exponential(size=shape),
        "lognormal": lambda: rng.lognormal(size=shape),
    }[kind]()
    own = np.arange(repeats)
    found = pair_uncertainty(rows, noise + members[:, None], np.zeros_like(own), own, interval="welch")
    return np.where(np.isnan(found.low), np.nan, (found.low <= 1) & (found.high >= 1))


def shuffle_masks(masks: Bool[np.ndarray, "models train"], score: np.ndarray) -> Draw:
    """Real scores with the masks dealt to other models: all influence is gone, and how the tests depend on each other stays."""

    def draw(seed: int) -> tuple[Bool[np.ndarray, "models train"], np.ndarray, Bool[np.ndarray, "train test"]]:
        order = np.random.default_rng(seed).permutation(len(masks))
        return masks[order], score, np.zeros((masks.shape[1], score.shape[1]), bool)

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
