"""Influence of training examples on test examples, from models trained on random subsets of the training set.

Feldman and Zhang (2020), "What neural networks memorize and why"; the estimator is that of Section 2.3 of the paper this
project implements, its IOU self-consistency that of Section 2.3.1 and Appendix E.
"""

from jaxinfl.influence.counts import joint_counts
from jaxinfl.influence.estimators import influence, memorization
from jaxinfl.influence.overlap import count_pairs, iou, iou_of_models
from jaxinfl.influence.self_consistency import IOUCurve, iou_curve
from jaxinfl.influence.top_pairs import TopPairs, top_pairs

__all__ = [
    "IOUCurve",
    "TopPairs",
    "count_pairs",
    "influence",
    "iou",
    "iou_curve",
    "iou_of_models",
    "joint_counts",
    "memorization",
    "top_pairs",
]
