"""Made-up runs with influences unlike those of digits, to try the planner on."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

Kind = Literal["many weak", "twins", "all alike", "heavy tails", "gamma", "power law"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class World(NamedTuple):
    """What decides whether a simulated model is right."""

    alone: Float[np.ndarray, " train"]
    """Probability to be right on a training example without training on it."""
    base: Float[np.ndarray, " test"]
    """Log odds to be right on a test example when examples are present as often as not."""
    effect: Float[np.ndarray, "train test"]
    """What the presence of a training example adds to these log odds."""


def make_world(kind: Kind, seed: int, num_train: int = 400, num_test: int = 150) -> World:
    """Make a simulated world, in which a third of the training examples is memorized to some degree; these have influence.

    "many weak": normal effects of all of them on everything, hardly any strong. "twins": some test examples depend on one
    training example, strongly. "all alike": four influences a hard test example, all near 0.2. "heavy tails": Laplace
    effects, and now and then a strong one. "gamma", "power law": a tenth or a fiftieth of the pairs has an effect, of a smooth
    distribution that reaches from next to nothing, or from 0.3 in log odds, to the strongest.
    """
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    alone = np.where(rng.random(num_train) < 0.7, rng.beta(30, 1, num_train), rng.random(num_train))
    memorized = np.flatnonzero(alone < 0.9)
    easy = rng.random(num_test) < 0.5
    base = np.where(easy, rng.normal(4, 1, num_test), rng.normal(1, 1.5, num_test))
    effect = np.zeros((num_train, num_test))
    shape = (memorized.size, num_test)
    hard = rng.choice(num_test, 2 * num_test // 5, replace=False)
    if kind == "many weak":
        effect[memorized] = rng.normal(0.15, 0.45, shape)
    elif kind == "heavy tails":
        rare = rng.random(shape) < 0.03
        effect[memorized] = rng.laplace(0, 0.25, shape) + rare * rng.exponential(1.2, shape)
    elif kind == "gamma":
        effect[memorized] = (rng.random(shape) < 0.1) * rng.gamma(0.6, 0.9, shape)
    elif kind == "power law":
        effect[memorized] = (rng.random(shape) < 0.02) * np.minimum(0.3 * (rng.pareto(1.3, shape) + 1), 7)
    elif kind == "twins":
        base[hard] = rng.normal(0.5, 1, hard.size)
        effect[rng.choice(memorized, hard.size), hard] = rng.uniform(2, 6, hard.size)
    else:
        base[hard] = rng.normal(0.3, 0.5, hard.size)
        for test in hard:
            effect[rng.choice(memorized, 4, replace=False), test] = rng.normal(1.0, 0.25, 4)
    return World(alone, base, effect)


def draw_run(
    world: World, num_models: int, seed: int, ratio: float = 0.7
) -> tuple[Bool[np.ndarray, "models train"], Bool[np.ndarray, "models train"], Bool[np.ndarray, "models test"]]:
    """Draw masks, train_correct and test_correct of `num_models` simulated models."""
    rng = np.random.default_rng(seed)
    num_train = world.alone.size
    masks = np.zeros((num_models, num_train), bool)
    for row in masks:
        row[rng.permutation(num_train)[: int(ratio * num_train)]] = True
    right = expit(world.base + (masks - ratio) @ world.effect)
    own = np.where(masks, 0.985, world.alone)
    return masks, rng.random(own.shape) < own, rng.random(right.shape) < right
