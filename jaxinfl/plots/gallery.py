"""Pictures of pairs of examples."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxinfl.plots.style import OTHER_COLOUR, SEEN_COLOUR, STYLE


def pairs_gallery(
    train_inputs: UInt8[np.ndarray, "pairs h w c"],
    test_inputs: UInt8[np.ndarray, "pairs h w c"],
    train_captions: Sequence[str],
    test_captions: Sequence[str],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 3,
) -> Figure:
    """Pairs of a training example and a test example, each image with its caption above, each pair with one below.

    Args:
      train_inputs, test_inputs: the images of each pair.
      train_captions, test_captions: captions above these images.
      captions: caption below each pair.
      title: title of the figure.
      columns: number of pairs in a row.
    """
    rows = max(1, -(-len(captions) // columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns, 1.85 * rows + 0.5), layout="constrained")
        grid: Any = figure.subfigures(rows, columns, squeeze=False, wspace=0.02, hspace=0.02)
        for pair, cell in enumerate(grid.ravel()[: len(captions)]):
            left, right = cell.subplots(1, 2)
            _draw_image(left, train_inputs[pair], train_captions[pair], SEEN_COLOUR)
            _draw_image(right, test_inputs[pair], test_captions[pair], OTHER_COLOUR)
            cell.suptitle(captions[pair], fontsize=8.5, y=0.04, va="bottom", parse_math=False)
        heading = title if captions else f"{title}: no pair has a defined influence"
        figure.suptitle(heading, fontsize=10, parse_math=False)
    return figure


def _draw_image(axes: Axes, image: UInt8[np.ndarray, "h w c"], caption: str, colour: str) -> None:
    # Grey images: the ink of digits is bright, and dark on light prints better.
    shown = 255 - image[..., 0] if image.shape[-1] < 3 else image[..., :3]
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    # A class may be named "$", or have a name longer than its picture is wide.
    short = textwrap.shorten(caption, 24, placeholder=" ...")
    axes.set_title(short, fontsize=8, color=colour, fontweight="normal", pad=3, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
