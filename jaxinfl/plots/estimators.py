"""Estimators side by side: agreement over the number of models, and models for a given agreement."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from jaxinfl.plots.style import COLOURS, STYLE

# Two lines that cross must differ in more than colour.
_MARKERS = "osD^vPX"


def estimator_curves_figure(
    panels: Mapping[str, Mapping[str, tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, "sizes repeats"]]]],
    *,
    target: float,
    ylabel: str,
    title: str,
) -> Figure:
    """One panel for each reference, one line for each estimator: mean over repeats, band of one standard deviation.

    Args:
      panels: reference -> estimator -> models (or their cost) and the agreement of each repeat, NaN where not measured. An
        estimator has the same colour in all panels, up to seven of them.
      target: agreement that is wanted, marked by a dashed line.
      ylabel: what the agreement is, beside the vertical axis.
      title: title of the figure.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    with matplotlib.rc_context(STYLE):
        width = 4.5 * len(panels)
        figure = Figure(figsize=(width, 4.6), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True, sharex=True)[0]
        for axes, (reference, curves) in zip(row, panels.items(), strict=True):
            for name, (models, values) in curves.items():
                place = names.index(name) % len(COLOURS)
                _draw_curve(axes, models, values, COLOURS[place], _MARKERS[place], name)
            axes.axhline(target, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_title(reference)
            axes.set_xlabel("models per estimate")
            axes.set_ylim(-0.02, 1.02)
        _scale_models(row[0], np.concatenate([models for panel in panels.values() for models, _ in panel.values()]))
        row[0].set_ylabel(ylabel)
        handles, labels = row[0].get_legend_handles_labels()
        note = f"line: mean, band: one standard deviation over repeats; dashed: {target:g}"
        figure.legend(handles, labels, title=note, loc="outside lower center", ncols=2, fontsize=8, title_fontsize=8)
        figure.suptitle("\n".join(textwrap.wrap(title, int(13 * width))), fontsize=10)
    return figure


def models_for_target_figure(
    names: Sequence[str],
    panels: Mapping[str, Float[np.ndarray, "estimators 3"]],
    *,
    largest: float,
    title: str,
) -> Figure:
    """One row for each estimator: number of models for the target, with an interval; the first row's number and its half are marked.

    Args:
      names: names of the estimators; the others are compared with the first.
      panels: reference -> lowest, middle and highest number of models over the repeats: infinite where the target was not
        reached, drawn as a triangle at the right; NaN where it is not defined, left out.
      largest: largest number of models that was tried.
      title: title of the figure.
    """
    edge = 1.35 * largest
    with matplotlib.rc_context(STYLE):
        width = 4.2 * len(panels) + 2.2
        figure = Figure(figsize=(width, 0.27 * len(names) + 1.5), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True, sharex=True)[0]
        for axes, (reference, numbers) in zip(row, panels.items(), strict=True):
            for place, (low, middle, high) in enumerate(numbers):
                colour = COLOURS[1] if place == 0 else COLOURS[0]
                if np.isnan(middle):
                    continue
                axes.plot([min(low, edge), min(high, edge)], [place, place], color=colour, linewidth=1.6)
                reached = np.isfinite(middle)
                axes.plot(
                    middle if reached else edge, place, "o" if reached else ">", color=colour, markersize=5.5,
                    markerfacecolor=colour if reached else "white",
                )  # fmt: skip
            published = numbers[0, 1]
            for number, style in ((published, "--"), (published / 2, ":")):
                if np.isfinite(number):
                    axes.axvline(number, color=COLOURS[1], linewidth=0.8, linestyle=style, zorder=0)
            axes.set_title(reference)
            axes.set_xlabel("models")
            axes.grid(axis="y", visible=False)
        row[0].set_yticks(range(len(names)), list(names))
        row[0].set_ylim(len(names) - 0.4, -0.6)
        values = np.concatenate([numbers[np.isfinite(numbers)] for numbers in panels.values()] + [np.array([largest])])
        _scale_models(row[0], values)
        row[0].set_xlim(0.8 * values.min(), 1.12 * edge)
        figure.suptitle("\n".join(textwrap.wrap(title, int(12 * width))), fontsize=9.5)
    return figure


def _draw_curve(
    axes: Axes,
    models: Float[np.ndarray, " sizes"],
    values: Float[np.ndarray, "sizes repeats"],
    colour: str,
    marker: str,
    name: str,
) -> None:
    known = ~np.isnan(values).all(axis=1)
    models, values = models[known], np.ma.masked_invalid(values[known])
    mean = values.mean(axis=1).filled(np.nan)
    axes.plot(models, mean, marker=marker, color=colour, markersize=4, linewidth=1.5, label=name)
    if values.shape[1] > 1:
        spread = np.ma.filled(values.std(axis=1, ddof=1), 0.0)
        axes.fill_between(models, mean - spread, mean + spread, color=colour, alpha=0.13, linewidth=0)


def _scale_models(axes: Axes, models: Float[np.ndarray, " models"]) -> None:
    """Make the axis of models logarithmic and label its doublings."""
    axes.set_xscale("log")
    ends = np.log2(models.min() / 50), np.log2(models.max() / 50)
    axes.xaxis.set_major_locator(
        FixedLocator((50 * 2.0 ** np.arange(np.floor(ends[0]), np.ceil(ends[1]) + 1)).tolist())
    )
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
