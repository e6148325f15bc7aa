"""Convolution that costs what a matrix product costs, with a weight per model.

Mapping `jax.lax.conv_general_dilated` over models turns it into a grouped convolution, for which XLA has no good code:
on 2 CPU cores the gradient step of one 3x3 layer runs at about 1 GFLOP/s, and at 1.5 GFLOP/s when the models are
taken one after another, because XLA's CPU weight gradient is slow too. Two ways around it:

- patches (im2col) times a matrix: forward and both gradients are matrix products, and mapped over models a batched one.
  It works everywhere; the patches cost memory traffic.
- on CPUs, kernels written by hand (`jaxinfl.native`), which read the windows where they lie and skip the padding.

Forward and both gradients of one layer, float32, one core of an AMD EPYC (AVX2) with a GEMM rate of 80 GFLOP/s:

    batch, side, channels, stride          native
    64,    8,    16 -> 32,  2              96 GFLOP/s (as if the padding were computed)
    64,    4,    32 -> 64,  2              91
    128,   32,   32 -> 64,  2              76
    128,   16,   64 -> 128, 2              77

Plain Flax layers use it without knowing: `jaxinfl.models.model` hands it to every `nnx.Conv` of a module.
"""

import contextvars
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxinfl import native
from jaxinfl.models.lowering import current_lowering, uses_native


class NativeConvolution(NamedTuple):
    """What went to the hand-written kernels, and what they return: not computed if something else takes its place."""

    images: Float[Array, "batch h w inputs"]
    kernel: Float[Array, "kh kw inputs outputs"]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    result: Float[Array, "batch out_h out_w outputs"]


_native_convolutions: contextvars.ContextVar[list[NativeConvolution] | None] = contextvars.ContextVar(
    "jaxinfl_native_convolutions", default=None
)


def with_native_convolution(layer: Callable[[], Array]) -> tuple[Array, NativeConvolution | None]:
    """What `layer()` gives, and the convolution by the hand-written kernels whose very result that is, if it is one."""
    found: list[NativeConvolution] = []
    token = _native_convolutions.set(found)
    try:
        y = layer()
    finally:
        _native_convolutions.reset(token)
    return y, found[-1] if found and y is found[-1].result else None


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
    """`jax.lax.conv_general_dilated`, lowered as chosen by `conv_lowering`; the same numbers up to rounding.

    What a GEMM does not cover (groups, dilation, other layouts than NHWC/HWIO) goes to the stock operation.
    """
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    nhwc = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC")) if lhs.ndim == 4 else None
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    precision = options.pop("precision", None)
    unusual = dilated or feature_group_count != 1 or any(value not in (None, 1) for value in options.values())
    cropping = not isinstance(padding, str) and any(side < 0 for sides in padding for side in sides)
    if current_lowering() == "stock" or layout != nhwc or unusual or cropping:
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
        result = native.conv(lhs, rhs, strides, (rows, columns))
        if (found := _native_convolutions.get()) is not None:
            found.append(NativeConvolution(lhs, rhs, strides, (rows, columns), result))
        return result
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

    Slices and concatenations: contiguous copies of whole channel vectors, where a gather, or the convolution with
    an identity kernel in `lax.conv_general_dilated_patches`, computes an address or a sum for every number. Columns of
    the window first, then rows of these: 3 + 3 slices in place of 9, of longer pieces, and as many fewer sums backwards.
    Forward and gradients of the 16 -> 32 layer above took 740 us that way against 920, of the 32 -> 64 layer 580 to 670.
    """
    check_window(images.shape, window, padding)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    out_h, out_w = (
        (size - extent) // stride + 1 for size, extent, stride in zip(padded.shape[1:3], window, strides, strict=True)
    )
    if math.prod(window) == 1 and strides == (1, 1):
        return padded
    columns = _shifted(padded, axis=2, window=window[1], stride=strides[1], size=out_w)
    return _shifted(columns, axis=1, window=window[0], stride=strides[0], size=out_h)


def check_window(images: tuple[int, ...], window: tuple[int, ...], padding: tuple[tuple[int, int], ...]) -> None:
    """Raise `ValueError` if the window is larger than padded images of shape [batch, h, w, c]."""
    if any(size + sum(sides) < extent for size, sides, extent in zip(images[1:3], padding, window, strict=False)):
        raise ValueError(
            f"a {window[0]}x{window[1]} convolution does not fit images of {images[1]}x{images[2]} pixels "
            f"with padding {padding}. Use larger images or fewer strided layers."
        )


def _shifted(x: Float[Array, "batch h w c"], *, axis: int, window: int, stride: int, size: int) -> Array:
    """Every window along one axis, its positions side by side in the channels."""
    slices = [lax.slice_in_dim(x, first, first + stride * (size - 1) + 1, stride, axis=axis) for first in range(window)]
    return jnp.concatenate(slices, axis=-1)


__all__ = ["NativeConvolution", "check_window", "conv_general_dilated", "extract_patches", "with_native_convolution"]
