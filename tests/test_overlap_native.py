"""Pairs counted by the kernels written by hand, and by XLA and a histogram: the same numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl import native
from jaxinfl.influence import (
    Outcomes,
    count_pairs,
    iou,
    iou_curve,
    iou_of_models,
    overlap_of_models,
    overlap_of_tiles,
    tiles,
)
from jaxinfl.influence.tiles import StoredTiles

needs_compiler = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")
THRESHOLDS = np.concatenate([np.linspace(-1.5, 1.5, 67), [0.1, 0.1, -np.inf, np.inf, 0.0]])


def draw(models: int, train: int = 70, test: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks and 0-1 scores; example 3 is in every subset, and example 5 in none."""
    rng = np.random.default_rng(seed)
    masks = rng.random((models, train)) < 0.7
    masks[:, 3], masks[:, 5] = True, False
    return masks, rng.random((models, test)) < 0.2 + 0.6 * masks[:, rng.integers(0, train, test)]


@pytest.fixture
def by_hand(monkeypatch):
    """Switches: True has everything counted by the kernels written by hand, False by XLA and a histogram."""

    def switch(on: bool) -> None:
        monkeypatch.setattr(overlap_of_tiles, "_WORTH_COMPILING", 0 if on else np.inf)

    return switch


def assert_same_both_ways(by_hand, call):
    by_hand(False)
    expected = call()
    by_hand(True)
    np.testing.assert_array_equal(call(), expected)


@needs_compiler
@pytest.mark.parametrize("models", [1, 2, 41, 361, 362, 700])  # numerators of up to 361 models fit 16 bits
def test_counts_of_models(by_hand, models, monkeypatch):
    monkeypatch.setattr(overlap_of_models, "_PAIRS_PER_CALL", 300 * 32)
    one, other = draw(models), draw(max(models // 2, 1), seed=1)
    assert_same_both_ways(by_hand, lambda: iou_of_models(*one, *other, THRESHOLDS))
    assert_same_both_ways(by_hand, lambda: count_pairs(*one, THRESHOLDS, examples=np.arange(1, 60)))


@needs_compiler
@pytest.mark.parametrize("tile", [None, 9])
def test_counts_of_mixed_scores(by_hand, tile):
    masks, correct = draw(60)
    others, _ = draw(50, seed=2)
    score = np.random.default_rng(3).random((50, 300)).astype(np.float32)
    assert_same_both_ways(by_hand, lambda: iou_of_models(masks, correct, others, score, THRESHOLDS, tile=tile))
    assert_same_both_ways(by_hand, lambda: iou_of_models(others, score, masks, correct, THRESHOLDS, tile=tile))
    assert_same_both_ways(by_hand, lambda: iou_of_models(others, score, others, score**2, THRESHOLDS, tile=tile))


@needs_compiler
def test_stored_estimates_with_nan_and_infinity(by_hand):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.5, (2, 37, 131)).astype(np.float32)
    for estimate in (a, b):
        estimate[rng.random(estimate.shape) < 0.1] = np.nan
        estimate[rng.random(estimate.shape) < 0.05] = np.inf
        estimate[rng.random(estimate.shape) < 0.05] = -np.inf
    assert_same_both_ways(by_hand, lambda: iou(a, jnp.asarray(b), THRESHOLDS))
    assert_same_both_ways(by_hand, lambda: iou(np.full_like(a, np.nan), b, THRESHOLDS))


@needs_compiler
def test_the_curve(by_hand):
    masks, correct = draw(80)
    curve = {"num_models": [7, 40], "repeats": 2, "min_memorization": None}
    for score in (correct, np.where(correct, 0.9, 0.3)):
        assert_same_both_ways(by_hand, lambda score=score: iou_curve(masks, masks, score, **curve).values)


@needs_compiler
def test_more_models_than_whole_numbers_of_32_bits_hold(by_hand, monkeypatch):
    """They go by tiles, whose kernels compare numerators of 64 bits."""
    monkeypatch.setattr(tiles, "MOST_MODELS_INT32", 30)
    monkeypatch.setattr(overlap_of_models, "MOST_MODELS_INT32", 30)
    one, other = draw(41), draw(30, seed=1)
    outcomes = Outcomes(*one, None)
    assert outcomes.tiles().dtype == "int64"
    assert_same_both_ways(by_hand, lambda: iou_of_models(*one, *other, THRESHOLDS))


def test_small_products_do_not_wait_for_a_compiler(monkeypatch):
    monkeypatch.setattr(native, "why_unavailable", lambda: pytest.fail("asked for the kernels"))
    estimate = StoredTiles(np.zeros((4, 5), np.float32), 4)
    assert overlap_of_tiles.count_overlap(estimate, estimate, 4, np.array([0.0]))[0].tolist() == [20]


def test_without_a_compiler_large_products_go_by_the_histogram(by_hand, monkeypatch):
    one, other = draw(41), draw(30, seed=1)
    by_hand(False)
    expected = iou_of_models(*one, *other, THRESHOLDS)
    by_hand(True)
    monkeypatch.setattr(native, "why_unavailable", lambda: "no compiler")
    monkeypatch.setattr(native, "overlap_counts", lambda *_: pytest.fail("called the kernel"))
    np.testing.assert_array_equal(iou_of_models(*one, *other, THRESHOLDS), expected)
