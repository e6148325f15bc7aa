"""Statistics on plain arrays."""

from jaxinfl.statistics.agreement import agreement
from jaxinfl.statistics.sample_size import models_needed, models_needed_for_good
from jaxinfl.statistics.uncertainty import PairUncertainty, pair_uncertainty

__all__ = ["PairUncertainty", "agreement", "models_needed", "models_needed_for_good", "pair_uncertainty"]
