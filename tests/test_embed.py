"""Embeddings on accelerators: the same numbers as a plain lookup, and a gradient without scattered sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl.models import ArraySpec, InputSpec, build_model
from jaxinfl.models.layers import use_kernels


def embedding(rngs):
    return nnx.Sequential(nnx.Embed(7, 5, rngs=rngs), lambda x: x.mean(axis=1), nnx.Linear(5, 3, rngs=rngs))


def loss(model, platform):
    index = np.random.default_rng(0).integers(0, 7, (4, 6)).astype(np.int32)

    def of(params):
        with use_kernels("gemm", platform):
            outputs = model.apply(variables._replace(params=params), jnp.asarray(index), train=True)[0]
        return jnp.sum(jnp.square(outputs - 1))

    variables = model.init(jax.random.key(0))
    return of, variables.params


@pytest.fixture(scope="module")
def model():
    return build_model(embedding, inputs=InputSpec((ArraySpec("", (6,), "int32", 7),)), outputs=3)


def test_the_same_gradient_on_a_card(model):
    plain, params = loss(model, "cpu")
    product, _ = loss(model, "gpu")
    assert plain(params) == product(params)
    for one, other in zip(*(jax.tree.leaves(jax.grad(f)(params)) for f in (plain, product)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_no_scattered_sums_on_a_card(model):
    texts = {}
    for platform in ("cpu", "gpu"):
        function, params = loss(model, platform)
        texts[platform] = str(jax.make_jaxpr(jax.grad(function))(params))
    assert "scatter" in texts["cpu"] and "scatter" not in texts["gpu"]
