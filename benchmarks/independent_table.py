"""Independent programs train the same subsets of a table and find the same memorization as jaxinfl.

    python -m benchmarks.independent_table            about 1 minute on 2 cores
    python -m benchmarks.independent_table --quick    some seconds, with few models; for tests

Claim: memorization of breast_cancer by jaxinfl correlates with that of a program in PyTorch, and of scikit-learn's `MLPClassifier`,
as highly as with that of jaxinfl under other keys, within 0.01.

Every program trains a perceptron of 64 hidden units on each of 400 subsets of 70%: standardized by the subset's own mean and
deviation, SGD with momentum at a constant rate, batches of 64, no weight decay. Only the random numbers differ. PyTorch's program
has jaxinfl's distribution of initial weights and two outputs. scikit-learn has its own distribution, and one output for two classes,
so jaxinfl trains such networks to compare with it. Memorization by the independent programs is computed in NumPy.

Expected, with 400 models (jaxinfl with itself, and with the program):
    PyTorch         probability 0.999 and 0.999    0-1 0.997 and 0.997
    scikit-learn    probability 0.999 and 0.999    0-1 0.997 and 0.997
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import nnx
from jaxtyping import Array, Bool, Float
from rich.table import Table

import jaxinfl
from benchmarks.peers_sklearn import fit_classifier
from benchmarks.record import console, write_json
from benchmarks.workers import why_missing
from jaxinfl import Dataset, Recipe
from jaxinfl.arguments import expand_home
from jaxinfl.models import MLP

FEATURES, HIDDEN, CLASSES = 30, 64, 2
Probabilities = Float[np.ndarray, "models train"]
"""Probability that each model gives the label of each training example."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    models: int = 400
    """Number of subsets, each of which every program trains once."""
    epochs: int = 20
    """Number of passes over each subset."""
    quick: bool = False
    """Whether to take 40 subsets, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file is written to."""

    @property
    def recipe(self) -> Recipe:
        """The training in jaxinfl's words."""
        return Recipe(
            epochs=self.epochs,
            batch_size=64,
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=0.0,
            schedule="constant",
            standardize=True,
        )


def main(config: Config) -> Path:
    """Train, compare and report; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = dataclasses.replace(config, models=40)
    data = jaxinfl.load_dataset("breast_cancer")
    masks = jaxinfl.draw_subsets(config.models, data.num_train, ratio=0.7, seed=0)
    records = {}
    if missing := why_missing("torch"):
        console.print(missing)
    else:
        ours = [our_probabilities(data, masks, config.recipe, seed) for seed in (0, 1)]
        records["PyTorch"] = compare(masks, *ours, torch_probabilities(data, masks, config.recipe))
    ours = [our_probabilities(data, masks, config.recipe, seed, as_sklearn=True) for seed in (0, 1)]
    records["scikit-learn"] = compare(masks, *ours, sklearn_probabilities(data, masks, config.recipe))
    _show(records)
    path = write_json("independent_table", {"config": _plain(config), "correlations": records}, config.out)
    console.print(f"written to {path}")
    return path


def compare(
    masks: Bool[np.ndarray, "models train"], one: Probabilities, other: Probabilities, independent: Probabilities
) -> dict[str, dict[str, float]]:
    """Correlations of memorization over the training examples, by score.

    They are those of two ensembles of jaxinfl, and the mean of those of the independent program with each of the two.
    """
    found = {}
    for score, of in {"probability": lambda p: p, "correct": lambda p: (p > 0.5).astype(np.float64)}.items():
        ours = [jaxinfl.memorization(masks, of(each)) for each in (one, other)]
        theirs = memorization(masks, of(independent))
        between = [np.corrcoef(each, theirs)[0, 1] for each in ours]
        within = np.corrcoef(*ours)[0, 1]
        found[score] = {"jaxinfl": float(within), "independent": float(np.mean(between))}
    return found


def memorization(masks: Bool[np.ndarray, "models train"], score: Probabilities) -> Float[np.ndarray, " train"]:
    """Mean score of the models that saw an example, minus that of the models that did not (Feldman and Zhang, 2020)."""
    inside = (masks * score).sum(0) / masks.sum(0)
    outside = (~masks * score).sum(0) / (~masks).sum(0)
    return inside - outside


def our_probabilities(
    data: Dataset, masks: Bool[np.ndarray, "models train"], recipe: Recipe, seed: int, *, as_sklearn: bool = False
) -> Probabilities:
    """Train by jaxinfl, with keys of this seed; `as_sklearn` takes scikit-learn's network in place of the usual one."""
    if as_sklearn:
        data = Dataset(
            train_inputs=data.train_inputs,
            train_targets=data.train_targets[:, None],
            test_inputs=data.test_inputs,
            test_targets=data.test_targets[:, None],
            task="binary",
        )
    runs = jaxinfl.train_ensemble(
        masks,
        jax.random.split(jax.random.key(seed), len(masks)),
        data=data,
        model=_sklearn_network if as_sklearn else partial(MLP, (FEATURES,), CLASSES, widths=(HIDDEN,)),
        recipe=recipe,
        tune=False,
        progress=False,
    )
    return runs.train_score("probability").astype(np.float64)


