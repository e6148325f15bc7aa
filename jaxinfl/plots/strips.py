"""Repeated measurements side by side, every one of them shown."""

import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxinfl.plots.style import COLOURS, STYLE


def strips_figure(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " values"]]], *, ylabel: str, title: str
) -> Figure:
    """One panel for each network, one strip of dots for each group, with mean and standard deviation.

    Args:
      panels: name of the panel -> name of the group -> its values.
      ylabel: what the values are.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        width = 4.0 * len(panels) + 0.5
        figure = Figure(figsize=(width, 3.4), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, groups) in zip(row, panels.items(), strict=True):
            for place, (values, colour) in enumerate(zip(groups.values(), COLOURS, strict=False)):
                # The same sideways scatter every time: figures are compared byte for byte.
                beside = np.random.default_rng(len(values)).uniform(-0.28, 0.28, len(values))
                axes.plot(place + beside, values, ".", color=colour, alpha=0.35, markersize=4, markeredgewidth=0)
                deviation = values.std(ddof=1) if len(values) > 1 else 0.0
                axes.errorbar(
                    place, values.mean(), deviation, fmt="o", color="#222222", markersize=4.5, capsize=3, elinewidth=1.2
                )
            axes.set_xticks(range(len(groups)), list(groups), parse_math=False)
            axes.set_xlim(-0.6, len(groups) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_title(name, parse_math=False)
        row[0].set_ylabel(ylabel)
        wrapped = textwrap.wrap(f"{title} (black: mean ± standard deviation)", int(14 * width))
        figure.suptitle("\n".join(wrapped), fontsize=10, parse_math=False)
    return figure
