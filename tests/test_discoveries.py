"""Discoveries: against brute force with scipy, and realized false discovery rates by simulation."""

import numpy as np
import pytest
import scipy.stats

import jaxinfl
from jaxinfl import discoveries
from jaxinfl.influence.blocks import count_blocks
from jaxinfl.statistics.clusters import dependent_design
from jaxinfl.statistics.exact_test import fisher_table
from jaxinfl.statistics.pair_tests import _is_smooth
from tests import reference


def make(models=120, train=30, test=20, influential=15, seed=0, effect=0.6, design="uniform"):
    """Masks, 0-1 scores and where there is an influence."""
    rng = np.random.default_rng(seed)
    masks = jaxinfl.draw_subsets(models, train, 0.5 if design == "complementary" else 0.7, seed, design)
    truth = np.zeros((train, test))
    truth[rng.integers(0, train, influential), rng.integers(0, test, influential)] = effect
    # The mean influence of the others stays in the middle, so that no chance reaches 0 or 1.
    chance = np.clip(rng.uniform(0.2, 0.9, test) + (masks - masks.mean()) @ truth / 1.5, 0, 1)
    return masks, rng.random(chance.shape) < chance, truth > 0


def brute_force(masks, correct, fdr, method, alternative):
    """Pairs and q-values by scipy, one pair after the other, with Gilbert's rule by trying every k."""
    found, smallest = {}, {}
    for i, j in np.ndindex(masks.shape[1], correct.shape[1]):
        n, total = int(masks[:, i].sum()), int(correct[:, j].sum())
        if n in (0, len(masks)):
            continue
        if total in (0, len(masks)):  # of which scipy makes NaN
            found[i, j] = smallest[i, j] = 1.0
            continue

        def p_value(right, n=n, total=total):
            table = [[right, n - right], [total - right, len(masks) - n - total + right]]
            greater, less = (scipy.stats.fisher_exact(table, alternative=side)[1] for side in ("greater", "less"))
            return {"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative]

        found[i, j] = p_value(int((masks[:, i] & correct[:, j]).sum()))
        ends = max(0, total - (len(masks) - n)), min(n, total)
        smallest[i, j] = min(map(p_value, ends))
    k = next(k for k in range(1, len(found) + 2) if sum(p <= fdr / k for p in smallest.values()) <= k)
    tested = {pair: p for pair, p in found.items() if smallest[pair] <= fdr / k}
    q = scipy.stats.false_discovery_control(list(tested.values()), method=method) if tested else []
    return {pair: (value, tested[pair]) for pair, value in zip(tested, q, strict=True) if value <= fdr}, len(tested)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("method", ["bh", "by"])
def test_equals_brute_force(method, alternative, monkeypatch):
    masks, correct, _ = make(models=50, train=24, test=9)
    masks[:, 3], masks[:, 5], correct[:, 2] = True, False, True
    monkeypatch.setattr("jaxinfl.statistics.pair_tests._PAIRS_AT_ONCE", 4 * 9)  # four training examples at a time
    expected, num_tests = brute_force(masks, correct, 0.2, method, alternative)
    found = discoveries(masks, correct, fdr=0.2, method=method, alternative=alternative)
    assert found.num_tests == num_tests
    pairs = list(zip(found.train_index.tolist(), found.test_index.tolist(), strict=True))
    assert set(pairs) == set(expected) and (len(pairs) > 0 or alternative == "less")
    for pair, q, p in zip(pairs, found.q_value, found.p_value, strict=True):
        assert (q, p) == pytest.approx(expected[pair], rel=1e-9)
    assert (np.diff(found.q_value) >= 0).all()
    influence = np.asarray(jaxinfl.influence(masks, correct))
    np.testing.assert_allclose(found.influence, influence[found.train_index, found.test_index], atol=1e-6)
    assert ((found.low <= found.influence) & (found.influence <= found.high)).all()


def test_fisher_table_equals_scipy():
    totals = np.array([0, 3, 9, 14])
    table = fisher_table(6, totals, 14, "two-sided")
    for k, column in np.ndindex(7, 4):
        total = totals[column]
        if total == 0 or not total - 8 <= k <= total:
            assert table[k, column] == 1
            continue
        cells = [[k, 6 - k], [total - k, 8 - total + k]]
        tails = [scipy.stats.fisher_exact(cells, alternative=side)[1] for side in ("greater", "less")]
        assert table[k, column] == pytest.approx(min(1, 2 * min(tails)), rel=1e-10)


def test_count_blocks_are_joint_counts():
    rng = np.random.default_rng(0)
    masks, correct = rng.random((70, 23)) < 0.5, rng.random((70, 7)) < 0.5
    for rows in (None, 1, 5, 23):
        blocks = list(count_blocks(masks, correct, rows))
        np.testing.assert_array_equal(
            np.concatenate([block for _, block in blocks]), reference.joint_counts(masks, correct)
        )
        assert [start for start, _ in blocks] == list(range(0, 23, rows or 23))


def realized(draw, repeats, **options):
    """Mean share of false ones among the discoveries, its standard error, and the mean number of discoveries."""
    shares, numbers = [], []
    for seed in range(repeats):
        masks, score, truth = draw(seed)
        found = discoveries(masks, score, **options)
        false = ~truth[found.train_index, found.test_index]
        shares.append(false.mean() if false.size else 0.0)
        numbers.append(false.size)
    return np.mean(shares), np.std(shares) / np.sqrt(repeats), np.mean(numbers)


@pytest.mark.parametrize("method", ["bh", "by"])
@pytest.mark.parametrize("kind", ["bool", "float", "twice"])
def test_false_discovery_rate(kind, method):
    """Check that at most the nominal share (0.1) of what is found is false, up to three standard errors of the simulation."""

    def draw(seed):
        masks, correct, truth = make(seed=seed)
        rng = np.random.default_rng(seed)
        if kind == "float":
            return masks, correct + rng.normal(0, 0.2, correct.shape), truth
        if kind == "twice":  # the second model of each subset agrees with the first in 80%
            again = np.where(rng.random(correct.shape) < 0.8, correct, ~correct)
            return np.repeat(masks, 2, axis=0), np.stack([correct, again], axis=1).reshape(240, -1), truth
        return masks, correct, truth

    share, error, number = realized(draw, 40, fdr=0.1, method=method)
    assert share <= 0.1 + 3 * error
    assert number > (0.5 if kind == "twice" else 3)


@pytest.mark.parametrize("fdr", [0.1])
def test_false_discovery_rate_without_any_influence(fdr):
    """Then every discovery is false, and one may occur in a share `fdr` of the ensembles; test examples that go together
    (copies with noise) make the tests depend on each other."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        masks = jaxinfl.draw_subsets(60, 25, 0.7, seed)
        one = rng.random((60, 1)) < rng.uniform(0.3, 0.9)
        score = np.where(rng.random((60, 30)) < 0.9, one, rng.random((60, 30)) < 0.5)
        return masks, score, np.zeros((25, 30), bool)

    share, error, _ = realized(draw, 150, fdr=fdr)
    assert share <= fdr + 3 * max(error, 0.02)


def tied(kind, latent):
    """Float scores with many equal values."""
    if kind == "0-1":
        return (latent > -1.9).astype(np.float32)
    if kind == "saturated":  # most round to 1 in float32
        return (1 / (1 + np.exp(-(22 + 5 * latent)))).astype(np.float32)
    return np.round(1 / (1 + np.exp(-(1.5 + 2 * latent))), 1) if kind == "rounded" else latent


@pytest.mark.parametrize("kind", ["0-1", "saturated", "rounded", "continuous"])
@pytest.mark.parametrize(
    ("models", "ratio"), [(50, 0.7), (200, 0.9), (200, 0.5), pytest.param(600, 0.95, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("influential", [0, 40])
def test_false_discovery_rate_of_floats_with_ties(kind, models, ratio, influential):
    """The normal approximation alone made up to 93% of the discoveries false."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        masks = jaxinfl.draw_subsets(models, 150, ratio, seed)
        truth = np.zeros((150, 60))
        truth[rng.integers(0, 150, influential), rng.integers(0, 60, influential)] = 1.5
        return masks, tied(kind, (masks - ratio) @ truth + rng.normal(size=(models, 60))), truth > 0

    share, error, _ = realized(draw, 12)
    assert share <= 0.05 + 3 * max(error, 0.02)


def test_floats_of_two_values_are_tested_as_bools():
    masks, correct, _ = make(models=60)
    found, expected = discoveries(masks, 3.0 * correct - 1, fdr=0.2), discoveries(masks, correct, fdr=0.2)
    assert found.num_tests == expected.num_tests and len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.train_index, expected.train_index)
    np.testing.assert_allclose(found.p_value, expected.p_value)
    # Means of models that share a subset, equal but for rounding, are equal.
    twice = np.repeat(masks, 3, axis=0)
    thirds = np.stack([correct * 0.1, correct * 0.2, correct * 0.3], axis=1).reshape(180, -1)
    np.testing.assert_allclose(discoveries(twice, thirds, fdr=0.2).p_value, expected.p_value)


