"""Pairs of a training and a test example, as pictures, as profiles of numbers or as text."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
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


def pairs_profiles(
    train_profiles: Float[np.ndarray, "pairs features"],
    test_profiles: Float[np.ndarray, "pairs features"],
    train_captions: Sequence[str],
    test_captions: Sequence[str],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 3,
) -> Figure:
    """Pairs of a training and a test example of a table: the features of both in one panel, in standard deviations.

    Args:
      train_profiles, test_profiles: the features of each pair's examples, in deviations from a common mean.
      train_captions, test_captions: what is said of these examples, above each panel in their colours.
      captions: caption below each pair.
      title: title of the figure.
      columns: number of pairs in a row.
    """
    rows = max(1, -(-len(captions) // columns))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns, 1.85 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.ravel():
            axes.set_axis_off()
        for pair, axes in enumerate(grid.ravel()[: len(captions)]):
            axes.set_axis_on()
            feature = np.arange(train_profiles.shape[1])
            axes.axhline(0, color="#b9b9b9", linewidth=0.7)
            axes.plot(feature, train_profiles[pair], color=SEEN_COLOUR, linewidth=1.2)
            axes.plot(feature, test_profiles[pair], color=OTHER_COLOUR, linewidth=1.2)
            above = ((train_captions, SEEN_COLOUR, 0.0, "left"), (test_captions, OTHER_COLOUR, 1.0, "right"))
            for texts, colour, x, side in above:
                short = textwrap.shorten(texts[pair], 24, placeholder=" ...")
                where: dict[str, Any] = {"transform": axes.transAxes, "ha": side, "va": "bottom"}
                axes.text(x, 1.02, short, color=colour, fontsize=7.5, parse_math=False, **where)
            axes.set_xlabel(captions[pair], fontsize=8, parse_math=False)
            axes.tick_params(labelsize=7)
        for axes in grid[:, 0]:
            axes.set_ylabel("deviations", fontsize=8)
        heading = f"{title}\nFeatures by number, in standard deviations from the mean of the training set"
        figure.suptitle(heading, fontsize=10, parse_math=False)
    return figure


def pairs_texts(
    train_texts: Sequence[str],
    test_texts: Sequence[str],
    train_captions: Sequence[str],
    test_captions: Sequence[str],
    captions: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Pairs of a training and a test text beside each other, a pair a row; words that both have are bold.

    Args:
      train_texts, test_texts: the texts of each pair, of which some 60 words are shown.
      train_captions, test_captions: what is said of these texts, above them in their colours.
      captions: caption of each pair, above both.
      title: title of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.1 * max(1, len(captions)) + 0.6), layout="constrained")
        grid = figure.subplots(max(1, len(captions)), 2, squeeze=False)
        for row in grid:
            for axes in row:
                axes.set_axis_off()
        for pair, row in enumerate(grid[: len(captions)]):
            both = set(train_texts[pair].split()) & set(test_texts[pair].split())
            common = {word for word in both if any(map(str.isalnum, word))}
            sides = ((train_texts, train_captions, SEEN_COLOUR), (test_texts, test_captions, OTHER_COLOUR))
            for axes, (texts, names, colour) in zip(row, sides, strict=True):
                axes.text(
                    0, 1, names[pair], color=colour, fontsize=8, va="bottom", transform=axes.transAxes, parse_math=False
                )
                _write_words(axes, texts[pair].split(), common)
            row[0].set_title(captions[pair], fontsize=8, loc="left", pad=14, parse_math=False)
        figure.suptitle(f"{title}\nWords that both have are bold", fontsize=10, parse_math=False)
    return figure


_WORDS_SHOWN, _LINE = 60, 80
"""Number of words of a text that are shown, and number of characters of a line."""


def _write_words(axes: Axes, words: Sequence[str], bold: set[str]) -> None:
    """Write words into an empty panel in lines of one width; a monospaced font puts each where it belongs."""
    column = line = 0
    for word in words[:_WORDS_SHOWN]:
        shown = textwrap.shorten(word, _LINE, placeholder="")
        if column + len(shown) > _LINE:
            column, line = 0, line + 1
        axes.text(
            column / _LINE,
            0.92 - 0.2 * line,
            shown,
            family="monospace",
            fontsize=6.5,
            va="top",
            fontweight="bold" if word in bold else "normal",
            color="#1f1f1f" if word in bold else "#6b6b6b",
            transform=axes.transAxes,
            parse_math=False,
        )
        column += len(shown) + 1
