"""Privacy of the training examples: which of them a model was trained on, told from what it says about them."""

from jaxinfl.privacy.curve import OperatingPoint, Rate
from jaxinfl.privacy.lira import Lira
from jaxinfl.privacy.result import Membership, membership, membership_score
from jaxinfl.privacy.risk import Risk
from jaxinfl.privacy.rmia import Rmia

__all__ = ["Lira", "Membership", "OperatingPoint", "Rate", "Risk", "Rmia", "membership", "membership_score"]
