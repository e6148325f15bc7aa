"""Figures from arrays: each function returns a matplotlib figure and touches no file."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "figure.dpi": 150,
}
"""Matplotlib settings of every figure."""

SEEN_COLOUR, OTHER_COLOUR = "#c8442f", "#4a4a4a"


def consistency_figure(
    thresholds: Float[np.ndarray, " thresholds"],
    num_models: Sequence[int] | Int[np.ndarray, " sizes"],
    curves: Float[np.ndarray, "sizes repeats thresholds"],
    same_subsets: dict[int, Float[np.ndarray, "repeats thresholds"]],
    num_pairs: Int[np.ndarray, " thresholds"],
    *,
    title: str,
) -> Figure:
    """Figure 1: IOU over the influence threshold, and below it on how many pairs it rests.

    Args:
      thresholds: of influence.
      num_models: models of each estimate, one a curve.
      curves: IOU between estimates from disjoint subsets (left); NaN where no pair reaches the threshold.
      same_subsets: number of models an estimate -> IOU between estimates from the same subsets with other seeds
        (right), beside which the left panel's curve of that size is repeated.
      num_pairs: pairs whose influence, estimated from all models, reaches the threshold.
      title: of the figure: data set, model, condition.
    """
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 0.95, len(num_models)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4, 1))
        (left, right), below = panels
        for size, values, colour in zip(num_models, curves, colours, strict=True):
            _band(left, thresholds, values, colour, f"{size}")
            if size in same_subsets:
                _band(right, thresholds, same_subsets[size], colour, f"{size}, same subsets")
                _band(right, thresholds, values, colour, f"{size}, different subsets", style=":")
        left.set_title("Different subsets")
        right.set_title("Same subsets, different seeds")
        left.set_ylabel("IOU of two estimates")
        for axes in (left, right):
            axes.axhline(0.7, color="#9a9a9a", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_ylim(-0.02, 1.02)
            axes.legend(title="models an estimate", loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
        # Beyond the last pair there is nothing to agree on but noise.
        some = thresholds[num_pairs > 0]
        below[0].set_xlim(0, 1.08 * max(some.max() if some.size else 1.0, 0.1))
        for axes in below:
            axes.fill_between(thresholds, np.maximum(num_pairs, 0.5), 0.5, step="mid", color="#b9c4cc", linewidth=0)
            axes.set_yscale("log")
            axes.set_ylim(0.5, max(2 * num_pairs.max(), 2))
            axes.set_xlabel("Influence threshold")
        below[0].set_ylabel("pairs")
        figure.suptitle(title, fontsize=10)
    return figure


def _band(
    axes: Axes,
    thresholds: Float[np.ndarray, " thresholds"],
    values: Float[np.ndarray, "repeats thresholds"],
    colour: object,
    label: str,
    style: str = "-",
) -> None:
    """Mean and one standard deviation over repeats, where at least half of the repeats have a value."""
    defined = np.isfinite(values)
    shown = defined.sum(axis=0) * 2 >= len(values)
    if not shown.any():
        return
    part = np.ma.masked_invalid(values[:, shown])
    mean, spread = part.mean(axis=0).filled(np.nan), part.std(axis=0).filled(0.0)
    axes.plot(thresholds[shown], mean, style, color=colour, label=label, linewidth=1.6)
    if style == "-":
        # An IOU lies in 0..1; a mean plus a deviation need not.
        low, high = np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)
        axes.fill_between(thresholds[shown], low, high, color=colour, alpha=0.15, linewidth=0)


def pairs_gallery(
    train_images: UInt8[np.ndarray, "pairs h w c"],
    test_images: UInt8[np.ndarray, "pairs h w c"],
    train_labels: Sequence[str],
    test_labels: Sequence[str],
    influence: Float[np.ndarray, " pairs"],
    memorization: Float[np.ndarray, " pairs"],
    train_index: Int[np.ndarray, " pairs"],
    test_index: Int[np.ndarray, " pairs"],
    *,
    title: str,
    columns: int = 3,
) -> Figure:
    """Pairs of a training example and a test example, most influential first, each with its labels and scores."""
    rows = max(1, -(-len(influence) // columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns, 1.85 * rows + 0.5), layout="constrained")
        grid: Any = figure.subfigures(rows, columns, squeeze=False, wspace=0.02, hspace=0.02)
        for pair, cell in enumerate(grid.ravel()[: len(influence)]):
            left, right = cell.subplots(1, 2)
            _image(left, train_images[pair], f"train {train_index[pair]}: {train_labels[pair]}", SEEN_COLOUR)
            _image(right, test_images[pair], f"test {test_index[pair]}: {test_labels[pair]}", OTHER_COLOUR)
            cell.suptitle(
                f"influence {influence[pair]:.2f}, memorization {memorization[pair]:.2f}",
                fontsize=8.5,
                y=0.04,
                va="bottom",
            )
        figure.suptitle(title if len(influence) else f"{title}: no pair has a defined influence", fontsize=10)
    return figure


def _image(axes: Axes, image: UInt8[np.ndarray, "h w c"], title: str, colour: str) -> None:
    # Grey images: the ink of digits is bright, and dark on light prints better.
    shown = 255 - image[..., 0] if image.shape[-1] < 3 else image[..., :3]
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    # A class may be named "$".
    axes.set_title(title, fontsize=8, color=colour, fontweight="normal", pad=3, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
