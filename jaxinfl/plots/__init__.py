"""Figures from arrays: each function returns a matplotlib figure and touches no file."""

from jaxinfl.plots.consistency import FEW_PAIRS, consistency_figure, scores_figure
from jaxinfl.plots.gallery import pairs_gallery
from jaxinfl.plots.sample_size import models_needed_figure
from jaxinfl.plots.simulations import simulations_figure
from jaxinfl.plots.style import COLOURS, STYLE

__all__ = [
    "COLOURS",
    "FEW_PAIRS",
    "STYLE",
    "consistency_figure",
    "models_needed_figure",
    "pairs_gallery",
    "scores_figure",
    "simulations_figure",
]
