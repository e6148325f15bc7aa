"""IOU of two estimates: against sets of pairs, streamed against stored, and the curve over numbers of models."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinfl
from jaxinfl.influence import (
    IOUCurve,
    count_pairs,
    influence,
    iou,
    iou_curve,
    iou_of_models,
    memorization,
    overlap_of_tiles,
    pack,
    tiles,
)
from jaxinfl.influence.thresholds import simplest_fraction, smallest_numerators
from tests import reference

THRESHOLDS = np.array([0.31, -0.07, 0.113, 0.0301, 2.0, 0.52])  # no difference of fractions of few models


def draw(models: int = 90, train: int = 11, test: int = 7, ratio: float = 0.7, seed: int = 0, floats: bool = False):
    """Masks, train and test scores of models that know what they were trained on, and one neighbour of it."""
    rng = np.random.default_rng(seed)
    masks = rng.random((models, train)) < ratio
    train_score = 0.3 + 0.6 * masks + 0.1 * rng.random((models, train))
    helpers = np.arange(test) % train
    test_score = 0.2 + 0.5 * masks[:, helpers] + 0.3 * rng.random((models, test))
    if floats:
        return masks, train_score.astype(np.float32), test_score.astype(np.float32)
    return masks, rng.random(train_score.shape) < train_score, rng.random(test_score.shape) < test_score


def random_estimates(rng: np.random.Generator, share_nan: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    pair = rng.normal(0, 0.3, (2, 13, 5)).astype(np.float32)
    pair[rng.random(pair.shape) < share_nan] = np.nan
    return pair[0], pair[1]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), share_nan=st.sampled_from([0.0, 0.2, 1.0]))
def test_iou_equals_definition(seed, share_nan):
    a, b = random_estimates(np.random.default_rng(seed), share_nan)
    limits = THRESHOLDS.astype(np.float32)
    np.testing.assert_array_equal(iou(a, b, THRESHOLDS), reference.iou(a, b, limits))
    np.testing.assert_array_equal(iou(jnp.asarray(a), b, limits), reference.iou(a, b, limits))


def test_an_estimate_equal_to_the_threshold_is_in_the_set():
    a = np.array([[0.7, 0.2]], np.float32)  # float32(0.7) is below 0.7
    assert iou(a, a, 0.7).tolist() == [1.0]
    assert np.isnan(iou(a, a, np.nextafter(np.float32(0.7), np.float32(1)))).all()


def test_empty_unions_are_nan_and_empty_intersections_zero():
    a, b = np.array([[0.5, 0.1]], np.float32), np.array([[0.1, 0.5]], np.float32)
    np.testing.assert_array_equal(iou(a, b, [0.9, 0.3, 0.1]), [np.nan, 0.0, 1.0])


def test_one_result_a_threshold_in_the_order_given():
    a, b = random_estimates(np.random.default_rng(3))
    limits = np.array([0.3, -0.1, 0.3, 0.05, -np.inf, np.inf])
    result = iou(a, b, limits)
    np.testing.assert_array_equal(result, [iou(a, b, limit)[0] for limit in limits])
    assert result[4] == 1.0
    assert np.isnan(result[5])


@pytest.mark.parametrize("number", [63, 64, 200])
def test_more_thresholds_than_one_pass(number):
    a, b = random_estimates(np.random.default_rng(4))
    limits = np.random.default_rng(5).uniform(-1, 1, number).astype(np.float32)
    np.testing.assert_array_equal(iou(a, b, limits), reference.iou(a, b, limits))


def test_more_pairs_than_one_tile(monkeypatch):
    a, b = random_estimates(np.random.default_rng(6))
    expected = iou(a, b, THRESHOLDS)
    monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", 20)
    overlap_of_tiles._thresholds_reached.clear_cache()
    np.testing.assert_array_equal(iou(a, b, THRESHOLDS), expected)
    assert overlap_of_tiles._thresholds_reached._cache_size() == 1


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("tile", [None, 1, 2, 3, 11, 50])
@pytest.mark.parametrize("examples", [None, [4, 0, 9, 2, 7, 10], np.arange(11) % 3 == 0])
def test_streamed_equals_stored(examples, tile, floats):
    masks, _, score = draw(floats=floats)
    masks[:, 7], masks[:45, 2] = True, False
    halves = (masks[:45], score[:45], masks[45:], score[45:])
    kept = slice(None) if examples is None else examples
    a, b = (np.asarray(influence(*half))[kept] for half in (halves[:2], halves[2:]))
    # Thresholds that estimates meet exactly, where one bit would show.
    limits = np.unique(np.concatenate([a[~np.isnan(a)], b[~np.isnan(b)]]))
    result = iou_of_models(*halves, limits, examples=examples, tile=tile)
    np.testing.assert_array_equal(result, iou(a, b, limits))
    np.testing.assert_array_equal(result, reference.iou(a, b, limits))


@settings(deadline=None, max_examples=30)
@given(
    models=st.sampled_from([1, 33, 65]),
    ratio=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    floats=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_streamed_equals_stored_at_any_ratio(models, ratio, floats, seed):
    masks, _, score = draw(2 * models, 5, 4, ratio, seed, floats)
    a, b = influence(masks[:models], score[:models]), influence(masks[models:], score[models:])
    result = iou_of_models(masks[:models], score[:models], masks[models:], score[models:], THRESHOLDS, tile=2)
    np.testing.assert_array_equal(result, iou(a, b, THRESHOLDS))


def test_sides_may_differ_in_models_and_kind_of_score():
    masks, _, score = draw(floats=True)
    result = iou_of_models(masks[:20], score[:20], masks[20:], score[20:] > 0.5, THRESHOLDS)
    np.testing.assert_array_equal(
        result, iou(influence(masks[:20], score[:20]), influence(masks[20:], score[20:] > 0.5), THRESHOLDS)
    )


@pytest.mark.parametrize("floats", [False, True])
def test_a_tile_is_compiled_once(floats):
    kernel = tiles._influence_of_digits if floats else tiles._numerators_of_counts
    masks, _, score = draw(floats=floats)
    kernel.clear_cache()
    overlap_of_tiles._thresholds_reached.clear_cache()
    iou_of_models(masks[:45], score[:45], masks[45:], score[45:], THRESHOLDS, tile=2)
    assert kernel._cache_size() == 1
    assert overlap_of_tiles._thresholds_reached._cache_size() == 1


def test_kernel_lowers_for_cuda():
    tile = jax.ShapeDtypeStruct((4, 6), jnp.float32)
    limits = jax.ShapeDtypeStruct((1, 3), jnp.float32)
    counted, each_row = jax.ShapeDtypeStruct((4, 6), jnp.int32), jax.ShapeDtypeStruct((4, 3), jnp.int32)
    jax.export.export(overlap_of_tiles._thresholds_reached, platforms=["cuda"])(tile, counted, limits, each_row)


def fractions_of(masks, score):
    """Influences of 0-1 scores as Python fractions."""
    found = {}
    for i, j in np.ndindex(masks.shape[1], score.shape[1]):
        seen, right = masks[:, i], score[:, j]
        found[i, j] = Fraction(int((seen & right).sum()), int(seen.sum())) - Fraction(
            int((~seen & right).sum()), int((~seen).sum())
        )
    return found


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75])
@pytest.mark.parametrize("kind", [bool, np.float32])
def test_thresholds_are_met_exactly(ratio, kind):
    """Few models, so that many pairs lie at a threshold: what Python's fractions say decides."""
    masks, _, score = draw(40, 30, 20, ratio, seed=2)
    masks[:20], masks[20:] = (jaxinfl.draw_subsets(20, 30, ratio, seed, "balanced") for seed in (0, 1))
    limits = np.append(np.arange(1, 20) * 0.05, [1 / 3, 0.7, 0.1 + 0.2, -0.2])  # 0.15000000000000002 among them
    exact = [Fraction(str(float(np.float32(limit)))).limit_denominator(60) for limit in limits]
    a, b = fractions_of(masks[:20], score[:20]), fractions_of(masks[20:], score[20:])
    at = sum(value in exact for value in a.values())
    assert at > 20
    expected = []
    for limit in exact:
        chosen = [{pair for pair, value in each.items() if value >= limit} for each in (a, b)]
        expected.append(len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1]) if chosen[0] | chosen[1] else np.nan)
    halves = (masks[:20], score[:20].astype(kind), masks[20:], score[20:].astype(kind))
    np.testing.assert_array_equal(iou_of_models(*halves, limits, tile=7), expected)
    np.testing.assert_array_equal(iou(influence(*halves[:2]), influence(*halves[2:]), limits), expected)
    counted = [sum(value >= limit for value in a.values()) for limit in exact]
    np.testing.assert_array_equal(count_pairs(*halves[:2], limits), counted)


