"""Small data sets of every kind that the trainer takes, each with a model, for tests of the rules."""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

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


class LinenNorm(linen.Module):
    """A Linen model whose batch norm padding must not reach."""

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(8)(x))
        return linen.Dense(1)(linen.Dropout(0.2, deterministic=not train)(x))


class Dropped(eqx.Module):
    """An Equinox model that draws random numbers in training."""

    mlp: eqx.nn.MLP
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        self.mlp, self.dropout = eqx.nn.MLP(4, 1, width_size=8, depth=1, key=key), eqx.nn.Dropout(0.2)

    def __call__(self, x, key):
        return self.mlp(self.dropout(x, key=key))


def init(key):
    return {"weights": jax.random.normal(key, (4, 1)), "bias": jnp.zeros(1)}


def apply(variables, inputs, *, train, key):
    noise = 0.1 * jax.random.normal(key, inputs.shape) if train else 0.0
    return (inputs + noise) @ variables["weights"] + variables["bias"][None]


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
    images = rng.integers(0, 256, (len(table), 6, 6, 1)).astype(np.uint8)
    return {
        "image": Kind(
            Dataset(**_split(inputs=images, targets=classes)),
            "small_mlp",
            replace(small, crop_padding=1, flip=True),
            "margin",
        ),
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
        "next token": Kind(
            Dataset(**_split(inputs=tokens, targets=following), task="next_token", categories=6),
            "transformer",
            small,
            "loss",
        ),
        "sequences": Kind(
            Dataset(**_split(inputs=tokens, targets=classes), categories=6), "transformer", small, "margin"
        ),
        "own task": Kind(Dataset(**_split(inputs=table, targets=numbers), task=OWN), linear, scaled, "distance"),
    }


def make_forms() -> dict[str, Kind]:
    """One kind of data for each form of a model of a user's own that is no NNX module."""
    rng = np.random.default_rng(1)
    table = rng.normal(3, 2, (TRAIN + TEST, 4)).astype(np.float32)
    data = Dataset(**_split(inputs=table, targets=table.sum(axis=1)), task="regression")
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01, standardize=True)
    forms = {"functions": (init, apply), "Linen": LinenNorm(), "Equinox": Dropped}
    return {name: Kind(data, model, recipe, "residual") for name, model in forms.items()}


KINDS = make_kinds() | make_forms()
