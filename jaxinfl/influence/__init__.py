"""Influence of training examples on test examples, from models trained on random subsets of the training set.

The estimator is that of Feldman and Zhang (2020), "What neural networks memorize and why", and of Section 2.3 of the paper that
this project implements. Its self-consistency by IOU is that of Section 2.3.1 and Appendix E.
"""

from jaxinfl.influence.blocks import joint_counts
from jaxinfl.influence.estimators import influence, memorization
from jaxinfl.influence.outcomes import Outcomes, pack
from jaxinfl.influence.overlap import count_pairs, iou, iou_of_models
from jaxinfl.influence.self_consistency import IOUCurve, iou_curve
from jaxinfl.influence.top_pairs import TopPairs, top_pairs

__all__ = [
    "IOUCurve",
    "Outcomes",
    "TopPairs",
    "count_pairs",
    "influence",
    "iou",
    "iou_curve",
    "iou_of_models",
    "joint_counts",
    "memorization",
    "pack",
    "top_pairs",
]
