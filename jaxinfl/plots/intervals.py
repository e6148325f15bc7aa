"""Estimates with their intervals."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from jaxinfl.plots.style import COLOURS, SEEN_COLOUR, STYLE


class Estimates(NamedTuple):
    """The rows of one panel of `intervals_figure`, from the top down."""

    labels: Sequence[str]
    value: Float[np.ndarray, " rows"]
    low: Float[np.ndarray, " rows"]
    high: Float[np.ndarray, " rows"]
    marked: Bool[np.ndarray, " rows"]
    """Whether a row is drawn in another colour."""


def intervals_figure(panels: Mapping[str, Estimates], *, xlabel: str, note: str, title: str) -> Figure:
    """One panel for each training example, one row for each prediction: estimate and interval, 0 marked.

    Args:
      panels: name of the panel -> its estimates.
      xlabel: what is estimated.
      note: what the intervals and the marked rows are, below the title.
      title: title of the figure.
    """
    columns = min(2, max(len(panels), 1))
    rows = max(1, -(-len(panels) // columns))
    tallest = max((len(panel.labels) for panel in panels.values()), default=1)
    with matplotlib.rc_context(STYLE):
        width = 4.6 * columns
        figure = Figure(figsize=(width, rows * (0.24 * tallest + 0.75) + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for axes, (name, panel) in zip(grid.ravel(), panels.items(), strict=False):
            places = np.arange(len(panel.labels))
            axes.axvline(0, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
            for part, colour in ((panel.marked, SEEN_COLOUR), (~panel.marked, COLOURS[0])):
                # An interval may end at the estimate: rounding must not make that a negative length.
                reach = np.maximum([panel.value - panel.low, panel.high - panel.value], 0)[:, part]
                axes.errorbar(
                    panel.value[part], places[part], xerr=reach, fmt="o", color=colour, markersize=4, capsize=2.5
                )
            axes.set_yticks(places, panel.labels, parse_math=False)
            axes.set_ylim(len(places) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.set_title(name, parse_math=False)
        for axes in grid.ravel()[len(panels) :]:
            axes.remove()
        for axes in figure.axes[-columns:]:
            axes.set_xlabel(xlabel)
            axes.tick_params(labelbottom=True)
        wrapped = [*textwrap.wrap(title, int(13 * width)), *textwrap.wrap(note, int(15 * width))]
        figure.suptitle("\n".join(wrapped), fontsize=9.5, parse_math=False)
    return figure
