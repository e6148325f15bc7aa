"""What notebooks show of a value: small tables of HTML, in which text stays text and images are thumbnails.

A class has `_repr_html_`, which notebooks ask for, and makes it of these tables. Terminals show `__repr__` as before.
"""

import base64
import html
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_SIDE = 48
"""Height of a thumbnail, in pixels of the screen."""
_MOST_PIXELS = 96
"""Side to which larger images are scaled down before they are written into the page."""
_CELL = "text-align: left; padding: 2px 10px 2px 0; vertical-align: top;"


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """An image in a cell of a table."""

    pixels: np.ndarray
    """uint8 [height, width, channels]; of other numbers of channels than 1, 3 and 4 the first is shown."""


Cell = str | int | float | None | Thumbnail
"""What a cell holds: text, a number, which is "undefined" where it is NaN, an image or nothing."""


def html_table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", note: str = "", headed: bool = True
) -> str:
    """A table of HTML.

    Args:
      columns: names of the columns.
      rows: cells, one for each column.
      title: line above the table; empty for none.
      note: line below the table; empty for none.
      headed: whether the names of the columns are shown.
    """
    head = "".join(f'<th style="{_CELL}">{html.escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{_format_row(row)}</tr>" for row in rows)
    return (
        (f"<div><b>{html.escape(title)}</b></div>" if title else "")
        + "<table>"
        + (f"<thead><tr>{head}</tr></thead>" if headed else "")
        + f"<tbody>{body}</tbody></table>"
        + (f"<div>{html.escape(note)}</div>" if note else "")
    )


def html_facts(title: str, facts: Mapping[str, Cell] | Iterable[tuple[str, Cell]]) -> str:
    """A table of HTML with a name and a value in each row."""
    pairs = facts.items() if isinstance(facts, Mapping) else facts
    return html_table(("", ""), pairs, title=title, headed=False)


def shorten(text: str, most: int = 80) -> str:
    """The beginning of a text, with an ellipsis where it goes on."""
    return text if len(text) <= most else text[: most - 1] + "…"


def show_figures(figure: type) -> None:
    """Let a notebook show figures of this class, matplotlib's, as images; `%matplotlib inline` does the same, and what it chose stays.

    Outside of IPython nothing happens.
    """
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or any(figure in each for each in shell.display_formatter.formatters.values()):
        return
    from IPython.core.pylabtools import select_figure_formats  # only IPython itself imports it otherwise

    select_figure_formats(shell, {"png"})


def _format_row(row: Sequence[Cell]) -> str:
    """The cells of a row, of which the first, a name or number, is not broken into lines."""
    styles = [f"{_CELL} white-space: nowrap;", *[_CELL] * (len(row) - 1)]
    return "".join(f'<td style="{style}">{_format_cell(cell)}</td>' for style, cell in zip(styles, row, strict=True))


def _format_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Thumbnail):
        return _image(cell.pixels)
    if isinstance(cell, (float, np.floating)):
        return "undefined" if math.isnan(cell) else f"{cell:.4g}"
    return html.escape(str(cell))


def _image(pixels: np.ndarray) -> str:
    """An image as a PNG inside of the page."""
    from PIL import Image  # which takes a tenth of a second to import, and only notebooks with images need it

    height, width, channels = pixels.shape
    image = Image.fromarray(pixels if channels in (3, 4) else np.ascontiguousarray(pixels[:, :, 0]))
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<img alt="image of {width} x {height} pixels" src="data:image/png;base64,{data}" '
        f'style="height: {_SIDE}px; image-rendering: pixelated; margin: 0;">'
    )


__all__ = ["Cell", "Thumbnail", "html_facts", "html_table", "shorten", "show_figures"]
