"""ResNet-9, a network for CIFAR that trains in minutes, with which TRAK and the datamodels were tried."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.layers import TorchBatchNorm, conv_norm_relu

LOGIT_SCALE = 0.2
"""Factor of the logits: a network of which the last layer has no bias and no scale would begin too sure of itself."""


class ResNet9(nnx.Module):
    """Eight convolutions, each with batch norm and ReLU, of which two pairs are added to their input, and a linear head.

    With 64, 128 and 256 channels, 10 classes and colour images it has 2,274,880 parameters; `channels` makes it narrower. A
    `stride` of 2 in the first convolution takes a quarter of the FLOPs. Convolutions have no bias. Batch norm has epsilon 1e-5 and
    momentum 0.1 in PyTorch's sense. The head sees the maximum over all places.

    Raises:
      ValueError: images are under 11x11 pixels (21x21 with stride 2), of which the last convolution would leave nothing.

    Source: the network of the CIFAR-10 experiments of Park et al. (2023), "TRAK", after Page (2018), "How to train your ResNet".
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        channels: int = 64,
        stride: int = 1,
        rngs: nnx.Rngs,
    ):
        height, width, colours = image_shape
        # The last convolution needs 3x3 places, which are 6x6 before they are halved, and 11x11 before the second convolution.
        least = 10 * stride + 1
        if min(height, width) < least:
            raise ValueError(
                f"resnet9 takes images of at least {least}x{least} pixels; these have {height}x{width}. Load them with "
                f"image_size={least}."
            )
        narrow, middle, wide = channels, 2 * channels, 4 * channels
        # Inputs, outputs, window, stride and padding of each convolution.
        layers = (
            (colours, narrow, 3, stride, 1),
            (narrow, middle, 5, 2, 2),
            (middle, middle, 3, 1, 1),
            (middle, middle, 3, 1, 1),
            (middle, wide, 3, 1, 1),
            (wide, wide, 3, 1, 1),
            (wide, wide, 3, 1, 1),
            (wide, middle, 3, 1, 0),
        )
        self.convs = nnx.List(
            [
                nnx.Conv(i, o, (size, size), strides=stride, padding=padding, use_bias=False, rngs=rngs)
                for i, o, size, stride, padding in layers
            ]
        )
        self.norms = nnx.List([TorchBatchNorm(o, rngs=rngs) for _, o, _, _, _ in layers])
        self.head = nnx.Linear(middle, num_classes, use_bias=False, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        def layer(number: int, x: Array) -> Array:
            return conv_norm_relu(self.convs[number], self.norms[number], x)

        x = layer(1, layer(0, images))
        x = layer(4, x + layer(3, layer(2, x)))
        x = _halve(x)
        x = layer(7, x + layer(6, layer(5, x)))
        return self.head(jnp.max(x, axis=(1, 2))) * LOGIT_SCALE


def _halve(x: Float[Array, "batch h w c"]) -> Float[Array, "batch half_h half_w c"]:
    """Maximum over squares of 2x2, without a row or column that is left over."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.max(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


__all__ = ["LOGIT_SCALE", "ResNet9"]
