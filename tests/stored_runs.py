"""The runs in `tests/runs`: their tasks, models and data, and the numbers of a run that are recorded beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxinfl
from jaxinfl import Dataset, Ensemble, Recipe, Task

STORED = Path(__file__).parent / "runs"
MODELS = 6
TRAIN, TEST = 24, 8
SCALED = Recipe(epochs=2, batch_size=8, learning_rate=0.01, standardize=True)
OWN = Task(
    "absolute",
    loss=lambda outputs, targets: jnp.sqrt(1 + jnp.square(outputs[:, 0] - targets)),
    scores={
        "distance": lambda outputs, targets: jnp.abs(outputs[:, 0] - targets),
        "near": lambda outputs, targets: jnp.abs(outputs[:, 0] - targets) < 0.5,
    },
)


def linear(rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(4, 1, rngs=rngs)


class Tokens(nnx.Module):
    """A model of the next token from the token alone."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed, self.head = nnx.Embed(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.embed(tokens))


TASKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "classification_images": (
        "classification",
        "small_mlp",
        {
            "recipe": Recipe(epochs=2, batch_size=8, learning_rate=0.05, crop_padding=1, flip=True),
            "keep_weights": True,
            "keep_outputs": "both",
            "keep_epochs": (1,),
            "shard_size": 4,
        },
    ),
    # The third model diverges.
    "classification_table": (
        "classification",
        "small_mlp",
        {"recipe": SCALED, "overrides": {"learning_rate": [0.01, 0.02, 1e6, 0.01, 0.02, 0.03]}, "max_diverged": 0.5},
    ),
    "regression": ("regression", linear, {"recipe": SCALED, "keep_weights": True}),
    "binary": ("binary", "small_mlp", {"recipe": SCALED}),
    "next_token": (
        "next_token",
        Tokens,
        {"recipe": Recipe(epochs=2, batch_size=8), "keep_weights": True, "keep_outputs": "test"},
    ),
    "own_task": (OWN, linear, {"recipe": SCALED, "keep_weights": True}),
    "parts": ("regression", linear, {"recipe": SCALED}),
    "extended": ("regression", linear, {"recipe": SCALED, "keep_weights": True}),
}
"""Task, model and options of each run that is trained; the others are made of their scores."""
NAMES = (*TASKS, "from_scores", "from_scores_of_train", "saved")


def make_data(name: str) -> dict[str, np.ndarray]:
    """Random inputs and targets for the task of a run, as `train_inputs`, `train_targets`, `test_inputs` and `test_targets`."""
    rng = np.random.default_rng(0)
    table = rng.normal(3, 2, (TRAIN + TEST, 4)).astype(np.float32)
    numbers = (table @ np.array([1.0, -1.0, 0.5, 0.0]) + rng.normal(0, 0.1, len(table))).astype(np.float32)
    tokens = rng.integers(0, 6, (len(table), 5)).astype(np.int32)
    inputs = {
        "classification_images": rng.integers(0, 256, (len(table), 4, 4, 1)).astype(np.uint8),
        "next_token": tokens,
    }.get(name, table)
    targets = {
        "classification_images": np.arange(len(table)) % 3,
        "classification_table": np.arange(len(table)) % 3,
        "binary": table > 3,
        "next_token": np.where(np.arange(5) < 4, np.roll(tokens, -1, axis=1), -1),
    }.get(name, numbers)
    rows = {"train": slice(0, TRAIN), "test": slice(TRAIN, None)}
    return {
        f"{split}_{kind}": values[chosen]
        for split, chosen in rows.items()
        for kind, values in (("inputs", inputs), ("targets", targets))
    }


def load_data(folder: Path, name: str) -> Dataset:
    """The data of a run that was trained, from the file beside it."""
    with np.load(folder / f"{name}.npz") as arrays:
        return Dataset(
            **arrays,
            task=TASKS[name][0],
            categories=6 if name == "next_token" else None,
            name=name,
        )


def draw_masks(models: int = MODELS) -> np.ndarray:
    return jaxinfl.draw_subsets(models, TRAIN, ratio=0.5)


def train(folder: Path, name: str) -> None:
    """Train one of the runs into a folder."""
    _, model, options = TASKS[name]
    masks, keys, data = draw_masks(), jax.random.split(jax.random.key(0), MODELS), load_data(folder, name)
    options = {"data": data, "model": model, "run_dir": folder / name, "progress": False, "tune": False} | options
    if name == "parts":
        for part in ((1, 2), (2, 2)):
            jaxinfl.train_ensemble(masks, keys, part=part, **options)
        return
    if name == "extended":
        jaxinfl.train_ensemble(masks[:4], keys[:4], **options)
    jaxinfl.train_ensemble(masks, keys, **options)


def describe(runs: Ensemble) -> dict[str, Any]:
    """The numbers of a run that tests compare: masks exactly, and of each array its first values and its mean for each model."""
    found: dict[str, Any] = {
        "models": runs.model_index.tolist(),
        "diverged": runs.num_diverged,
        "masks": ["".join(map(str, row)) for row in runs.masks.astype(int).tolist()],
        "scores": {name: runs.score_kind(name) for name in runs.scores},
    }
    return found | {"arrays": {name: _digest(values) for name, values in arrays_of(runs).items()}}


def arrays_of(runs: Ensemble) -> Mapping[str, np.ndarray]:
    """Every array that a run has: scores, outputs and weights, by name."""
    found = {}
    for split in ("train", "test"):
        for score in runs.scores:
            try:
                found[f"{split}_{score}"] = getattr(runs, f"{split}_score")(score)
            except ValueError:
                assert runs.attributes.get("trained") == "elsewhere", f"{split}_{score}"
    kept = runs.attributes["row_arrays"]
    found |= {name: getattr(runs, name) for name in ("train_outputs", "test_outputs") if name in kept}
    if "weights" in runs.attributes:
        leaves = jax.tree_util.tree_leaves_with_path(runs.weights())
        found |= {f"weights{jax.tree_util.keystr(place)}": np.asarray(leaf) for place, leaf in leaves}
    return found


def _digest(values: np.ndarray) -> dict[str, Any]:
    flat = values.reshape(len(values), -1).astype(np.float64)
    return {
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "first": flat[:, :3].tolist(),
        "mean": flat.mean(axis=1).tolist(),
    }
