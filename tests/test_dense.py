"""Dense layers with hand-written kernels: the same numbers, and which gradients go to the hand-written product."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import native
from jaxinfl.models import build_model
from jaxinfl.models.layers import use_kernels
from jaxinfl.models.layers.dense import dot_general

pytestmark = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")

PLAIN = (((1,), (0,)), ((), ()))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"), [(64, 64, 10), (1, 1, 1), (5, 3, 17), (130, 33, 128), (7, 512, 100), (300, 20, 2)]
)
def test_product_and_gradients_equal_the_definition(batch, inputs, outputs):
    images, kernel, grad = normal(0, batch, inputs), normal(1, inputs, outputs), normal(2, batch, outputs)
    with use_kernels("native"):
        result, gradients = jax.vjp(lambda x, w: dot_general(x, w, PLAIN), images, kernel)
        found = (result, *gradients(grad))
    x, w, g = (np.asarray(array, np.float64) for array in (images, kernel, grad))
    for ours, exact in zip(found, (x @ w, g @ w.T, x.T @ g), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-5 * np.abs(exact).max())


def test_members_of_a_vmap_do_not_meet():
    images, kernels = normal(0, 3, 9, 5), normal(1, 3, 5, 4)

    def gradient(x, w):
        with use_kernels("native"):
            return jax.grad(lambda w: jnp.sum(jnp.sin(dot_general(x, w, PLAIN))))(w)

    mapped = jax.jit(jax.vmap(gradient))(images, kernels)
    for member in range(3):
        np.testing.assert_allclose(mapped[member], gradient(images[member], kernels[member]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kernels", "outputs", "inner", "settings", "native_grad"),
    [
        ("native", 10, (), {}, True),
        ("native", 128, (), {}, True),
        ("native", 129, (), {}, False),
        ("native", 10, (2,), {}, False),
        ("native", 10, (), {"dtype": jnp.bfloat16}, False),
        ("native", 10, (), {"precision": "highest"}, False),
        ("gemm", 10, (), {}, False),
        ("xla", 10, (), {}, False),
    ],
)
def test_only_narrow_float32_matrices_go_to_the_native_kernels(kernels, outputs, inner, settings, native_grad):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(8, outputs, rngs=rngs, **settings)

        def __call__(self, x):
            return self.dense(x.reshape(-1, *inner, 8)).reshape(len(x), -1)

    size = math.prod(inner)
    model = build_model(Net, inputs=(8 * size, 1, 1), outputs=outputs * size)
    variables = model.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(model.apply(variables._replace(params=params), jnp.ones((6, 8 * size, 1, 1)), train=True)[0])

    with use_kernels(kernels):
        traced = str(jax.make_jaxpr(jax.grad(loss))(variables.params))
    assert ("jaxinfl_dense_kernel_grad" in traced) is native_grad
