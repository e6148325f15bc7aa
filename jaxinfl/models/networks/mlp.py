"""Fully connected network; with widths (512, 256) Feldman and Zhang's (2020) network for MNIST."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxinfl.models.inputs import InputSpec, as_spec

EMBEDDING = 8
"""Most numbers that stand for a category; a category of fewer values has as many as these."""


class MLP(nnx.Module):
    """A perceptron on all numbers of an example: hidden layers with ReLU, and linear outputs.

    Arrays are flattened and put side by side in the order of their names. Categories are embedded first, each array of them by
    a table of its own.
    """

    def __init__(
        self,
        inputs: InputSpec | tuple[int, ...],
        num_outputs: int,
        *,
        widths: tuple[int, ...] = (512, 256),
        rngs: nnx.Rngs,
    ):
        self.spec = as_spec(inputs)
        self.embeddings = nnx.Dict(
            {
                array.name or "inputs": nnx.Embed(array.categories, min(EMBEDDING, array.categories), rngs=rngs)
                for array in self.spec.arrays
                if array.categories
            }
        )
        size = sum(
            math.prod(array.shape) * (min(EMBEDDING, array.categories) if array.categories else 1)
            for array in self.spec.arrays
        )
        sizes = (size, *widths)
        self.hidden = nnx.List([nnx.Linear(size, width, rngs=rngs) for size, width in itertools.pairwise(sizes)])
        self.head = nnx.Linear(sizes[-1], num_outputs, rngs=rngs)

    def __call__(self, inputs: Any) -> Float[Array, "batch outputs"]:
        parts = []
        for array in self.spec.arrays:
            values = inputs[array.name] if array.name else inputs
            if array.categories:
                values = self.embeddings[array.name or "inputs"](values)
            elif array.dtype == "bool":
                values = values.astype(jnp.float32)
            parts.append(values.reshape(values.shape[0], -1))
        dtype = jnp.result_type(*parts)
        x = parts[0] if len(parts) == 1 else jnp.concatenate([part.astype(dtype) for part in parts], axis=-1)
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return self.head(x)
