"""Two attributions by gradients, as baselines: similarity of gradients at one checkpoint, and projected gradients over several models.

Both are for small networks, because the gradients of all examples are held at once. Their models are trained on everything.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import jaxinfl
from experiments.command_line import Mistake
from jaxinfl import Dataset, Ensemble
from jaxinfl.models import Model, build_model
from jaxinfl.tasks import margin

_AT_ONCE = 128
"""Examples whose gradients are computed at once."""
_MOST_NUMBERS = 2**29
"""Numbers of the gradients of all examples at most, 2 GB."""
PROJECTED = 512
"""Dimensions of the projected gradients."""


def check_baselines(data: Dataset, model: str) -> None:
    """Raise `Mistake` where the network is too large for the gradients of all images."""
    params = build_model(model, inputs=data.image_shape, outputs=data.num_classes).num_params
    if params * (data.num_train + data.num_test) > _MOST_NUMBERS:
        raise Mistake(
            f"{model} has {params:,} parameters, too many to hold the gradients of {data.num_train + data.num_test} examples. Take a smaller "
            "network, or fewer --train-examples."
        )


class Checkpoints:
    """Trained models on everything, and the gradients of their margins."""

    def __init__(self, runs: Ensemble, data: Dataset, model: str):
        """Take the kept weights of some models, and images of classes."""
        self.model: Model = build_model(model, inputs=data.image_shape, outputs=data.num_classes)
        self.runs = runs
        statistics = np.asarray(jaxinfl.channel_statistics(data), np.float32)
        self.inputs, self.labels = {}, {}
        for split, images, labels in (
            ("train", data.train_inputs, data.train_targets),
            ("test", data.test_inputs, data.test_targets),
        ):
            self.inputs[split] = (np.asarray(images, np.float32) / 255 - statistics[:, 0]) / statistics[:, 1]
            self.labels[split] = np.asarray(labels)

    def gradients(
        self, number: int, split: str
    ) -> tuple[Float[np.ndarray, "examples params"], Float[np.ndarray, " examples"]]:
        """Gradients of the margins of all examples of a split in one model, and the probabilities of their classes."""
        variables = jax.tree.map(lambda leaf: leaf[0], self.runs.weights([number]))
        found = [
            _gradients(self.model, variables, self.inputs[split][rows], self.labels[split][rows])
            for rows in (slice(start, start + _AT_ONCE) for start in range(0, len(self.labels[split]), _AT_ONCE))
        ]
        gradients, margin = (np.concatenate([np.asarray(part[which]) for part in found]) for which in (0, 1))
        return gradients, 1 / (1 + np.exp(-margin.astype(np.float64)))


def _gradients(
    model: Model, variables: Any, inputs: Float[np.ndarray, "batch h w c"], labels: Int[np.ndarray, " batch"]
) -> tuple[Array, Array]:
    """Gradients [batch, params] of the margins, and the margins."""

    def own_margin(params: Any, one: Array, label: Array) -> Array:
        logits = model.apply(variables._replace(params=params), one[None], train=False)[0]
        return margin(logits, label[None])[0]

    def both(one: Array, label: Array) -> tuple[Array, Array]:
        value, gradient = jax.value_and_grad(own_margin)(variables.params, one, label)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)]), value

    compiled: Any = jax.jit(jax.vmap(both))
    gradients, values = compiled(jnp.asarray(inputs), jnp.asarray(labels))
    return gradients, values


def gradient_similarity(checkpoints: Checkpoints) -> Float[np.ndarray, "train test"]:
    """Products of the gradients of the losses of a training and a test example, at the end of one training.

    The loss is -log p, so its gradient is that of the margin times p - 1. Source: Pruthi et al. (2020), "Estimating training data
    influence by tracing gradient descent", with one checkpoint and a learning rate of 1.
    """
    (train, train_right), (test, test_right) = (checkpoints.gradients(0, split) for split in ("train", "test"))
    similar: Float[np.ndarray, "train test"] = train @ test.T
    return similar * (1 - train_right)[:, None] * (1 - test_right)[None, :]


def trak(checkpoints: Checkpoints, seed: int) -> Float[np.ndarray, "train test"]:
    """TRAK: the influence on a linear model of projected gradients, a mean over models.

    Source: Park et al. (2023), "TRAK: Attributing model behavior at scale", equation 17, whose models are trained on random halves.
    """
    kernels: Any = 0.0
    doubts: Any = 0.0
    for number in range(len(checkpoints.runs)):
        (train, right), (test, _) = (checkpoints.gradients(number, split) for split in ("train", "test"))
        size = min(PROJECTED, train.shape[1], len(train) // 2)
        matrix = np.random.default_rng((seed, number)).standard_normal((train.shape[1], size), np.float32) / size**0.5
        kernels = kernels + _kernel(train @ matrix, test @ matrix) / len(checkpoints.runs)
        doubts = doubts + (1 - right) / len(checkpoints.runs)
    scores: Float[np.ndarray, "train test"] = kernels * doubts[:, None]
    return scores


def _kernel(features: np.ndarray, queries: np.ndarray) -> Float[np.ndarray, "train test"]:
    """Features (features' features)^-1 queries', with a ridge of rounding size, so that gradients of 0 do no harm."""
    wide = features.astype(np.float64)
    gram = wide.T @ wide
    ridge = 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    kernel: Float[np.ndarray, "train test"] = wide @ np.linalg.solve(gram + ridge, queries.astype(np.float64).T)
    return kernel


__all__ = ["Checkpoints", "check_baselines", "gradient_similarity", "trak"]
