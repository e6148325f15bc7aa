"""Joint counts: both kernels against the definition, their compiled programs, and their errors."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl import native
from jaxinfl.influence import counts, joint_counts
from tests import reference

needs_compiler = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")
KERNELS = [pytest.param("native", marks=needs_compiler), "bits", "gemm"]
MODELS = [1, 2, 31, 32, 33, 63, 64, 65, 127, 130]


def draw(models: int, train: int, test: int, ratio: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((models, train)) < ratio, rng.random((models, test)) < 0.5


@pytest.mark.parametrize("method", ["auto", *KERNELS])
@pytest.mark.parametrize("models", MODELS)
def test_equals_definition(models, method):
    masks, correct = draw(models, 5, 4)
    result = joint_counts(masks, correct, method=method)
    assert result.dtype == jnp.int32
    np.testing.assert_array_equal(result, reference.joint_counts(masks, correct))


@settings(deadline=None, max_examples=50)
@given(
    models=st.sampled_from(MODELS),
    ratio=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    right=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_bits_equal_gemm_and_numpy(models, ratio, right, seed):
    rng = np.random.default_rng(seed)
    masks, correct = rng.random((models, 5)) < ratio, rng.random((models, 4)) < right
    bits = joint_counts(masks, correct, method="bits")
    np.testing.assert_array_equal(bits, masks.T.astype(int) @ correct.astype(int))
    np.testing.assert_array_equal(bits, joint_counts(masks, correct, method="gemm"))


@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("models", [4096, 4097, 8300])
def test_more_models_than_one_chunk_of_words(models, method):
    masks, correct = draw(models, 3, 6)
    expected = masks.T.astype(int) @ correct.astype(int)
    np.testing.assert_array_equal(joint_counts(masks, correct, method=method), expected)


@needs_compiler
@settings(deadline=None, max_examples=50)
@given(
    models=st.integers(1, 600),  # up to three sums of bytes
    train=st.integers(1, 70),  # up to three tiles of rows
    test=st.integers(1, 300),  # up to five blocks of the widest vectors, and more than a thread takes
    ratio=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_hand_written_kernel_equals_the_definition(models, train, test, ratio, seed):
    rng = np.random.default_rng(seed)
    masks, correct = rng.random((models, train)) < ratio, rng.random((models, test)) < 0.8
    np.testing.assert_array_equal(native.joint_counts(masks, correct), masks.T.astype(int) @ correct.astype(int))


@needs_compiler
def test_large_products_go_to_the_hand_written_kernel(monkeypatch):
    assert counts.choose_kernel("auto", 2000, 4096, 10_000) == "native"
    assert counts.choose_kernel("auto", 2000, 40, 100) == "bits"
    monkeypatch.setattr(native, "why_unavailable", lambda: "no compiler")
    assert counts.choose_kernel("auto", 2000, 4096, 10_000) == "bits"


def test_chunks_waste_less_than_a_word_each():
    packed, _ = counts.pack_models(np.ones((65 * 64, 2), bool), "bits")
    assert [chunk.shape for chunk in packed] == [(33, 2), (33, 2)]


@pytest.mark.parametrize("method", KERNELS)
def test_totals_are_the_number_of_flags(method):
    masks, _ = draw(130, 9, 1)
    _, totals = counts.pack_models(masks, method)
    np.testing.assert_array_equal(totals, masks.sum(axis=0))


def test_takes_jax_arrays_and_leaves_64_bit_types_off():
    masks, correct = draw(70, 5, 4)
    result = joint_counts(jnp.asarray(masks), jnp.asarray(correct))
    np.testing.assert_array_equal(result, joint_counts(masks, correct))
    assert jnp.arange(2).dtype == jnp.int32


@pytest.mark.parametrize("method", ["bits", "gemm"])
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_tile_kernel_lowers(method, platform):
    masks, correct = draw(100, 8, 6)
    (train,), _ = counts.pack_models(masks, method)
    (test,), _ = counts.pack_models(correct, method)
    with jax.enable_x64(True):
        kernel = jax.export.export(counts.add_last_chunk, platforms=[platform])
        text = kernel(None, train, test).mlir_module()
    # Exact by its types: 64-bit words, or 8-bit factors with 32-bit sums.
    expected = "stablehlo.popcnt" if method == "bits" else "(tensor<100x8xi8>, tensor<100x6xi8>) -> tensor<8x6xi32>"
    assert expected in text


@pytest.mark.parametrize(
    ("masks", "correct", "error", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2), bool), TypeError, r"masks has dtype float64; it takes bool"),
        (np.zeros((3, 2), bool), np.zeros((3, 2), int), TypeError, r"correct has dtype int64.*correct.astype\(bool\)"),
        (np.zeros(3, bool), np.zeros((3, 2), bool), ValueError, r"masks has shape \(3,\); it takes 2 dimensions"),
        (np.zeros((3, 2), bool), np.zeros((3, 2, 1), bool), ValueError, r"correct has shape \(3, 2, 1\)"),
        (np.zeros((3, 2), bool), np.zeros((4, 2), bool), ValueError, r"correct has 4 rows, but masks has 3"),
        (np.zeros((0, 2), bool), np.zeros((0, 2), bool), ValueError, r"masks has shape \(0, 2\): it is empty"),
        (np.zeros((3, 2), bool), np.zeros((3, 0), bool), ValueError, r"correct has shape \(3, 0\): it is empty"),
    ],
)
def test_rejects(masks, correct, error, message):
    with pytest.raises(error, match=message):
        joint_counts(masks, correct)


def test_rejects_an_unknown_method():
    masks, correct = draw(3, 2, 2)
    # Under the import hook the annotation says it first.
    with pytest.raises((ValueError, TypeError), match="method"):
        joint_counts(masks, correct, method="magic")
