"""Small data sets of every kind that the trainer takes, each with a model, for tests of the rules."""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxinfl
from jaxinfl import Dataset, Recipe, Task

TRAIN, TEST = 30, 9


class Kind(NamedTuple):
    data: Dataset
    model: object
    recipe: Recipe
    score: str
    """A score of real numbers."""


def _split(**arrays):
    return {f"{split}_{name}": _rows(values, split) for name, values in arrays.items() for split in ("train", "test")}


def _rows(values, split):
    rows = slice(0, TRAIN) if split == "train" else slice(TRAIN, TRAIN + TEST)
    return {name: each[rows] for name, each in values.items()} if isinstance(values, dict) else values[rows]


def linear(rngs):
    return nnx.Linear(4, 1, rngs=rngs)


class Tokens(nnx.Module):
    """A model of the next token from the token alone."""

    def __init__(self, rngs):
        self.embed, self.head = nnx.Embed(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.embed(tokens))


OWN = Task(
    "absolute",
    loss=lambda outputs, targets: jnp.sqrt(1 + jnp.square(outputs[:, 0] - targets)),
    scores={
        "distance": lambda outputs, targets: jnp.abs(outputs[:, 0] - targets),
        "near": lambda outputs, targets: jnp.abs(outputs[:, 0] - targets) < 0.5,
    },
)


def make_kinds() -> dict[str, Kind]:
    rng = np.random.default_rng(0)
    table = rng.normal(3, 2, (TRAIN + TEST, 4)).astype(np.float32)
    classes = np.arange(TRAIN + TEST) % 3
    numbers = (table @ np.array([1.0, -1.0, 0.5, 0.0]) + rng.normal(0, 0.1, len(table))).astype(np.float32)
    mixed = {"numbers": table, "colour": rng.integers(0, 5, (len(table), 2)), "open": rng.random((len(table), 1)) < 0.5}
    tokens = rng.integers(0, 6, (len(table), 5))
    following = np.where(np.arange(5) < 4, np.roll(tokens, -1, axis=1), -1)
    small = Recipe(epochs=2, batch_size=8, learning_rate=0.05)
    scaled = Recipe(epochs=2, batch_size=8, learning_rate=0.01, standardize=True)
    return {
        "table": Kind(Dataset(**_split(inputs=table, targets=classes)), "small_mlp", scaled, "margin"),
        "dict": Kind(Dataset(**_split(inputs=mixed, targets=classes)), "small_mlp", scaled, "margin"),
        "regression": Kind(
            Dataset(**_split(inputs=table, targets=numbers), task="regression"), "small_mlp", scaled, "residual"
        ),
        "several numbers": Kind(
            Dataset(**_split(inputs=table, targets=table[:, :2] - 1), task="regression"),
            "small_mlp",
            replace(scaled, standardize_targets=True),
            "residual_norm",
        ),
        "huber": Kind(
            Dataset(**_split(inputs=table, targets=numbers), task=jaxinfl.tasks.huber(0.5)),
            linear,
            replace(scaled, standardize_targets=True),
            "prediction",
        ),
        "binary": Kind(Dataset(**_split(inputs=table, targets=table > 3), task="binary"), "small_mlp", small, "margin"),
        "tokens": Kind(
            Dataset(**_split(inputs=tokens, targets=following), task="next_token", categories=6), Tokens, small, "loss"
        ),
        "own task": Kind(Dataset(**_split(inputs=table, targets=numbers), task=OWN), linear, scaled, "distance"),
    }


KINDS = make_kinds()
