"""The figure of `benchmarks/roofline.py`: programs under the roofs of GPUs, and the time that follows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.figures import COLOURS, horizontal, short
from jaxinfl.plots import STYLE

_ROOF_STYLES = (("#9aa5b1", "-"), ("#9aa5b1", "--"), ("#333333", "-"), ("#333333", "--"))
_MARKS = {3600: (0.001, 0.01, 0.1, 1, 10), 60: (2, 20), 1: (3, 30, 300)}
"""Marks of an axis of durations, about a factor of ten apart, by units an hour."""


@dataclass(frozen=True)
class Roof:
    """Bound on the rate of a program: memory below some number of operations for each byte, arithmetic above."""

    name: str
    bandwidth: float
    """Bandwidth of the memory in bytes a second."""
    peak: float
    """Rate of the arithmetic in operations a second."""


@dataclass(frozen=True)
class Point:
    """One program under the roofs."""

    name: str
    intensity: float
    """Operations a byte, with the least traffic that the program can have."""
    fused_intensity: float
    """Operations a byte, with the traffic of the program as it is compiled."""
    hours: Mapping[str, Sequence[float]]
    """GPU -> hours at rising distance from its roof."""


def roofline_figure(roofs: Sequence[Roof], points: Sequence[Point], *, num_models: int) -> Figure:
    """Left: rate over operations a byte, roofs as lines. Right: GPU time, from the roof to 30% of it, a mark at 60%."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _draw_roofs(left, roofs, points)
        _draw_hours(right, points)
        right.set_xlabel(f"GPU time of {num_models:,} models in TF32")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _draw_roofs(axes: Axes, roofs: Sequence[Roof], points: Sequence[Point]) -> None:
    intensities = [value for point in points for value in (point.intensity, point.fused_intensity)]
    ridges = [roof.peak / roof.bandwidth for roof in roofs]
    low, high = min(*intensities, 3.0) / 1.6, max(*intensities, *ridges) * 2.2
    x = np.geomspace(low, high, 200)
    for roof, (colour, style) in zip(roofs, itertools.cycle(_ROOF_STYLES), strict=False):
        rate = np.minimum(x * roof.bandwidth, roof.peak) / 1e12
        axes.plot(x, rate, style, color=colour, linewidth=1.5, label=roof.name)
    best = max(roofs, key=lambda roof: (roof.bandwidth, -roof.peak))
    for point, colour in zip(points, itertools.cycle(COLOURS[2:] + COLOURS[:2]), strict=False):
        at = (point.fused_intensity, point.intensity)
        reached = [min(value * best.bandwidth, best.peak) / 1e12 for value in at]
        axes.plot(at, reached, color=colour, linewidth=0.8, alpha=0.7)
        axes.plot(at[0], reached[0], "o", color=colour, markerfacecolor="white", markersize=5)
        axes.plot(at[1], reached[1], "o", color=colour, markersize=6, label=point.name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("operations a byte (full: least traffic, hollow: as XLA fuses it)")
    axes.set_ylabel("TFLOP/s at best")
    axes.set_title("Roofline", loc="left")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_hours(axes: Axes, points: Sequence[Point]) -> None:
    devices = list(points[0].hours)
    height = 0.8 / len(devices)
    for number, (device, colour) in enumerate(zip(devices, ("#9aa5b1", "#333333"), strict=False)):
        rows = np.arange(len(points)) + (number - (len(devices) - 1) / 2) * height
        hours = np.array([point.hours[device] for point in points])
        axes.barh(rows, hours[:, -1] - hours[:, 0], left=hours[:, 0], height=0.8 * height, color=colour, label=device)
        axes.plot(hours[:, 1], rows, "|", color="white", markersize=8, markeredgewidth=1.4)
        for row, (best, *_, worst) in zip(rows, hours, strict=True):
            text: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7}
            axes.annotate(duration(best), (best, row), (-3, 0), ha="right", **text)
            axes.annotate(duration(worst), (worst, row), (3, 0), **text)
    axes.set_yticks(range(len(points)), [point.name.replace(", ", "\n") for point in points])
    axes.set_xscale("log")
    horizontal(axes)
    low, high = (
        chosen(hours for point in points for each in point.hours.values() for hours in each) for chosen in (min, max)
    )
    axes.set_xlim(low / 12, high * 12)
    marks = [number / unit for unit, numbers in _MARKS.items() for number in numbers]
    axes.xaxis.set_major_locator(FixedLocator([mark for mark in marks if low / 12 < mark < high * 12]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.set_title("From the roof to 30% of it (mark: 60%)", loc="left")
    axes.legend(loc="lower right", fontsize=8)


def duration(hours: float) -> str:
    """A duration in the unit that fits."""
    value, unit = next(
        ((hours * size, unit) for size, unit in ((1, "h"), (60, "min")) if hours * size >= 0.9999), (3600 * hours, "s")
    )
    return f"{short(value)} {unit}"
