"""A lower bound on epsilon: the least differential privacy loss that what a training gives away is consistent with.

If a training is (epsilon, delta)-private, nobody tells from its result who was in it at more than certain rates. Whoever does so proves
a larger epsilon, up to a chance of error that is chosen.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr, betaincinv

from jaxinfl.arguments import check_number, check_whole
from jaxinfl.arguments.arrays import as_array

_CALIBRATION = 3
"""One of so many models chooses the threshold; the others are told by it."""
_LARGEST = 100.0
"""Epsilon beyond which no bound is looked for."""
_MOST_MODELS = 10**7


class EpsilonBound(NamedTuple):
    """A lower bound on epsilon, and what it rests on."""

    epsilon: float
    """The bound; 0 where nothing is shown."""
    delta: float
    confidence: float
    """Probability, at least, with which the bound of a training of this epsilon is not above it."""
    right: int
    """Number of right guesses; of one canary those on the side that the bound is about."""
    guesses: int
    """Number of guesses, likewise."""
    most: float
    """The bound if every guess had been right: what so many models or examples can show at best."""


def epsilon_of_canary(member: Any, score: Any, *, delta: float = 0.0, confidence: float = 0.95) -> EpsilonBound:
    """Bound epsilon from many models and one canary, an example that was chosen before anything was trained.

    A third of the models chooses a threshold and whether high or low scores are told more surely. The other models are told by it, and
    the rates of false and of true alarms have Clopper-Pearson limits, each at half of the chance of error.

    Args:
      member: bool [models], whether each model was trained on the canary, independently of anything else.
      score: float [models], larger where the model looks more like one that was, such as its margin on the canary.
      delta: the delta of the bound.
      confidence: probability with which the bound holds.

    Raises:
      TypeError, ValueError: arrays that do not fit, or numbers that are out of range.

    Source: Jagielski, Ullman and Oprea (2020), "Auditing differentially private machine learning", Theorem 2.
    """
    told, values = _check(member, score, "models")
    delta, confidence = _check_levels(delta, confidence)
    first = np.arange(told.size) % _CALIBRATION == 0
    best = (-1.0, np.inf, True)
    for threshold in np.unique(values[first]):
        for high in (True, False):
            found = _bound_of_rates(*_count(told[first], values[first], threshold, high), delta, confidence)
            best = max(best, (found, float(threshold), high))
    _, threshold, high = best
    true, positives, false, negatives = _count(told[~first], values[~first], threshold, high)
    return EpsilonBound(
        max(_bound_of_rates(true, positives, false, negatives, delta, confidence), 0.0),
        delta,
        confidence,
        true,
        true + false,
        max(_bound_of_rates(positives, positives, 0, negatives, delta, confidence), 0.0),
    )


def _count(member: np.ndarray, score: np.ndarray, threshold: float, high: bool) -> tuple[int, int, int, int]:
    """Numbers of true alarms, positives, false alarms and negatives: of members at or above a threshold, or of others below it."""
    alarm, positive = (score >= threshold, member) if high else (score < threshold, ~member)
    return int((alarm & positive).sum()), int(positive.sum()), int((alarm & ~positive).sum()), int((~positive).sum())


def _bound_of_rates(true: int, positives: int, false: int, negatives: int, delta: float, confidence: float) -> float:
    """log((true rate at least - delta) / false rate at most); minus infinity where the numerator is not positive."""
    error = (1 - confidence) / 2
    low = float(betaincinv(true, positives - true + 1, error)) if true else 0.0
    high = float(betaincinv(false + 1, negatives - false, 1 - error)) if false < negatives else 1.0
    return math.log((low - delta) / high) if low > delta else -math.inf


def epsilon_of_run(
    member: Any, score: Any, *, guesses: int | None = None, delta: float = 0.0, confidence: float = 0.95
) -> EpsilonBound:
    """Bound epsilon from one model and many examples, each of which was in its subset or not by a toss of a fair coin of its own.

    The highest scores are guessed to be members and the lowest to be none, as many of each. Guesses about one model depend on each
    other, and the bound allows for that. Subsets of a fixed size are not such tosses: draw `rng.random(examples) < 0.5`.

    Args:
      member: bool [examples], whether each was in the subset.
      score: float [examples], larger where the example looks more like a member, such as a row of `membership_score`.
      guesses: number of examples that are guessed about, chosen before the scores were seen; None guesses about every one.
      delta: the delta of the bound.
      confidence: probability with which the bound holds.

    Raises:
      TypeError, ValueError: arrays that do not fit, or numbers that are out of range.

    Source: Steinke, Nasr and Jagielski (2023), "Privacy auditing with one (1) training run", Theorem 5.2.
    """
    told, values = _check(member, score, "examples")
    delta, confidence = _check_levels(delta, confidence)
    size = told.size
    number = size if guesses is None else check_whole(guesses, "guesses", 1, size, "examples")
    order = np.argsort(values, kind="stable")
    lowest, highest = order[: number // 2], order[size - (number - number // 2) :]
    right = int((~told[lowest]).sum() + told[highest].sum())

    def bound(right: int) -> float:
        return _largest_refuted(lambda epsilon: _chance(size, number, right, epsilon, delta), 1 - confidence)

    return EpsilonBound(bound(right), delta, confidence, right, number, bound(number))


def _chance(examples: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Chance, at most, of so many right guesses about a training of this epsilon and delta."""
    share = 1 / (1 + math.exp(-epsilon))
    if right == 0:
        return 1.0
    chance = 1 - float(bdtr(right - 1, guesses, share))
    if delta:
        below = np.array(
            [
                float(bdtr(right - 1, guesses, share) - (bdtr(right - 1 - i, guesses, share) if i < right else 0.0))
                for i in range(1, right + 1)
            ]
        )
        chance += 2 * examples * delta * float(np.max(below / np.arange(1, right + 1)))
    return min(chance, 1.0)


