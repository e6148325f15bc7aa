"""Layers that are computed together where all of them are written by hand: the same numbers as one by one."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import native
from jaxinfl.models import build_model, conv_norm_relu, conv_relu
from jaxinfl.models.lowering import conv_lowering
from tests.compiled import compiled

pytestmark = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")

SHAPE = (8, 8, 1)


class Net(nnx.Module):
    """A convolution, what stands behind it, and a head."""

    def __init__(self, rngs: nnx.Rngs, *, use_bias: bool, dtype: jnp.dtype = jnp.float32):
        start = nnx.initializers.normal()
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=use_bias, bias_init=start, dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def hidden(self, x):
        return conv_norm_relu(self.conv, self.norm, x)

    def __call__(self, x):
        return self.head(self.hidden(x).astype(jnp.float32).mean(axis=(1, 2)))


class NetWithoutNorm(Net):
    def hidden(self, x):
        return conv_relu(self.conv, x)


class NetOfPlainLayers(Net):
    def hidden(self, x):
        return jax.nn.relu(self.conv(x))


@pytest.mark.parametrize(
    ("module", "settings", "train", "kernel"),
    [
        (Net, {"use_bias": False}, True, "forward_moments"),
        (Net, {"use_bias": True}, True, "forward_bias"),
        (Net, {"use_bias": False}, False, "forward"),
        (NetWithoutNorm, {"use_bias": True}, True, "forward_bias_relu"),
        (NetWithoutNorm, {"use_bias": True}, False, "forward_bias_relu"),
        (NetWithoutNorm, {"use_bias": False}, True, "forward"),
        (NetWithoutNorm, {"use_bias": True, "dtype": jnp.bfloat16}, True, None),
        (NetOfPlainLayers, {"use_bias": True}, True, "forward_bias"),
    ],
)
def test_together_as_one_by_one(module, settings, train, kernel):
    model = build_model(partial(module, **settings), image_shape=SHAPE, num_classes=3)
    variables, mask = model.init(jax.random.key(0)), jnp.arange(6) < 4
    images = jax.random.normal(jax.random.key(1), (6, *SHAPE))

    def loss(params, x):
        logits, stats = model.apply(variables._replace(params=params), x, train=train, mask=mask)
        return jnp.sum(jnp.where(mask[:, None], logits, 0) ** 2), stats

    def gradients(lowering):
        with conv_lowering(lowering):
            return compiled(jax.value_and_grad(loss, has_aux=True))(variables.params, images)

    for fast, plain in zip(jax.tree.leaves(gradients("native")), jax.tree.leaves(gradients("patches")), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)
    with conv_lowering("native"):
        traced = str(jax.make_jaxpr(loss)(variables.params, images))
    # A plain convolution whose result nobody reads is traced, and dropped by XLA.
    found = set(re.findall(r"target_name=jaxinfl_conv_(\w+)", traced))
    assert found - {"forward"} == {kernel} - {"forward", None} and bool(found) is bool(kernel)
