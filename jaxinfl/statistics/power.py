"""How many models on random subsets show an influence of a given size."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float
from scipy.special import ndtri
from scipy.stats import binom

from jaxinfl.arguments import check_numbers, check_probabilities, check_share, check_whole

# Probability of the outcomes that are left out on either side.
_NEGLIGIBLE = 1e-10
# Models from which on Fleiss, Tytun and Ury's formula answers: sums over all pairs of outcomes take seconds for one
# influence, and for the smallest ones would outgrow any memory.
_EXACT_UP_TO = 2e5


def models_for_influence(
    effect: ArrayLike | Sequence[Any],
    base_rate: ArrayLike | Sequence[Any],
    ratio: float = 0.7,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Float[np.ndarray, "*shape"]:
    """Models in all that show the influence of a training on a test example, when each is trained on a random subset.

    Of t models about ratio * t were trained with the example and are right with probability base_rate + effect; the
    others are right with probability base_rate. The influence counts as shown when the two-sided test of two
    proportions (pooled variance, level alpha) rejects that they are equal, with the right sign.

    Args:
      effect: true influence, from -1 to 1; any shape.
      base_rate: probability that a model without the example is right, from 0 to 1; broadcast against effect.
      ratio: share of the training set in each subset, between 0 and 1.
      alpha: level of the test, between 0 and 1. For one pair chosen beforehand 0.05; among many pairs take fdr * (pairs that have an
        influence) / (pairs), which is about what `discoveries` compares p-values with.
      power: probability of showing the influence, above alpha and below 1.

    Returns:
      float64 of the shape of effect and base_rate broadcast: a whole number t of models at which the exact power (sums over
      binomial outcomes, n_in = ratio * t rounded) reaches `power` and at t - 1 does not; infinity where effect is 0.
      From 200,000 models on the normal approximation, within a thousandth but where nearly all models are right or wrong.
      Power rises with t in small jags, so a somewhat smaller t may reach it too. Fisher's exact test, by which
      `discoveries` goes, needs somewhat more.

    Raises:
      TypeError: arguments that are not numbers.
      ValueError: numbers out of range or NaN; base_rate + effect outside 0..1; shapes that do not broadcast.

    Source: the design of Section 2.3 of the paper; Fleiss, Tytun and Ury (1980), "A simple approximation for calculating
    sample sizes for comparing independent proportions", Biometrics 36, for unequal samples and without correction for
    continuity; there the search for the exact number starts.
    """
    effects, rates = _check(effect, base_rate)
    share, level = check_share(ratio, "ratio"), check_share(alpha, "alpha")
    wanted = check_share(power, "power")
    if wanted <= level:
        raise ValueError(f"power is {power} and alpha {alpha}; power takes a number above alpha.")
    numbers = [
        _smallest(rate, rate + change, share, level, wanted) if change else math.inf
        for change, rate in zip(effects.ravel(), rates.ravel(), strict=True)
    ]
    return np.array(numbers, np.float64).reshape(effects.shape)


def power_of_influence(effect: float, base_rate: float, num_in: int, num_out: int, alpha: float = 0.05) -> float:
    """Exact probability that the test of `models_for_influence` shows an influence with so many models on either side.

    Args:
      effect: true influence, one number from -1 to 1.
      base_rate: probability that a model without the example is right, one number from 0 to 1.
      num_in: number of models that are trained with the example, from 1 to 100,000.
      num_out: number of models that are trained without it, from 1 to 100,000.
      alpha: level of the test, between 0 and 1.

    Returns:
      A probability, from 0 to 1.

    Raises:
      TypeError, ValueError: as `models_for_influence`; numbers of models out of range.
    """
    effects, rates = _check(effect, base_rate)
    if effects.ndim:
        raise ValueError(f"effect and base_rate have shape {effects.shape}; they take one number each.")
    level = check_share(alpha, "alpha")
    for name, number in (("num_in", num_in), ("num_out", num_out)):
        check_whole(number, name, 1, 100_000)
    return _power(float(effects), float(rates), num_in, num_out, level)


def _power(effect: float, base_rate: float, num_in: int, num_out: int, alpha: float) -> float:
    right_in, weight_in = _outcomes(num_in, base_rate + effect)
    right_out, weight_out = _outcomes(num_out, base_rate)
    shown = rejects(right_in[:, None], num_in, right_out[None, :], num_out, alpha)
    signed = shown & (np.sign(right_in[:, None] / num_in - right_out[None, :] / num_out) == np.sign(effect))
    return float(weight_in @ signed @ weight_out)


def rejects(
    right_in: np.ndarray, num_in: np.ndarray | int, right_out: np.ndarray, num_out: np.ndarray | int, alpha: float
) -> Bool[np.ndarray, "*shape"]:
    """Whether the two-sided test of two proportions with pooled variance rejects at level alpha; never where all agree."""
    total = num_in + num_out
    right = right_in + right_out
    # Multiplied out, in whole numbers as far as they go: no division by a variance of 0.
    difference = right_in * num_out - right_out * num_in
    bound = float(ndtri(alpha / 2)) ** 2 * (num_in * num_out) * (right * (total - right)) / total
    decided: Bool[np.ndarray, "*shape"] = (difference.astype(np.float64) ** 2 >= bound) & (difference != 0)
    return decided


def _check(effect: Any, base_rate: Any) -> list[Float[np.ndarray, "*shape"]]:
    (rates,) = check_probabilities(base_rate=base_rate)
    effects = check_numbers(effect, "effect")
    try:
        effects, rates = np.broadcast_arrays(effects, rates)
    except ValueError:
        raise ValueError(f"effect shape {effects.shape} and base_rate shape {rates.shape} do not broadcast.") from None
    with_example = rates + effects
    # 0.9 + 0.1 may be one unit in the last place above 1.
    outside = (with_example < -1e-12) | (with_example > 1 + 1e-12)
    if outside.any():
        raise ValueError(
            f"base_rate + effect is {with_example[outside][0]:g} for {outside.sum()} of {outside.size} values; the "
            "probability of being right with the example takes 0 to 1."
        )
    return [np.asarray(np.clip(with_example, 0, 1) - rates), rates]


def _smallest(rate_out: float, rate_in: float, ratio: float, alpha: float, power: float) -> float:
    def reached(number: int) -> bool:
        num_in = min(max(round(ratio * number), 1), number - 1)
        return _power(rate_in - rate_out, rate_out, num_in, number - num_in, alpha) >= power

    expected = _fleiss(rate_out, rate_in, ratio, alpha, power)
    if expected > _EXACT_UP_TO:
        return float(np.ceil(expected))
    high = max(math.ceil(expected), 2)
    low = 1
    while not reached(high):
        low, high = high, high + max(high // 4, 1)
    # The jags are small: from 10% below the formula on, halving finds one crossing.
    if low == 1:
        low = max(high - high // 10 - 1, 1)
        while low > 1 and reached(low):
            low, high = max(low - low // 4 - 1, 1), low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return float(high)


def _fleiss(rate_out: float, rate_in: float, ratio: float, alpha: float, power: float) -> float:
    pooled = ratio * rate_in + (1 - ratio) * rate_out
    if_none = pooled * (1 - pooled) * (1 / ratio + 1 / (1 - ratio))
    if_real = rate_in * (1 - rate_in) / ratio + rate_out * (1 - rate_out) / (1 - ratio)
    quantiles = -float(ndtri(alpha / 2)) * math.sqrt(if_none) + float(ndtri(power)) * math.sqrt(if_real)
    root = float(max(quantiles, 0.0) / abs(rate_in - rate_out))
    return root * root  # infinite for the smallest influences, where a power would be an error


def _outcomes(number: int, rate: float) -> tuple[Float[np.ndarray, " outcomes"], Float[np.ndarray, " outcomes"]]:
    """Numbers of right models that may occur (all but a probability of 1e-10 on either side), and their probabilities."""
    low, high = binom.ppf(_NEGLIGIBLE, number, rate), binom.isf(_NEGLIGIBLE, number, rate)
    right = np.arange(max(low, 0), min(high, number) + 1)
    return right, binom.pmf(right, number, rate)
