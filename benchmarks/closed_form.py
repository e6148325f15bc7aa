"""Influence of leaving one example out, against a closed form and against another library's refits.

    python -m benchmarks.closed_form                about 20 seconds; docs/closed_form.png is its figure

Claim: for linear regression the measured influence is that of the hat matrix (Cook, 1977), within 1e-4 of the largest influence.
For logistic regression it is that of scikit-learn's refits without the example, within 1e-3.

Models are trained on full batches until they have converged, so that nothing is left of the seed: on all 24 examples of a table of
3 features, and without each of them. The influence of a training example is the residual, or the margin, of a test example with it
minus that without it. The tests in `tests/test_closed_form.py` hold the same numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import tyro
from flax import nnx
from jaxtyping import Bool, Float, Float32
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

import jaxinfl
from benchmarks.record import console, write
from jaxinfl import Dataset, Recipe
from jaxinfl.arguments import expand_home
from jaxinfl.plots import COLOURS, STYLE

TRAIN, TEST, FEATURES = 24, 7, 3
DECAY = 0.05
"""Weight decay of logistic regression; without it separable examples would have no solution."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


@dataclass(frozen=True)
class Comparison:
    """Influences of one kind of model from two sources."""

    measured: Float[np.ndarray, "train test"]
    """Influence by jaxinfl."""
    exact: Float[np.ndarray, "train test"]
    """Influence by the closed form or by refits."""

    @property
    def deviation(self) -> float:
        """Largest deviation of the two, as a share of the largest influence."""
        return float(np.abs(self.measured - self.exact).max() / np.abs(self.exact).max())


def main(config: Config) -> Path:
    """Train, compare and report; returns the JSON file."""
    out = expand_home(config.out, "--out")
    found = {"linear": linear_regression(), "logistic": logistic_regression()}
    for name, comparison in found.items():
        console.print(f"{name} regression: largest deviation {comparison.deviation:.1e} of the largest influence")
    record = {
        name: {"deviation": each.deviation, "measured": each.measured.tolist(), "exact": each.exact.tolist()}
        for name, each in found.items()
    }
    return write("closed_form", record, closed_form_figure(**found), out)


def linear_regression() -> Comparison:
    """Residuals move by h_ij e_i / (1 - h_ii), the textbook's formula (Cook, 1977)."""
    inputs, targets = _table()
    measured = _leave_out(
        inputs,
        targets,
        task="regression",
        score="residual",
        recipe=Recipe(epochs=400, batch_size=TRAIN, learning_rate=0.1, weight_decay=0.0, schedule="constant"),
    )
    x = _with_ones(inputs)
    inverse = np.linalg.inv(x[:TRAIN].T @ x[:TRAIN])
    residuals = targets[:TRAIN] - x[:TRAIN] @ (inverse @ x[:TRAIN].T @ targets[:TRAIN])
    leverage = np.einsum("ij,jk,ik->i", x[:TRAIN], inverse, x[:TRAIN])
    # The test residual with the example, minus that without it.
    return Comparison(measured, -(x[:TRAIN] @ inverse @ x[TRAIN:].T) * (residuals / (1 - leverage))[:, None])


def logistic_regression() -> Comparison:
    """L2 of weight decay w on weights and bias alike: scikit-learn's C is 1 / (w n) for the n examples of a fit."""
    from sklearn.linear_model import LogisticRegression

    inputs, numbers = _table()
    labels = (numbers > 0).astype(np.int64)
    measured = _leave_out(
        inputs,
        labels,
        task="binary",
        score="margin",
        recipe=Recipe(epochs=600, batch_size=TRAIN, learning_rate=0.5, weight_decay=DECAY, schedule="constant"),
    )
    # A column of ones is decayed as the bias is.
    x, sign = _with_ones(inputs), np.where(labels[TRAIN:] == 1, 1, -1)

    def refit(kept: Bool[np.ndarray, " train"]) -> Float[np.ndarray, " test"]:
        model = LogisticRegression(C=1 / (DECAY * kept.sum()), fit_intercept=False, tol=1e-10, max_iter=1000)
        margins: np.ndarray = sign * model.fit(x[:TRAIN][kept], labels[:TRAIN][kept]).decision_function(x[TRAIN:])
        return margins

    whole = refit(np.ones(TRAIN, bool))
    return Comparison(measured, np.stack([whole - refit(np.arange(TRAIN) != i) for i in range(TRAIN)]))


def _table() -> tuple[Float32[np.ndarray, "examples features"], Float32[np.ndarray, " examples"]]:
    """Inputs of all examples, those for training first, and a number for each that follows from them and noise."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(TRAIN + TEST, FEATURES)).astype(np.float32)
    return inputs, (inputs @ np.array([1.0, -2.0, 0.5]) + rng.normal(0, 0.5, len(inputs))).astype(np.float32)


def _with_ones(inputs: np.ndarray) -> Float[np.ndarray, "examples columns"]:
    return np.column_stack([inputs.astype(np.float64), np.ones(len(inputs))])


def _leave_out(
    inputs: np.ndarray, targets: np.ndarray, *, task: str, score: str, recipe: Recipe
) -> Float[np.ndarray, "train test"]:
    """What each training example does to a score of every test example, by models of jaxinfl with and without it."""
    data = Dataset(
        train_inputs=inputs[:TRAIN],
        train_targets=targets[:TRAIN],
        test_inputs=inputs[TRAIN:],
        test_targets=targets[TRAIN:],
        task=task,
    )
    masks = np.concatenate([np.ones((1, TRAIN), bool), jaxinfl.leave_one_out(TRAIN, range(TRAIN), 1)])
    # One key for all, so that they differ in their subsets alone.
    keys = jnp.stack([jax.random.key(0)] * len(masks))
    runs = jaxinfl.train_ensemble(masks, keys, data=data, model=_linear, recipe=recipe, tune=False, progress=False)
    scores = runs.test_score(score).astype(np.float64)
    return scores[:1] - scores[1:]


def _linear(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Linear(FEATURES, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)


def closed_form_figure(linear: Comparison, logistic: Comparison) -> Figure:
    """Draw measured over exact influences of all pairs, one panel for each kind of model."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw(left, linear, "Linear regression", "by the hat matrix", "residual")
        _draw(right, logistic, "Logistic regression", "by scikit-learn", "margin")
        figure.get_layout_engine().set(wspace=0.08)
    return figure


def _draw(axes: Axes, comparison: Comparison, title: str, exact: str, score: str) -> None:
    style: dict[str, Any] = {"s": 16, "color": COLOURS[0], "alpha": 0.55, "linewidths": 0, "zorder": 3}
    axes.axline((0, 0), slope=1, color="#777777", linewidth=0.9, zorder=2)
    axes.scatter(comparison.exact, comparison.measured, **style)
    end = 1.1 * np.abs([comparison.exact, comparison.measured]).max()
    axes.set(xlim=(-end, end), ylim=(-end, end), aspect="equal", title=title)
    axes.set_xlabel(f"influence on the {score}, {exact}")
    axes.set_ylabel(f"influence on the {score}, by jaxinfl")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.1))
    text = f"{comparison.exact.size} pairs; largest deviation\n{_power(comparison.deviation)} of the largest influence"
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=8, zorder=4)


def _power(value: float) -> str:
    """A small number as a multiple of a power of ten."""
    digits, exponent = f"{value:.1e}".split("e")
    return rf"${digits} \times 10^{{{int(exponent)}}}$"


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
