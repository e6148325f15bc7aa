"""Privacy of the training examples: which of them a model was trained on, told from what it says about them."""

from jaxinfl.privacy.curve import OperatingPoint, Rate
from jaxinfl.privacy.epsilon import EpsilonBound, epsilon_of_canary, epsilon_of_run, models_for_epsilon
from jaxinfl.privacy.lira import Lira
from jaxinfl.privacy.result import Attack, Membership, membership, membership_score
from jaxinfl.privacy.risk import Risk
from jaxinfl.privacy.rmia import Rmia

__all__ = [
    "Attack",
    "EpsilonBound",
    "Lira",
    "Membership",
    "OperatingPoint",
    "Rate",
    "Risk",
    "Rmia",
    "epsilon_of_canary",
    "epsilon_of_run",
    "membership",
    "membership_score",
    "models_for_epsilon",
]
