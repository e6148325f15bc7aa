"""The figure of `benchmarks/gpu_program.py`: estimated time of a training step over the number of models at once."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from jaxinfl.plots import COLOURS, STYLE

_LINES: dict[str, dict[str, Any]] = {
    "gemm": {"linestyle": "-", "marker": "o"},
    "xla": {"linestyle": "--", "marker": "s", "markerfacecolor": "white"},
}
_NAMES = {"gemm": "patches", "xla": "XLA's convolutions"}

Way = tuple[str, str]
"""Name of a card, and kernels."""


def estimates_figure(networks: Mapping[str, Mapping[Way, Mapping[int, float]]]) -> Figure:
    """Draw one panel a network: estimated microseconds of a step and model over the width, a line for each card and way.

    Args:
      networks: network -> (card, kernels) -> width -> estimated seconds.
    """
    columns = 5
    with matplotlib.rc_context(STYLE):
        rows = max(1, math.ceil(len(networks) / columns))
        figure = Figure(figsize=(2.5 * columns, 0.9 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        cards = list(dict.fromkeys(card for ways in networks.values() for card, _ in ways))
        handles = {}
        for axes, (name, ways) in zip(panels, networks.items(), strict=False):
            for (card, kernels), times in ways.items():
                colour = COLOURS[cards.index(card) % len(COLOURS)]
                microseconds = [seconds * 1e6 for seconds in times.values()]
                (line,) = axes.plot(list(times), microseconds, **_LINES[kernels], color=colour, markersize=4)
                handles[f"{card}, {_NAMES[kernels]}"] = line
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_locator(FixedLocator(sorted({width for times in ways.values() for width in times})))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_title(name, loc="left")
        for axes in panels[-columns:]:
            axes.set_xlabel("models at once")
        for axes in panels[len(networks) :]:
            axes.set_axis_off()
        figure.supylabel("us a step and model (estimate)", fontsize=9)
        figure.suptitle("Estimated by the compiler, never run", x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, fontsize=8)
    return figure


__all__ = ["Way", "estimates_figure"]
