"""Layers of PyTorch and Sonnet, after their definitions: averages over several batches, and initial weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl.models import InceptionV3, ResNet18, SmallInception
from jaxinfl.models.layers import SonnetBatchNorm, TorchBatchNorm, torch_linear
from jaxinfl.models.layers.context import count_examples

BATCHES = 2 + 3 * np.random.default_rng(0).standard_normal((4, 6, 3, 2, 5)).astype(np.float32)
COUNTED = np.arange(6) < np.array([[6], [5], [1], [6]])


def averages(norm):
    """After each batch; what only fills a batch up is huge."""
    for batch, counted in zip(BATCHES, COUNTED, strict=True):
        filled = np.where(counted[:, None, None, None], batch, np.float32(1e6))
        with count_examples(jnp.asarray(counted)):
            norm(jnp.asarray(filled))
        yield np.asarray(norm.mean[...]), np.asarray(norm.var[...])


def moments():
    """Mean and unbiased variance of each batch."""
    for batch, counted in zip(BATCHES.astype(np.float64), COUNTED, strict=True):
        yield batch[counted].mean((0, 1, 2)), batch[counted].var((0, 1, 2), ddof=1)


def test_running_averages_of_pytorch():
    expected = (np.zeros(5), np.ones(5))
    norm = TorchBatchNorm(5, rngs=nnx.Rngs(0))
    for got, batch in zip(averages(norm), moments(), strict=True):
        expected = tuple(0.9 * old + 0.1 * new for old, new in zip(expected, batch, strict=True))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.9, 0.999])
def test_running_averages_of_sonnet(momentum):
    """Weights that fall by `momentum` a batch, divided by their sum: the first average is the first batch."""
    seen = []
    norm = SonnetBatchNorm(5, momentum=momentum, rngs=nnx.Rngs(0))
    for got, batch in zip(averages(norm), moments(), strict=True):
        seen.append(batch)
        weights = momentum ** np.arange(len(seen))[::-1]
        np.testing.assert_allclose(got, np.average(seen, axis=0, weights=weights), rtol=1e-5)


def test_one_number_a_channel_has_no_variance():
    """A last batch of one example at one position, which PyTorch refuses."""
    norm = TorchBatchNorm(2, rngs=nnx.Rngs(0))
    result = norm(jnp.asarray([[[[3.0, -1.0]]]]))
    np.testing.assert_array_equal(result, np.zeros((1, 1, 1, 2)))
    np.testing.assert_allclose(norm.mean[...], [0.3, -0.1], rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], [0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize("norm", [TorchBatchNorm, SonnetBatchNorm])
def test_evaluation_uses_the_averages(norm):
    layer = norm(5, rngs=nnx.Rngs(0))
    (mean, variance), *_ = averages(layer)
    *_, (mean, variance) = averages(layer)
    layer.eval()
    x = jnp.asarray(BATCHES[0])
    np.testing.assert_allclose(layer(x), (BATCHES[0] - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.mean[...], mean)


def test_initial_weights_of_a_linear_layer_of_pytorch():
    layer = torch_linear(400, 300, rngs=nnx.Rngs(0))
    for weights in (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])):
        assert np.abs(weights).max() <= 0.05
        assert np.abs(weights).max() > 0.049
        assert abs(weights.std() - 0.1 / math.sqrt(12)) < 0.0012


# Expected deviation of a layer's weights, by where it lies.
RESNET = {("blocks", 6, "conv1"): math.sqrt(2 / (512 * 9))}  # sqrt(2 / (outputs * window))
INCEPTION = {("auxiliary", "chain", "places", 1, 0, "conv"): 0.1, ("head",): 0.1, ("auxiliary", "head"): 0.001}
# 1 / sqrt(inputs * window), and a normal cut at two deviations has 0.8796 of its deviation left.
SMALL = {("layers", 8, "conv"): 0.8796 / math.sqrt(144 * 9), ("head",): 0.8796 / math.sqrt(336)}


@pytest.mark.parametrize(
    ("kind", "side", "layers"),
    [
        (ResNet18, 32, RESNET),
        pytest.param(InceptionV3, 299, INCEPTION, marks=pytest.mark.slow),
        (SmallInception, 32, SMALL),
    ],
)
def test_initial_weights(kind, side, layers):
    def kernels(key):
        module = kind((side, side, 3), 20, rngs=nnx.Rngs(key))
        for layer in layers:
            part = module
            for step in layer:
                part = getattr(part, step) if isinstance(step, str) else part[step]
            yield part.kernel[...]

    # Under jit the other layers are never computed.
    for weights, deviation in zip(
        jax.jit(lambda key: list(kernels(key)))(jax.random.key(0)), layers.values(), strict=True
    ):
        weights = np.asarray(weights)
        assert abs(weights.std() / deviation - 1) < 4 / math.sqrt(weights.size)
        assert abs(weights.mean()) < 4 * deviation / math.sqrt(weights.size)
        cut = 2 * deviation / 0.8796
        assert (np.abs(weights).max() <= cut) == (kind is SmallInception)
