"""The contender in scikit-learn: `MLPClassifier`, one model after another."""

import time
import warnings
from typing import Any

import numpy as np

from benchmarks.networks import RATIO, Network
from jaxinfl import Recipe


def fit_classifier(widths: tuple[int, ...], recipe: Recipe, rows: np.ndarray, labels: np.ndarray, *, seed: int) -> Any:
    """A perceptron with these hidden layers that is trained by a recipe's steps: SGD with momentum at one rate, and no early stop."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier(
        widths,
        solver="sgd",
        alpha=0.0,
        batch_size=recipe.batch_size,
        learning_rate_init=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterovs_momentum=False,
        max_iter=recipe.epochs,
        n_iter_no_change=recipe.epochs + 1,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # It expects to be trained until the loss stays.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(rows, labels)


def fit_models(network: Network, inputs: np.ndarray, labels: np.ndarray, seconds: float) -> tuple[float, Any]:
    """Steps a second over whole models, each on a random subset, and the last of them. It fits one model at least."""
    rows = inputs.reshape(len(inputs), -1)
    size, begun, models = int(RATIO * len(rows)), time.perf_counter(), 0
    while not models or time.perf_counter() - begun < seconds:
        subset = np.random.default_rng(models).permutation(len(rows))[:size]
        fitted = fit_classifier(network.widths, network.recipe, rows[subset], labels[subset], seed=models)
        models += 1
    return models * network.steps(len(rows)) / (time.perf_counter() - begun), fitted
