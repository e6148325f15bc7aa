"""Influence of training examples on predictions, from hundreds of small models trained at once on random subsets.

Train many models and read them again:

- data: `load_dataset`, `Dataset`, `channel_statistics`, `DatasetUnavailable`; what targets mean: `Task`, `tasks`
- many machines: `train_on_cluster` of a `Job`, `Cluster`, `ClusterError`
- subsets: `draw_subsets`, `leave_one_out`, `check_coverage`, `group_masks`
- models: `train_ensemble` with a `Recipe` (`recipes` has the paper's) and `ModelKeys`, which gives an `Ensemble`; `predict`;
  `training_cost`, a `Cost`
- what may go wrong: `OutOfMemory`, `TooManyDiverged`, `WriteFailed`, `RunDirectoryError`

Estimate influence from an `Ensemble` and the name of a score, or from arrays of masks and scores:

- the difference of means: `influence`, `memorization`, `top_pairs`
- other estimators: `estimate`, an `Estimate`; `datamodel_weights`; `data_banzhaf`
- `pack` checks and packs masks and scores once, as `Outcomes`, for many estimates from the same models; with `groups`, for the
  influence of whole groups of training examples

Judge how far an estimate can be trusted, and how many models it takes:

- do two estimates agree: `iou_curve`, `iou_of_models`, `iou`; do two models: `agreement`
- which influences are real, and how large: `discoveries` (`Discoveries`), `pair_uncertainty`, `memorization_uncertainty`
- where the noise comes from: `variance_components`
- does another method's attribution predict what was measured: `lds`, `leave_one_out_correlation`; how many models that
  takes: `plan_lds`, an `LdsPlan`
- do predictions flip without the examples that an attribution names: `brittleness`, a `Brittleness`
- which examples a model gives away as its members: `membership`, `membership_score` (`Membership`, `Lira`, `Rmia`);
  the privacy loss that this proves: `epsilon_of_canary`, `epsilon_of_run`, `models_for_epsilon`
- runs of others: `read_run`, `write_run`; published pairs and scores (`PublishedPairs`, `PublishedScores`): `read_pairs`,
  `compare_pairs` (a `PairsComparison`), `compare_scores`
- a page to explore all of it in a browser: `write_explorer`
- how many models: `plan` (a `ModelPlan`), `models_for_influence`, `models_needed`, `models_needed_for_good`,
  `models_needed_sequentially`

`docs/api.md` tells apart the five answers to "how many models" and the three ways to the difference of means.
"""

from importlib import metadata
from typing import Any

import lazy_loader

from jaxinfl.devices import use_every_core

use_every_core()

# `__init__.pyi` is the one list of what is public and where it comes from. Type checkers read it, and so does this line:
# each name is imported when it is first asked for. SciPy, which the statistics need, takes half a second to import, and
# training needs none of it.
_load, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # pyproject.toml says it
        return metadata.version("jaxinfl")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _load(name)


# Everything but the statistics is loaded at once.
from jaxinfl import influence as influence
from jaxinfl import training as training


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
