"""Statistics on plain arrays."""

from jaxinfl.statistics.agreement import agreement, agreement_between, agreement_of_pairs
from jaxinfl.statistics.discovery import Discoveries, discoveries
from jaxinfl.statistics.paired import newcombe_paired_interval
from jaxinfl.statistics.power import models_for_influence, power_of_influence
from jaxinfl.statistics.proportions import agresti_caffo_interval, newcombe_interval
from jaxinfl.statistics.sample_size import models_needed, models_needed_for_good
from jaxinfl.statistics.sequential import SequentialModels, models_needed_sequentially
from jaxinfl.statistics.uncertainty import PairUncertainty, memorization_uncertainty, pair_uncertainty

__all__ = [
    "Discoveries",
    "PairUncertainty",
    "SequentialModels",
    "agreement",
    "agreement_between",
    "agreement_of_pairs",
    "agresti_caffo_interval",
    "discoveries",
    "memorization_uncertainty",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "newcombe_interval",
    "newcombe_paired_interval",
    "pair_uncertainty",
    "power_of_influence",
]
