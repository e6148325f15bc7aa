"""IOU of two estimates over the influence threshold (Figure 1)."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from jaxinfl.plots.style import STYLE

FEW_PAIRS = 5
"""An IOU that rests on fewer pairs jumps from one to the next."""


def consistency_figure(
    thresholds: Float[np.ndarray, " thresholds"],
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    curves: Float[np.ndarray, "sizes repeats thresholds"],
    same_subsets: Mapping[int, Float[np.ndarray, "repeats thresholds"]],
    num_pairs: Int[np.ndarray, " thresholds"],
    *,
    title: str,
) -> Figure:
    """Figure 1: IOU over the influence threshold, and below it on how many pairs it rests.

    Args:
      thresholds: of influence, rising.
      num_models: models per estimate, rising, one a curve.
      curves: IOU between estimates from disjoint subsets (left); NaN where no pair reaches the threshold.
      same_subsets: number of models per estimate -> IOU between estimates from the same subsets with other seeds
        (right), beside which the left panel's curve of that size is repeated.
      num_pairs: pairs whose influence, estimated from all models, reaches the threshold.
      title: of the figure: data set, model, condition.
    """
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 0.95, len(num_models)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.8), layout="constrained")
        (left, right), below = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4.5, 1))
        for size, values, colour in zip(num_models, curves, colours, strict=True):
            _band(left, thresholds, values, colour, f"{size}")
            if size in same_subsets:
                _band(right, thresholds, same_subsets[size], colour, f"{size}, same subsets")
                _band(right, thresholds, values, colour, f"{size}, different subsets", style=":")
        left.set_title("Different subsets")
        right.set_title("Same subsets, different seeds")
        left.set_ylabel("IOU of two estimates")
        for axes in (left, right):
            axes.axhline(0.7, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_ylim(-0.02, 1.02)
            _shade_few(axes, thresholds, num_pairs)
        # Beyond the last pair there is nothing to agree on but noise.
        some = thresholds[num_pairs > 0]
        below[0].set_xlim(0, 1.08 * max(some.max() if some.size else 1.0, 0.1))
        for axes in below:
            axes.plot(thresholds, np.where(num_pairs > 0, num_pairs, np.nan), ".-", color="#5b7083", markersize=3)
            axes.set_yscale("log")
            axes.set_ylim(0.6, max(2.5 * num_pairs.max(initial=1), 10))
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("influence threshold")
        below[0].set_ylabel("pairs")
        _legends(figure, left, right)
        figure.suptitle("\n".join(textwrap.wrap(title, 110)), fontsize=10)
    return figure


def _legends(figure: Figure, left: Axes, right: Axes) -> None:
    """Side by side under the panels, with what the marks mean."""
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


def _shade_few(
    axes: Axes, thresholds: Float[np.ndarray, " thresholds"], num_pairs: Int[np.ndarray, " thresholds"]
) -> None:
    few = thresholds[num_pairs < FEW_PAIRS]
    if few.size:
        axes.axvspan(few.min(), max(thresholds.max(), 1.0), color="#f1f1f1", zorder=-1, linewidth=0)


def _band(
    axes: Axes,
    thresholds: Float[np.ndarray, " thresholds"],
    values: Float[np.ndarray, "repeats thresholds"],
    colour: object,
    label: str,
    style: str = "-",
) -> None:
    """Mean and one sample standard deviation over repeats, where at least half of the repeats have a value."""
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
