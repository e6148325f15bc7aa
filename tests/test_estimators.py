"""Influence and memorization against their definitions, whatever the tile, the chunk or the device."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl import native
from jaxinfl.influence import counts, fixed_point, influence, memorization, self_influence, tiles
from tests import reference


def draw(models: int, columns: int, ratio: float = 0.7, seed: int = 0, floats: bool = False) -> tuple:
    rng = np.random.default_rng(seed)
    masks = rng.random((models, 6)) < ratio
    score = rng.random((models, columns), dtype=np.float32)
    return masks, score if floats else score < 0.5


def tolerance(score: np.ndarray) -> np.ndarray:
    """What the docstring of `influence` promises, per test column."""
    values = score.astype(float)
    return 2.0**-21 * (values.max(axis=0) - values.min(axis=0))


def assert_within(result: np.ndarray, expected: np.ndarray, allowed: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    difference = np.abs(np.asarray(result, float) - expected)
    assert (np.isnan(difference) | (difference <= allowed)).all(), np.nanmax(difference - allowed)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("models", [2, 31, 33, 64, 65, 130])
def test_influence_equals_definition(models, floats):
    masks, score = draw(models, 4, floats=floats)
    result = influence(masks, score)
    assert isinstance(result, np.ndarray)
    assert result.dtype == jnp.float32
    assert_within(result, reference.influence(masks, score), tolerance(score))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (300, 1), (5, 400), (300, 7)])
def test_counts_are_divided_and_not_multiplied_by_reciprocals(rows, columns):
    # XLA rewrites x / broadcast(y) for some shapes and not for others, unless it is kept from it.
    rng = np.random.default_rng(1)
    masks, score = rng.random((200, rows)) < 0.7, rng.random((200, columns)) < 0.5
    right_in, num_in = masks.T.astype(int) @ score, masks.sum(axis=0)[:, None]
    expected = (200 * right_in - num_in * score.sum(axis=0)) / (num_in * (200 - num_in))
    np.testing.assert_array_equal(influence(masks, score), expected.astype(np.float32))
    np.testing.assert_array_equal(influence(masks, score.astype(float)), influence(masks, score))


@settings(deadline=None, max_examples=50)
@given(
    models=st.sampled_from([1, 2, 33, 65]),
    ratio=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([0.0, -3.0, 1000.0]),
    floats=st.booleans(),
)
def test_influence_equals_definition_at_any_ratio(models, ratio, seed, offset, floats):
    masks, score = draw(models, 4, ratio, seed, floats)
    if floats:
        score = score + np.float32(offset)
    # The sum with the offset is rounded, and its range is then a little less than 1: scores are what they are.
    assert_within(influence(masks, score), reference.influence(masks, score), tolerance(score))
    own = np.resize(score, masks.shape)
    assert_within(memorization(masks, own), reference.memorization(masks, own), tolerance(own))


@pytest.mark.parametrize("floats", [False, True])
def test_examples_in_none_or_all_of_the_subsets_are_nan(floats):
    masks, score = draw(40, 4, floats=floats)
    masks[:, 1], masks[:, 4] = False, True
    result = np.asarray(influence(masks, score))
    assert np.isnan(result[[1, 4]]).all()
    assert np.isfinite(result[[0, 2, 3, 5]]).all()
    assert np.isnan(memorization(masks, np.resize(score, masks.shape))[[1, 4]]).all()


@pytest.mark.parametrize("floats", [False, True])
def test_one_model_says_nothing(floats):
    masks, score = draw(1, 4, floats=floats)
    assert np.isnan(influence(masks, score)).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e30])
def test_a_constant_score_has_no_influence(constant):
    masks, _ = draw(33, 4)
    masks[:2] = [[True], [False]]
    assert (np.asarray(influence(masks, np.full((33, 4), constant, np.float32))) == 0).all()


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e30, 3e38])
def test_scores_of_any_size(scale):
    masks, score = draw(65, 4, floats=True)
    score = ((score - 0.5) * np.float32(scale)).astype(np.float32)
    assert_within(influence(masks, score), reference.influence(masks, score), tolerance(score))


@pytest.mark.parametrize("floats", [False, True])
def test_more_models_than_one_chunk(floats):
    masks, score = draw(4500, 3, floats=floats)
    result = influence(masks, score)
    assert_within(result, reference.influence(masks, score), tolerance(score))
    own = np.tile(score, (1, 2))
    np.testing.assert_array_equal(memorization(masks, own), np.diagonal(influence(masks, own)))


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("models", [5, 64, 2049])
def test_memorization_is_the_diagonal_of_influence(models, floats, monkeypatch):
    masks, score = draw(models, 6, floats=floats)
    expected = np.diagonal(influence(masks, score))
    np.testing.assert_array_equal(memorization(masks, score), expected)
    monkeypatch.setattr(self_influence, "_COLUMNS", 4)
    np.testing.assert_array_equal(memorization(masks, score), expected)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("pairs", [1, 7, 12, 25])
def test_influence_has_the_same_bits_in_any_tile(pairs, floats, monkeypatch):
    masks, score = draw(97, 4, floats=floats)
    masks[:, 5] = True
    expected = influence(masks, score)
    monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", pairs)
    np.testing.assert_array_equal(influence(masks, score), expected)


@pytest.mark.parametrize("kernel", ["native", "gemm"])
def test_every_kernel_gives_the_same_bits(kernel, monkeypatch):
    if kernel == "native" and native.why_unavailable() is not None:
        pytest.skip(f"{native.why_unavailable()}")
    masks, score = draw(97, 4)
    expected = influence(masks, score)
    monkeypatch.setattr(tiles, "choose_kernel", lambda *_: kernel)
    np.testing.assert_array_equal(influence(masks, score), expected)


def test_takes_jax_arrays_and_other_floats():
    masks, score = draw(33, 4, floats=True)
    expected = influence(masks, score)
    np.testing.assert_array_equal(influence(jnp.asarray(masks), jnp.asarray(score)), expected)
    np.testing.assert_array_equal(influence(masks, score.astype(np.float64)), expected)
    half = jnp.asarray(score).astype(jnp.bfloat16)
    np.testing.assert_array_equal(influence(masks, half), influence(masks, np.asarray(half, np.float32)))


@pytest.mark.parametrize("floats", [False, True])
def test_a_tile_is_compiled_once(floats, monkeypatch):
    kernel = tiles._influence_of_digits if floats else tiles._influence_of_counts
    masks, score = draw(41, 4, floats=floats)
    monkeypatch.setattr(tiles, "_PAIRS_PER_TILE", 8)
    kernel.clear_cache()
    prepared = tiles.make_tiles(masks[:, :5], score, 2)
    for start in tiles.tile_starts(5, 2):
        assert prepared.tile(start).shape == (2, 4)
    assert kernel._cache_size() == 1


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_tile_kernels_lower(platform):
    masks, score = draw(41, 4, floats=True)
    digits = fixed_point.to_fixed_point(score)
    kernel = jax.jit(partial(tiles._influence_of_digits, width="float32"))
    exported = counts.call_with_64_bits(jax.export.export(kernel, platforms=[platform]), jnp.asarray(masks), digits)
    assert "precision = [HIGHEST, HIGHEST]" in exported.mlir_module()
    (train,), num_in = counts.pack_models(masks, "gemm")
    (test,), num_right = counts.pack_models(score < 0.5, "gemm")
    totals = tiles.Totals(num_in, num_right, np.int32(41))
    for kernel in (
        partial(tiles._influence_of_counts, rows=2, width="float32"),
        partial(tiles._numerators_of_counts, rows=2, dtype="int32"),
    ):
        exporter = jax.export.export(jax.jit(kernel), platforms=[platform])
        counts.call_with_64_bits(exporter, None, train, test, totals, np.int32(0))


def test_default_tiles_share_the_rows_evenly():
    assert tiles.default_rows(10, 10) == 10
    assert tiles.default_rows(50_000, 10_000) == 417  # 120 tiles, 40 rows of padding
    assert tiles.default_rows(3, 2**30) == 1


MASKS = np.array([[True, False], [False, True], [True, True]])


@pytest.mark.parametrize(
    ("masks", "score", "error", "message"),
    [
        (MASKS.astype(int), MASKS, TypeError, r"masks has dtype int64; it takes bool .*masks.astype\(bool\)"),
        (MASKS[0], MASKS, ValueError, r"masks has shape \(2,\); it takes 2 dimensions, \[models, train\]"),
        (MASKS[:0], MASKS, ValueError, r"masks has shape \(0, 2\): it is empty"),
        (MASKS, MASKS.astype(int), TypeError, r"score has dtype int64; it takes bool .*score.astype\(bool\)"),
        (MASKS, MASKS[:, 0], ValueError, r"score has shape \(3,\); it takes 2 dimensions, \[models, test\]"),
        (MASKS, MASKS[:, :0], ValueError, r"score has shape \(3, 0\): it is empty"),
        (MASKS, MASKS[:2], ValueError, r"score has 2 rows, but masks has 3: both need one row a model"),
        (MASKS, np.array([[0.1], [np.nan], [np.inf]]), ValueError, r"NaN or inf \(as float32\) for 2 of 3 models .*: \[1, 2\]\)\. Drop"),
        (MASKS, np.array([[0.1], [0.1], [1e39]]), ValueError, r"for 1 of 3 models"),
    ],
)  # fmt: skip
def test_influence_rejects(masks, score, error, message):
    with pytest.raises(error, match=message):
        influence(masks, score)


def test_memorization_rejects_scores_of_other_examples():
    with pytest.raises(ValueError, match="train_score has 3 columns, but masks has 2"):
        memorization(MASKS, np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="train_score has 2 rows, but masks has 3"):
        memorization(MASKS, np.ones((2, 2), bool))


def test_more_models_than_exact_sums_allow(monkeypatch):
    monkeypatch.setattr(fixed_point, "_MAX_MODELS", 2)
    with pytest.raises(ValueError, match="score has 3 models; exact sums of float scores take at most 2"):
        influence(MASKS, np.ones((3, 1)))
