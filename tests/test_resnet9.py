"""ResNet-9 against a program in plain NumPy, at a width that takes a moment."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxinfl.models import ResNet9
from jaxinfl.models.networks.resnet9 import LOGIT_SCALE


def convolve(x, kernel, stride, padding):
    """A convolution as its definition has it, in float64."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    places = [range(0, side - size + 1, stride) for side in x.shape[1:3]]
    return np.stack(
        [
            np.stack([np.tensordot(x[:, i : i + size, j : j + size], kernel, axes=3) for j in places[1]], axis=1)
            for i in places[0]
        ],
        axis=1,
    )


@pytest.mark.parametrize(("side", "first"), [(11, 1), (15, 1), (21, 2), (24, 2)])
def test_the_network_is_its_definition(side, first):
    """It is evaluated with running averages that are not 0 and 1."""
    network = ResNet9((side, side, 3), 5, channels=4, stride=first, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for norm in network.norms:
        norm.mean[...] = rng.normal(size=norm.mean.shape).astype(np.float32)
        norm.var[...] = rng.uniform(0.5, 2, norm.var.shape).astype(np.float32)
    network.eval()
    images = rng.normal(size=(2, side, side, 3)).astype(np.float32)

    def layer(number, x):
        conv, norm = network.convs[number], network.norms[number]
        stride, padding = {0: (first, 1), 1: (2, 2), 7: (1, 0)}.get(number, (1, 1))
        y = convolve(x, np.asarray(conv.kernel[...], np.float64), stride, padding)
        return np.maximum((y - np.asarray(norm.mean[...])) / np.sqrt(np.asarray(norm.var[...]) + 1e-5), 0)

    x = layer(1, layer(0, images.astype(np.float64)))
    x = layer(4, x + layer(3, layer(2, x)))
    half = [side // 2 for side in x.shape[1:3]]
    x = np.stack(
        [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(half[1])] for i in range(half[0])]
    )
    x = np.moveaxis(x, 2, 0)
    x = layer(7, x + layer(6, layer(5, x)))
    expected = x.max((1, 2)) @ np.asarray(network.head.kernel[...], np.float64) * LOGIT_SCALE
    np.testing.assert_allclose(jax.jit(lambda x: network(x))(images), expected, rtol=1e-3, atol=1e-4)
