"""The contender in scikit-learn: `MLPClassifier`, one model after another."""

import time
import warnings
from typing import Any

import numpy as np

from benchmarks.networks import MOMENTUM, RATIO, Network


def make_classifier(network: Network, seed: int) -> Any:
    """The untrained perceptron of a network, which makes the same steps as the others: SGD with momentum, and no early stop."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        network.widths,
        solver="sgd",
        alpha=0.0,
        batch_size=network.batch_size,
        learning_rate_init=network.learning_rate,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        max_iter=network.epochs,
        n_iter_no_change=network.epochs + 1,
        random_state=seed,
    )


def fit_models(network: Network, inputs: np.ndarray, labels: np.ndarray, seconds: float) -> tuple[float, Any]:
    """Steps a second over whole models, each on a random subset, and the last of them. It fits one model at least."""
    from sklearn.exceptions import ConvergenceWarning

    rows = inputs.reshape(len(inputs), -1)
    size, begun, models = int(RATIO * len(rows)), time.perf_counter(), 0
    with warnings.catch_warnings():
        # It expects to be trained until the loss stays.
        warnings.simplefilter("ignore", ConvergenceWarning)
        while not models or time.perf_counter() - begun < seconds:
            subset = np.random.default_rng(models).permutation(len(rows))[:size]
            fitted = make_classifier(network, models).fit(rows[subset], labels[subset])
            models += 1
    return models * network.steps(len(rows)) / (time.perf_counter() - begun), fitted
