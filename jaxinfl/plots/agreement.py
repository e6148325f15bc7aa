"""Agreement of models, a matrix each (Figure 2a)."""

import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxinfl.plots.style import STYLE


def agreement_figure(matrices: Mapping[str, Float[np.ndarray, "models models"]], *, title: str) -> Figure:
    """Figure 2a: how often each pair of models says the same, one matrix for each network, with its numbers.

    Args:
      matrices: name of the network -> share of equal predictions of each pair of models; few, so that the numbers can be read.
      title: title of the figure.
    """
    # The diagonal is 1 whatever the models are; the colours tell the pairs apart.
    pairs = [matrix[~np.eye(len(matrix), dtype=bool)] for matrix in matrices.values()]
    low = min((values.min() for values in pairs if values.size), default=0.0)
    with matplotlib.rc_context(STYLE):
        width = 2.9 * len(matrices) + 0.8
        figure = Figure(figsize=(width, 3.3), layout="constrained")
        row = figure.subplots(1, len(matrices), squeeze=False)[0]
        for axes, (name, matrix) in zip(row, matrices.items(), strict=True):
            image = axes.imshow(matrix, cmap="Greens", vmin=low - 0.25 * (1 - low), vmax=1, interpolation="nearest")
            middle = low + 0.5 * (1 - low)
            for (one, other), value in np.ndenumerate(matrix):
                colour = "white" if value > middle else "#222222"
                axes.text(other, one, f"{value:.3f}", ha="center", va="center", fontsize=9, color=colour)
            names = [f"seed {number + 1}" for number in range(len(matrix))]
            axes.set_xticks(range(len(matrix)), names, parse_math=False)
            axes.set_yticks(range(len(matrix)), names, rotation=90, va="center", parse_math=False)
            axes.set_title(name, parse_math=False)
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.tick_params(length=0)
        figure.colorbar(image, ax=list(row), label="share of equal predictions", pad=0.02, ticks=MaxNLocator(5))
        figure.suptitle("\n".join(textwrap.wrap(title, int(14 * width))), fontsize=10)
    return figure
