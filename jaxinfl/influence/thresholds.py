"""Thresholds as fractions, so that an influence that is a fraction itself is compared with them exactly.

The influence of 0-1 scores is a fraction of whole numbers, and round thresholds are met by many pairs exactly: both
4/5 - 3/5 and 3/5 - 2/5 are 0.2. In floating point the first difference is less than 0.2 and the second is not.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

_LARGE = 1e30
"""Thresholds from here on, infinite ones included, are left as they are: no influence of float32 scores is so exact."""


def simplest_fraction(threshold: float) -> Fraction | float:
    """The fraction of the smallest denominator that rounds to the same float32 as `threshold`.

    So 0.15, 0.15000000000000002 (which is 3 * 0.05) and float32(0.15) are all 3/20.

    Source: the simplest fraction of an interval, by the Stern-Brocot tree: Graham, Knuth and Patashnik (1994), "Concrete
    mathematics", section 4.5.
    """
    if abs(threshold) >= _LARGE:
        return threshold
    rounded = np.float32(threshold)
    value = Fraction(float(rounded))
    if value < 0:
        return -simplest_fraction(-float(rounded))
    if value.denominator == 1:
        return value
    following, previous = (Fraction(float(np.nextafter(rounded, np.float32(end)))) for end in (np.inf, -np.inf))
    return _simplest_between((value + previous) / 2, (value + following) / 2)


def smallest_numerators(
    thresholds: Float[np.ndarray, " thresholds"], denominators: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, "rows thresholds"]:
    """The smallest whole number k for which k / denominator is at least each threshold; NaN is never reached.

    Args:
      thresholds: fractions are taken for them as in `simplest_fraction`; infinite and NaN ones are taken.
      denominators: of the influences of each row, which lie in -1..1; 0 where the influence is undefined.

    Returns:
      int64; denominator + 1 stands for a threshold above 1, and -denominator for one of -1 or below.
    """
    found = np.empty((denominators.size, thresholds.size), np.int64)
    for column, threshold in enumerate(thresholds.tolist()):
        if threshold <= -1:
            found[:, column] = -denominators
        elif not threshold <= 1:
            found[:, column] = denominators + 1
        else:
            fraction = Fraction(simplest_fraction(threshold))
            # A denominator beyond int64 is that of a threshold next to 0, of which the sign is all that counts.
            found[:, column] = -(-fraction.numerator * denominators // min(fraction.denominator, 2**62))
    return found


def _simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of the smallest denominator in low..high, both above 0."""
    whole = -(-low.numerator // low.denominator)
    if whole <= high:
        return Fraction(whole)
    below = whole - 1
    return below + 1 / _simplest_between(1 / (high - below), 1 / (low - below))
