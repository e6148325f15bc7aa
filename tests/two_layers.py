"""A network of two layers whose training moves bytes that can be counted by hand."""

from typing import Any

import jax
import jax.numpy as jnp

BATCH, INPUTS, HIDDEN, OUTPUTS, STEPS = 128, 64, 256, 32, 10


def train_two_layers(first: jax.Array, second: jax.Array, inputs: jax.Array, targets: jax.Array) -> Any:
    """Take some steps of gradient descent on the squared error of a network without biases."""

    def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden = jnp.maximum(inputs @ weights[0], 0)
        return jnp.mean(jnp.square(hidden @ weights[1] - targets))

    def step(_: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights))

    return jax.lax.fori_loop(0, STEPS, step, (first, second))


def lower_two_layers(sharding: Any = None) -> Any:
    """Lower the training for the devices of a sharding."""
    shapes = ((INPUTS, HIDDEN), (HIDDEN, OUTPUTS), (BATCH, INPUTS), (BATCH, OUTPUTS))
    return jax.jit(train_two_layers).lower(
        *(jax.ShapeDtypeStruct(each, jnp.float32, sharding=sharding) for each in shapes)
    )
