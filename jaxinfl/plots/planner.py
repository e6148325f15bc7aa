"""Predicted IOU beside what was measured."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from jaxinfl.influence import IOUCurve
from jaxinfl.plots.style import STYLE, rising_colours
from jaxinfl.statistics import ModelPlan


def plan_figure(plan: ModelPlan, measured: IOUCurve, *, title: str) -> Figure:
    """Predicted curves with bands, measured IOU as points: over the threshold (left), over the number of models (right).

    Args:
      plan: what the pilot predicts; the influence and the IOU that were asked for and the pilot's size are marked on the right.
      measured: IOU of estimates from other models, at the thresholds of the plan and, last, at the influence asked for. On the
        left it is shown where there is a prediction.
      title: title of the figure.
    """
    steps, at_threshold, pilot, threshold = plan.steps, plan.at_threshold, plan.pilot_models, plan.threshold
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_over_thresholds(left, plan, measured)
        right.plot(steps, at_threshold.iou, color="#2f6f9f", linewidth=1.6)
        right.fill_between(steps, at_threshold.low, at_threshold.high, color="#2f6f9f", alpha=0.15, linewidth=0)
        for size, values in zip(measured.num_models, measured.values, strict=True):
            _draw_points(right, np.array([float(size)]), values[:, -1:], "#222222")
        right.axhline(plan.target_iou, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
        right.axvline(pilot, color="#9a9a9a", linewidth=0.8, linestyle=":", zorder=0)
        right.annotate(
            "pilot", (pilot, 0.0), (3, 2), textcoords="offset points", fontsize=8, color="#6a6a6a", rotation=90
        )
        right.set_xscale("log")
        ticks = [
            round(pilot * 2.0**power) for power in range(-3, 12) if steps[0] <= pilot * 2.0**power <= 1.01 * steps[-1]
        ]
        right.set_xticks(ticks)
        right.xaxis.set_major_formatter(ScalarFormatter())
        right.xaxis.set_minor_locator(NullLocator())
        right.set_xlabel("models per estimate")
        right.set_title(f"At influence {threshold:g}")
        left.set_ylabel("IOU of two estimates")
        left.set_ylim(-0.02, 1.02)
        note = (
            f"lines and bands: predicted, {plan.confidence:.0%} intervals of the expected IOU; points: measured, mean ± standard "
            f"deviation over splits; dashed: IOU {plan.target_iou:g}"
        )
        figure.suptitle("\n".join([*textwrap.wrap(title, 115), *textwrap.wrap(note, 140)]), fontsize=9)
    return figure


def _draw_over_thresholds(axes: Axes, plan: ModelPlan, measured: IOUCurve) -> None:
    by_size = dict(zip(measured.num_models.tolist(), measured.values, strict=True))
    sizes, thresholds = plan.num_models.tolist(), plan.thresholds
    # Side by side, so that bars do not hide each other.
    shifts = 0.004 * (np.arange(len(sizes)) - (len(sizes) - 1) / 2)
    for row, (size, colour, shift) in enumerate(zip(sizes, rising_colours(len(sizes)), shifts, strict=True)):
        iou, low, high = (part[row] for part in plan.curve)
        axes.plot(thresholds, iou, color=colour, linewidth=1.6, label=f"{size}")
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.1, linewidth=0)
        predicted = np.isfinite(iou)
        if size in by_size and predicted.any():
            _draw_points(axes, thresholds[predicted] + shift, by_size[size][:, :-1][:, predicted], colour)
    axes.set_xlabel("influence threshold")
    axes.set_title("Over the threshold")
    axes.legend(title="models per estimate", fontsize=8, title_fontsize=8, loc="lower right")


def pilots_figure(
    thresholds: Float[np.ndarray, " thresholds"],
    panels: Mapping[
        str,
        tuple[
            Int[np.ndarray, " sizes"] | Sequence[int],
            Float[np.ndarray, "pilots sizes thresholds"],
            Float[np.ndarray, "pilots sizes thresholds"],
        ],
    ],
    *,
    title: str,
) -> Figure:
    """Predictions of many pilots (thin lines) and the IOU that the models outside of each have (thick: its mean).

    Args:
      thresholds: thresholds of influence, rising.
      panels: name of the row -> models per estimate, predicted IOU, measured IOU; NaN where a pilot cannot tell. One column a size.
      title: title of the figure.
    """  # fmt: skip
    with matplotlib.rc_context(STYLE):
        columns = max(len(sizes) for sizes, _, _ in panels.values())
        figure = Figure(figsize=(2.7 * columns + 0.6, 1.75 * len(panels) + 0.9), layout="constrained")
        grid = figure.subplots(len(panels), columns, sharex=True, sharey=True, squeeze=False)
        for row, (name, (sizes, predicted, measured)) in zip(grid, panels.items(), strict=True):
            for column, (axes, size) in enumerate(zip(row, sizes, strict=False)):
                axes.plot(thresholds, predicted[:, column].T, color="#2f6f9f", linewidth=0.7, alpha=0.6)
                defined = np.isfinite(measured[:, column]).any(axis=0)
                mean = np.nanmean(measured[:, column][:, defined], axis=0)
                axes.plot(thresholds[defined], mean, color="#222222", linewidth=1.8)
                axes.set_title(f"{name}, {size} models" if column == 0 else f"{size} models", fontsize=8.5)
                axes.set_ylim(-0.02, 1.02)
        for axes in grid[-1]:
            axes.set_xlabel("influence threshold")
        for axes in grid[:, 0]:
            axes.set_ylabel("IOU")
        figure.suptitle("\n".join(textwrap.wrap(title, int(14 * (2.7 * columns + 0.6)))), fontsize=9.5)
    return figure


def _draw_points(
    axes: Axes, places: Float[np.ndarray, " places"], values: Float[np.ndarray, "repeats places"], colour: object
) -> None:
    """Draw mean and standard deviation over the repeats that are not NaN, where there are at least two."""
    defined = np.isfinite(values).sum(axis=0) > 1
    if not defined.any():
        return
    some = values[:, defined]
    mean, deviation = np.nanmean(some, axis=0), np.nanstd(some, axis=0, ddof=1)
    axes.errorbar(
        places[defined], mean, deviation, fmt="o", color=colour, markersize=3.5, linewidth=0.9, markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip
