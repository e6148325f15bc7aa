"""The transformer of `models_per_hour` in PyTorch. This file imports PyTorch, so it is imported only where that is there.

Its blocks are the fastest of three by 6% and more: beside PyTorch's own `TransformerEncoderLayer`, and beside blocks that write out
the products of attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.networks import Network

DEVIATION = 0.02
"""Standard deviation of the initial embeddings, as in jaxinfl's transformer."""


class Transformer(nn.Module):
    """Blocks on embedded tokens and places; the outputs follow from the mean of all places."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        (length,), width = network.input_shape, network.widths[0]
        self.embed = nn.Embedding(network.tokens, width)
        nn.init.normal_(self.embed.weight, std=DEVIATION)
        self.places = nn.Parameter(DEVIATION * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, network.heads) for width in network.widths))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, network.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Outputs [batch, classes] of tokens [batch, length]."""
        x = self.blocks(self.embed(tokens) + self.places)
        outputs: Tensor = self.head(self.norm(x).mean(1))
        return outputs


class Block(nn.Module):
    """Attention and a perceptron of one hidden layer, each added to its input, which is normalized first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_before_attention, self.norm_before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.packed, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The numbers of all places, [batch, length, width]."""
        batch, length, width = x.shape
        packed = self.packed(self.norm_before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        mixed = functional.scaled_dot_product_attention(*packed.permute(2, 0, 3, 1, 4))
        x = x + self.mix(mixed.transpose(1, 2).reshape(batch, length, width))
        result: Tensor = x + self.back(functional.relu(self.hidden(self.norm_before_hidden(x))))
        return result
