"""Statistics on plain arrays."""

from jaxinfl.statistics.agreement import agreement
from jaxinfl.statistics.uncertainty import PairUncertainty, pair_uncertainty

__all__ = ["PairUncertainty", "agreement", "pair_uncertainty"]
