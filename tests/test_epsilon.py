"""Lower bounds on epsilon: of mechanisms whose epsilon is known, and by hand."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from jaxinfl import epsilon_of_canary, epsilon_of_run, models_for_epsilon

AUDITS, MOST_WRONG = 400, 33
"""Number of audits, and of wrong ones that pass: at 95% at most 20 of 400 are expected, and more than 33 come in one case of 600."""


def laplace(rng, member, epsilon, common=0.0):
    """Scores of the mechanism that adds Laplace noise to each membership, and one number to all, which changes no epsilon."""
    return member + rng.laplace(scale=1 / epsilon, size=member.shape) + common * rng.normal()


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("common", [0.0, 1.0])
def test_the_bound_of_one_run_is_seldom_above_the_truth(epsilon, common):
    wrong, bounds = 0, []
    for seed in range(AUDITS):
        rng = np.random.default_rng(seed)
        member = rng.random(150) < 0.5
        bound = epsilon_of_run(member, laplace(rng, member, epsilon, common), guesses=100).epsilon
        wrong += bound > epsilon
        bounds.append(bound)
    assert wrong <= MOST_WRONG
    assert np.median(bounds) > 0.2 * epsilon


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_of_a_canary_is_seldom_above_the_truth(epsilon):
    wrong, bounds = 0, []
    for seed in range(AUDITS):
        rng = np.random.default_rng(seed)
        member = rng.random(600) < 0.5
        bound = epsilon_of_canary(member, laplace(rng, member, epsilon)).epsilon
        wrong += bound > epsilon
        bounds.append(bound)
    assert wrong <= MOST_WRONG
    assert np.median(bounds) > (0.1 if epsilon < 1 else 0.4) * epsilon


def test_without_noise_bounds_are_large():
    rng = np.random.default_rng(0)
    member = rng.random(1000) < 0.5
    # Not all 1000 are guessed about: as many members as others are guessed, of which there are not.
    for found in (epsilon_of_run(member, member + 0.0, guesses=900), epsilon_of_canary(member, member + 0.0)):
        assert found.epsilon == found.most > 4 and found.right == found.guesses
    # Without a leak nothing is shown.
    assert epsilon_of_run(member, rng.normal(size=1000)).epsilon == 0
    assert epsilon_of_canary(member, np.zeros(1000)).epsilon == 0


def test_one_run_by_hand():
    """85 of 100 right guesses: the largest epsilon at which a binomial number reaches 85 with a chance of 5%."""
    member = np.arange(100) >= 50
    score = np.arange(100.0)
    score[:15] += 200
    score[85:] -= 200  # 15 of each side swap places
    found = epsilon_of_run(member, score)
    assert (found.right, found.guesses) == (70, 100)
    share = 1 / (1 + math.exp(-found.epsilon))
    assert binom.sf(69, 100, share) == pytest.approx(0.05, rel=1e-6)
    looser = epsilon_of_run(member, score, delta=1e-3)
    share = 1 / (1 + math.exp(-looser.epsilon))
    below = max((binom.cdf(69, 100, share) - binom.cdf(69 - i, 100, share)) / i for i in range(1, 71))
    assert binom.sf(69, 100, share) + 2 * 100 * 1e-3 * below == pytest.approx(0.05, rel=1e-6)
    assert looser.epsilon < found.epsilon
    # Guesses about the extremes alone: fewer, but surer where the scores say more.
    few = epsilon_of_run(member, score, guesses=30)
    assert (few.right, few.guesses) == (0, 30) and few.epsilon == 0


def test_a_canary_by_hand():
    """One third of 300 models chooses the threshold; all 100 members of the other two are told, and no false alarm is made."""
    member = np.arange(300) // 3 % 2 == 0
    found = epsilon_of_canary(member, member + 0.0, delta=1e-5, confidence=0.9)
    inside = 100
    low, high = beta.ppf(0.05, inside, 1), beta.ppf(0.95, 1, 200 - inside)
    assert found.epsilon == pytest.approx(math.log((low - 1e-5) / high), rel=1e-9)
    assert (found.right, found.guesses, found.most) == (inside, inside, found.epsilon)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
def test_number_of_models_for_a_bound(epsilon):
    models = models_for_epsilon(epsilon)
    for number, enough in ((models, True), (models - 3, False)):
        member = np.zeros(number, bool)
        told = np.flatnonzero(np.arange(number) % 3 != 0)
        member[told[: told.size // 2]] = True
        member[::6] = True
        assert (epsilon_of_canary(member, member + 0.0).epsilon >= epsilon) is enough
    assert models_for_epsilon(epsilon + 0.5) > models > 10
    with pytest.raises(ValueError, match="even 10000000 models show"):
        models_for_epsilon(30.0)


@pytest.mark.parametrize("function", [epsilon_of_canary, epsilon_of_run])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"member": np.zeros(8)}, TypeError, "member has dtype float64"),
        ({"member": np.zeros((2, 4), bool)}, ValueError, r"member has shape \(2, 4\)"),
        ({"score": np.zeros(7)}, ValueError, r"score has shape \(7,\)"),
        ({"score": np.full(8, np.nan)}, ValueError, "score holds 8 NaN"),
        ({"score": np.array(list("abcdefgh"))}, TypeError, "score has dtype"),
        ({"delta": 1.5}, ValueError, "delta is 1.5"),
        ({"confidence": 1.0}, ValueError, "confidence is 1.0"),
    ],
)
def test_mistakes_are_told(function, change, error, message):
    given = {"member": np.arange(8) < 4, "score": np.arange(8.0)} | change
    with pytest.raises(error, match=message):
        function(given.pop("member"), given.pop("score"), **given)


def test_guesses_and_epsilon_are_checked():
    member, score = np.arange(8) < 4, np.arange(8.0)
    for guesses in (0, 9, 2.5):
        with pytest.raises((ValueError, TypeError), match="guesses is"):
            epsilon_of_run(member, score, guesses=guesses)
    with pytest.raises(ValueError, match="epsilon is 0"):
        models_for_epsilon(0.0)
