"""IOU of influence estimates over the threshold: Figure 1, and Figures 5 and 6 of Appendix D."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, ScalarFormatter

from jaxinfl.plots.style import COLOURS, STYLE, draw_band, rising_colours
from jaxinfl.units import format_amount

FEW_PAIRS = 5
"""Number of pairs below which thresholds are shaded: an IOU that rests on so few jumps from one pair to the next."""


def consistency_figure(
    thresholds: Float[np.ndarray, " thresholds"],
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    curves: Float[np.ndarray, "sizes repeats thresholds"],
    same_subsets: Mapping[int, Float[np.ndarray, "_ thresholds"]],
    num_pairs: Int[np.ndarray, " thresholds"],
    *,
    title: str,
    unit: str = "",
) -> Figure:
    """Figure 1: IOU over the influence threshold, and below it on how many pairs it rests.

    Args:
      thresholds: thresholds of influence, rising.
      num_models: numbers of models per estimate, rising, one for each curve.
      curves: IOU between estimates from disjoint subsets (left); NaN where no pair reaches the threshold.
      same_subsets: number of models per estimate -> IOU between estimates from the same subsets with other seeds
        (right), beside which the left panel's curve of that size is repeated; without any there is no such panel.
      num_pairs: number of pairs whose influence, estimated from all models, reaches the threshold.
      title: title of the figure: data set, model, condition.
      unit: what to say of the thresholds' unit, behind "influence threshold"; nothing where it is that of a probability.
    """
    colours = rising_colours(len(num_models))
    with matplotlib.rc_context(STYLE):
        columns = 2 if same_subsets else 1
        figure = Figure(figsize=(9 if same_subsets else 5.5, 4.8), layout="constrained")
        above, below = figure.subplots(2, columns, sharex=True, sharey="row", height_ratios=(4.5, 1), squeeze=False)
        left, right = above[0], above[-1]
        for size, values, colour in zip(num_models, curves, colours, strict=True):
            draw_band(left, thresholds, values, colour, f"{size}")
            if size in same_subsets:
                draw_band(right, thresholds, same_subsets[size], colour, f"{size}, same subsets")
                draw_band(right, thresholds, values, colour, f"{size}, different subsets", style=":")
        if same_subsets:
            right.set_title("Same subsets, different seeds")
        left.set_title("Different subsets")
        left.set_ylabel("IOU of two estimates")
        for axes in above:
            axes.axhline(0.7, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_ylim(-0.02, 1.02)
            _shade_few(axes, thresholds, num_pairs)
        below[0].set_xlim(0, _last_shown(thresholds, num_pairs))
        for axes in below:
            axes.plot(thresholds, np.where(num_pairs > 0, num_pairs, np.nan), ".-", color="#5b7083", markersize=3)
            axes.set_yscale("log")
            axes.set_ylim(0.6, max(2.5 * num_pairs.max(initial=1), 10))
            _label_powers(axes.yaxis, int(num_pairs.max(initial=1)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_xlabel(f"influence threshold{unit}")
        below[0].set_ylabel("pairs")
        _add_legend(figure, left, right)
        figure.suptitle("\n".join(textwrap.wrap(title, 110)), fontsize=10, parse_math=False)
    return figure


def _add_legend(figure: Figure, left: Axes, right: Axes) -> None:
    """Draw the legend of both panels below them, with what the marks mean."""
    handles, labels = left.get_legend_handles_labels()
    more_handles, more_labels = right.get_legend_handles_labels()
    dotted = [handle for handle, label in zip(more_handles, more_labels, strict=True) if "different" in label]
    if dotted:
        handles.append(dotted[0])
        labels.append("different subsets again")
    figure.legend(
        handles,
        labels,
        title=f"models per estimate (line: mean, band: one standard deviation; dashed: IOU 0.7; "
        f"grey: fewer than {FEW_PAIRS} pairs)",
        loc="outside lower center",
        ncols=min(8, max(1, len(labels))),
        fontsize=8,
        title_fontsize=8,
    )


def _label_powers(axis: Axis, highest: int) -> None:
    """Label some powers of ten: plain numbers, or from ten thousand on every second or third as 1k, 1M."""
    if highest < 10_000:
        axis.set_major_formatter(ScalarFormatter())
        return
    last = int(np.log10(highest))
    axis.set_major_locator(FixedLocator([10.0**power for power in range(0, last + 1, -(-last // 3))]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_amount(value).replace(" ", "")))


def _last_shown(thresholds: Float[np.ndarray, " thresholds"], num_pairs: Int[np.ndarray, " thresholds"]) -> float:
    """The threshold at which a panel ends: beyond the last pair there is nothing to agree on but noise."""
    some = thresholds[num_pairs > 0]
    return 1.08 * float(max(some.max() if some.size else thresholds.max(), 2 * thresholds.min()))


def _shade_few(
    axes: Axes, thresholds: Float[np.ndarray, " thresholds"], num_pairs: Int[np.ndarray, " thresholds"]
) -> None:
    few = thresholds[num_pairs < FEW_PAIRS]
    if few.size:
        axes.axvspan(few.min(), max(thresholds.max(), 1.0), color="#f1f1f1", zorder=-1, linewidth=0)


def scores_figure(
    thresholds: Float[np.ndarray, " thresholds"],
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    between: Mapping[str, Float[np.ndarray, "sizes repeats thresholds"]],
    against_all: Mapping[str, Float[np.ndarray, "sizes repeats thresholds"]],
    num_pairs: Int[np.ndarray, " thresholds"],
    *,
    title: str,
) -> Figure:
    """Figures 5 and 6: one panel for each number of models, with the IOU of estimates from different scores.

    Args:
      thresholds: thresholds of influence, rising.
      num_models: numbers of models per estimate, rising, one for each column.
      between: name of the score -> IOU of two estimates from it (Figure 5, upper row).
      against_all: name of the score -> IOU of an estimate from it with the 0-1 estimate of all models (Figure 6, lower row).
      num_pairs: number of pairs whose influence, estimated from 0-1 scores of all models, reaches the threshold.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        width = 1.9 * max(len(num_models), 2) + 0.8
        figure = Figure(figsize=(width, 4.8), layout="constrained")
        grid = figure.subplots(2, len(num_models), sharex=True, sharey=True, squeeze=False)
        for row, panels in zip(grid, (between, against_all), strict=True):
            for column, axes in enumerate(row):
                for (name, values), colour in zip(panels.items(), COLOURS, strict=False):
                    draw_band(axes, thresholds, values[column], colour, name)
                axes.axhline(0.7, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
                axes.set_ylim(-0.02, 1.02)
                _shade_few(axes, thresholds, num_pairs)
        for axes, size in zip(grid[0], num_models, strict=True):
            axes.set_title(f"{size} models")
        for axes in grid[1]:
            axes.set_xlabel("influence threshold")
        grid[0, 0].set_xlim(0, _last_shown(thresholds, num_pairs))
        grid[0, 0].set_ylabel("IOU of two estimates")
        grid[1, 0].set_ylabel("IOU with all models' 0-1")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        note = f"line: mean, band: one standard deviation; dashed: IOU 0.7; grey: fewer than {FEW_PAIRS} pairs"
        figure.legend(handles, labels, title=note, loc="outside lower center", ncols=4, fontsize=8, title_fontsize=8)
        figure.suptitle("\n".join(textwrap.wrap(title, int(13 * width))), fontsize=10)
    return figure