def _largest_refuted(chance: Any, error: float) -> float:
    """The largest epsilon whose chance is at most the error that is allowed; 0 where there is none."""
    low, high = 0.0, _LARGEST
    if chance(low) > error:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) <= error else (low, middle)
    return low


def models_for_epsilon(epsilon: float, *, delta: float = 0.0, confidence: float = 0.95) -> int:
    """Number of models that `epsilon_of_canary` takes to show an epsilon, if it tells every model rightly.

    Args:
      epsilon: the bound that is to be shown, above 0.
      delta, confidence: those of the bound.

    Raises:
      TypeError, ValueError: numbers that are out of range, or a bound that ten million models do not show.
    """
    check_number(epsilon, "epsilon", f"a number above 0, below {_LARGEST:g}", 0.0, _LARGEST, inside=True)
    delta, confidence = _check_levels(delta, confidence)

    def shown(models: int) -> float:
        told = models - -(-models // _CALIBRATION)
        inside = told // 2
        return _bound_of_rates(inside, inside, 0, told - inside, delta, confidence)

    if shown(_MOST_MODELS) < epsilon:
        raise ValueError(
            f"epsilon is {epsilon:g}; with delta {delta:g} even {_MOST_MODELS} models show {max(shown(_MOST_MODELS), 0):.2f} at most."
        )
    low, high = 2, _MOST_MODELS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) >= epsilon else (middle + 1, high)
    return low


def _check(member: Any, score: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Members and scores as arrays [models] or [examples]."""
    told = as_array(member, "member", f"bool [{what}]")
    if told.dtype != np.bool_:
        raise TypeError(
            f"member has dtype {told.dtype}; it takes bool [{what}]; if its values are 0 and 1, pass member.astype(bool)."
        )
    if told.ndim != 1 or told.size < 2:
        raise ValueError(f"member has shape {told.shape}; it takes [{what}], of which there are at least 2.")
    values = as_array(score, "score", f"floats [{what}]")
    if values.dtype.kind not in "iuf":
        raise TypeError(f"score has dtype {values.dtype}; it takes floats [{what}].")
    if values.shape != told.shape:
        raise ValueError(f"score has shape {values.shape}, but member has {told.shape}; both take [{what}].")
    if not np.isfinite(values).all():
        raise ValueError(
            f"score holds {np.count_nonzero(~np.isfinite(values))} NaN or infinite of {values.size} values; leave these {what} out."
        )
    return told, values


def _check_levels(delta: Any, confidence: Any) -> tuple[float, float]:
    return (
        check_number(delta, "delta", "a number from 0 to 1", 0.0, 1.0),
        check_number(confidence, "confidence", "a number above 0 and below 1", 0.0, 1.0, inside=True),
    )


__all__ = ["EpsilonBound", "epsilon_of_canary", "epsilon_of_run", "models_for_epsilon"]
