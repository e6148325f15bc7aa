"""How many models tell p from q, against Appendix F's program, exact fractions and random pairs."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxinfl import models_needed, models_needed_for_good
from jaxinfl.statistics import sample_size


def compute_num_trials(p, q, threshold):
    """Appendix F, letter by letter."""
    max_trial_num = 1000
    if p == q:
        return float("inf")

    if p > q:
        p, q = q, p
    for i in range(1, max_trial_num):
        if compute_if_within_threshold_in_n_trials(p, q, i, threshold):
            return i
    return float("inf")


def compute_if_within_threshold_in_n_trials(p, q, n, threshold):
    cutoff_point = n * np.log((1 - q) / (1 - p)) / np.log(p * (1 - q) / (q * (1 - p)))

    result_for_p = scipy.stats.binom.cdf(k=cutoff_point, n=n, p=p, loc=0)
    result_for_q = scipy.stats.binom.cdf(k=cutoff_point, n=n, p=q, loc=0)

    return result_for_p >= 1 - threshold and result_for_q <= threshold


def exact(p: Fraction, q: Fraction, delta: Fraction, largest: int) -> list[bool]:
    """Whether 1, 2, ... models meet the condition of Section 4.3, in fractions but for m."""
    p, q = min(p, q), max(p, q)
    a, b = math.log(q / p), math.log((1 - p) / (1 - q))
    met = []
    for t in range(1, largest + 1):
        product = b * t / (a + b)
        k = round(product) if abs(product - round(product)) < 1e-9 else math.ceil(product)

        def below(share: Fraction, t: int = t, k: int = k) -> Fraction:
            return sum((math.comb(t, j) * share**j * (1 - share) ** (t - j) for j in range(k)), Fraction(0))

        met.append(below(p) >= 1 - delta and below(q) <= delta)
    return met


GRID = [(Fraction(i, 20), Fraction(j, 20)) for i in range(1, 20) for j in range(i + 1, 20)]


@pytest.mark.parametrize("delta", [Fraction(1, 20), Fraction(1, 5)])
def test_equals_exact_fractions(delta):
    pairs = [(p, q) for p, q in GRID if q - p >= Fraction(1, 4)]
    p, q = (np.array(side, float) for side in zip(*pairs, strict=True))
    first, lasting = models_needed(p, q, float(delta)), models_needed_for_good(p, q, float(delta))
    for pair, one, good in zip(pairs, first, lasting, strict=True):
        met = exact(*pair, delta, int(good) + 25)
        assert met.index(True) + 1 == one, pair
        assert all(met[int(good) - 1 :]) and (good == 1 or not met[int(good) - 2]), pair


def test_equals_the_program_of_appendix_f():
    """Inside the borders, up to its cap, and where no m t is a whole number by its rounding."""
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.01, 0.99, (2, 60))
    ours = models_needed(p, q)
    theirs = [compute_num_trials(*pair, 0.05) for pair in zip(p, q, strict=True)]
    np.testing.assert_array_equal(np.where(ours < 1000, ours, np.inf), theirs)


def test_what_the_program_of_appendix_f_says_at_the_borders():
    """The departures that the docstring tells of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compute_num_trials(1.0, 0.9, 0.05) == math.inf and models_needed(1.0, 0.9) == 29
        assert compute_num_trials(1.0, 0.0, 0.05) == math.inf and models_needed(1.0, 0.0) == 1
        assert compute_num_trials(0.0, 0.1, 0.05) == 29 == models_needed(0.0, 0.1)
    assert compute_num_trials(0.50, 0.52, 0.05) == math.inf
    assert 1000 < models_needed(0.50, 0.52) < 10000


def test_by_hand():
    assert models_needed(0.6, 0.4) == 67 and models_needed_for_good(0.6, 0.4) == 75
    assert models_needed(0.3, 0.3) == math.inf == models_needed_for_good(0.3, 0.3)
    for sure, other, delta, answer in [
        (1, 0.9, 0.05, 29),
        (0, 0.1, 0.05, 29),
        (1, 0.5, 0.25, 2),  # met with equality
        (1, 0.1, 0.01, 2),  # 0.1**2 is above 0.01 in floating point
        (1, 0.01, 0.05, 1),
        (0, 1, 0.05, 1),
        (1, 0.999, 0.05, 2995),
    ]:
        assert models_needed(sure, other, delta) == models_needed(other, sure, delta) == answer
        assert models_needed_for_good(sure, other, delta) == answer
    # P(k < 1/2 | 0.95) is 0.05, which 1 - 0.95 misses by 4e-17.
    assert models_needed(0.95, 0.05) == 1


