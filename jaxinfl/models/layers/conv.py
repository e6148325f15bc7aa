"""Convolution at the cost of a matrix product, with a weight for each model.

Mapping `jax.lax.conv_general_dilated` over models turns it into a grouped convolution, for which XLA has no good code. On
2 CPU cores the gradient step of one 3x3 layer runs at about 1 GFLOP/s. Models taken one after another run at 1.5 GFLOP/s,
because XLA's CPU weight gradient is slow too. There are two ways around it:

- The kernels "gemm" multiply the windows of the images (im2col) by a matrix. Forward and both gradients are matrix products,
  and batched ones when mapped over models. They work everywhere; the copies of the windows cost memory traffic.
- The kernels "native" are written by hand for CPUs (`jaxinfl.native`). They read the windows in place, skip the padding, and
  add a bias and take ReLU while the result is in the cache.

Forward and both gradients of one layer, float32, one core of an AMD EPYC (AVX2) with a GEMM rate of 80 GFLOP/s:

    batch, side, channels, stride          native
    64,    8,    16 -> 32,  2              96 GFLOP/s (as if the padding were computed)
    64,    4,    32 -> 64,  2              91
    128,   32,   32 -> 64,  2              76
    128,   16,   64 -> 128, 2              77

Modules of plain Flax layers use it by themselves: `jaxinfl.models.module` puts `Conv` in the place of each `nnx.Conv`, and
gives `conv_general_dilated` to subclasses that users wrote.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import canonicalize_padding
from jax import lax
from jaxtyping import Array, Float

from jaxinfl import native
from jaxinfl.models.layers.context import current_context, uses_native

_WRAPPED = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
"""Flax's words for padding that repeats the image, and NumPy's."""
_BY_SIZE = ("SAME", "SAME_LOWER", "VALID")
"""Words for padding with as many zeros as the sizes of image, window and stride say."""


class Convolution(NamedTuple):
    """A convolution in the form that the native kernels take."""

    images: Float[Array, "batch h w inputs"]
    kernel: Float[Array, "kh kw inputs outputs"]
    bias: Float[Array, " outputs"] | None
    strides: tuple[int, int]
    padding: native.Padding
    """Rows of zeros above and below the images, columns of zeros left and right of them."""


class Conv(nnx.Conv):
    """`nnx.Conv` with the same numbers up to rounding, computed by the kernels of the context."""

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        result = None if out_sharding is not None else _convolve_with_bias(self, inputs, relu=False)
        return super().__call__(inputs, out_sharding) if result is None else result


def conv_relu(conv: nnx.Conv, x: Float[Array, "batch h w c"]) -> Float[Array, "batch out_h out_w features"]:
    """`jax.nn.relu(conv(x))`, which the native kernels compute together where the convolution has a bias.

    In a training step of the digits' network (16-32-64 channels on 8x8 images) biases and ReLU were a fifth of the time:
    XLA's loops over activations run at 8 to 15 GB/s.
    """
    result = _convolve_with_bias(conv, x, relu=True)
    return jax.nn.relu(conv(x)) if result is None else result


def _convolve_with_bias(conv: nnx.Conv, x: Array, *, relu: bool) -> Array | None:
    """Convolve by the native kernels with the bias, and ReLU if asked for; None where they do not compute it."""
    found = read_convolution(conv, x)
    if found is None or found.bias is None:
        return None
    return native.conv_with_bias(found.images, found.kernel, found.bias, found.strides, found.padding, relu)


def read_convolution(conv: nnx.Conv, x: Array) -> Convolution | None:
    """Describe `conv(x)` for the native kernels; None where they do not compute it.

    They do not where the context has other kernels, the layer is not jaxinfl's `Conv`, or the dtype is not float32. They
    neither compute images without a batch axis or of other than two dimensions, nor groups, dilation, padding that crops,
    or anything that Flax refuses.
    """
    if not isinstance(conv, Conv) or x.ndim != 4 or len(conv.kernel_size) != 2:
        return None
    dilated = _pair(conv.input_dilation) != (1, 1) or _pair(conv.kernel_dilation) != (1, 1)
    if dilated or conv.feature_group_count != 1 or conv.preferred_element_type is not None:
        return None
    kernel, bias = conv.kernel[...], None if conv.bias is None else conv.bias[...]
    if conv.mask is not None:
        if conv.mask.shape != kernel.shape:
            return None
        kernel *= conv.mask
    images, kernel, bias = conv.promote_dtype((x, kernel, bias), dtype=conv.dtype)
    if not uses_native(images, kernel):
        return None
    strides, padding = _pair(conv.strides), canonicalize_padding(conv.padding, 2)
    if isinstance(padding, str) and padding in _WRAPPED:
        sides = [((size - 1) // 2, size // 2) for size in conv.kernel_size]
        images, padding = jnp.pad(images, [(0, 0), *sides, (0, 0)], mode=_WRAPPED[padding]), "VALID"
    if isinstance(padding, str):
        if padding not in _BY_SIZE:
            return None
        padding = lax.padtype_to_pads(images.shape[1:3], kernel.shape[:2], strides, padding)
    rows, columns = padding
    if min(*rows, *columns) < 0:
        return None
    check_window(images.shape, kernel.shape, (rows, columns))
    return Convolution(images, kernel, bias, strides, (rows, columns))


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    """Turn an argument of `nnx.Conv` into one number for each of the two dimensions of an image."""
    if value is None:
        return 1, 1
    rows, columns = (value, value) if isinstance(value, int) else value
    return rows, columns


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> Array:
    """Compute `jax.lax.conv_general_dilated` by the kernels of the context; the numbers are the same up to rounding.

    Cases that a GEMM does not cover (groups, dilation, other layouts than NHWC/HWIO) go to XLA's operation.
    """
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    nhwc = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC")) if lhs.ndim == 4 else None
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    precision = options.pop("precision", None)
    unusual = dilated or feature_group_count != 1 or any(value not in (None, 1) for value in options.values())
    cropping = not isinstance(padding, str) and any(side < 0 for sides in padding for side in sides)
    if current_context().kernels == "xla" or layout != nhwc or unusual or cropping:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
            **options,
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    strides, (rows, columns) = (window_strides[0], window_strides[1]), padding
    if uses_native(lhs, rhs):
        check_window(lhs.shape, rhs.shape, (rows, columns))
        return native.conv(lhs, rhs, strides, (rows, columns))
    return _conv_by_patches(lhs, rhs, strides, (rows, columns), precision)


def _conv_by_patches(
    images: Float[Array, "batch h w c"],
    kernel: Float[Array, "kh kw c features"],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
    precision: Any,
) -> Float[Array, "batch out_h out_w features"]:
    patches = extract_patches(images, kernel.shape[:2], strides, padding)
    batch, out_h, out_w, size = patches.shape
    flat = jnp.matmul(patches.reshape(-1, size), kernel.reshape(size, -1), precision=precision)
    return flat.reshape(batch, out_h, out_w, -1)


def extract_patches(
    images: Float[Array, "batch h w c"],
    window: tuple[int, ...],
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], ...],
) -> Float[Array, "batch out_h out_w patch"]:
    """Every window of the padded images, flattened in the order of an HWIO kernel (rows, columns, channels).

    Slices and concatenations copy whole channel vectors. A gather, or the convolution with an identity kernel in
    `lax.conv_general_dilated_patches`, computes an address or a sum for every number. Columns of the window are taken first,
    then rows of these: 3 + 3 slices of longer pieces in place of 9, and as many fewer sums backwards. Forward and gradients
    of the 16 -> 32 layer above took 740 us in this way against 920, those of the 32 -> 64 layer 580 against 670.
    """
    check_window(images.shape, window, padding)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    out_h, out_w = (
        (size - extent) // stride + 1 for size, extent, stride in zip(padded.shape[1:3], window, strides, strict=True)
    )
    if math.prod(window) == 1 and strides == (1, 1):
        return padded
    columns = _windows_along(padded, axis=2, window=window[1], stride=strides[1], size=out_w)
    return _windows_along(columns, axis=1, window=window[0], stride=strides[0], size=out_h)


def check_window(images: tuple[int, ...], window: tuple[int, ...], padding: tuple[tuple[int, int], ...]) -> None:
    """Raise `ValueError` if the window is larger than padded images of shape [batch, h, w, c]."""
    if any(size + sum(sides) < extent for size, sides, extent in zip(images[1:3], padding, window, strict=False)):
        raise ValueError(
            f"a {window[0]}x{window[1]} convolution does not fit images of {images[1]}x{images[2]} pixels "
            f"with padding {padding}. Use larger images or fewer strided layers."
        )


def _windows_along(x: Float[Array, "batch h w c"], *, axis: int, window: int, stride: int, size: int) -> Array:
    """Every window along one axis, with its positions side by side in the channels."""
    slices = [lax.slice_in_dim(x, first, first + stride * (size - 1) + 1, stride, axis=axis) for first in range(window)]
    return jnp.concatenate(slices, axis=-1)


__all__ = [
    "Conv",
    "Convolution",
    "check_window",
    "conv_general_dilated",
    "conv_relu",
    "extract_patches",
    "read_convolution",
]
