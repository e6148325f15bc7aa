"""The hand-written CPU kernels against JAX's own operations, and what happens where they cannot be compiled."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl import Recipe, load_dataset, native
from jaxinfl.models import build_model
from jaxinfl.models.layers import default_kernels
from jaxinfl.models.layers.norm import normalize, relu_of_normalized_conv
from jaxinfl.native import library
from jaxinfl.training.machine import choose_execution
from tests.compile_whole import compile_whole

needs_compiler = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")


def definition(images, kernel, strides, padding, grad=None):
    """Convolution tap by tap in float64; with `grad`, its gradients to the images and the kernel."""
    (rows, columns), (height, width) = strides, kernel.shape[:2]
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), *padding, (0, 0)))
    kernel = np.asarray(kernel, np.float64)
    out_height, out_width = (padded.shape[1] - height) // rows + 1, (padded.shape[2] - width) // columns + 1
    result = np.zeros((len(padded), out_height, out_width, kernel.shape[3]))
    padded_grad, kernel_grad = np.zeros_like(padded), np.zeros_like(kernel)
    for y, x in np.ndindex(height, width):
        window = np.s_[:, y : y + rows * (out_height - 1) + 1 : rows, x : x + columns * (out_width - 1) + 1 : columns]
        result += padded[window] @ kernel[y, x]
        if grad is not None:
            padded_grad[window] += np.asarray(grad, np.float64) @ kernel[y, x].T
            kernel_grad[y, x] = np.einsum("nhwi,nhwo->io", padded[window], np.asarray(grad, np.float64))
    (top, _), (left, _) = padding
    images_grad = padded_grad[:, top : top + images.shape[1], left : left + images.shape[2]]
    return result, images_grad, kernel_grad


def with_gradients(function, *arguments, seed):
    """The function's result, with random numbers of its shape, and its gradients times these."""
    grad = normal(seed, *jax.eval_shape(function, *arguments).shape)

    @compile_whole
    def passes(grad, *arguments):
        result, gradients = jax.vjp(function, *arguments)
        return result, *gradients(grad)

    return grad, passes(grad, *arguments)


def check(image_shape, kernel_shape, strides, padding):
    images, kernel = normal(0, *image_shape), normal(1, *kernel_shape)
    grad, found = with_gradients(lambda x, w: native.conv(x, w, strides, padding), images, kernel, seed=2)
    expected = definition(images, kernel, strides, padding, grad)
    for ours, exact in zip(found, expected, strict=True):
        # float32 sums of up to 10,000 products of normal numbers.
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5 * (1 + np.abs(exact).max()))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@st.composite
def convolutions(draw):
    """Shapes in which every branch of the kernels is met: few and many channels, windows larger than a stride and not."""
    size = st.integers(1, 12)
    window = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in window)
    height, width = (max(draw(size), extent - sum(sides)) for extent, sides in zip(window, padding, strict=True))
    channels = st.one_of(st.integers(1, 10), st.sampled_from([16, 17, 31, 32, 33, 40]))
    images = (draw(st.integers(1, 9)), height, width, draw(channels))
    return images, (*window, images[-1], draw(channels)), draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), padding


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_convolution_and_gradients_equal_the_definition(case):
    check(*case)


@needs_compiler
def test_large_images_take_several_blocks():
    check((3, 40, 50, 24), (3, 3, 24, 20), (1, 2), ((1, 1), (0, 2)))


