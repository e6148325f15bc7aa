"""Influence of training examples on predictions, from hundreds of small models trained at once on random subsets."""

from jaxinfl.devices import use_every_core

use_every_core()

from jaxinfl.datasets import Dataset, DatasetUnavailable, channel_statistics, load_dataset
from jaxinfl.influence import (
    influence,
    iou,
    iou_curve,
    iou_of_models,
    memorization,
    top_pairs,
)
from jaxinfl.statistics import (
    Discoveries,
    agreement,
    data_banzhaf,
    discoveries,
    lds,
    leave_one_out_correlation,
    models_for_influence,
    models_needed,
    models_needed_for_good,
    models_needed_sequentially,
    variance_components,
)
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.subsets import check_coverage, draw_subsets, leave_one_out
from jaxinfl.training import ModelKeys, Recipe, RunPlan, recipes, train_ensemble

__all__ = [
    "Dataset",
    "DatasetUnavailable",
    "Discoveries",
    "Ensemble",
    "ModelKeys",
    "Recipe",
    "RunDirectoryError",
    "RunPlan",
    "agreement",
    "channel_statistics",
    "check_coverage",
    "data_banzhaf",
    "discoveries",
    "draw_subsets",
    "influence",
    "iou",
    "iou_curve",
    "iou_of_models",
    "lds",
    "leave_one_out",
    "leave_one_out_correlation",
    "load_dataset",
    "memorization",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "recipes",
    "top_pairs",
    "train_ensemble",
    "variance_components",
]
