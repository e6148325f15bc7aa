"""Kernels written by hand for CPUs, where XLA's are slow; they are compiled at their first use, on each machine."""

from jaxinfl.native.attention import attention
from jaxinfl.native.conv import (
    Padding,
    Strides,
    conv,
    conv_with_bias,
    conv_with_moments,
    dense_kernel_grad,
    normalized_conv_grads,
)
from jaxinfl.native.counts import joint_counts
from jaxinfl.native.layer_norm import layer_norm
from jaxinfl.native.library import NativeUnavailable, load, prepare, why_unavailable
from jaxinfl.native.norm import Normalization, channel_moments, channel_products
from jaxinfl.native.order import draws_as_jax, random_order
from jaxinfl.native.overlap import OVERLAP_DTYPES, Population, overlap_counts, overlap_of_models

__all__ = [
    "OVERLAP_DTYPES",
    "NativeUnavailable",
    "Normalization",
    "Padding",
    "Strides",
    "Population",
    "attention",
    "channel_moments",
    "channel_products",
    "conv",
    "conv_with_bias",
    "conv_with_moments",
    "dense_kernel_grad",
    "joint_counts",
    "layer_norm",
    "load",
    "normalized_conv_grads",
    "overlap_counts",
    "overlap_of_models",
    "prepare",
    "draws_as_jax",
    "random_order",
    "why_unavailable",
]