def test_where_the_normal_approximation_is_trusted_it_is_right():
    """The subsets are drawn again: 20 out of 200, without ties, with a quarter of equal scores, and with 97%."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(200, 3))
    score[:50, 1], score[:194, 2] = 5.0, 5.0
    ranks = scipy.stats.rankdata(score, axis=0) - 100.5
    smooth = _is_smooth(ranks, np.array([20, 100, 180]), 1e-4)
    assert smooth[:, 0].all() and not smooth[:, 2].any()
    sums = np.stack([ranks[rng.permutation(200)[:20]].sum(axis=0) for _ in range(40_000)])
    deviation = np.sqrt((ranks**2).mean(axis=0) / 199 * 20 * 180)
    far = (np.abs(sums) > 3 * deviation).mean(axis=0)
    assert far[0] < 1.3 * 0.0027 and far[2] > 3 * 0.0027


@pytest.mark.parametrize("kind", [pytest.param("bool", marks=pytest.mark.slow), "float"])
def test_subsets_of_one_size_leak_no_discoveries(kind):
    """A strong one of 20 training examples makes all others seem a little harmful: up to 72% of the discoveries were that."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        masks = jaxinfl.draw_subsets(2500, 20, 0.5, seed)
        truth = np.zeros((20, 15))
        truth[rng.integers(0, 20, 15), np.arange(15)] = 0.4
        chance = 0.5 + (masks - 0.5) @ truth
        score = rng.random(chance.shape) < chance
        return masks, score if kind == "bool" else score + rng.normal(0, 0.3, score.shape), truth > 0

    share, error, number = realized(draw, 8)
    assert share <= 0.05 + 3 * max(error, 0.01) and number >= 14


