"""A small transformer for sequences of tokens or of rows of numbers: pre-norm, causal or not."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.arguments import check_choice, check_whole
from jaxinfl.models.inputs import ArraySpec, InputSpec, as_spec
from jaxinfl.models.layers import attend, layer_norm

Pool = Literal["mean", "last"]
DEVIATION = 0.02
"""Standard deviation of the initial embeddings of tokens and places, as in GPT-2."""


class Transformer(nnx.Module):
    """Blocks of attention and a perceptron with ReLU, on tokens or on rows of numbers, and linear outputs.

    Places have learned embeddings. There is no dropout. A token that fills up short sequences is a token like any other.

    Source: Vaswani et al. (2017), "Attention is all you need"; norms come first as in Radford et al. (2019), GPT-2.
    """

    def __init__(
        self,
        inputs: InputSpec | tuple[int, ...],
        outputs: tuple[int, ...] | int,
        *,
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        causal: bool | None = None,
        pool: Pool = "mean",
        rngs: nnx.Rngs,
    ):
        """Make the network.

        Args:
          inputs: one array of tokens, int32 [length], or one of numbers, float32 [length, features].
          outputs: number of outputs of a sequence, or (length, number) for outputs at every place.
          layers, width, heads: number of blocks, numbers that stand for a place, and parts of attention, which divide the width.
          causal: whether a place sees itself and those before it only; None where there are outputs at every place.
          pool: what the outputs of a sequence follow from: the mean over all places, or the last place.

        Raises:
          TypeError, ValueError: the inputs are no sequences, or an argument does not fit.
        """
        one = _as_sequence(as_spec(inputs))
        outputs = (outputs,) if isinstance(outputs, int) else outputs or (1,)
        check_choice(pool, "pool", get_args(Pool))
        for name, value in {"layers": layers, "width": width, "heads": heads}.items():
            check_whole(value, name, 1, 2**16)
        if width % heads:
            raise ValueError(f"heads is {heads}, which does not divide width {width}; take a divisor of the width.")
        self.length, self.pool = one.shape[0], pool
        self.at_every_place = len(outputs) == 2
        if self.at_every_place and outputs[0] != self.length:
            raise ValueError(
                f"transformer gives outputs at each of the {self.length} places of the inputs, and the targets have {outputs[0]}; "
                "give one target for each token, below 0 where there is none."
            )
        small = nnx.initializers.normal(DEVIATION)
        self.embed = (
            nnx.Embed(one.categories, width, embedding_init=small, rngs=rngs)
            if one.categories
            else nnx.Linear(one.shape[1], width, rngs=rngs)
        )
        self.places = nnx.Param(small(rngs.params(), (self.length, width)))
        causal = self.at_every_place if causal is None else causal
        self.blocks = nnx.List([Block(self.length, width, heads, causal, DEVIATION, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(width, outputs[-1], rngs=rngs)

    def __call__(self, inputs: Any) -> Float[Array, "batch ... outputs"]:
        # Flax looks tokens up in float32, whatever the dtype of the table that a step is given.
        places = self.places[...]
        x = self.embed(inputs).astype(places.dtype) + places[None]
        batch, _, width = x.shape
        # One row for each place of each sequence: XLA's CPU code multiplies 3 axes by a matrix at two thirds of the speed.
        x = x.reshape(-1, width)
        for block in self.blocks:
            x = block(x)
        if self.at_every_place:
            return self.head(layer_norm(self.norm, x)).reshape(batch, self.length, -1)
        if self.pool == "last":
            return self.head(layer_norm(self.norm, x.reshape(batch, self.length, width)[:, -1]))
        x = layer_norm(self.norm, x).reshape(batch, self.length, width)
        return self.head(jnp.sum(x, axis=1) * (1 / self.length))


class Block(nnx.Module):
    """Attention and a perceptron of one hidden layer, each added to its input, which is normalized first."""

    def __init__(self, length: int, width: int, heads: int, causal: bool, deviation: float, *, rngs: nnx.Rngs):
        self.length, self.heads, self.causal = length, heads, causal
        back = nnx.initializers.normal(deviation)
        self.norm_before_attention = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        # One product for queries, keys and values.
        self.packed = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mix = nnx.Linear(width, width, kernel_init=back, rngs=rngs)
        self.norm_before_hidden = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.hidden = nnx.Linear(width, 4 * width, rngs=rngs)
        self.back = nnx.Linear(4 * width, width, kernel_init=back, rngs=rngs)

    def __call__(self, x: Float[Array, "places width"]) -> Float[Array, "places width"]:
        packed = self.packed(layer_norm(self.norm_before_attention, x))
        x = x + self.mix(attend(packed, length=self.length, heads=self.heads, causal=self.causal))
        return x + self.back(jax.nn.relu(self.hidden(layer_norm(self.norm_before_hidden, x))))


def _as_sequence(inputs: InputSpec) -> ArraySpec:
    one = inputs.single
    tokens = one is not None and one.dtype == "int32" and len(one.shape) == 1
    rows = one is not None and one.dtype == "float32" and len(one.shape) == 2
    if one is None or not (tokens or rows):
        raise ValueError(
            "model 'transformer' takes one array of tokens, int32 [batch, length], or of rows of numbers, float32 [batch, length, "
            f"features]; these inputs are {inputs}. Take 'mlp', or a module of your own."
        )
    return one


__all__ = ["Pool", "Transformer"]
