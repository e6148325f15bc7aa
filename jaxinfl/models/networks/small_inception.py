"""Feldman and Zhang's (2020) small Inception for 32x32 images, the network of the paper's Figure 1."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.layers import SonnetBatchNorm, conv_norm_relu, draw_kernels


class ConvNormRelu(nnx.Module):
    """Convolution without bias, batch norm (epsilon 1e-5), ReLU."""

    def __init__(self, inputs: int, features: int, size: int, *, stride: int = 1, momentum: float, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            inputs,
            features,
            (size, size),
            strides=stride,
            padding="SAME",
            use_bias=False,
            kernel_init=nnx.initializers.zeros,  # until `draw_kernels`
            rngs=rngs,
        )
        self.norm = SonnetBatchNorm(features, momentum=momentum, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        return conv_norm_relu(self.conv, self.norm, x)


class InceptionBlock(nnx.Module):
    """A 1x1 and a 3x3 convolution side by side, their channels concatenated."""

    def __init__(self, inputs: int, narrow: int, wide: int, *, momentum: float, rngs: nnx.Rngs):
        self.narrow = ConvNormRelu(inputs, narrow, 1, momentum=momentum, rngs=rngs)
        self.wide = ConvNormRelu(inputs, wide, 3, momentum=momentum, rngs=rngs)

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w features"]:
        return jnp.concatenate([self.narrow(x), self.wide(x)], axis=-1)


class SmallInception(nnx.Module):
    """Three stages of blocks with strided convolutions between them, a global maximum and a linear head.

    It has 1,895,786 trainable parameters for 10 classes and colour images, and 1,926,116 for 100 classes.

    The network follows Feldman and Zhang's program, which is written in Sonnet. Padding is TensorFlow's SAME, so a convolution
    of stride 2 pads images of even size below and to the right only. Batch norm's running averages have `momentum` 0.999, do
    not depend on their start, and hold unbiased variances. Initial weights are normal with deviation 1 / sqrt(inputs), cut at
    two deviations; batch norm starts with 1 and 0, and the head's bias with 0.

    Args:
      image_shape: (h, w, c), at least 8x8 pixels.
      num_classes: number of logits.
      momentum: momentum of batch norm's running averages. At 0.999 they remember 1,000 steps, over which the weights may
        change entirely. For runs of fewer than some thousand steps take 0.9.
      rngs: keys of the initial weights.

    Raises:
      ValueError: images are under 8x8 pixels, of which the two strides leave less than 2x2.
    """

    STAGES = (((32, 32), (32, 48)), ((112, 48), (96, 64), (80, 80), (48, 96)), ((176, 160), (176, 160)))
    DOWNSAMPLE = (160, 240)

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, momentum: float = 0.999, rngs: nnx.Rngs):
        height, width, colours = image_shape
        if min(height, width) < 8:
            raise ValueError(
                f"small_inception takes images of at least 8x8 pixels; these have {height}x{width}. Load them with image_size=8."
            )
        layers: list[nnx.Module] = [ConvNormRelu(colours, 96, 3, momentum=momentum, rngs=rngs)]
        channels = 96
        for stage, blocks in enumerate(self.STAGES):
            for narrow, wide in blocks:
                layers.append(InceptionBlock(channels, narrow, wide, momentum=momentum, rngs=rngs))
                channels = narrow + wide
            if stage < len(self.DOWNSAMPLE):
                features = self.DOWNSAMPLE[stage]
                layers.append(ConvNormRelu(channels, features, 3, stride=2, momentum=momentum, rngs=rngs))
                channels = self.DOWNSAMPLE[stage]
        self.layers = nnx.List(layers)
        # Sonnet's default, of linear layers too: not scaled up for the cut, as Flax's `lecun_normal` is.
        head_init = nnx.initializers.truncated_normal(channels**-0.5)
        self.head = nnx.Linear(channels, num_classes, kernel_init=head_init, rngs=rngs)
        draw_kernels(self, lambda layer: (math.prod(layer.kernel_size) * layer.in_features) ** -0.5, cut=2.0, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = images
        for layer in self.layers:
            x = layer(x)
        return self.head(x.max(axis=(1, 2)))
