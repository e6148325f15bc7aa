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
    discoveries,
    models_for_influence,
    models_needed,
    models_needed_for_good,
    models_needed_sequentially,
)
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.subsets import check_coverage, draw_subsets, leave_one_out
from jaxinfl.training import ModelKeys, Recipe, RunPlan, predict, recipes, train_ensemble

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
    "discoveries",
    "draw_subsets",
    "influence",
    "iou",
    "iou_curve",
    "iou_of_models",
    "leave_one_out",
    "load_dataset",
    "memorization",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "predict",
    "recipes",
    "top_pairs",
    "train_ensemble",
]
