"""ResNet-18 (He et al., 2015) as torchvision has it, for 224x224 images, and its form for CIFAR's 32x32."""

import math
from typing import Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.layers import TorchBatchNorm, conv_norm_relu, draw_kernels, global_mean, max_pool, torch_linear


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions, each with batch norm, added to the input; ReLU after the first and after the sum.

    Where the shape changes, the input passes through a 1x1 convolution and batch norm on its way to the sum.
    """

    def __init__(self, inputs: int, features: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = _conv(inputs, features, 3, stride, rngs)
        self.norm1 = TorchBatchNorm(features, rngs=rngs)
        self.conv2 = _conv(features, features, 3, 1, rngs)
        self.norm2 = TorchBatchNorm(features, rngs=rngs)
        changed = stride != 1 or inputs != features
        self.shortcut = nnx.List(
            [_conv(inputs, features, 1, stride, rngs), TorchBatchNorm(features, rngs=rngs)] if changed else []
        )

    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
        y = conv_norm_relu(self.conv1, self.norm1, x)
        y = self.norm2(self.conv2(y))
        for layer in self.shortcut:
            x = layer(x)
        return jax.nn.relu(y + x)


class ResNet18(nnx.Module):
    """A stem, four stages of two basic blocks with 64, 128, 256 and 512 channels, a global mean and a linear head.

    The network equals torchvision's `resnet18` number by number. Convolutions have no bias, and are padded on both sides even
    where they stride. Batch norm has epsilon 1e-5, momentum 0.1 in PyTorch's sense (0.9 in Flax's) and an unbiased running
    variance. Convolutions are initialized normal with variance 2 / (outputs * window) (He et al., 2015, "fan out"), the head
    uniform within 1 / sqrt(512), batch norm with 1 and 0.

    The stem for large images is a 7x7 convolution of stride 2 and a 3x3 maximum of stride 2. With it the network has
    11,689,512 trainable parameters for 1000 classes and colour images. The stem for small images is a 3x3 convolution of
    stride 1 without a maximum (Appendix A.2 of the paper). With it there are 11,173,962 for 10 classes and 11,220,132 for 100.

    Raises:
      ValueError: images are under 32x32 pixels, or 8x8 with the stem for small ones, so that the last stage would see more
        padding than image.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        stem: Literal["large", "small"] = "large",
        rngs: nnx.Rngs,
    ):
        height, width, channels = image_shape
        name, smallest = ("resnet18", 32) if stem == "large" else ("resnet18_cifar", 8)
        if min(height, width) < smallest:
            raise ValueError(
                f"{name} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. "
                + ("Use resnet18_cifar, or load" if stem == "large" else "Load")
                + f" them with image_size={smallest}."
            )
        self.stem = stem
        self.conv = _conv(channels, 64, 7, 2, rngs) if stem == "large" else _conv(channels, 64, 3, 1, rngs)
        self.norm = TorchBatchNorm(64, rngs=rngs)
        shapes = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2))
        self.blocks = nnx.List([BasicBlock(*shape, rngs=rngs) for shape in (*shapes, (512, 512, 1))])
        self.head = torch_linear(512, num_classes, rngs=rngs)
        draw_kernels(self, lambda layer: math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_features)), rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = conv_norm_relu(self.conv, self.norm, images)
        if self.stem == "large":
            x = max_pool(x, 3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x)
        return self.head(global_mean(x))


def _conv(inputs: int, features: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        features,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=nnx.initializers.zeros,  # until `draw_kernels`
        rngs=rngs,
    )


__all__ = ["BasicBlock", "ResNet18"]
