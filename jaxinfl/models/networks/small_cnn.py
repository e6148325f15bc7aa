"""Three 3x3 convolutions with batch norm: the smallest network that memorizes, for images from 8x8 up."""

from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.layers import conv_norm_relu, conv_relu, global_mean


class SmallCNN(nnx.Module):
    """Three 3x3 convolutions with padding 1, batch norm (epsilon 1e-5, momentum 0.9) and ReLU, a mean and a linear head.

    By default they have 16-32-64 channels for images under 16 pixels a side and 32-64-128 for larger ones, and strides 1-2-2.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        widths: tuple[int, ...] | None = None,
        strides: tuple[int, ...] = (1, 2, 2),
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        height, width, channels = image_shape
        if min(height, width) < 8:
            raise ValueError(
                f"small_cnn takes images of at least 8x8 pixels; these have {height}x{width}. Load them with image_size=8."
            )
        if widths is None:
            widths = (16, 32, 64) if min(height, width) < 16 else (32, 64, 128)
        inputs = (channels, *widths[:-1])
        self.convs = nnx.List(
            [
                nnx.Conv(i, o, (3, 3), strides=s, padding=1, use_bias=not batch_norm, rngs=rngs)
                for i, o, s in zip(inputs, widths, strides, strict=True)
            ]
        )
        # Flax's momentum weighs the old value: 0.9 here is 0.1 in PyTorch.
        self.norms = nnx.List(
            [nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs) for width in widths if batch_norm]
        )
        self.head = nnx.Linear(widths[-1], num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = images
        for i, conv in enumerate(self.convs):
            x = conv_norm_relu(conv, self.norms[i], x) if self.norms else conv_relu(conv, x)
        return self.head(global_mean(x))
