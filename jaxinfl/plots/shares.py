"""Figures 3 (right) and 4: the distribution over test examples of the share of models that are right."""

import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from jaxinfl.plots.style import COLOURS, STYLE


def shares_figure(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " test"]]], num_models: int, *, title: str
) -> Figure:
    """Figure 4: number of test examples by the share p of the models that are right on them.

    Args:
      panels: name of the network -> name of the way to predict -> p of each test example.
      num_models: number of models that each p is a share of; there is one group of bars for each number of right ones, or for each twentieth
        where there are more than 20 models.
      title: title of the figure.
    """
    bins = min(num_models + 1, 21)
    with matplotlib.rc_context(STYLE):
        width = 3.9 * len(panels) + 0.5
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, ways) in zip(row, panels.items(), strict=True):
            bar = 0.8 / (bins - 1) / max(len(ways), 1)
            for number, ((way, shares), colour) in enumerate(zip(ways.items(), COLOURS, strict=False)):
                position = np.rint(shares * (bins - 1)).astype(np.intp)
                counts = np.bincount(position, minlength=bins)
                offset = (number - (len(ways) - 1) / 2) * bar
                axes.bar(np.arange(bins) / (bins - 1) + offset, counts, width=bar, color=colour, label=way)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(bottom=0.7)
            axes.grid(axis="x", visible=False)
            axes.set_axisbelow(True)
            axes.set_xlabel(f"p, share of {num_models} models that are right")
            axes.set_title(name, parse_math=False)
        row[0].set_ylabel("test examples")
        row[0].legend(loc="upper left", fontsize=8)
        figure.suptitle("\n".join(textwrap.wrap(title, int(14 * width))), fontsize=10)
    return figure
