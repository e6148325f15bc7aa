"""Convolution as one matrix product, so that a weight per model costs what a GEMM costs.

Mapping `jax.lax.conv_general_dilated` over models turns it into a grouped convolution, for which XLA has no good code:
on 2 CPU cores the gradient step of one 3x3 layer runs at about 1 GFLOP/s, and at 1.5 GFLOP/s when the models are
taken one after another, because XLA's CPU weight gradient is slow too. Written as patches (im2col) times a matrix,
forward and both gradients are GEMMs, and a vmapped GEMM is a batched GEMM. Measured forward and backward, 2 virtual
CPU devices, one model each, against a GEMM peak of 185 GFLOP/s (AVX-512, jax 0.10.2):

    batch, side, channels, stride          patches      stock forward and dx, tap GEMMs for dw
    64,    8,    16 -> 32,  2              141 GFLOP/s   95
    64,    4,    32 -> 64,  2              160           62
    128,   16,   64 -> 128, 2               63           62

Plain Flax layers use it without knowing: `jaxinfl.models.model` hands it to every `nnx.Conv` of a module.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

ConvLowering = Literal["patches", "stock"]

_lowering: contextvars.ContextVar[str] = contextvars.ContextVar("jaxinfl_conv_lowering", default="patches")


def default_lowering(platform: str) -> ConvLowering:
    """The lowering used on a platform ("cpu", "gpu", "tpu") unless the caller of `train_ensemble` chooses."""
    # A TPU convolves natively at full rate one model at a time; CPU and GPU are both fastest with GEMMs.
    return "stock" if platform == "tpu" else "patches"


@contextlib.contextmanager
def conv_lowering(lowering: str) -> Iterator[None]:
    """Trace the convolutions inside this block with the given lowering."""
    if lowering not in get_args(ConvLowering):
        raise ValueError(f"conv lowering {lowering!r} is unknown; choose one of {', '.join(get_args(ConvLowering))}.")
    token = _lowering.set(lowering)
    try:
        yield
    finally:
        _lowering.reset(token)


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
    if _lowering.get() == "stock" or layout != nhwc or unusual or cropping:
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
    return _conv_by_patches(lhs, rhs, (window_strides[0], window_strides[1]), tuple(padding), precision)


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
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    out_h, out_w = (
        (size - extent) // stride + 1 for size, extent, stride in zip(padded.shape[1:3], window, strides, strict=True)
    )
    if min(out_h, out_w) < 1:
        raise ValueError(
            f"a {window[0]}x{window[1]} convolution does not fit images of {images.shape[1]}x{images.shape[2]} pixels "
            f"with padding {padding}. Use larger images or fewer strided layers."
        )
    if math.prod(window) == 1 and strides == (1, 1):
        return padded
    columns = _shifted(padded, axis=2, window=window[1], stride=strides[1], size=out_w)
    return _shifted(columns, axis=1, window=window[0], stride=strides[0], size=out_h)


def _shifted(x: Float[Array, "batch h w c"], *, axis: int, window: int, stride: int, size: int) -> Array:
    """Every window along one axis, its positions side by side in the channels."""
    slices = [lax.slice_in_dim(x, first, first + stride * (size - 1) + 1, stride, axis=axis) for first in range(window)]
    return jnp.concatenate(slices, axis=-1)


__all__ = ["ConvLowering", "conv_general_dilated", "conv_lowering", "default_lowering", "extract_patches"]
