"""Figure of simulations: the coverage of intervals, false discoveries, and planned numbers of models."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from jaxinfl.plots.style import STYLE


def simulations_figure(
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    coverage: Mapping[str, Mapping[str, Float[np.ndarray, "sizes shares"]]],
    confidence: float,
    false_discoveries: Mapping[str, tuple[float, float]],
    fdr: float,
    power: Mapping[str, tuple[float, float]],
    wanted: float,
    *,
    title: str,
) -> Figure:
    """Coverage of intervals (above), realized false discovery rates and achieved power (below), beside their nominal values.

    Args:
      num_models: numbers of models, rising.
      coverage: interval -> design -> share of intervals that cover, by number of models and by probability of being right
        without the example. There is one panel for each interval, with the same designs.
      confidence: nominal coverage, marked with 2 percentage points to either side.
      false_discoveries: name of a kind of tests -> mean share of false ones and its standard error.
      fdr: nominal false discovery rate.
      power: name of an influence -> achieved power and its standard error.
      wanted: power that was asked for.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 7), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(1, 0.95))
        above, below = halves
        panels = above.subplots(1, len(coverage), sharey=True, squeeze=False).ravel()
        for panel, (name, designs) in zip(panels, coverage.items(), strict=True):
            _draw_coverage(panel, num_models, designs, confidence)
            panel.set_title(name)
        panels[0].set_ylabel(f"{confidence:.0%} intervals that cover")
        handles, labels = panels[0].get_legend_handles_labels()
        above.legend(
            handles, labels, title="mean, and range over p from 0.02 to 0.98 (twice: two models on each subset)", loc="outside lower center", ncols=len(labels),
            fontsize=8, title_fontsize=8,
        )  # fmt: skip
        left, right = below.subplots(1, 2)
        _draw_rates(left, false_discoveries, fdr, "share of false discoveries")
        left.set_title("False discovery rate")
        left.set_xlim(0, max(1.5 * fdr, *(1.1 * (mean + 2 * error) for mean, error in false_discoveries.values())))
        _draw_rates(right, power, wanted, "achieved power")
        right.set_title("Power of the planned number")
        figure.suptitle("\n".join(textwrap.wrap(title, 130)), fontsize=10, parse_math=False)
    return figure


def coverage_figure(covered: Mapping[str, tuple[float, float, float]], confidence: float, *, title: str) -> Figure:
    """Coverage of many kinds of intervals, one row each, with its own interval.

    Args:
      covered: kind of interval -> share that covers, and the ends of the interval of that share.
      confidence: nominal coverage, marked with 2 percentage points to either side.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.21 * len(covered) + 1.4), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(covered))[::-1]
        share, low, high = (np.array([each[part] for each in covered.values()]) for part in range(3))
        axes.axvspan(confidence - 0.02, confidence + 0.02, color="#eeeeee", zorder=0, linewidth=0)
        axes.axvline(confidence, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
        spread = np.maximum(np.stack([share - low, high - share]), 0)
        axes.errorbar(share, rows, xerr=spread, fmt="o", color="#5b7083", markersize=4, linewidth=1)
        axes.set_yticks(rows, labels=list(covered), fontsize=7.5)
        axes.set_ylim(-0.7, len(covered) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.suptitle("\n".join(textwrap.wrap(title, 110)), fontsize=10, parse_math=False)
    return figure


def _draw_coverage(
    axes: Axes,
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    designs: Mapping[str, Float[np.ndarray, "sizes shares"]],
    confidence: float,
) -> None:
    axes.axhspan(confidence - 0.02, confidence + 0.02, color="#eeeeee", zorder=0, linewidth=0)
    axes.axhline(confidence, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
    colours = matplotlib.colormaps["tab10"](np.arange(10))
    # Side by side on the logarithmic axis, so that the ranges do not hide each other.
    shifts = 1.1 ** (np.arange(len(designs)) - (len(designs) - 1) / 2)
    for (name, values), shift, colour in zip(designs.items(), shifts, colours[: len(designs)], strict=True):
        mean = values.mean(axis=1)
        # A mean of equal values may be off by a unit in the last place.
        spread = np.maximum(np.stack([mean - values.min(axis=1), values.max(axis=1) - mean]), 0)
        axes.errorbar(
            np.asarray(num_models) * shift, mean, spread, fmt="o", color=colour, label=name, markersize=3.5, linewidth=1
        )
    axes.set_xscale("log")
    axes.set_xticks(list(num_models))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("models")


def _draw_rates(axes: Axes, values: Mapping[str, tuple[float, float]], nominal: float, label: str) -> None:
    """Draw one row for each name: a mean with two standard errors to either side, and the nominal value."""
    rows = np.arange(len(values))[::-1]
    means, errors = (np.array([pair[part] for pair in values.values()]) for part in (0, 1))
    axes.axvline(nominal, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
    axes.errorbar(means, rows, xerr=2 * errors, fmt="o", color="#5b7083", markersize=4, linewidth=1)
    axes.set_yticks(rows, labels=list(values), fontsize=7.5)
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{label} (bars: 2 standard errors; dashed: nominal)", fontsize=8)
