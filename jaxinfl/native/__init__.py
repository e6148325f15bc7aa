"""Kernels written by hand for CPUs, where XLA's are slow; compiled on the machine that runs them, at their first use."""

from jaxinfl.native.conv import conv
from jaxinfl.native.counts import joint_counts
from jaxinfl.native.library import NativeUnavailable, load, prepare, why_unavailable
from jaxinfl.native.sums import channel_moments, channel_products, channel_sums

__all__ = [
    "NativeUnavailable",
    "channel_moments",
    "channel_products",
    "channel_sums",
    "conv",
    "joint_counts",
    "load",
    "prepare",
    "why_unavailable",
]