@needs_compiler
@pytest.mark.parametrize("window", [(1, 7), (7, 1)])
def test_windows_of_one_row_or_column(window):
    """Windows of one row or column are those of Inception v3, at its size."""
    check((2, 17, 17, 20), (*window, 20, 24), (1, 1), tuple((extent // 2, extent // 2) for extent in window))


@needs_compiler
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    ("images", "kernel", "strides"),
    [
        ((64, 8, 8, 1), (3, 3, 1, 16), (1, 1)),
        ((3, 7, 6, 1), (3, 3, 1, 8), (1, 1)),
        ((3, 7, 6, 1), (3, 3, 1, 16), (1, 1)),
        ((64, 8, 8, 16), (3, 3, 16, 32), (2, 2)),
        ((3, 7, 9, 10), (3, 2, 10, 21), (2, 1)),
        ((2, 40, 40, 3), (5, 5, 3, 70), (1, 1)),
    ],
)
def test_bias_and_relu_of_a_convolution_and_their_gradients(images, kernel, strides, relu):
    images, kernel, bias, padding = normal(0, *images), normal(1, *kernel), normal(2, kernel[-1]), ((1, 1), (0, 1))
    ours = lambda *arguments: native.conv_with_bias(*arguments, strides, padding, relu)
    grad, found = with_gradients(ours, images, kernel, bias, seed=3)
    exact = definition(images, kernel, strides, padding)[0] + np.asarray(bias, np.float64)
    passed = np.where(exact > 0, grad, 0) if relu else np.asarray(grad, np.float64)
    _, *expected = definition(images, kernel, strides, padding, passed)
    expected = (np.maximum(exact, 0) if relu else exact, *expected, passed.sum((0, 1, 2)))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * (1 + np.abs(theirs).max()))


@needs_compiler
@pytest.mark.parametrize("channels", [1, 8])
def test_what_is_not_a_number_passes_a_bias_and_relu(channels):
    images, kernel = normal(0, 2, 4, 4, channels).at[1].set(jnp.nan), normal(1, 3, 3, channels, 16)
    result = native.conv_with_bias(images, kernel, jnp.zeros(16), (1, 1), ((1, 1), (1, 1)), True)
    assert np.isfinite(result[0]).all() and np.isnan(result[1]).all()


@needs_compiler
def test_vmap_takes_members_one_by_one():
    images, kernels = normal(0, 4, 2, 6, 6, 3), normal(1, 4, 3, 3, 3, 5)
    padding = ((1, 1), (1, 1))
    mapped = jax.vmap(lambda x, w: native.conv(x, w, (2, 2), padding))(images, kernels)
    for member in range(4):
        alone = native.conv(images[member], kernels[member], (2, 2), padding)
        np.testing.assert_array_equal(mapped[member], alone)


@needs_compiler
def test_a_number_that_is_not_finite_stays_in_its_image():
    images, kernel = normal(0, 4, 8, 8, 16), normal(1, 3, 3, 16, 16)
    clean = native.conv(images, kernel, (1, 1), ((1, 1), (1, 1)))
    spoiled = native.conv(images.at[2, 3, 3, 0].set(jnp.nan), kernel, (1, 1), ((1, 1), (1, 1)))
    assert np.isnan(spoiled[2, 2:5, 2:5]).all()
    others = np.array([0, 1, 3])
    np.testing.assert_array_equal(spoiled[others], clean[others])


@needs_compiler
@pytest.mark.parametrize("shape", [(64, 8, 8, 16), (5, 3, 3, 10), (7, 130), (3, 40, 40, 1)])
def test_sums_over_all_positions_of_a_channel(shape):
    x, grad = 3 + 2 * normal(0, *shape), normal(1, *shape)
    counted = jax.random.bernoulli(jax.random.key(2), 0.7, shape[:1]).at[0].set(True)
    axes = tuple(range(len(shape) - 1))
    exact, exact_grad = np.asarray(x, np.float64), np.asarray(grad, np.float64)
    mean, variance = native.channel_moments(x, counted)
    np.testing.assert_allclose(mean, exact[np.asarray(counted)].mean(axes), rtol=1e-5)
    np.testing.assert_allclose(variance, exact[np.asarray(counted)].var(axes), rtol=1e-4)
    scale = np.sqrt(x.size / shape[-1])
    factor, offset = np.asarray(1 + normal(3, shape[-1]) ** 2), np.asarray(normal(4, shape[-1]))
    for cut in (True, False):
        norm = native.Normalization(x, counted, factor, offset if cut else np.full_like(offset, np.inf), mean)
        sums, products = native.channel_products(grad, norm)
        passed = np.where(exact * factor + offset > 0, exact_grad, 0) if cut else exact_grad
        np.testing.assert_allclose(sums, passed.sum(axes), atol=1e-5 * scale)
        expected = (passed * (exact - np.asarray(mean, np.float64))).sum(axes)
        np.testing.assert_allclose(products, expected, atol=1e-4 * scale)


@needs_compiler
@pytest.mark.parametrize("size", [1, 456, 50_000])
def test_a_random_order_is_drawn_as_jax_draws_it(size):
    """The native order is that of JAX for keys that were folded and split, too, and equal words keep their order."""
    included = np.random.default_rng(size).random(size) < 0.7
    for key in (
        jax.random.key(0),
        jax.random.fold_in(jax.random.key(2**31), 7),
        *jax.random.split(jax.random.key(3), 3),
    ):
        bits = np.asarray(jax.random.bits(key, (size,), np.uint32))
        words = bits >> 1 | np.where(included, 0, 1 << 31).astype(np.uint32)
        drawn = native.random_order(key, jnp.asarray(included))
        np.testing.assert_array_equal(drawn, np.argsort(words, kind="stable"))


def test_other_keys_are_not_drawn_by_the_kernel(monkeypatch):
    assert native.draws_as_jax(jax.random.key(0)) and not native.draws_as_jax(jax.random.key(0, impl="rbg"))
    with jax.threefry_partitionable(False):
        assert not native.draws_as_jax(jax.random.key(0))


@pytest.mark.parametrize("sums", ["apart", "together", pytest.param("native", marks=needs_compiler)])
def test_gradient_of_batch_norm_is_that_of_its_definition(sums):
    x, scale, bias = 2 + normal(0, 6, 3, 3, 5), 1 + normal(1, 5), normal(2, 5)
    counted = jnp.array([True, True, False, True, True, False])
    weight = normal(3, *x.shape)

    def definition(x, scale, bias):
        kept = x[np.flatnonzero(counted)]
        mean, variance = kept.mean((0, 1, 2)), kept.var((0, 1, 2))
        shape = (1, 1, 1, 5)
        standard = (x - mean.reshape(shape)) / jnp.sqrt(variance + 1e-5).reshape(shape)
        return jnp.sum(weight * (standard * scale.reshape(shape) + bias.reshape(shape)))

    def ours(x, scale, bias):
        return jnp.sum(weight * normalize(x, counted, scale, bias, 1e-5, sums)[0])

    expected = compile_whole(jax.value_and_grad(definition, (0, 1, 2)))(x, scale, bias)
    result = compile_whole(jax.value_and_grad(ours, (0, 1, 2)))(x, scale, bias)
    for mine, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding"),
    [
        ((8, 32, 32, 3), (3, 3, 3, 32), (1, 1), ((1, 1), (1, 1))),
        ((8, 32, 32, 32), (3, 3, 32, 64), (2, 2), ((1, 1), (1, 1))),
        ((5, 7, 9, 10), (3, 2, 10, 21), (2, 1), ((0, 1), (1, 1))),
        ((4, 4, 4, 64), (1, 1, 64, 130), (1, 1), ((0, 0), (0, 0))),
    ],
)
def test_relu_of_a_normalized_convolution_and_its_gradients(images, kernel, strides, padding):
    images, kernel, channels = normal(0, *images), normal(1, *kernel), kernel[-1]
    scale, bias = 1 + 0.3 * normal(2, channels), normal(3, channels)
    counted = jax.random.bernoulli(jax.random.key(4), 0.7, (len(images),)).at[0].set(True)

    def ours(*arguments):
        return relu_of_normalized_conv(*arguments[:2], counted, *arguments[2:], strides, padding, 1e-5)

    def definition(images, kernel, scale, bias):
        window = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "precision": "highest"}
        x = jax.lax.conv_general_dilated(images, kernel, strides, padding, **window)
        kept, shape = x[np.flatnonzero(counted)], (1, 1, 1, channels)
        mean, variance = kept.mean((0, 1, 2)), kept.var((0, 1, 2))
        standard = (x - mean.reshape(shape)) / jnp.sqrt(variance + 1e-5).reshape(shape)
        return jax.nn.relu(standard * scale.reshape(shape) + bias.reshape(shape)), mean, variance

    def passes(function):
        result, gradients = jax.vjp(function, images, kernel, scale, bias)
        return *result, *gradients((normal(5, *result[0].shape), jnp.zeros(channels), jnp.zeros(channels)))

    for mine, theirs in zip(
        compile_whole(lambda: passes(ours))(), compile_whole(lambda: passes(definition))(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * np.abs(theirs).max())


@needs_compiler
def test_an_image_that_does_not_count_moves_no_other_through_a_normalized_convolution():
    images, kernel, bias = normal(0, 4, 8, 8, 16), normal(1, 3, 3, 16, 32), normal(2, 32)
    counted, window = jnp.array([True, True, False, True]), ((1, 1), ((1, 1), (1, 1)))

    def gradients(images):
        def through(images, kernel):
            return relu_of_normalized_conv(images, kernel, counted, jnp.ones(32), bias, *window, 1e-5)

        (result, mean, variance), pull = jax.vjp(through, images, kernel)
        grad = jnp.where(counted.reshape(-1, 1, 1, 1), normal(3, *result.shape), 0)
        images_grad, kernel_grad = pull((grad, jnp.zeros(32), jnp.zeros(32)))
        return result[counted], mean, variance, images_grad[counted], kernel_grad

    clean, other = gradients(images), gradients(images.at[2].mul(1e3))
    for a, b in zip(clean, other, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_compiler
def test_find_or_compile_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Nobody runs these kernels.
    monkeypatch.setattr(library, "OPTIMIZATION", dict.fromkeys(library.SOURCES, "-O0"))
    first = library._find_or_compile()
    assert first.is_relative_to(tmp_path)
    written = first.stat().st_mtime_ns
    assert library._find_or_compile() == first and first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler --fast")
    with pytest.raises(native.NativeUnavailable, match="no-such-compiler is not there"):
        library._find_or_compile()


def test_a_compiler_that_fails(tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-dM*) exit 0;; esac\necho "x.cpp:1: error: boom" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(native.NativeUnavailable, match=r"failed: x.cpp:1: error: boom"):
        library._find_or_compile()


def test_without_a_compiler_gemm_kernels_are_taken_and_native_ones_refused(monkeypatch):
    monkeypatch.setattr(native, "why_unavailable", lambda: "no C++ compiler")
    assert default_kernels("cpu") == "gemm"
    data = load_dataset("digits")
    model = build_model("small_cnn", inputs=data.image_shape, outputs=data.num_classes)
    chosen = choose_execution(model, Recipe(), data)
    assert (chosen.kernels, chosen.reason) == ("gemm", "no hand-written kernels: no C++ compiler")
    with pytest.raises(ValueError, match=r"kernels is 'native'.*cannot be used here: no C\+\+ compiler"):
        choose_execution(model, Recipe(), data, kernels="native")


def test_a_folder_of_others_is_not_trusted(tmp_path):
    assert library._is_mine(tmp_path)
    tmp_path.chmod(0o777)
    assert not library._is_mine(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not library._is_mine(tmp_path / "link")


@needs_compiler
def test_a_call_that_does_not_fit_is_an_error():
    """The kernels check what they are given, and XLA reports it: no wrong pointer is followed."""
    images, kernel = normal(0, 2, 5, 5, 3), normal(1, 3, 3, 3, 4)
    out = jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.float32)
    call, pair = library.foreign_function("conv_forward", out), np.ones(2, np.int64)
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxinfl: an array has another type"):
        call(images.astype(jnp.int32), kernel, strides=pair, padding=pair)
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxinfl: an array has another number of axes"):
        call(images[0], kernel, strides=pair, padding=pair)
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxinfl: too few arguments"):
        call(images, strides=pair, padding=pair)
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxinfl: an attribute is missing"):
        call(images, kernel, strides=pair)
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxinfl: an attribute is not two numbers"):
        call(images, kernel, strides=np.ones(3, np.int64), padding=pair)


@needs_compiler
def test_prepared_in_the_background(monkeypatch):
    """`prepare` returns before the compiler does, and `load` waits for it."""
    begun, may_end = threading.Event(), threading.Event()
    path = library._find_or_compile()

    def compiled():
        begun.set()
        assert may_end.wait(60)
        return path

    monkeypatch.setattr(library, "_find_or_compile", compiled)
    library._compilation.cache_clear()
    library.prepare()
    assert begun.wait(60)
    waiting = threading.Thread(target=library.load.__wrapped__)
    waiting.start()
    assert waiting.is_alive() and not library._compilation().done()
    may_end.set()
    waiting.join(60)
    assert library._compilation().result() == path
