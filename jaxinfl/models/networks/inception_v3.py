"""Inception v3 (Szegedy et al., 2015) as torchvision has it, with its auxiliary head, for 299x299 images."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.layers import (
    TorchBatchNorm,
    avg_pool,
    conv_norm_relu,
    draw_kernels,
    global_mean,
    max_pool,
    torch_linear,
)

SMALLEST = 299
"""Smallest side in pixels at which the auxiliary head's 5x5 convolution fits the 5x5 positions that it is given."""


class Layer(NamedTuple):
    """One convolution, in the form of the tables below."""

    features: int
    height: int
    width: int
    stride: int = 1
    padded: bool = True
    """Whether the images are padded by half a window on each side, so that stride 1 keeps the size."""


Place = Layer | tuple[Layer, ...]
"""One layer, or several side by side on the same input."""
Chain = tuple[Place, ...]
"""Layers one after another."""


class Branching(NamedTuple):
    """A block: chains side by side on the same input, and behind them one that begins with a pool."""

    chains: tuple[Chain, ...]
    pooled: Layer | None
    """A 3x3 mean of stride 1 and this layer; or, where it is None, a 3x3 maximum of stride 2 and nothing."""


def _same(features: int, height: int, width: int | None = None) -> Layer:
    return Layer(features, height, width or height)


def _halving(features: int) -> Layer:
    return Layer(features, 3, 3, stride=2, padded=False)


def _at_35(pooled: int) -> Branching:
    """Torchvision's InceptionA."""
    chains = (
        (_same(64, 1),),
        (_same(48, 1), _same(64, 5)),
        (_same(64, 1), _same(96, 3), _same(96, 3)),
    )
    return Branching(chains, _same(pooled, 1))


def _at_17(c: int) -> Branching:
    """InceptionC: 7x7 convolutions as 1x7 and 7x1."""
    chains = (
        (_same(192, 1),),
        (_same(c, 1), _same(c, 1, 7), _same(192, 7, 1)),
        (_same(c, 1), _same(c, 7, 1), _same(c, 1, 7), _same(c, 7, 1), _same(192, 1, 7)),
    )
    return Branching(chains, _same(192, 1))


_CROSS = (_same(384, 1, 3), _same(384, 3, 1))
# InceptionE
_AT_8 = Branching(((_same(320, 1),), (_same(384, 1), _CROSS), (_same(448, 1), _same(384, 3), _CROSS)), _same(192, 1))
# InceptionB and InceptionD
_TO_17 = Branching(((_halving(384),), (_same(64, 1), _same(96, 3), _halving(96))), None)
_TO_8 = Branching(
    ((_same(192, 1), _halving(320)), (_same(192, 1), _same(192, 1, 7), _same(192, 7, 1), _halving(192))), None
)

STEM = (_halving(32), Layer(32, 3, 3, padded=False), _same(64, 3))
"""Layers that take 299 pixels a side to 147; a 3x3 maximum of stride 2 follows."""
STEM_AFTER_POOL = (_same(80, 1), Layer(192, 3, 3, padded=False))
"""Layers that take 73 pixels a side to 71; another such maximum follows."""
BLOCKS = (_at_35(32), _at_35(64), _at_35(64), _TO_17, _at_17(128), _at_17(160), _at_17(160), _at_17(192))
"""Up to where the auxiliary head branches off."""
BLOCKS_AFTER_AUXILIARY = (_TO_8, _AT_8, _AT_8)


