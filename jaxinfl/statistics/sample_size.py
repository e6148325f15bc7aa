"""How many models tell two probabilities of being right apart (Section 4.3)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float
from scipy.special import betainc, ndtri

from jaxinfl.arguments import check_probabilities, check_share

# A tail within this relative distance of delta counts as delta: 1 - 0.95 is 4e-17 above 0.05 in floating point, and one
# model does tell 0.05 from 0.95.
_TIE = 1e-12
# Pairs searched side by side; each keeps up to some thousand open ranges.
_PAIRS_AT_ONCE = 512
# m (1 - m) / |p - q| above which the normal approximation answers. The answer is then above 4e7 models, the approximation
# within 2e-4 of it, and the search, which looks at some 10 times as many numbers of models one by one, takes seconds a pair.
_CLOSEST = 1000
# (p - q) / (m (1 - m)) below which m is the middle of p and q, and the difference of m and p would be rounding alone.
_MIDDLE = 1e-7


def models_needed(
    p: ArrayLike | Sequence[Any], q: ArrayLike | Sequence[Any], delta: float = 0.05
) -> Float[np.ndarray, "*shape"]:
    """Smallest number of models from which one can tell whether a prediction is right with probability p or q.

    One of the two is known to hold. Out of t models k are right on the example; the smaller probability is accepted
    where k < m t and the larger one where k >= m t, m being the share of right models that both explain equally well,
    p^m (1 - p)^(1 - m) = q^m (1 - q)^(1 - m). The answer is the smallest t at which either error has a probability of at
    most delta: P(k >= m t | smaller) <= delta and P(k < m t | larger) <= delta.

    Args:
      p: probability of being right for models trained with the example, in 0..1; any shape.
      q: probability of being right for models trained without it, in 0..1; broadcast against p.
      delta: largest probability of either error, between 0 and 0.5.

    Returns:
      float64 of the shape of p and q broadcast (0-d for two numbers): whole numbers of models for each pair of a
      training and a test example, infinity where p equals q. Swapping p and q changes nothing.
      Where one of them is 0 or 1, one model that the sure side rules out settles it: the smallest t with x^t <= delta,
      x being the probability that the other side does what the sure side always does (29 for p = 1, q = 0.9).

    Raises:
      TypeError: p, q or delta are not numbers.
      ValueError: p or q outside 0..1 or NaN, shapes that do not broadcast, delta not between 0 and 0.5.

    The condition is not monotone in t, for k and so the cut-off are whole numbers: with 0.6 and 0.4 it first holds at 67
    models and last fails at 74. This function gives the first; `models_needed_for_good` gives 75.

    Every t below the answer is ruled out, by bounds on ranges of t and one by one where the bounds do not decide; there is
    no largest t. Tails within 1e-12 (relative) of delta count as delta, and products m t within rounding of a whole number
    as that number. Pairs so close that more than about 4e7 models are needed get the normal approximation, which is within 2e-4 there.

    Source: Section 4.3 of the paper, after BruceET, https://math.stackexchange.com/q/2033739. Where this departs from the
    program in Appendix F:
      - The program counts k <= m t for the smaller probability, the text k < m t. The two differ where m t is a whole
        number: for p + q = 1 at every even t, where by symmetry they hold or fail together; for other pairs hardly ever.
      - It calls the smaller one p, as the text does "without loss of generality". That is exact: the text gives each
        probability the same error, so that swapping them swaps the two conditions. (Mirroring both, to 1 - p and 1 - q,
        is not: k < m t turns into k > m t, which differs where m t is a whole number and m is not 1/2.)
      - At p or q of 1 its cut-off is NaN (log 0 / log 0) and it returns infinity; with 0 as the smaller one it
        divides by log 0 on its way to the right answer. Here the borders are the limits of p or q towards them.
      - It gives up after 999 models and returns infinity; it lacks `import numpy as np`.
    """
    return _find_both(p, q, delta).first


def models_needed_for_good(
    p: ArrayLike | Sequence[Any], q: ArrayLike | Sequence[Any], delta: float = 0.05
) -> Float[np.ndarray, "*shape"]:
    """Smallest number of models from which on every larger number tells p from q as well.

    `models_needed` gives the first number t that meets the condition of Section 4.3; a few of the following ones may
    miss it again. Train this many, and one more does no harm.

    Args:
      p: probability of being right for models trained with the example, in 0..1; any shape.
      q: probability of being right for models trained without it, in 0..1; broadcast against p.
      delta: largest probability of either error, between 0 and 0.5.

    Returns:
      float64 of the shape of p and q broadcast: whole numbers of models, never below those of `models_needed` (for 0.6 and 0.4
      it is 75, after 67); infinity where p equals q.

    Raises:
      TypeError, ValueError: as `models_needed`.

    Source: Section 4.3. That the condition holds for good from ln(1 / delta) / D(m || p) models on, D being the relative
    entropy of two coins, which m makes equal for p and q, is Chernoff's bound (Annals of Mathematical Statistics, 1952).
    """
    return _find_both(p, q, delta).lasting


class _Answers(NamedTuple):
    first: Float[np.ndarray, "*shape"]
    """The first number of models that meets the condition."""
    lasting: Float[np.ndarray, "*shape"]
    """The number from which on every larger one meets it."""


def _find_both(p: ArrayLike | Sequence[Any], q: ArrayLike | Sequence[Any], delta: float) -> _Answers:
    one, other = check_probabilities(p=p, q=q)
    limit = check_share(delta, "delta", 0.5)
    pairs = np.stack([np.minimum(one, other).ravel(), np.maximum(one, other).ravel()], axis=1)
    # A heat map over p and q holds every pair twice.
    distinct, where = np.unique(pairs, axis=0, return_inverse=True)
    found = np.full((2, len(distinct)), np.inf)
    low, high = distinct.T
    sure = (low < high) & ((low == 0) | (high == 1))
    found[:, sure] = _solve_sure(low[sure], high[sure], limit)
    (unsure,) = np.nonzero((low < high) & ~sure)
    for start in range(0, unsure.size, _PAIRS_AT_ONCE):
        block = unsure[start : start + _PAIRS_AT_ONCE]
        found[:, block] = _solve_unsure(low[block], high[block], limit)
    answers = found[:, where.ravel()].reshape(2, *one.shape)
    return _Answers(answers[0, ...], answers[1, ...])


def _solve_sure(
    low: Float[np.ndarray, " pairs"], high: Float[np.ndarray, " pairs"], delta: float
) -> Float[np.ndarray, " pairs"]:
    """Smallest t with x^t <= delta, where one side is sure; both sides sure: 1. It holds for good, being monotone."""
    # Where both are sure, x is 0.
    share = np.where(low == 0, 1 - high, low)
    with np.errstate(divide="ignore"):
        number = np.maximum(np.ceil(np.log(delta) / np.log(share)), 1)
    # The quotient of logarithms may be off by one either way.
    for candidate in (number - 1, number, number + 1):
        reached = (candidate >= 1) & (share**candidate <= delta * (1 + _TIE))
        number = np.where(reached, np.minimum(candidate, number), np.maximum(number, candidate + 1))
    return number


def _solve_unsure(
    low: Float[np.ndarray, " pairs"], high: Float[np.ndarray, " pairs"], delta: float
) -> Float[np.ndarray, "2 pairs"]:
    cut = cut_off(low, high)
    found = np.empty((2, low.size))
    # Answers grow with ln(1 / delta), and the search with them.
    closest = _CLOSEST * min(1.0, np.sqrt(np.log(20) / -np.log(delta)))
    far = cut * (1 - cut) / (high - low) <= closest
    found[:, far] = _search(low[far], high[far], cut[far], delta)
    found[:, ~far] = _normal_approximation(low[~far], high[~far], cut[~far], delta)
    return found


def cut_off(low: Float[np.ndarray, " pairs"], high: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """The share m of right models that both probabilities explain equally well; low < m < high, within a few ulp."""
    right, wrong = log_ratios(low, high)
    return wrong / (right + wrong)


def log_ratios(
    low: Float[np.ndarray, " pairs"], high: Float[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """log(high / low) and log((1 - low) / (1 - high)): what a right and a wrong model say for and against `high`."""
    return _log_ratio(high, low, high - low), _log_ratio(1 - low, 1 - high, high - low)


def _log_ratio(
    larger: Float[np.ndarray, " pairs"], smaller: Float[np.ndarray, " pairs"], difference: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """log(larger / smaller); infinity for a smaller of 0."""
    # The quotient of close numbers would lose the digits that tell them apart, that of distant ones may overflow.
    with np.errstate(divide="ignore"):
        return np.where(smaller > larger / 2, -np.log1p(-difference / larger), np.log(larger) - np.log(smaller))


def _search(
    low: Float[np.ndarray, " pairs"],
    high: Float[np.ndarray, " pairs"],
    cut: Float[np.ndarray, " pairs"],
    delta: float,
) -> Float[np.ndarray, "2 pairs"]:
    """First t that meets the condition, and the first after the last that misses it.

    Ranges of t that bounds do not decide are halved, down to single numbers, which they do decide.
    """
    # Chernoff: from here on the condition always holds. m has the same relative entropy to both.
    entropy = cut * (np.log(cut) - np.log(low)) + (1 - cut) * np.log((1 - cut) / (1 - low))
    first = np.ceil(np.log(1 / delta) / entropy) + 1
    last_miss = np.zeros(low.size)
    pair, begin, end = np.arange(low.size), np.ones(low.size), first.copy()
    while pair.size:
        holds, misses = _decide(low[pair], high[pair], cut[pair], begin, end, delta * (1 + _TIE))
        np.minimum.at(first, pair[holds], begin[holds])
        np.maximum.at(last_miss, pair[misses], end[misses])
        matters = (begin < first[pair]) | (end > last_miss[pair])
        still = ~holds & ~misses & matters
        pair, begin, end = pair[still], begin[still], end[still]
        middle = np.floor((begin + end) / 2)
        pair = np.concatenate([pair, pair])
        begin, end = np.concatenate([begin, middle + 1]), np.concatenate([middle, end])
    return np.stack([first, last_miss + 1])


def _decide(
    low: Float[np.ndarray, " ranges"],
    high: Float[np.ndarray, " ranges"],
    cut: Float[np.ndarray, " ranges"],
    begin: Float[np.ndarray, " ranges"],
    end: Float[np.ndarray, " ranges"],
    delta: float,
) -> tuple[Bool[np.ndarray, " ranges"], Bool[np.ndarray, " ranges"]]:
    """Whether the condition certainly holds at all, or misses at all, of the numbers begin..end of models.

    With more models there are as many right ones or more, and the cut-off is as high or higher. So for all t in the range
    P(Bin(begin) >= c(end)) <= P(Bin(t) >= c(t)) <= P(Bin(end) >= c(begin)), and likewise for being below the cut-off. With
    begin = end the bounds meet.
    """
    few, many = _whole_cut_off(cut, begin), _whole_cut_off(cut, end)
    holds = (_at_least(few, end, low) <= delta) & (_below(many, begin, high) <= delta)
    misses = (_at_least(many, begin, low) > delta) | (_below(few, end, high) > delta)
    return holds, misses


def _whole_cut_off(
    cut: Float[np.ndarray, " ranges"], number: Float[np.ndarray, " ranges"]
) -> Float[np.ndarray, " ranges"]:
    """Smallest whole k that is not below m t."""
    product = cut * number
    # m is off by some ulp: where p + q = 1 it may be 0.5000000000000001.
    return np.ceil(product - 8 * np.finfo(float).eps * product)


def _at_least(
    cut: Float[np.ndarray, " ranges"], number: Float[np.ndarray, " ranges"], share: Float[np.ndarray, " ranges"]
) -> Float[np.ndarray, " ranges"]:
    """P(Bin(number, share) >= cut), for cut >= 1."""
    possible = cut <= number
    return np.where(possible, betainc(cut, np.where(possible, number - cut + 1, 1), share), 0)


def _below(
    cut: Float[np.ndarray, " ranges"], number: Float[np.ndarray, " ranges"], share: Float[np.ndarray, " ranges"]
) -> Float[np.ndarray, " ranges"]:
    """P(Bin(number, share) < cut), for cut >= 1."""
    possible = cut <= number
    return np.where(possible, betainc(np.where(possible, number - cut + 1, 1), cut, 1 - share), 1)


def _normal_approximation(
    low: Float[np.ndarray, " pairs"],
    high: Float[np.ndarray, " pairs"],
    cut: Float[np.ndarray, " pairs"],
    delta: float,
) -> Float[np.ndarray, " pairs"]:
    """z^2 s (1 - s) / (s - m)^2 for the side s that takes more; the whole numbers of k no longer matter."""
    apart = high - low
    middle = apart < _MIDDLE * cut * (1 - cut)
    gaps = np.where(middle, apart / 2, cut - low), np.where(middle, apart / 2, high - cut)
    needed = [share * (1 - share) / gap**2 for share, gap in zip((low, high), gaps, strict=True)]
    return np.ceil(float(ndtri(delta)) ** 2 * np.maximum(*needed))
