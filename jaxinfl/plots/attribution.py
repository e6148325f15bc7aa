"""Attributions against ground truth: linear datamodeling scores below their ceiling, and predictions that flip."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from jaxinfl.plots.style import COLOURS, STYLE

_MARKERS = "osD^vPX<>"
_LINES = ("-", "--", ":", "-.")


def lds_figure(
    names: Sequence[str], scores: Float[np.ndarray, "attributions 3"], ceiling: float, *, title: str
) -> Figure:
    """Linear datamodeling score of each attribution with its interval, and the noise ceiling that none can exceed.

    Args:
      names: names of the attributions, from top to bottom.
      scores: mean, lower and upper end; the ends may be NaN.
      ceiling: score of the true expectations; NaN draws none.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 1.5 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(names))
        axes.hlines(rows, scores[:, 1], scores[:, 2], color=COLOURS[0], linewidth=1.5)
        axes.plot(scores[:, 0], rows, "o", color=COLOURS[0], markersize=5)
        axes.axvline(0, color="#9a9a9a", linewidth=0.8, zorder=0)
        known = np.append(scores.ravel(), [ceiling, 0.0, 0.1])
        lowest, highest = float(np.nanmin(known)), float(np.nanmax(known))
        if np.isfinite(ceiling):
            axes.axvline(ceiling, color=COLOURS[1], linewidth=1.2, linestyle="--", zorder=0)
            axes.annotate(
                "noise ceiling", (ceiling, 1), xycoords=("data", "axes fraction"), xytext=(-4, 3), textcoords="offset points",
                ha="right", fontsize=8, color=COLOURS[1],
            )  # fmt: skip
        axes.set_yticks(rows, names, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(lowest - 0.02, 1.05 * highest)
        axes.set_xlabel("linear datamodeling score, with its 95% interval")
        figure.suptitle("\n".join(textwrap.wrap(title, 75)), fontsize=10, parse_math=False)
    return figure


def flips_figure(
    removals: Int[np.ndarray, " removals"], curves: Mapping[str, Float[np.ndarray, "removals 3"]], *, title: str
) -> Figure:
    """Share of the predictions that flip over the number of training examples that are left out, a line for each attribution.

    Args:
      removals: numbers of examples that are left out, rising.
      curves: name -> share, lower and upper end of its interval, at each number.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4.4), layout="constrained")
        axes = figure.subplots()
        # Intervals beside each other, not over each other.
        removals, shift = np.asarray(removals), np.linspace(0.96, 1.04, len(curves))
        for place, (name, shares) in enumerate(curves.items()):
            colour, x = COLOURS[place % len(COLOURS)], removals * shift[place]
            axes.vlines(x, shares[:, 1], shares[:, 2], color=colour, linewidth=0.8, alpha=0.5)
            line, marker = _LINES[place // len(COLOURS)], _MARKERS[place % len(_MARKERS)]
            axes.plot(x, shares[:, 0], color=colour, label=name, linestyle=line, marker=marker, markersize=4)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(removals.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("training examples left out")
        axes.set_ylabel("predictions that flip")
        figure.legend(
            title="examples left out by (bars: 95% interval over test examples)",
            loc="outside lower center",
            ncols=2,
            fontsize=8,
            title_fontsize=8,
        )
        figure.suptitle("\n".join(textwrap.wrap(title, 75)), fontsize=10, parse_math=False)
    return figure


__all__ = ["flips_figure", "lds_figure"]
