"""Influence of training examples on predictions, from hundreds of small models trained at once on random subsets."""

from typing import TYPE_CHECKING, Any

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
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.subsets import check_coverage, draw_subsets, leave_one_out
from jaxinfl.training import Cost, ModelKeys, Recipe, predict, recipes, train_ensemble, training_cost

if TYPE_CHECKING:
    from jaxinfl.statistics import (
        Discoveries,
        Estimate,
        ModelPlan,
        agreement,
        data_banzhaf,
        datamodel_weights,
        discoveries,
        estimate,
        lds,
        leave_one_out_correlation,
        models_for_influence,
        models_needed,
        models_needed_for_good,
        models_needed_sequentially,
        plan,
        variance_components,
    )

__all__ = [
    "Dataset",
    "DatasetUnavailable",
    "Discoveries",
    "Ensemble",
    "Estimate",
    "ModelKeys",
    "ModelPlan",
    "Recipe",
    "RunDirectoryError",
    "Cost",
    "agreement",
    "channel_statistics",
    "check_coverage",
    "data_banzhaf",
    "datamodel_weights",
    "discoveries",
    "draw_subsets",
    "estimate",
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
    "plan",
    "predict",
    "recipes",
    "top_pairs",
    "train_ensemble",
    "training_cost",
    "variance_components",
]

_STATISTICS = frozenset(
    {
        "Discoveries",
        "ModelPlan",
        "Estimate",
        "agreement",
        "data_banzhaf",
        "datamodel_weights",
        "discoveries",
        "estimate",
        "lds",
        "leave_one_out_correlation",
        "models_for_influence",
        "models_needed",
        "models_needed_for_good",
        "models_needed_sequentially",
        "plan",
        "variance_components",
    }
)


def __getattr__(name: str) -> Any:
    """Statistics when they are first asked for: SciPy's take half a second to import, and training needs none of them."""
    if name in _STATISTICS:
        from jaxinfl import statistics

        return getattr(statistics, name)
    raise AttributeError(f"module 'jaxinfl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
