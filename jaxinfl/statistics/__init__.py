"""Statistics on arrays of masks and scores: other estimators of influence, and judgements of how far to trust one."""

from jaxinfl.statistics.agreement import agreement, agreement_between, agreement_of_pairs
from jaxinfl.statistics.attribution import AttributionScore, lds, leave_one_out_correlation
from jaxinfl.statistics.banzhaf import data_banzhaf
from jaxinfl.statistics.discovery import Discoveries, discoveries
from jaxinfl.statistics.estimate import Estimate, datamodel_weights, estimate
from jaxinfl.statistics.lds_plan import LdsOption, LdsPlan, plan_lds
from jaxinfl.statistics.model_plan import ModelPlan
from jaxinfl.statistics.paired import newcombe_paired_interval
from jaxinfl.statistics.planner import plan
from jaxinfl.statistics.power import models_for_influence, power_of_influence
from jaxinfl.statistics.proportions import agresti_caffo_interval, newcombe_interval
from jaxinfl.statistics.sample_size import models_needed, models_needed_for_good
from jaxinfl.statistics.sequential import SequentialModels, models_needed_sequentially
from jaxinfl.statistics.uncertainty import PairUncertainty, memorization_uncertainty, pair_uncertainty
from jaxinfl.statistics.variance import (
    ShareInterval,
    VarianceComponents,
    subset_share_intervals,
    subset_share_of_all,
    variance_components,
)

__all__ = [
    "AttributionScore",
    "Discoveries",
    "ModelPlan",
    "Estimate",
    "PairUncertainty",
    "SequentialModels",
    "ShareInterval",
    "VarianceComponents",
    "agreement",
    "agreement_between",
    "agreement_of_pairs",
    "agresti_caffo_interval",
    "data_banzhaf",
    "datamodel_weights",
    "discoveries",
    "estimate",
    "LdsOption",
    "LdsPlan",
    "lds",
    "plan_lds",
    "leave_one_out_correlation",
    "memorization_uncertainty",
    "models_for_influence",
    "models_needed",
    "models_needed_for_good",
    "models_needed_sequentially",
    "newcombe_interval",
    "newcombe_paired_interval",
    "pair_uncertainty",
    "plan",
    "power_of_influence",
    "subset_share_intervals",
    "subset_share_of_all",
    "variance_components",
]
