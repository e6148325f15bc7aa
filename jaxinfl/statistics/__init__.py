"""Statistics on plain arrays."""

from jaxinfl.statistics.agreement import agreement
from jaxinfl.statistics.power import models_for_influence, power_of_influence
from jaxinfl.statistics.sample_size import models_needed, models_needed_for_good
from jaxinfl.statistics.sequential import SequentialModels, models_needed_sequentially
from jaxinfl.statistics.uncertainty import PairUncertainty, pair_uncertainty

__all__ = [
    "PairUncertainty",
    "SequentialModels",
    "agreement",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "pair_uncertainty",
    "power_of_influence",
]
