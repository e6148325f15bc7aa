"""Influence of training examples on predictions, from hundreds of small models trained at once on random subsets.

Train many models and read them again:

- data: `load_dataset`, `Dataset`, `channel_statistics`, `DatasetUnavailable`
- subsets: `draw_subsets`, `leave_one_out`, `check_coverage`
- models: `train_ensemble` with a `Recipe` (`recipes` has the paper's) and `ModelKeys`, which gives an `Ensemble`; `predict`;
  `training_cost`, a `Cost`
- what may go wrong: `OutOfMemory`, `TooManyDiverged`, `WriteFailed`, `RunDirectoryError`

Estimate influence from an `Ensemble` and the name of a score, or from arrays of masks and scores:

- the difference of means: `influence`, `memorization`, `top_pairs`
- other estimators: `estimate`, an `Estimate`; `datamodel_weights`; `data_banzhaf`
- `pack` checks and packs masks and scores once, as `Outcomes`, for many estimates from the same models

Judge how far an estimate can be trusted, and how many models it takes:

- do two estimates agree: `iou_curve`, `iou_of_models`, `iou`; do two models: `agreement`
- which influences are real, and how large: `discoveries` (`Discoveries`), `pair_uncertainty`, `memorization_uncertainty`
- where the noise comes from: `variance_components`
- does another method's attribution predict what was measured: `lds`, `leave_one_out_correlation`
- how many models: `plan` (a `ModelPlan`), `models_for_influence`, `models_needed`, `models_needed_for_good`,
  `models_needed_sequentially`

`docs/api.md` tells apart the five answers to "how many models" and the three ways to the difference of means.
"""

from typing import TYPE_CHECKING, Any

from jaxinfl.devices import use_every_core

use_every_core()

from jaxinfl.datasets import Dataset, DatasetUnavailable, channel_statistics, load_dataset
from jaxinfl.influence import (
    Outcomes,
    influence,
    iou,
    iou_curve,
    iou_of_models,
    memorization,
    pack,
    top_pairs,
)
from jaxinfl.store import Ensemble, RunDirectoryError, WriteFailed
from jaxinfl.subsets import check_coverage, draw_subsets, leave_one_out
from jaxinfl.training import (
    Cost,
    ModelKeys,
    OutOfMemory,
    Recipe,
    TooManyDiverged,
    predict,
    recipes,
    train_ensemble,
    training_cost,
)

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
        memorization_uncertainty,
        models_for_influence,
        models_needed,
        models_needed_for_good,
        models_needed_sequentially,
        pair_uncertainty,
        plan,
        variance_components,
    )

# In the groups of the docstring above. Statistics are imported when they are first asked for (`__getattr__`).
__all__ = [
    # Train.
    "Cost",
    "Dataset",
    "DatasetUnavailable",
    "Ensemble",
    "ModelKeys",
    "OutOfMemory",
    "Recipe",
    "RunDirectoryError",
    "TooManyDiverged",
    "WriteFailed",
    "channel_statistics",
    "check_coverage",
    "draw_subsets",
    "leave_one_out",
    "load_dataset",
    "predict",
    "recipes",
    "train_ensemble",
    "training_cost",
    # Estimate.
    "Estimate",
    "Outcomes",
    "data_banzhaf",
    "datamodel_weights",
    "estimate",
    "influence",
    "memorization",
    "pack",
    "top_pairs",
    # Judge.
    "Discoveries",
    "ModelPlan",
    "agreement",
    "discoveries",
    "iou",
    "iou_curve",
    "iou_of_models",
    "lds",
    "leave_one_out_correlation",
    "memorization_uncertainty",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "pair_uncertainty",
    "plan",
    "variance_components",
]


def __getattr__(name: str) -> Any:
    """Import the statistics when they are first asked for: SciPy's take half a second, and training needs none of them."""
    if name in __all__:
        from jaxinfl import statistics

        return getattr(statistics, name)
    raise AttributeError(f"module 'jaxinfl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
