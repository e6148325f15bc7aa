"""Figure 3: the number of models that tell two probabilities apart."""

import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jaxinfl.plots.style import STYLE

MOST_MODELS = 10_000
"""Number of models at which colours and axes end; only pairs that are nearly equal take more."""
_POWERS = (1, 10, 100, 1000, 10_000)


def models_needed_figure(
    shares: Float[np.ndarray, " shares"],
    models: Float[np.ndarray, "shares shares"],
    curves: Mapping[float, tuple[Float[np.ndarray, " influences"], Float[np.ndarray, " influences"]]],
    right: Float[np.ndarray, " test"],
    num_seeds: int,
    *,
    title: str,
) -> Figure:
    """Figure 3: models needed over p and q (left), over the influence (middle), and p over the test set (right).

    Args:
      shares: values of p and q, rising and evenly spaced.
      models: `models[i, j]` models tell `shares[i]` from `shares[j]`; infinity on the diagonal, which is left blank.
      curves: p -> influences p - q and models needed for each, one line for each p.
      right: share of the models that are right on each test example.
      num_seeds: number of models that `right` is a share of.
      title: title of the figure: data set, model, delta.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.1), layout="constrained")
        left, middle, last = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
        _draw_heat_map(figure, left, shares, models)
        _draw_curves(middle, curves)
        _draw_histogram(last, right, num_seeds)
        figure.suptitle("\n".join(textwrap.wrap(title, 140)), fontsize=10, parse_math=False)
    return figure


def _draw_heat_map(
    figure: Figure, axes: Axes, shares: Float[np.ndarray, " shares"], models: Float[np.ndarray, "shares shares"]
) -> None:
    colours = matplotlib.colormaps["viridis_r"].with_extremes(bad="#ffffff", over="#1c0228")
    finite = np.ma.masked_invalid(models)
    image = axes.pcolormesh(shares, shares, finite.T, norm=LogNorm(1, MOST_MODELS), cmap=colours, rasterized=True)
    # Between whole numbers, where a line has a side.
    lines = axes.contour(
        shares, shares, finite.T, levels=[9.5, 99.5, 999.5], colors="#ffffff", linewidths=0.9, linestyles="-"
    )
    axes.clabel(lines, fmt={9.5: "10", 99.5: "100", 999.5: "1000"}, fontsize=7)
    bar = figure.colorbar(image, ax=axes, extend="max", pad=0.02)
    bar.set_ticks(_POWERS, labels=[f"{power:,}" for power in _POWERS])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xlabel("p, right with the training example")
    axes.set_ylabel("q, right without it")
    axes.set_title("Models to tell p from q")


def _draw_curves(
    axes: Axes, curves: Mapping[float, tuple[Float[np.ndarray, " influences"], Float[np.ndarray, " influences"]]]
) -> None:
    colours = matplotlib.colormaps["plasma"](np.linspace(0.0, 0.85, max(len(curves), 1)))
    for (share, (influence, models)), colour in zip(curves.items(), colours, strict=True):
        axes.plot(influence, models, color=colour, linewidth=1.5, label=f"{share:g}")
    axes.set_yscale("log")
    axes.set_ylim(0.8, MOST_MODELS)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("influence, p - q")
    axes.set_ylabel("models")
    axes.legend(title="p", fontsize=8, title_fontsize=8)
    axes.set_title("Models by influence")


def _draw_histogram(axes: Axes, right: Float[np.ndarray, " test"], num_seeds: int) -> None:
    # One bar for each number of right models.
    number = np.bincount(np.rint(right * num_seeds).astype(np.intp), minlength=num_seeds + 1)
    axes.bar(np.arange(num_seeds + 1) / num_seeds, number, width=0.8 / num_seeds, color="#5b7083")
    axes.set_yscale("log")
    axes.set_ylim(0.7, 2 * max(int(number.max(initial=1)), 5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", visible=False)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"p, share of {num_seeds} models that are right")
    axes.set_ylabel("test examples")
    axes.set_title("p over the test set")