class ConvNormRelu(nnx.Module):
    """Convolution without bias, batch norm (epsilon 1e-3), ReLU."""

    def __init__(self, inputs: int, layer: Layer, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            inputs,
            layer.features,
            (layer.height, layer.width),
            strides=layer.stride,
            padding=[(size // 2, size // 2) if layer.padded else (0, 0) for size in (layer.height, layer.width)],
            use_bias=False,
            kernel_init=nnx.initializers.zeros,  # until `draw_kernels`
            rngs=rngs,
        )
        self.norm = TorchBatchNorm(layer.features, epsilon=1e-3, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        return conv_norm_relu(self.conv, self.norm, x)


class ChainOfLayers(nnx.Module):
    """The layers of a `Chain`; `features` is the number of channels of the result."""

    def __init__(self, inputs: int, chain: Chain, *, rngs: nnx.Rngs):
        self.features = inputs
        self.places: nnx.List = nnx.List([])
        for place in chain:
            layers = (place,) if isinstance(place, Layer) else place
            self.places.append(nnx.List([ConvNormRelu(self.features, layer, rngs=rngs) for layer in layers]))
            self.features = sum(layer.features for layer in layers)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        for place in self.places:
            x = jnp.concatenate([layer(x) for layer in place], axis=-1) if len(place) > 1 else place[0](x)
        return x


class InceptionBlock(nnx.Module):
    """The layers of a `Branching`; `features` is the number of channels of the result."""

    def __init__(self, inputs: int, branching: Branching, *, rngs: nnx.Rngs):
        self.chains = nnx.List([ChainOfLayers(inputs, chain, rngs=rngs) for chain in branching.chains])
        self.pooled = nnx.List([ConvNormRelu(inputs, layer, rngs=rngs) for layer in (branching.pooled,) if layer])
        last = branching.pooled.features if branching.pooled else inputs
        self.features = sum(chain.features for chain in self.chains) + last

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        branches = [chain(x) for chain in self.chains]
        if self.pooled:
            branches.append(self.pooled[0](avg_pool(x, 3, stride=1, padding=1)))
        else:
            branches.append(max_pool(x, 3, stride=2))
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryHead(nnx.Module):
    """Logits from the 17x17 positions halfway, to bring a gradient to the layers below; used in training alone."""

    CHAIN = (_same(128, 1), Layer(768, 5, 5, padded=False))

    def __init__(self, inputs: int, num_classes: int, *, rngs: nnx.Rngs):
        self.chain = ChainOfLayers(inputs, self.CHAIN, rngs=rngs)
        self.head = torch_linear(768, num_classes, kernel_init=nnx.initializers.normal(0.001), rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = self.chain(avg_pool(x, 5, stride=3))
        return self.head(global_mean(x))


class InceptionV3(nnx.Module):
    """Inception v3, which returns logits and auxiliary logits in training, and logits in evaluation.

    It has 27,161,264 trainable parameters for 1000 classes, and equals torchvision's
    `inception_v3(aux_logits=True, transform_input=False)` number by number. Convolutions have no bias, and no padding where
    they stride; means count their padding. Batch norm has epsilon 1e-3, momentum 0.1 in PyTorch's sense (0.9 in Flax's) and
    an unbiased running variance. Dropout is 0.5 before the head. Weights are initialized normal with deviation 0.1, those of
    the auxiliary head with 0.001. The auxiliary head's 5x5 convolution has 0.1: torchvision means 0.01, but sets it where it
    is not read. Biases are uniform within 1 / sqrt(inputs), and batch norm starts with 1 and 0.

    Raises:
      ValueError: images are under 299x299 pixels, with which torchvision's network fails in training, too.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, dropout: float = 0.5, rngs: nnx.Rngs):
        height, width, channels = image_shape
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"inception_v3 takes images of at least {SMALLEST}x{SMALLEST} pixels; these have {height}x{width}. "
                f"Resize them (image_size={SMALLEST}), or use resnet18 (32 pixels and more) or small_inception (8 and more)."
            )
        self.stem = ChainOfLayers(channels, STEM, rngs=rngs)
        self.stem_after_pool = ChainOfLayers(self.stem.features, STEM_AFTER_POOL, rngs=rngs)
        features = self.stem_after_pool.features
        self.blocks: nnx.List = nnx.List([])
        for block in BLOCKS:
            self.blocks.append(InceptionBlock(features, block, rngs=rngs))
            features = self.blocks[-1].features
        self.auxiliary = AuxiliaryHead(features, num_classes, rngs=rngs)
        self.blocks_after_auxiliary: nnx.List = nnx.List([])
        for block in BLOCKS_AFTER_AUXILIARY:
            self.blocks_after_auxiliary.append(InceptionBlock(features, block, rngs=rngs))
            features = self.blocks_after_auxiliary[-1].features
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.head = torch_linear(features, num_classes, kernel_init=nnx.initializers.normal(0.1), rngs=rngs)
        # Torchvision cuts this normal at 2, which is 20 standard deviations.
        draw_kernels(self, lambda layer: 0.1, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch h w c"]
    ) -> Float[Array, "batch classes"] | tuple[Float[Array, "batch classes"], Float[Array, "batch classes"]]:
        x = max_pool(self.stem(images), 3, stride=2)
        x = max_pool(self.stem_after_pool(x), 3, stride=2)
        for block in self.blocks:
            x = block(x)
        # `train()` and `eval()` of the module say so to its dropout.
        auxiliary = None if self.dropout.deterministic else self.auxiliary(x)
        for block in self.blocks_after_auxiliary:
            x = block(x)
        logits = self.head(self.dropout(global_mean(x)))
        return logits if auxiliary is None else (logits, auxiliary)


__all__ = ["InceptionV3"]
