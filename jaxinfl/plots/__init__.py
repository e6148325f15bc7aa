"""Figures from arrays: each function returns a matplotlib figure and touches no file."""

from matplotlib.figure import Figure

from jaxinfl.notebook import show_figures
from jaxinfl.plots.agreement import agreement_figure
from jaxinfl.plots.attribution import flips_figure, lds_figure
from jaxinfl.plots.consistency import FEW_PAIRS, consistency_figure, scores_figure
from jaxinfl.plots.estimators import estimator_curves_figure, models_for_target_figure
from jaxinfl.plots.gallery import pairs_gallery, pairs_profiles, pairs_texts
from jaxinfl.plots.intervals import Estimates, intervals_figure
from jaxinfl.plots.membership import risk_figure, roc_figure, shadows_figure
from jaxinfl.plots.planner import pilots_figure, plan_figure
from jaxinfl.plots.sample_size import models_needed_figure
from jaxinfl.plots.shares import shares_figure
from jaxinfl.plots.simulations import coverage_figure, simulations_figure
from jaxinfl.plots.strips import strips_figure
from jaxinfl.plots.style import COLOURS, STYLE
from jaxinfl.plots.sweep import sweep_figure

show_figures(Figure)

__all__ = [
    "COLOURS",
    "FEW_PAIRS",
    "STYLE",
    "Estimates",
    "agreement_figure",
    "consistency_figure",
    "coverage_figure",
    "estimator_curves_figure",
    "flips_figure",
    "intervals_figure",
    "lds_figure",
    "models_for_target_figure",
    "models_needed_figure",
    "pairs_gallery",
    "pairs_profiles",
    "pairs_texts",
    "pilots_figure",
    "plan_figure",
    "risk_figure",
    "roc_figure",
    "scores_figure",
    "shadows_figure",
    "shares_figure",
    "simulations_figure",
    "strips_figure",
    "sweep_figure",
]
