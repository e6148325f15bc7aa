"""Figures of the benchmarks, in the style of `jaxinfl.plots`: each function returns one and touches no file."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from jaxinfl.plots import COLOURS, STYLE

OURS_COLOUR, OTHER_COLOUR = "#c8442f", "#a9b4bf"


def bars(measured: Mapping[str, Sequence[float]], *, ours: str, title: str, unit: str) -> Figure:
    """Draw one bar for each contender: the median, with a whisker from the lowest to the highest."""
    names = list(measured)
    medians = np.array([statistics.median(measured[name]) for name in names])
    low, high = (np.array([chosen(measured[name]) for name in names]) for chosen in (min, max))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.9 + 0.36 * len(names)), layout="constrained")
        axes = figure.subplots()
        colours = [OURS_COLOUR if name == ours else OTHER_COLOUR for name in names]
        whiskers = {"ecolor": "#333333", "elinewidth": 0.9, "capsize": 2.5, "capthick": 0.9}
        axes.barh(names, medians, xerr=(medians - low, high - medians), color=colours, height=0.62, error_kw=whiskers)
        for row, (name, median, end) in enumerate(zip(names, medians, high, strict=True)):
            weight = "bold" if name == ours else "normal"
            text = short(float(median))
            axes.annotate(text, (end, row), (5, 0), textcoords="offset points", va="center", fontsize=8, weight=weight)
        axes.set_xlim(0, 1.13 * high.max())
        axes.set_xlabel(f"{unit} (bar: median, whisker: lowest to highest; rounds: {len(measured[ours])})")
        horizontal(axes)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def stacked_bars(
    parts: Mapping[str, Mapping[str, float]],
    totals: Mapping[str, float],
    targets: Mapping[str, float],
    *,
    title: str,
    unit: str,
) -> Figure:
    """Draw one bar for each situation, made of its parts one after another, with a line where it was to end.

    Args:
      parts: situation -> part -> length; every situation has the same parts in the same order.
      totals: situation -> length of the whole, written beside the bar: a median of sums is no sum of medians.
      targets: situation -> where its bar was to end at the latest.
      title: title of the figure.
      unit: unit of the lengths.
    """
    names = list(parts)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.5 + 0.5 * len(names)), layout="constrained")
        axes = figure.subplots()
        begin = np.zeros(len(names))
        for part, colour in zip(parts[names[0]], itertools.cycle(COLOURS), strict=False):
            lengths = np.array([parts[name][part] for name in names])
            axes.barh(names, lengths, left=begin, color=colour, height=0.56, label=part)
            begin += lengths
        for row, (name, end) in enumerate(zip(names, begin, strict=True)):
            target, text = targets[name], f"{short(totals[name])} (target {short(targets[name])})"
            axes.plot([target] * 2, [row - 0.4, row + 0.4], color="#333333", linewidth=1.2, linestyle=(0, (3, 2)))
            axes.annotate(text, (max(end, target), row), (6, 0), textcoords="offset points", va="center", fontsize=8)
        handles, labels = axes.get_legend_handles_labels()
        (mark,) = axes.plot([], [], color="#333333", linewidth=1.2, linestyle=(0, (3, 2)))
        axes.set_xlim(0, 1.22 * max(begin.max(), *targets.values()))
        axes.set_xlabel(unit)
        horizontal(axes)
        axes.set_title(title, loc="left")
        figure.legend([*handles, mark], [*labels, "target"], loc="outside lower center", ncols=4, fontsize=8)
    return figure


@dataclass(frozen=True)
class Panel:
    """One part of a figure about growth: measured values over sizes, on logarithmic axes."""

    size: str
    """Name of the size that grows, below the axis."""
    unit: str
    """Unit of the values."""
    lines: Mapping[str, Mapping[int, Sequence[float]]]
    """Name of the line -> size -> values of all rounds."""
    slope: float | None = None
    """Slope of a dotted line through the last point of the highest line, to compare with."""
    from_zero: bool = False
    """Whether the values start at 0 on a linear axis, for those that hardly grow."""


def growth(rows: Mapping[str, Sequence[Panel]]) -> Figure:
    """Draw titled rows of panels: medians with whiskers from the lowest to the highest.

    Panels of a row whose values have one unit share its axis and a legend below.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.4 * len(rows)), layout="constrained")
        parts = figure.subfigures(len(rows), 1, squeeze=False, hspace=0.05)[:, 0]
        for part, (title, panels) in zip(parts, rows.items(), strict=True):
            part.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
            alike = len({panel.unit for panel in panels}) == 1
            all_axes = part.subplots(1, len(panels), squeeze=False, sharey=alike)[0]
            for number, (axes, panel) in enumerate(zip(all_axes, panels, strict=True)):
                _draw_panel(axes, panel)
                if alike and number:
                    axes.set_ylabel("")
            if len(panels[0].lines) > 1:
                handles, labels = all_axes[0].get_legend_handles_labels()
                part.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    sizes = sorted({size for line in panel.lines.values() for size in line})
    highest = max(panel.lines.values(), key=lambda line: statistics.median(line[max(line)]))
    for (name, line), colour in zip(panel.lines.items(), itertools.cycle(COLOURS), strict=False):
        medians = np.array([statistics.median(values) for values in line.values()])
        spread = np.array([[m - min(v), max(v) - m] for m, v in zip(medians, line.values(), strict=True)]).T
        axes.errorbar(list(line), medians, spread, color=colour, marker="o", markersize=3.5, capsize=2, label=name)
    if panel.slope is not None:
        last = statistics.median(highest[sizes[-1]])
        guide = [1.6 * last * (size / sizes[-1]) ** panel.slope for size in sizes]
        (dotted,) = axes.plot(sizes, guide, ":", color="#777777", linewidth=1.1, label=f"slope {panel.slope:g}")
        if len(panel.lines) == 1:
            axes.legend(handles=[dotted], loc="upper left")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if panel.from_zero:
        axes.set_ylim(0, 1.15 * max(max(values) for line in panel.lines.values() for values in line.values()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(panel.size)
    axes.set_ylabel(panel.unit)


def horizontal(axes: Axes) -> None:
    """Turn bars sideways: the first on top, grid lines behind and upright only."""
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def short(value: float) -> str:
    """A number in three digits, or in all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
