"""Accuracy over a grid of hyperparameters."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxinfl.plots.style import SEEN_COLOUR, STYLE

_DARK = 0.55  # of the colour map, below which letters are white


def sweep_figure(
    accuracy: Float[np.ndarray, "ratios rates"],
    diverged: Bool[np.ndarray, "ratios rates"],
    rates: Sequence[str],
    ratios: Sequence[str],
    chosen: tuple[int, int],
    *,
    title: str,
) -> Figure:
    """Heat map of a sweep, each cell with its number.

    Args:
      accuracy: mean validation accuracy, 0..1; NaN where no model of the cell has one.
      diverged: whether a model of the cell diverged; such cells are hatched.
      rates, ratios: labels of the columns from the left, and of the rows from below.
      chosen: row and column of the cell that was chosen, framed.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        size = (0.72 * len(rates) + 2.6, 0.46 * len(ratios) + 1.7)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        defined = np.ma.masked_invalid(100 * accuracy)
        image = axes.imshow(defined, origin="lower", aspect="auto", cmap="viridis", interpolation="nearest")
        shades = np.ma.getdata(image.norm(defined))
        for (row, column), value in np.ndenumerate(accuracy):
            _draw_cell(axes, row, column, value, bool(diverged[row, column]), float(shades[row, column]))
        row, column = chosen
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=SEEN_COLOUR, linewidth=2.4, clip_on=False)
        )
        axes.set_xticks(range(len(rates)), rates)
        axes.set_yticks(range(len(ratios)), ratios)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("weight decay / learning rate")
        axes.grid(False)
        figure.colorbar(image, ax=axes, label="validation accuracy (%)", pad=0.02)
        marks = "framed: chosen" + ("; hatched: a model diverged" if diverged.any() else "")
        wrapped = textwrap.wrap(f"{title} ({marks})", int(13 * size[0]))
        figure.suptitle("\n".join(wrapped), fontsize=10, parse_math=False)
    return figure


def _draw_cell(axes: Axes, row: int, column: int, value: float, diverged: bool, shade: float) -> None:
    if diverged:
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#8c8c8c", hatch="////", linewidth=0)
        )
    if np.isfinite(value):
        colour = "white" if shade < _DARK else "#222222"
        axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=7.5, color=colour)
