"""Fully connected network; with widths (512, 256) Feldman and Zhang's (2020) network for MNIST."""

import itertools
import math

import jax
from flax import nnx
from jaxtyping import Array, Float


class MLP(nnx.Module):
    """A perceptron on flattened pixels: hidden layers with ReLU, and one logit for each class."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        widths: tuple[int, ...] = (512, 256),
        rngs: nnx.Rngs,
    ):
        sizes = (math.prod(image_shape), *widths)
        self.hidden = nnx.List([nnx.Linear(size, width, rngs=rngs) for size, width in itertools.pairwise(sizes)])
        self.head = nnx.Linear(sizes[-1], num_classes, rngs=rngs)

    def __call__(self, images: Float[Array, "batch h w c"]) -> Float[Array, "batch classes"]:
        x = images.reshape(images.shape[0], -1)
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return self.head(x)