def test_close_pairs_have_no_cap():
    """0.5 and 0.505: no number below the answer meets the condition, checked on the way up in one sweep."""
    p, q = 0.5, 0.505
    answer, good = int(models_needed(p, q)), int(models_needed_for_good(p, q))
    t = np.arange(1, good + 2000)
    m = math.log((1 - p) / (1 - q)) / (math.log(q / p) + math.log((1 - p) / (1 - q)))
    k = np.ceil(m * t) - 1
    met = (scipy.stats.binom.cdf(k, t, p) >= 0.95) & (scipy.stats.binom.cdf(k, t, q) <= 0.05)
    assert np.flatnonzero(met)[0] + 1 == answer and np.flatnonzero(~met)[-1] + 2 == good
    assert answer > 100_000


def test_the_normal_approximation_meets_the_search():
    """Closer pairs than 1 in 1000 go over to it; farther apart the two differ by less than 0.2 of the closeness."""
    low = np.array([0.5, 0.1, 0.9])
    for closeness in (30, 100):
        high = low + low * (1 - low) / closeness
        cut = sample_size.cut_off(low, high)
        searched = sample_size._search(low, high, cut, 0.05)
        near = sample_size._normal_approximation(low, high, cut, 0.05)
        np.testing.assert_allclose(searched, np.stack([near, near]), rtol=0.2 / closeness)
    assert models_needed(0.3, 0.1 + 0.2) > 1e30  # one unit in the last place apart
    assert models_needed(0.5, 0.5 + 1e-8) == pytest.approx(4 * 0.25 * 1.6448536**2 / 1e-16, rel=1e-6)


probabilities = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5])


@settings(max_examples=80, deadline=None)
@given(probabilities, probabilities, st.sampled_from([0.01, 0.05, 0.3]))
@example(5e-324, 1.0, 0.05)
@example(5e-324, 0.5, 0.05)
@example(8e-110, 0.5, 0.01)
@example(1.0, 1 - 2**-53, 0.05)
@example(0.0, 5e-324, 0.05)
def test_properties(p, q, delta):
    number, good = float(models_needed(p, q, delta)), float(models_needed_for_good(p, q, delta))
    assert number == models_needed(q, p, delta)
    assert 1 <= number <= good
    assert (number == math.inf) == (p == q) or abs(p - q) < 1e-150
    assert number == math.inf or number == round(number)
    assert models_needed(p, q, delta / 2) >= number
    if number < 1e6 and 0 < min(p, q) and max(p, q) < 1:
        low, high = min(p, q), max(p, q)
        k = math.ceil(float(sample_size.cut_off(np.array([low]), np.array([high]))[0]) * number - 1e-9) - 1
        assert scipy.stats.binom.cdf(k, number, low) >= 1 - delta - 1e-9
        assert scipy.stats.binom.cdf(k, number, high) <= delta + 1e-9


def test_shapes_and_dtypes():
    grid = models_needed(np.array([0.1, 0.5, 1.0])[:, None], np.array([0.2, 0.5], np.float32))
    assert grid.shape == (3, 2) and grid.dtype == np.float64
    assert models_needed(0.1, 0.2).shape == () and models_needed(np.zeros((0, 3)), 0.5).shape == (0, 3)
    assert grid[0, 0] == models_needed(0.1, np.float32(0.2)) and grid[1, 1] == np.inf
    assert models_needed(True, 0.5) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5, 0.5), ValueError, r"p holds 1 of 1 values that are no probabilities \(first: 1.5\)"),
        ((0.5, [0.1, math.nan]), ValueError, r"q holds 1 of 2 values .*first: nan"),
        ((np.array("a"), 0.5), TypeError, "p has dtype <U1; it takes probabilities"),
        ((np.zeros(3), np.ones(2)), ValueError, r"p shape \(3,\) and q shape \(2,\) do not broadcast"),
        ((0.1, 0.2, 0.5), ValueError, "delta is 0.5; it takes a number between 0 and 0.5"),
        ((0.1, 0.2, math.nan), ValueError, "delta is nan"),
        ((0.1, 0.2, 1.0), ValueError, "delta is 1.0"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        models_needed(*arguments)
