"""Layers that are computed together where all of them are written by hand: the same numbers as one by one."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import native
from jaxinfl.models import build_model, conv_norm_relu, conv_relu
from jaxinfl.models.layers import use_kernels
from tests.compile_whole import compile_whole

pytestmark = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")

SHAPE = (8, 8, 1)


class Net(nnx.Module):
    """A convolution, what stands behind it, and a head."""

    def __init__(self, rngs: nnx.Rngs, *, use_bias: bool, kind: type[nnx.Conv] = nnx.Conv, **settings: Any):
        start = nnx.initializers.normal()
        self.conv = kind(1, 4, (3, 3), use_bias=use_bias, bias_init=start, rngs=rngs, **settings)
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


class OwnConv(nnx.Conv):
    """A subclass whose call may do anything, so that nothing is computed in its place."""

    def __call__(self, inputs, out_sharding=None):
        return super().__call__(inputs) + 1


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
        (Net, {"use_bias": False, "padding": "CIRCULAR"}, True, "forward_moments"),
        (Net, {"use_bias": False, "padding": 2, "strides": (2, 1)}, True, "forward_moments"),
        (NetOfPlainLayers, {"use_bias": True, "padding": "REFLECT"}, True, "forward_bias"),
        (NetOfPlainLayers, {"use_bias": True, "padding": ((1, 0), (0, 2))}, True, "forward_bias"),
        (NetWithoutNorm, {"use_bias": True, "padding": ((-1, 0), (0, 2))}, True, None),
        (NetWithoutNorm, {"use_bias": True, "kernel_dilation": 2}, True, None),
        (
            NetOfPlainLayers,
            {"use_bias": True, "mask": np.eye(3, dtype=np.float32).repeat(4).reshape(3, 3, 1, 4)},
            True,
            "forward_bias",
        ),
        (NetWithoutNorm, {"use_bias": True, "kind": OwnConv}, True, "forward"),
        (Net, {"use_bias": False, "kind": OwnConv}, True, "forward"),
    ],
)
def test_together_as_one_by_one(module, settings, train, kernel):
    model = build_model(partial(module, **settings), inputs=SHAPE, outputs=3)
    variables, mask = model.init(jax.random.key(0)), jnp.arange(6) < 4
    images = jax.random.normal(jax.random.key(1), (6, *SHAPE))

    def loss(params, x):
        logits, stats = model.apply(variables._replace(params=params), x, train=train, mask=mask)
        return jnp.sum(jnp.where(mask[:, None], logits, 0) ** 2), stats

    def gradients(kernels):
        with use_kernels(kernels):
            return compile_whole(jax.value_and_grad(loss, has_aux=True))(variables.params, images)

    for fast, plain in zip(jax.tree.leaves(gradients("native")), jax.tree.leaves(gradients("gemm")), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)
    with use_kernels("native"):
        traced = str(jax.make_jaxpr(loss)(variables.params, images))
    assert set(re.findall(r"target_name=jaxinfl_conv_(\w+)", traced)) == {kernel} - {None}
