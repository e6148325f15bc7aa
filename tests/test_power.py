"""Numbers of models for a given influence, against simulation and published sample sizes."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxinfl import models_for_influence
from jaxinfl.statistics import power_of_influence


def chi_square_rejects(right_in, num_in, right_out, num_out, alpha):
    """Pearson's chi-square of the 2 x 2 table by scipy, without correction."""
    table = [[right_in, num_in - right_in], [right_out, num_out - right_out]]
    if right_in + right_out in (0, num_in + num_out):
        return False
    return scipy.stats.chi2_contingency(table, correction=False).pvalue <= alpha


@pytest.mark.parametrize(
    ("effect", "base_rate", "ratio", "alpha", "power"),
    [(0.2, 0.5, 0.7, 0.05, 0.8), (-0.15, 0.95, 0.5, 0.01, 0.9), (0.3, 0.7, 0.7, 0.05, 0.8)],
)
def test_achieved_power_by_simulation(effect, base_rate, ratio, alpha, power):
    number = int(models_for_influence(effect, base_rate, ratio, alpha, power))
    rng = np.random.default_rng(0)
    num_in, runs = round(ratio * number), 2000
    right_in = rng.binomial(num_in, min(base_rate + effect, 1), runs)
    right_out = rng.binomial(number - num_in, base_rate, runs)
    shown = [chi_square_rejects(a, num_in, b, number - num_in, alpha) for a, b in zip(right_in, right_out, strict=True)]
    assert np.mean(shown) == pytest.approx(power, abs=0.035)
    exact = power_of_influence(effect, base_rate, num_in, number - num_in, alpha)
    assert np.mean(shown) == pytest.approx(exact, abs=4 * math.sqrt(0.25 / runs))


def test_power_at_the_answer_and_just_below():
    for effect, base_rate in [(0.1, 0.3), (-0.3, 0.9), (0.05, 0.9)]:
        number = int(models_for_influence(effect, base_rate))

        def power(t, effect=effect, base_rate=base_rate):
            return power_of_influence(effect, base_rate, round(0.7 * t), t - round(0.7 * t))

        assert power(number) >= 0.8 > power(number - 1)


def test_textbook_number():
    """0.5 against 0.6 takes 388 a group (two-sided 0.05, power 0.8, no correction for continuity) in any textbook."""
    assert models_for_influence(0.1, 0.5, ratio=0.5) == pytest.approx(2 * 388, rel=0.01)


def test_shapes_signs_and_limits():
    numbers = models_for_influence(np.array([[0.1], [0.0], [-0.2]]), np.array([0.4, 0.6]))
    assert numbers.shape == (3, 2) and np.isinf(numbers[1]).all() and np.isfinite(numbers[[0, 2]]).all()
    # Wrong in place of right is the same question.
    assert models_for_influence(0.1, 0.4) == models_for_influence(-0.1, 0.6)
    # Sides exchanged: the same at ratio 1/2.
    assert models_for_influence(0.1, 0.4, 0.5) == models_for_influence(-0.1, 0.5, 0.5)
    assert models_for_influence(0.1, 0.9) < models_for_influence(0.1, 0.5)
    assert models_for_influence(0.1, 0.5, alpha=1e-6) > models_for_influence(0.1, 0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.5, 0.6), ValueError, r"base_rate \+ effect is 1.1 for 1 of 1 values"),
        ((math.nan, 0.6), ValueError, "effect holds 1 NaN or infinite of 1"),
        ((0.1, 2.0), ValueError, "base_rate holds 1 of 1"),
        ((np.zeros(2), np.zeros(3)), ValueError, r"effect shape \(2,\) and base_rate shape \(3,\) do not broadcast"),
        ((0.1, 0.2, 1.0), ValueError, "ratio is 1.0"),
        ((0.1, 0.2, 0.7, 0.0), ValueError, "alpha is 0.0"),
        ((0.1, 0.2, 0.7, 0.05, 0.04), ValueError, "power takes a number above alpha"),
        ((np.array(True), 0.2), TypeError, "effect has dtype bool"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        models_for_influence(*arguments)
