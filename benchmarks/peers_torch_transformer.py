"""The transformer of `models_per_hour` in PyTorch. This file imports PyTorch, so it is imported only where that is there."""

import torch
from torch import Tensor, nn

from benchmarks.networks import Network

DEVIATION = 0.02
"""Standard deviation of the initial embeddings, as in jaxinfl's transformer."""


class Transformer(nn.Module):
    """PyTorch's own blocks with the norm first, on embedded tokens and places; the outputs follow from the mean of all places.

    Its blocks call `scaled_dot_product_attention`. Blocks of one's own that call it are as fast, and with the products of attention
    written out they are slower.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        (length,), width = network.input_shape, network.widths[0]
        self.embed = nn.Embedding(network.tokens, width)
        nn.init.normal_(self.embed.weight, std=DEVIATION)
        self.places = nn.Parameter(DEVIATION * torch.randn(length, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, network.heads, 4 * width, 0.0, batch_first=True, norm_first=True)
                for _ in network.widths
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, network.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs [batch, classes] of tokens [batch, length]."""
        x = self.blocks(self.embed(tokens) + self.places)
        outputs: Tensor = self.head(self.norm(x).mean(1))
        return outputs
