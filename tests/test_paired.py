"""Newcombe's interval for paired proportions."""

import numpy as np
import pytest

from jaxinfl.statistics import newcombe_interval, newcombe_paired_interval


def pairs(both, first, second, neither):
    """One column with so many pairs of each kind."""
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    other = np.repeat([True, False, True, False], [both, first, second, neither])
    return one[:, None], other[:, None]


def slow(both, first, second, neither):
    """The formula of the paper in scalars, for 95 %."""
    n, z = both + first + second + neither, 1.959963984540054

    def wilson(count):
        root = z * (z * z + 4 * count * (1 - count / n)) ** 0.5
        return (2 * count + z * z - root) / (2 * (n + z * z)), (2 * count + z * z + root) / (2 * (n + z * z))

    one, other = both + first, both + second
    (low, high), (other_low, other_high) = wilson(one), wilson(other)
    product = one * (n - one) * other * (n - other)
    excess = both * neither - first * second
    phi = 0.0 if not product else (excess if excess < 0 else max(excess - n / 2, 0)) / product**0.5
    p, q = one / n, other / n
    below = ((p - low) ** 2 - 2 * phi * (p - low) * (other_high - q) + (other_high - q) ** 2) ** 0.5
    above = ((q - other_low) ** 2 - 2 * phi * (q - other_low) * (high - p) + (high - p) ** 2) ** 0.5
    return p - q - below, p - q + above


@pytest.mark.parametrize(
    "counts",
    [(36, 12, 2, 0), (0, 10, 0, 0), (54, 0, 0, 0), (53, 0, 0, 1), (30, 12, 2, 6), (5, 20, 20, 5), (0, 0, 0, 9)],
)
def test_against_scalars(counts):
    interval = newcombe_paired_interval(*pairs(*counts))
    low, high = slow(*counts)
    assert interval.low[0] == pytest.approx(low, abs=1e-12) and interval.high[0] == pytest.approx(high, abs=1e-12)
    assert -1 <= interval.low[0] < interval.high[0] <= 1


def test_columns_are_separate():
    columns = [pairs(30, 12, 2, 6), pairs(5, 20, 20, 5)]
    together = newcombe_paired_interval(*(np.column_stack([column[side] for column in columns]) for side in (0, 1)))
    for k, column in enumerate(columns):
        assert together.low[k] == newcombe_paired_interval(*column).low[0]
        assert together.high[k] == newcombe_paired_interval(*column).high[0]


def test_without_correlation_it_is_the_unpaired_one():
    one, other = pairs(18, 12, 12, 8)  # phi is 0
    paired, share = newcombe_paired_interval(one, other), np.array([0.6])
    unpaired = newcombe_interval(share, np.array([50.0]), share, np.array([50.0]))
    np.testing.assert_allclose([paired.low, paired.high], [unpaired.low, unpaired.high], atol=1e-12)


@pytest.mark.parametrize("common", [0.0, 0.6, 0.95])
def test_coverage(common):
    """Pairs that share their draw with probability `common`: 4000 repeats of 100 pairs cover 0.3 in about 95 %."""
    rng = np.random.default_rng(0)
    draws = rng.random((2, 100, 4000))
    draws[1] = np.where(rng.random((100, 4000)) < common, draws[0], draws[1])
    interval = newcombe_paired_interval(draws[0] < 0.8, draws[1] < 0.5)
    covered = ((interval.low <= 0.3) & (interval.high >= 0.3)).mean()
    assert 0.93 <= covered <= 0.985
    width = (interval.high - interval.low).mean()
    assert width < 0.26 if common == 0 else width < 0.22


def test_refused():
    one, other = pairs(3, 1, 1, 3)
    with pytest.raises(ValueError, match=r"first has shape \(8, 1\) and second \(7, 1\)"):
        newcombe_paired_interval(one, other[:7])
    with pytest.raises(ValueError, match="at least one"):
        newcombe_paired_interval(one[:0], other[:0])
    with pytest.raises(TypeError, match="first is float64 and second bool"):
        newcombe_paired_interval(one.astype(float), other)
    with pytest.raises(ValueError, match="confidence is 1"):
        newcombe_paired_interval(one, other, 1.0)