@pytest.mark.parametrize("num_models", [50_000, 100_000])  # numerators of 32 and of 64 bits
def test_what_is_just_below_a_threshold_is_out(num_models):
    """1 / (n (N - n)) below 0.2 is less than float32 tells apart; whole numbers do."""
    inside, outside = 7 * num_models // 10 + 1, 3 * num_models // 10 - 1
    masks = np.arange(num_models)[:, None] < inside
    # Of all numbers of right models, those whose influence is below 0.2 by the least.
    right_in = np.arange(inside // 2, inside)
    right_out = outside * (5 * right_in - inside) // (5 * inside) + 1
    gap = inside * outside - 5 * (right_in * outside - right_out * inside)
    right_in, right_out = right_in[gap.argmin()], right_out[gap.argmin()]
    below = Fraction(int(right_in), inside) - Fraction(int(right_out), outside)
    assert below < Fraction(1, 5) and np.float32(float(below)) == np.float32(0.2)
    score = np.concatenate([np.arange(inside) < right_in, np.arange(outside) < right_out])[:, None]
    assert count_pairs(masks, score, 0.2).tolist() == [0]
    score[inside + right_out - 1] = False
    assert count_pairs(masks, score, 0.2).tolist() == [1]


def test_simplest_fractions():
    for value, fraction in ((0.2, (1, 5)), (3 * 0.05, (3, 20)), (1 / 3, (1, 3)), (-0.7, (-7, 10)), (0.0, (0, 1))):
        assert simplest_fraction(value) == Fraction(*fraction)
    for value in np.random.default_rng(0).uniform(-1, 1, 200):
        assert np.float32(float(simplest_fraction(value))) == np.float32(value)
    assert simplest_fraction(np.inf) == np.inf and simplest_fraction(1e300) == 1e300
    np.testing.assert_array_equal(
        smallest_numerators(np.array([0.2, -1.5, 1.5, np.nan, 1e-30]), np.array([10, 12, 0])),
        [[2, -10, 11, 11, 1], [3, -12, 13, 13, 1], [0, 0, 1, 1, 0]],
    )


# The peak since the program began, in a process of its own; "VmHWM" is reset by exec, ru_maxrss is not.
_PEAK = """
import re, numpy as np
from jaxinfl.influence import iou_curve, iou_of_models, top_pairs
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
rng = np.random.default_rng(0)
masks, score = rng.random((60, 20_000)) < 0.7, rng.random((60, 10_000)) < 0.5
a, b = slice(0, 30), slice(30, 60)
iou_of_models(masks[a], score[a], masks[b], score[b], [0.2, 0.4], examples=np.arange(100))
before = peak()
iou_of_models(masks[a], score[a], masks[b], score[b], [0.2, 0.4])
iou_curve(masks, masks, score, num_models=30, repeats=1, thresholds=0.3)
top_pairs(masks, masks, score)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_streaming_never_holds_train_times_test():
    # As users run it: threads that the tests ask for by setting the number of devices would have buffers of their own.
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "JAX_NUM_CPU_DEVICES")}
    # One heap for all threads: glibc keeps what each thread has freed, which made the same program's peak 246 to 308 MB.
    environment["MALLOC_ARENA_MAX"] = "1"  # 200 to 232 MB
    done = subprocess.run(
        [sys.executable, "-c", _PEAK],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=environment,
    )
    # One float32 matrix of all pairs would take 800 MB; 0.2 GB are a dozen arrays of a tile.
    assert int(done.stdout) < 300e6


def test_curve_is_the_iou_of_disjoint_halves():
    masks, train_score, test_score = draw(floats=True)
    curve = iou_curve(
        masks, train_score, test_score, num_models=[20, 45], thresholds=THRESHOLDS, repeats=3, seed=7,
        min_memorization=0.6,
    )  # fmt: skip
    kept = np.flatnonzero(reference.memorization(masks, train_score) > 0.6)
    assert 0 < kept.size < masks.shape[1]
    assert curve.num_examples == kept.size
    assert curve.values.shape == (2, 3, 6)
    np.testing.assert_array_equal(curve.num_models, [20, 45])
    np.testing.assert_array_equal(curve.thresholds, THRESHOLDS)
    for repeat in range(3):
        order = np.random.default_rng((7, repeat)).permutation(90)
        for row, size in enumerate([20, 45]):
            halves = [order[:size], order[size : 2 * size]]
            a, b = (reference.influence(masks[half][:, kept], test_score[half]) for half in halves)
            np.testing.assert_array_equal(curve.values[row, repeat], reference.iou(a, b, THRESHOLDS))


def test_curve_defaults():
    masks, train_score, test_score = draw(models=230)
    curve = iou_curve(masks, train_score, test_score, repeats=2)
    assert curve.num_models.tolist() == [25, 50, 100]
    np.testing.assert_allclose(curve.thresholds, np.linspace(0.05, 1, 39))
    # More models agree better on what is there to find.
    found = curve.mean[:, curve.thresholds < 0.3].mean(axis=1)
    assert found[0] < found[1] < found[2]


def test_default_sizes_use_pools_of_exactly_twice_a_size():
    for pool, sizes in ((50, [25]), (99, [25]), (100, [25, 50]), (399, [25, 50, 100]), (400, [25, 50, 100, 200])):
        masks, train_score, test_score = draw(pool, 3, 2)
        curve = iou_curve(masks, train_score, test_score, repeats=1, thresholds=0.3, min_memorization=None)
        assert curve.num_models.tolist() == sizes


def test_more_repeats_keep_those_before():
    masks, train_score, test_score = draw()
    few = iou_curve(masks, train_score, test_score, num_models=20, repeats=2, seed=3)
    many = iou_curve(masks, train_score, test_score, num_models=20, repeats=4, seed=3)
    np.testing.assert_array_equal(many.values[:, :2], few.values)
    assert not np.array_equal(
        iou_curve(masks, train_score, test_score, num_models=20, repeats=2, seed=4).values, few.values, equal_nan=True
    )


def test_the_memorization_condition_is_strict_and_can_be_off():
    masks, train_score, test_score = draw()
    own = np.sort(memorization(masks, train_score))
    at = {"num_models": 20, "repeats": 1}
    assert iou_curve(masks, train_score, test_score, min_memorization=float(own[3]), **at).num_examples == 7
    assert iou_curve(masks, train_score, test_score, min_memorization=None, **at).num_examples == 11


def test_a_memorization_of_exactly_the_condition_is_not_above_it():
    masks = np.repeat(np.arange(10)[:, None] < 5, 2, axis=1)
    own = np.stack([np.isin(np.arange(10), [0, 1, 2, 3, 5, 6, 7]), np.isin(np.arange(10), [0, 1, 2, 5, 6])], axis=1)
    for score in (own, own.astype(float)):  # 4/5 - 3/5 and 3/5 - 2/5
        packed = pack(masks, train_score=score)
        assert packed.examples_above(0.2).size == 0 and packed.examples_above(0.4 - 0.2).size == 0
        assert packed.examples_above(0.19).tolist() == packed.examples_above(None).tolist() == [0, 1]
        assert (memorization(packed) == np.float32(0.2)).all()


def test_mean_and_spread_skip_nan_without_warnings():
    nan = np.nan
    values = np.array([[[0.2, nan, nan], [0.4, 0.5, nan], [0.9, 0.6, nan]], [[nan, 0.3, nan]] * 2 + [[1.0, 0.3, nan]]])
    curve = IOUCurve(np.array([0.1, 0.2, 0.3]), np.array([25, 50]), values, 4)
    np.testing.assert_allclose(curve.mean, [[0.5, 0.55, nan], [1.0, 0.3, nan]])
    np.testing.assert_allclose(
        curve.std, [[np.std([0.2, 0.4, 0.9], ddof=1), np.std([0.5, 0.6], ddof=1), nan], [nan, 0.0, nan]], atol=1e-15
    )
    single = IOUCurve(np.array([0.1]), np.array([25]), np.array([[[0.5]]]), 4)
    assert single.mean.item() == 0.5
    assert np.isnan(single.std).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_models": [20, 46]}, ValueError, "num_models holds 46, .* need 92 models, but the pool has 90"),
        ({"num_models": [20.0]}, TypeError, r"num_models is np.float64\(20.0\) .*takes a whole number from 1"),
        ({"num_models": [0]}, ValueError, "num_models is 0; it takes a whole number from 1"),
        ({"num_models": []}, ValueError, "num_models is empty"),
        ({"repeats": 0}, ValueError, "repeats is 0; it takes a whole number from 1"),
        ({"thresholds": []}, ValueError, r"thresholds has shape \(0,\)"),
        ({"thresholds": [0.1, np.nan]}, ValueError, "thresholds holds 1 NaN of 2"),
        ({"thresholds": ["high"]}, TypeError, "thresholds has dtype <U4; it takes numbers"),
        ({"min_memorization": 1.5}, ValueError, r"none of 11 training examples .* above 1.5 \(the highest is 0\.\d+\)"),
        ({"min_memorization": np.nan}, ValueError, "min_memorization is NaN"),
    ],
)
def test_curve_rejects(changes, error, message):
    masks, train_score, test_score = draw()
    with pytest.raises(error, match=message):
        iou_curve(masks, train_score, test_score, **{"num_models": [20], "repeats": 1, **changes})


def test_curve_rejects_what_cannot_be_compared():
    masks, train_score, test_score = draw(40)
    with pytest.raises(ValueError, match="the pool has 40 models, but the default num_models starts with two sets"):
        iou_curve(masks, train_score, test_score)
    with pytest.raises(ValueError, match=r"above 0.25 \(all of it is NaN\)"):
        iou_curve(np.ones_like(masks), train_score, test_score, num_models=2)
    with pytest.raises(ValueError, match="train_score has 7 columns, but masks has 11"):
        iou_curve(masks, test_score, test_score, num_models=2)
    with pytest.raises(ValueError, match="test_score has 39 rows, but masks has 40"):
        iou_curve(masks, train_score, test_score[1:], num_models=2)


def test_iou_rejects():
    a = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"influence_a has shape \(3, 2\) and influence_b \(2, 2\)"):
        iou(a, a[1:], 0.1)
    with pytest.raises(ValueError, match=r"have shape \(6,\), but take \[train, test\]"):
        iou(a.ravel(), a.ravel(), 0.1)
    with pytest.raises(ValueError, match=r"have shape \(0, 2\)"):
        iou(a[:0], a[:0], 0.1)
    with pytest.raises(TypeError, match="influence_b is int64; it takes a float array"):
        iou(a, a.astype(np.int64), 0.1)
    with pytest.raises(ValueError, match=r"thresholds has shape \(1, 1\)"):
        iou(a, a, [[0.1]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks_b": np.ones((4, 3), bool)}, ValueError, "masks_a has 2 columns and masks_b 3"),
        ({"score_b": np.ones((4, 3), bool)}, ValueError, "score_a has 2 columns and score_b 3"),
        ({"score_b": np.ones((5, 2), bool)}, ValueError, "score_b has 5 rows, but masks_b has 4"),
        ({"masks_a": np.ones((4, 2))}, TypeError, "masks_a has dtype float64"),
        ({"tile": 0}, ValueError, "tile is 0; it takes a whole number from 1"),
        ({"examples": [0, 2]}, ValueError, r"examples holds 1 indices outside 0..1 \(first: 2\)"),
        ({"examples": [-1]}, ValueError, r"outside 0..1 \(first: -1\)"),
        ({"examples": []}, TypeError, "examples has dtype float64"),
        ({"examples": np.zeros(2, bool)}, ValueError, "examples selects no training example"),
        ({"examples": np.zeros(3, bool)}, ValueError, "examples is a bool mask of length 3, but masks has 2 columns"),
        ({"examples": [0.5]}, TypeError, r"examples has dtype float64 and shape \(1,\)"),
    ],
)
def test_iou_of_models_rejects(change, error, message):
    flags = np.ones((4, 2), bool)
    arguments = {"masks_a": flags, "score_a": flags, "masks_b": flags, "score_b": flags, "thresholds": 0.1, **change}
    with pytest.raises(error, match=message):
        iou_of_models(**arguments)
