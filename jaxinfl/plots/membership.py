"""Membership inference: ROC curves on logarithmic axes, what shadows gain, and the risk of single examples."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxinfl.plots.style import COLOURS, STYLE

Roc = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]
"""Rates of false alarms and of members told, both rising."""
_POINTS = 2000
"""Number of points of a curve that are drawn: more would not be seen, and make files of megabytes."""


def roc_figure(curves: Mapping[str, Roc], *, title: str) -> Figure:
    """Draw the share of members told over the rate of false alarms, both on logarithmic axes, where weak attacks differ from strong ones.

    Args:
      curves: name of an attack -> its curve.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.4), layout="constrained")
        axes = figure.subplots()
        least = 1.0
        for number, (name, (fpr, tpr)) in enumerate(curves.items()):
            shown = (fpr > 0) & (tpr > 0)
            if not shown.any():
                continue
            wanted = np.geomspace(fpr[shown][0], 1, _POINTS)
            place = np.unique(np.clip(np.searchsorted(fpr, wanted, side="right") - 1, 0, fpr.size - 1))
            axes.plot(fpr[place], tpr[place], color=COLOURS[number % len(COLOURS)], linewidth=1.4, label=name)
            least = min(least, float(fpr[shown][0]))
        axes.plot([least, 1], [least, 1], color="#9a9a9a", linewidth=0.8, linestyle=":", label="chance")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(least, 1)
        axes.set_ylim(least, 1.1)
        axes.set_xlabel("rate of false alarms")
        axes.set_ylabel("share of members told")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.legend(loc="lower right", fontsize=8)
        axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    return figure


def shadows_figure(
    sizes: Int[np.ndarray, " sizes"],
    auc: Mapping[str, Float[np.ndarray, "sizes repeats"]],
    tpr: Mapping[str, Float[np.ndarray, "sizes repeats"]],
    *,
    fpr: float,
    title: str,
) -> Figure:
    """Draw how well membership is told over the number of models, each the target of the others.

    Args:
      sizes: numbers of models.
      auc, tpr: name of an attack -> area under the curve, and share of members told at the rate of false alarms `fpr`; the repeats are
        disjoint groups of models, filled up with NaN.
      fpr: that rate.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, values, label in zip(
            panels,
            (auc, tpr),
            ("area under the ROC curve", f"share of members told at {fpr:g} false alarms"),
            strict=True,
        ):
            for number, (name, repeats) in enumerate(values.items()):
                colour = COLOURS[number % len(COLOURS)]
                known = np.isfinite(repeats)
                with np.errstate(invalid="ignore"):
                    mean = np.where(known, repeats, 0).sum(axis=1) / known.sum(axis=1)
                axes.plot(sizes, mean, "-o", markersize=3.5, color=colour, label=name)
                for row, size in enumerate(sizes):
                    axes.plot(np.full(known[row].sum(), size), repeats[row][known[row]], ".", color=colour, alpha=0.25)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xlabel("models")
            axes.set_ylabel(label)
        panels[0].axhline(0.5, color="#9a9a9a", linewidth=0.8, linestyle=":")
        panels[0].legend(loc="best", fontsize=8)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", parse_math=False)
    return figure


def risk_figure(
    memorization: Float[np.ndarray, " train"],
    risk: Float[np.ndarray, " train"],
    correlation: float,
    *,
    title: str,
) -> Figure:
    """Draw the risk of each training example over its memorization.

    Args:
      memorization: memorization of each example.
      risk: probability that a model that saw the example is told from one that did not.
      correlation: rank correlation of the two.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(memorization, risk, ".", color=COLOURS[0], markersize=3, alpha=0.35)
        axes.axhline(0.5, color="#9a9a9a", linewidth=0.8, linestyle=":")
        axes.set_xlabel("memorization")
        axes.set_ylabel("risk: told apart with probability")
        axes.set_title(f"{title}\nrank correlation {correlation:.2f}", loc="left", fontsize=10, parse_math=False)
    return figure