def test_intervals_cover_after_selection():
    """Check that the reported intervals miss in at most a share `fdr` of the cases, and that those that ignore the selection miss in more."""
    shares = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        masks = rng.random((100, 40)) < 0.5
        effect = np.where(np.arange(40) < 8, 0.45, 0.0)
        # Training example i has an influence on test example i only.
        score = rng.random((100, 40)) < np.where(masks, 0.45 + effect, 0.45)
        found = discoveries(masks, score, fdr=0.1)
        true = np.where(found.train_index == found.test_index, effect[found.train_index], 0.0)
        pairs = found.train_index, found.test_index
        plain = jaxinfl.statistics.pair_uncertainty(masks, score, *pairs, confidence=0.9)
        missed = [((true < ends.low) | (ends.high < true)).sum() for ends in (found, plain)]
        shares.append([*missed, len(found)])
    adjusted, unadjusted, number = np.mean(np.array(shares) / np.maximum(np.array(shares)[:, 2:], 1), axis=0)
    assert number == 1 and adjusted <= 0.1 and adjusted < unadjusted / 2


def test_nothing_to_discover():
    masks = np.ones((6, 3), bool)
    found = discoveries(masks, np.ones((6, 2), bool))
    assert len(found) == 0 and found.num_tests == 0 and found.influence.shape == (0,)
    assert len(discoveries(masks, np.ones((6, 2)))) == 0
    assert len(discoveries(np.eye(6, dtype=bool), np.ones((6, 2)))) == 0


@pytest.mark.parametrize(("num_train", "ratio"), [(20, 0.5), (61, 0.5), (301, 0.5), (300, 0.7), (1437, 0.7)])
def test_balanced_subsets_are_refused_and_independent_ones_taken(num_train, ratio):
    """Balanced subsets of ratio 1/2 depend on each other also where an odd number of examples leaves none its complement."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(200, 3))
    uniform, balanced = (jaxinfl.draw_subsets(200, num_train, ratio, 0, design) for design in ("uniform", "balanced"))
    discoveries(uniform, score)
    with pytest.raises(ValueError, match="drawn independently"):
        discoveries(balanced, score)
    with pytest.warns(UserWarning, match="depend on each other"):
        jaxinfl.pair_uncertainty(balanced, score, np.zeros(1, int), np.zeros(1, int))
    # Some models diverge, and examples of groups are drawn together.
    with pytest.raises(ValueError, match="drawn independently"):
        discoveries(balanced[5:], score[5:])
    assert dependent_design(np.repeat(uniform, 2, axis=1)) is None
    assert dependent_design(np.repeat(balanced, 2, axis=1)) is not None
    assert dependent_design(jaxinfl.leave_one_out(num_train, range(num_train), 3)) is None
    # Every example in exactly as many, but drawn by itself, as the program of Carlini et al. (2022) does.
    assert dependent_design(np.argsort(rng.random((200, num_train)), axis=0) < 100) is None


def test_independent_subsets_are_hardly_ever_taken_for_dependent_ones():
    taken = [
        dependent_design(jaxinfl.draw_subsets(models, num_train, ratio, seed))
        for seed in range(60)
        for models, num_train, ratio in ((4, 12, 0.5), (10, 20, 0.7), (200, 30, 0.5), (1000, 20, 0.3), (50, 400, 0.9))
    ]
    assert not any(taken)


def test_complementary_subsets_are_refused():
    masks, correct, _ = make(models=40, design="complementary")
    with pytest.raises(ValueError, match="each other's complements"):
        discoveries(masks, correct)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fdr": 0.0}, "fdr is 0.0; it takes a number between 0 and 1"),
        ({"method": "holm"}, "holm"),
        ({"alternative": "both"}, "both"),
        ({"score": np.zeros((3, 2), bool)}, "score has 3 rows, but masks has 4"),
        ({"score": np.full((4, 2), np.nan)}, "NaN or inf"),
    ],
)
def test_refusals(options, message):
    arguments = {"masks": np.eye(4, dtype=bool), "score": np.zeros((4, 2), bool)} | options
    with pytest.raises((ValueError, TypeError), match=message):
        discoveries(arguments.pop("masks"), arguments.pop("score"), **arguments)
