"""Wald's test against simulation, the bounds of its theory, and numbers by hand."""

import math

import numpy as np
import pytest

from jaxinfl import models_needed, models_needed_sequentially

EVERY = ("mean", "percentile", "error")


def simulate(share: float, low: float, high: float, delta: float, runs: int = 20_000) -> tuple[float, float, float]:
    """Mean and 95th percentile of the number of models, and how often the test decides for `high`."""
    rng = np.random.default_rng(0)
    steps = np.where(rng.random((runs, 600)) < share, math.log(high / low), math.log((1 - high) / (1 - low)))
    evidence = steps.cumsum(axis=1)
    decided = np.abs(evidence) >= math.log((1 - delta) / delta) - 1e-9
    assert decided.any(axis=1).all()
    last = decided.argmax(axis=1)
    numbers = last + 1
    return numbers.mean(), float(np.percentile(numbers, 95)), float((evidence[np.arange(runs), last] > 0).mean())


@pytest.mark.parametrize(("low", "high", "delta"), [(0.4, 0.6, 0.05), (0.5, 0.9, 0.05), (0.85, 0.97, 0.1)])
def test_equals_simulation(low, high, delta):
    found = models_needed_sequentially(high, low, delta)
    mean, percentile, decided_high = simulate(high, low, high, delta)
    assert found.mean_p == pytest.approx(mean, rel=0.02)
    assert found.percentile_p == pytest.approx(percentile, rel=0.03)
    assert found.error_p == pytest.approx(1 - decided_high, abs=0.005)
    mean, percentile, decided_high = simulate(low, low, high, delta)
    assert found.mean_q == pytest.approx(mean, rel=0.02)
    assert found.percentile_q == pytest.approx(percentile, rel=0.03)
    assert found.error_q == pytest.approx(decided_high, abs=0.005)


def test_bounds_of_the_theory():
    """Errors below Wald's bound; fewer models expected than by the fixed number, for a symmetric pair about half."""
    p = np.array([0.6, 0.9, 0.5, 0.98])
    q = np.array([0.4, 0.7, 0.55, 0.8])
    found = models_needed_sequentially(p, q, 0.05)
    for error in (found.error_p, found.error_q):
        assert (error <= 0.05 / 0.95).all() and (error > 0.01).all()
    assert (np.maximum(found.mean_p, found.mean_q) < models_needed(p, q)).all()
    assert found.mean_p[0] == pytest.approx(models_needed(0.6, 0.4) / 2, rel=0.2)


def test_by_hand():
    sure = models_needed_sequentially(1.0, 0.9, 0.05)
    # 28 right models have a likelihood ratio of (1 / 0.9)^28 = 19.1 >= 19.
    assert (sure.mean_p, sure.percentile_p, sure.error_p) == (28, 28, 0)
    assert sure.mean_q == pytest.approx(sum(0.9**k for k in range(28))) and sure.error_q == pytest.approx(0.9**28)
    assert models_needed_sequentially(0, 1).mean_p == 1
    # One model decides: (0.99 / 0.01) > 19.
    certain = models_needed_sequentially(0.99, 0.01)
    assert certain.mean_p == certain.percentile_q == 1 and certain.error_q == pytest.approx(0.01)
    same = models_needed_sequentially(0.3, 0.3)
    assert same.mean_p == same.percentile_q == math.inf and np.isnan(same.error_p)


def test_swapping_and_mirroring():
    one, other = models_needed_sequentially(0.8, 0.6), models_needed_sequentially(0.6, 0.8)
    mirrored = models_needed_sequentially(0.2, 0.4)
    for name in EVERY:
        assert getattr(one, f"{name}_p") == getattr(other, f"{name}_q")
        assert getattr(one, f"{name}_p") == pytest.approx(getattr(mirrored, f"{name}_p"), rel=1e-9)
    assert models_needed_sequentially(np.zeros((2, 1)), np.ones(3)).mean_p.shape == (2, 3)


def test_refusals():
    with pytest.raises(ValueError, match=r"expects about .* models, and this takes pairs"):
        models_needed_sequentially(0.5, 0.5001)
    with pytest.raises(ValueError, match="q holds 1 of 1"):
        models_needed_sequentially(0.5, -1.0)
    with pytest.raises(ValueError, match=r"delta is 0.7"):
        models_needed_sequentially(0.5, 0.6, 0.7)
