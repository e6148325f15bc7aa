"""Influence of leaving one example out, against closed forms and another library's refits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import Dataset, Recipe

TRAIN, TEST, FEATURES = 24, 7, 3


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(TRAIN + TEST, FEATURES)).astype(np.float32)
    return inputs, (inputs @ np.array([1.0, -2.0, 0.5]) + rng.normal(0, 0.5, len(inputs))).astype(np.float32)


def left_out(data, model, recipe, score):
    """What leaving each training example out does to a score of every test example: [train, test]."""
    masks = np.concatenate([np.ones((1, TRAIN), bool), jaxinfl.leave_one_out(TRAIN, range(TRAIN), 1)])
    # One key for all, so that they differ in their subsets alone.
    keys = jnp.stack([jax.random.key(0)] * len(masks))
    runs = jaxinfl.train_ensemble(masks, keys, data=data, model=model, recipe=recipe, tune=False, progress=False)
    scores = runs.test_score(score).astype(np.float64)
    return scores[:1] - scores[1:]


def linear(rngs):
    return nnx.Linear(FEATURES, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)


def test_linear_regression_left_out_equals_the_hat_matrix(table):
    """Full batches to convergence: residuals move by h_ij e_i / (1 - h_ii), the textbook's formula (Cook, 1977)."""
    inputs, targets = table
    data = Dataset(
        train_inputs=inputs[:TRAIN],
        train_targets=targets[:TRAIN],
        test_inputs=inputs[TRAIN:],
        test_targets=targets[TRAIN:],
        task="regression",
    )
    recipe = Recipe(epochs=400, batch_size=TRAIN, learning_rate=0.1, weight_decay=0.0, schedule="constant")
    measured = left_out(data, linear, recipe, "residual")
    x = np.column_stack([inputs.astype(np.float64), np.ones(len(inputs))])
    inverse = np.linalg.inv(x[:TRAIN].T @ x[:TRAIN])
    residuals = targets[:TRAIN] - x[:TRAIN] @ (inverse @ x[:TRAIN].T @ targets[:TRAIN])
    leverage = np.einsum("ij,jk,ik->i", x[:TRAIN], inverse, x[:TRAIN])
    # The test residual with the example, minus that without it.
    expected = -(x[:TRAIN] @ inverse @ x[TRAIN:].T) * (residuals / (1 - leverage))[:, None]
    np.testing.assert_allclose(measured, expected, atol=1e-4 * np.abs(expected).max())


def test_logistic_regression_left_out_equals_refits_of_scikit_learn(table):
    """L2 of weight decay w on weights and bias alike: scikit-learn's C is 1 / (w n) for the n examples of a fit."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    inputs, numbers = table
    labels, decay = (numbers > 0).astype(np.int64), 0.05
    data = Dataset(
        train_inputs=inputs[:TRAIN],
        train_targets=labels[:TRAIN, None],
        test_inputs=inputs[TRAIN:],
        test_targets=labels[TRAIN:, None],
        task="binary",
    )
    recipe = Recipe(epochs=600, batch_size=TRAIN, learning_rate=0.5, weight_decay=decay, schedule="constant")
    measured = left_out(data, linear, recipe, "margin")
    # A column of ones is decayed as the bias is.
    x = np.column_stack([inputs.astype(np.float64), np.ones(len(inputs))])
    sign = np.where(labels[TRAIN:] == 1, 1, -1)

    def refit(kept):
        model = linear_model.LogisticRegression(
            C=1 / (decay * kept.sum()), fit_intercept=False, tol=1e-10, max_iter=1000
        )
        return sign * model.fit(x[:TRAIN][kept], labels[:TRAIN][kept]).decision_function(x[TRAIN:])

    whole = refit(np.ones(TRAIN, bool))
    expected = np.stack([whole - refit(np.arange(TRAIN) != i) for i in range(TRAIN)])
    np.testing.assert_allclose(measured, expected, atol=1e-3 * np.abs(expected).max())
