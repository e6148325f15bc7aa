"""The style that all figures share."""

from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 150,
}
"""Matplotlib settings of every figure."""

SEEN_COLOUR, OTHER_COLOUR = "#c8442f", "#4a4a4a"
COLOURS = ("#2f6f9f", "#c8442f", "#6a994e", "#8a6bb1", "#d9a441", "#5b7083", "#4fa3a5")


def rising_colours(number: int) -> np.ndarray:
    """One colour for each of `number` rising sizes, the last the darkest."""
    return matplotlib.colormaps["viridis_r"](np.linspace(0.1, 0.95, number))


def draw_band(
    axes: Axes,
    thresholds: Float[np.ndarray, " thresholds"],
    values: Float[np.ndarray, "repeats thresholds"],
    colour: object,
    label: str,
    style: str = "-",
) -> None:
    """Draw mean and one sample standard deviation over repeats, where at least half of the repeats have a value."""
    defined = np.isfinite(values)
    shown = defined.sum(axis=0) * 2 >= len(values)
    if not shown.any():
        return
    part = np.ma.masked_invalid(values[:, shown])
    mean = part.mean(axis=0).filled(np.nan)
    axes.plot(thresholds[shown], mean, style, color=colour, label=label, linewidth=1.6)
    if style == "-" and len(values) > 1:
        spread = np.ma.filled(part.std(axis=0, ddof=1), 0.0)
        # An IOU lies in 0..1; a mean plus a deviation need not.
        low, high = np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)
        axes.fill_between(thresholds[shown], low, high, color=colour, alpha=0.15, linewidth=0)