def _sklearn_network(rngs: nnx.Rngs) -> nnx.Module:
    """scikit-learn's network of two classes: one output, and weights and biases from one range, which the sizes decide."""

    def linear(inputs: int, outputs: int) -> nnx.Linear:
        bound = (6 / (inputs + outputs)) ** 0.5

        def draw(key: Array, shape: tuple[int, ...], *_: Any, **__: Any) -> Array:
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        return nnx.Linear(inputs, outputs, kernel_init=draw, bias_init=draw, rngs=rngs)

    return nnx.Sequential(linear(FEATURES, HIDDEN), jax.nn.relu, linear(HIDDEN, 1))


def sklearn_probabilities(data: Dataset, masks: Bool[np.ndarray, "models train"], recipe: Recipe) -> Probabilities:
    """Train by scikit-learn's `MLPClassifier`."""
    found = []
    for seed, mask in enumerate(masks):
        rows = standardize(data, mask)
        network = fit_classifier((HIDDEN,), recipe, rows[mask], data.train_targets[mask], seed=seed)
        found.append(network.predict_proba(rows)[np.arange(len(rows)), data.train_targets])
    return np.array(found, np.float64)


def torch_probabilities(data: Dataset, masks: Bool[np.ndarray, "models train"], recipe: Recipe) -> Probabilities:
    """Train by PyTorch, one model after another on one core."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.tensor(data.train_targets, dtype=torch.int64)
    found = []
    for mask in masks:
        rows = torch.tensor(standardize(data, mask))
        network = nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        for layer in (network[0], network[2]):
            # Flax's: a normal distribution cut at two deviations, with a deviation of (1 / inputs)^0.5 after the cut.
            deviation = layer.in_features**-0.5 / 0.87962566
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(network.parameters(), recipe.learning_rate, momentum=recipe.momentum)
        included = torch.tensor(np.flatnonzero(mask))
        for _ in range(recipe.epochs):
            for batch in included[torch.randperm(len(included))].split(recipe.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(rows[batch]), labels[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            found.append(network(rows).softmax(1)[torch.arange(len(rows)), labels].numpy())
    return np.array(found, np.float64)


def standardize(data: Dataset, mask: Bool[np.ndarray, " train"]) -> Float[np.ndarray, "train features"]:
    """The training rows, shifted and scaled by the mean and deviation of the rows of one subset."""
    rows = np.asarray(data.train_inputs, np.float64)
    return ((rows - rows[mask].mean(0)) / rows[mask].std(0)).astype(np.float32)


def _show(records: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print one line for each independent program and score."""
    table = Table(title="Correlation of memorization over the training examples of breast_cancer", title_justify="left")
    for heading in ("", "score", "jaxinfl, other keys", "jaxinfl and it", "difference"):
        table.add_column(heading, justify="left" if heading in ("", "score") else "right")
    for name, scores in records.items():
        for score, found in scores.items():
            cells = (found["jaxinfl"], found["independent"], found["independent"] - found["jaxinfl"])
            table.add_row(name, score, *(f"{value:.4f}" for value in cells))
    console.print(table)


def _plain(config: Config) -> dict[str, Any]:
    return {"models": config.models, "recipe": config.recipe.to_dict()}


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
