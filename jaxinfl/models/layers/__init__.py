"""The layers of models, each with its native and its plain way side by side, and the context that chooses between them."""

from jaxinfl.models.layers.attention import attend
from jaxinfl.models.layers.context import Kernels, default_kernels, use_kernels, uses_native
from jaxinfl.models.layers.conv import conv_relu
from jaxinfl.models.layers.embed import Embed
from jaxinfl.models.layers.initial_weights import draw_kernels, torch_linear
from jaxinfl.models.layers.layer_norm import layer_norm
from jaxinfl.models.layers.norm import BatchNorm, SonnetBatchNorm, TorchBatchNorm, conv_norm_relu
from jaxinfl.models.layers.pool import avg_pool, global_mean, max_pool

__all__ = [
    "BatchNorm",
    "Embed",
    "Kernels",
    "SonnetBatchNorm",
    "TorchBatchNorm",
    "attend",
    "avg_pool",
    "conv_norm_relu",
    "conv_relu",
    "default_kernels",
    "draw_kernels",
    "global_mean",
    "layer_norm",
    "max_pool",
    "torch_linear",
    "use_kernels",
    "uses_native",
]
