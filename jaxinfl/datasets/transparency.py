"""Images with transparency are put onto a background of one color."""

import enum
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxinfl.arguments import check_choice

BACKGROUNDS = {"white": 255, "black": 0}
DEFAULT_BACKGROUND = "white"


class ImageRefused(ValueError):
    """The image can be read, but is not taken; the message continues a sentence that begins with the image's name."""


class Alpha(enum.Enum):
    """Effect of an image's transparency on its content."""

    HARMLESS = "opaque, or the visible colors differ"
    SILHOUETTE = "the transparency varies, while everything that can be seen has one color"
    INVISIBLE = "nothing can be seen, although there are different colors"


class Transparency(NamedTuple):
    """Numbers of images of a data set that may have lost their content when they were put onto the background."""

    silhouettes: int = 0
    """Number of images whose visible pixels have one color while their transparency varies."""
    invisible: int = 0
    """Number of images that are entirely transparent although their pixels differ in color."""

    def plus(self, kinds: list[Alpha]) -> "Transparency":
        """Add more images to the counts."""
        return Transparency(
            self.silhouettes + kinds.count(Alpha.SILHOUETTE), self.invisible + kinds.count(Alpha.INVISIBLE)
        )


def check_background(background: str | None) -> None:
    """Raise unless `background` is a name of `BACKGROUNDS`, or None for the default."""
    if background is not None:
        check_choice(background, "background", tuple(BACKGROUNDS))


def flatten(file: Image.Image, mode: str, background: str) -> tuple[Image.Image, Alpha]:
    """Convert the opened `file` to an image of `mode` "L" or "RGB", put onto the background where it is not opaque.

    After the conversion to `mode`, each value becomes round((alpha * value + (255 - alpha) * background) / 255). So opaque
    pixels keep the values that they would have without transparency.
    """
    alpha = _alpha_of(file)
    # Palettes with transparency are converted to RGBA first, which Pillow asks for with a warning.
    palette = file.mode == "P" and "transparency" in file.info
    color = (file.convert("RGBA") if palette else file).convert(mode)
    if alpha is None:
        return color, Alpha.HARMLESS
    levels = np.asarray(alpha)
    lowest, highest = int(levels.min()), int(levels.max())
    if lowest == 255:
        return color, Alpha.HARMLESS
    level = BACKGROUNDS[background]
    canvas = Image.new(mode, color.size, level if mode == "L" else (level, level, level))
    canvas.paste(color, mask=alpha)
    if highest == 0:
        return canvas, Alpha.HARMLESS if _has_one_color(color) else Alpha.INVISIBLE
    silhouette = lowest < highest and _has_one_color(color, alpha)
    return canvas, Alpha.SILHOUETTE if silhouette else Alpha.HARMLESS


def warn_of_lost_content(found: Transparency, number: int, where: str, background: str | None, stacklevel: int) -> None:
    """Warn where images may be empty now although their files are not; `background` is the one that was asked for."""
    used = background or DEFAULT_BACKGROUND
    if found.silhouettes and background is None:
        warnings.warn(
            f"{found.silhouettes} of the {number} images of {where} vary in transparency, but not in their visible color, "
            f"as drawings in one color on a transparent ground do. They were put onto {used}, on which a {used} drawing "
            "cannot be seen. Look at the images, then pass background='white' or background='black' to load_dataset, "
            "which ends this warning.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    if found.invisible:
        warnings.warn(
            f"{found.invisible} of the {number} images of {where} are entirely transparent, although their pixels differ "
            f"in color. They were put onto {used}, so nothing of them is left. Where the colors count, save these files "
            "again without transparency, with Pillow: Image.open(file).convert('RGBA').convert('RGB').save(file).",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _alpha_of(file: Image.Image) -> Image.Image | None:
    """Alpha of every pixel, 255 where it is opaque; None where the file has no transparency."""
    if not file.has_transparency_data:
        return None
    if "transparency" in file.info:
        # PNG names its transparent color in the depth of the file, while Pillow reads pixels into 8 bits. It compares the
        # two as they are, and so misses colors of 2 and 4 bits.
        tiles = getattr(file, "tile", ())  # an opened file's, until its pixels are read
        depth = tiles[0][3] if file.format == "PNG" and tiles else None
        if depth == "RGB;16B":
            raise ImageRefused(
                "declares a color of 16 bits transparent, and Pillow reads its pixels in 8. Save it with 8 bits, and with "
                "transparency as a channel of its own (RGBA)."
            )
        if depth in ("L;2", "L;4"):
            file.info["transparency"] *= 85 if depth == "L;2" else 17
    return file.convert("RGBA").getchannel("A")


def _has_one_color(image: Image.Image, mask: Image.Image | None = None) -> bool:
    """Whether all pixels have one color, or all pixels where `mask` is not 0."""
    counts = image.histogram(mask)
    return all(sum(number > 0 for number in counts[first : first + 256]) == 1 for first in range(0, len(counts), 256))
