"""Pools against loops over windows, and the shapes that they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl.models.layers import use_kernels
from jaxinfl.models.layers.pool import avg_pool, global_mean, max_pool
from tests.compile_whole import compile_whole


def definition(x, grad, window, stride, padding, kind):
    """Result and gradient; a maximum's goes to the first of a window, row by row."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(x, sides, constant_values=-np.inf if kind == "max" else 0)
    result, back = np.zeros_like(grad), np.zeros_like(padded)
    for i, j in np.ndindex(grad.shape[1:3]):
        at = np.s_[:, i * stride : i * stride + window, j * stride : j * stride + window]
        if kind == "avg":
            result[:, i, j] = padded[at].mean((1, 2))
            back[at] += grad[:, i : i + 1, j : j + 1] / window**2
            continue
        for image, channel in np.ndindex(len(x), x.shape[3]):
            part = padded[at][image, :, :, channel]
            row, column = np.unravel_index(part.argmax(), part.shape)
            result[image, i, j, channel] = part[row, column]
            back[at][image, row, column, channel] += grad[image, i, j, channel]
    height, width = x.shape[1:3]
    return result, back[:, padding : padding + height, padding : padding + width]


# Odd and even sizes, windows over the edge and with gaps between, images as large as the window.
CASES = [
    ((7, 7), 3, 2, 0),
    ((6, 7), 3, 2, 1),
    ((5, 4), 3, 1, 1),
    ((5, 5), 5, 3, 0),
    ((7, 6), 2, 3, 1),
    ((2, 2), 3, 1, 1),
]


@partial(compile_whole, static_argnums=(0, 1, 2, 3))
def passes(pool, window, stride, padding, x, grad):
    """Result and gradient."""
    result, pullback = jax.vjp(lambda x: pool(x, window, stride=stride, padding=padding), x)
    return result, *pullback(grad)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("size", "window", "stride", "padding"), CASES)
def test_pools_and_their_gradients_equal_the_definition(size, window, stride, padding, ties):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, 3)).astype(np.float32)
    if ties:
        x = np.sign(x)
    for pool, kind in ((max_pool, "max"), (avg_pool, "avg")):
        shape = jax.eval_shape(lambda x, pool=pool: pool(x, window, stride=stride, padding=padding), x).shape
        grad = rng.standard_normal(shape).astype(np.float32)
        expected = definition(x, grad, window, stride, padding, kind)
        for ours, exact in zip(passes(pool, window, stride, padding, x, grad), expected, strict=True):
            np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_windows_larger_than_the_images_are_refused(pool):
    with pytest.raises(ValueError, match=r"a 4x4 pool does not fit images of 5x1 pixels with padding 1"):
        pool(jnp.zeros((1, 5, 1, 1)), 4, stride=1, padding=1)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_members_of_a_vmap_do_not_meet(pool):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 6, 5, 4)), jnp.float32)

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(pool(x, 3, stride=2, padding=1))))(x)

    mapped, alone = jax.jit(jax.vmap(gradient))(x), compile_whole(gradient)
    for member in range(3):
        np.testing.assert_allclose(mapped[member], alone(x[member]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (7, 3)])
@pytest.mark.parametrize("kernels", ["native", "gemm"])
def test_mean_over_all_positions_and_its_gradient(kernels, size):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((3, *size, 5)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    with use_kernels(kernels):
        got, pullback = jax.vjp(global_mean, jnp.asarray(x))
        (gradient,) = pullback(jnp.asarray(grad))
        # XLA's reduction is what the hand-written one is there to avoid.
        assert ("reduce_sum" in str(jax.make_jaxpr(lambda x: global_mean(x))(x))) is (kernels == "gemm")
    np.testing.assert_allclose(got, x.mean((1, 2), np.float64), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, np.broadcast_to(grad[:, None, None] / np.prod(size), x.shape), rtol=1e-6)


def test_a_mean_of_bfloat16_is_summed_in_float32():
    x = jnp.full((1, 3, 3, 1), 1.0, jnp.bfloat16).at[0, 0, 0, 0].set(256)
    # 256 + 1 is 256 in bfloat16.
    assert float(avg_pool(x, 3, stride=1)[0, 0, 0, 0]) == float(jnp.bfloat16(264 / 9))
    with use_kernels("native"):
        assert float(global_mean(x)[0, 0]) == float(jnp.bfloat16(264 / 9))


def test_what_is_not_a_number_stays_visible_in_its_windows():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(jnp.nan)
    pooled = np.asarray(max_pool(x, 2, stride=2))[0, :, :, 0]
    np.testing.assert_array_equal(np.isnan(pooled), [[True, False], [False, False]])
