"""Figures from arrays: each function returns a matplotlib figure and touches no file."""

from jaxinfl.plots.consistency import FEW_PAIRS, consistency_figure
from jaxinfl.plots.gallery import OTHER_COLOUR, SEEN_COLOUR, pairs_gallery
from jaxinfl.plots.sample_size import models_needed_figure
from jaxinfl.plots.simulations import simulations_figure
from jaxinfl.plots.style import STYLE

__all__ = [
    "FEW_PAIRS",
    "OTHER_COLOUR",
    "SEEN_COLOUR",
    "STYLE",
    "consistency_figure",
    "models_needed_figure",
    "pairs_gallery",
    "simulations_figure",
]
