"""Feldman and Zhang's (2020) small Inception for 32x32 images, the network of the paper's Figure 1."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class ConvNormRelu(nnx.Module):
    """Convolution without bias, batch norm (epsilon 1e-5, momentum 0.9), ReLU."""

    def __init__(self, inputs: int, features: int, size: int, *, stride: int = 1, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            inputs, features, (size, size), strides=stride, padding=size // 2, use_bias=False, rngs=rngs
        )
        self.norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        return jax.nn.relu(self.norm(self.conv(x)))


class InceptionBlock(nnx.Module):
    """A 1x1 and a 3x3 convolution side by side, their channels concatenated."""

    def __init__(self, inputs: int, narrow: int, wide: int, *, rngs: nnx.Rngs):
        self.narrow = ConvNormRelu(inputs, narrow, 1, rngs=rngs)
        self.wide = ConvNormRelu(inputs, wide, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w features"]:
        return jnp.concatenate([self.narrow(x), self.wide(x)], axis=-1)


class SmallInception(nnx.Module):
    """Three stages of blocks parted by strided convolutions, global maximum, linear head.

    1,895,786 trainable parameters for 10 classes and colour images, 1,926,116 for 100.
    """

    STAGES = (((32, 32), (32, 48)), ((112, 48), (96, 64), (80, 80), (48, 96)), ((176, 160), (176, 160)))
    DOWNSAMPLE = (160, 240)

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, rngs: nnx.Rngs):
        layers: list[nnx.Module] = [ConvNormRelu(image_shape[-1], 96, 3, rngs=rngs)]
        channels = 96
        for stage, blocks in enumerate(self.STAGES):
            for narrow, wide in blocks:
                layers.append(InceptionBlock(channels, narrow, wide, rngs=rngs))
                channels = narrow + wide
            if stage < len(self.DOWNSAMPLE):
                layers.append(ConvNormRelu(channels, self.DOWNSAMPLE[stage], 3, stride=2, rngs=rngs))
                channels = self.DOWNSAMPLE[stage]
        self.layers = nnx.List(layers)
        self.head = nnx.Linear(channels, num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = images
        for layer in self.layers:
            x = layer(x)
        return self.head(x.max(axis=(1, 2)))
