"""Groups of training examples: their mean score, and a warning where groups are taken for single examples."""

import math
import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from jaxinfl.arguments import check_groups

_VALUES_AT_ONCE = 2**22
_CHANCE = 0.01
"""Expected number of equal columns from which on equal ones may be chance, and say nothing."""


def mean_of_groups(
    score: Bool[np.ndarray, "models train"] | Float32[np.ndarray, "models train"], groups: Any
) -> Bool[np.ndarray, "models groups"] | Float32[np.ndarray, "models groups"]:
    """Mean score of the members of each group, summed in float64; the score itself where each example is its own group."""
    given = check_groups(groups, score.shape[1], "score")
    if len(given.names) == score.shape[1]:
        return score
    order = np.argsort(given.member, kind="stable")
    size = np.bincount(given.member)
    starts = np.cumsum(size) - size
    means = np.empty((len(score), size.size), np.float32)
    step = max(1, _VALUES_AT_ONCE // score.shape[1])
    for start in range(0, len(score), step):
        block = slice(start, start + step)
        means[block] = np.add.reduceat(score[block, order].astype(np.float64), starts, axis=1) / size
    return means


def warn_of_design(design: str | None) -> None:
    """Warn where subsets are of a design that makes them depend on each other; None is no such design."""
    if design is not None:
        warnings.warn(
            f"masks holds subsets that depend on each other (design {design!r}), so that intervals and standard errors are too short where "
            'single examples matter much. For these take draw_subsets(..., design="uniform").',
            UserWarning,
            stacklevel=3,
        )


def warn_of_groups(subsets: Bool[np.ndarray, "subsets train"], name: str = "masks") -> None:
    """Warn where training examples are always in or out together, and more of them than chance explains.

    Each is a test of its own then, though all of a group are one. Examples in no subset or in all are tested nowhere.

    Args:
      subsets: different subsets, a row each.
      name: what the user's function calls its models.
    """
    number = subsets.sum(axis=0)
    usable = np.flatnonzero((number > 0) & (number < len(subsets)))
    counts, examples = np.unique(number[usable], return_counts=True)
    pairs = (int(size) * (int(size) - 1) // 2 for size in examples)
    expected = sum(pair / math.comb(len(subsets), int(count)) for pair, count in zip(pairs, counts, strict=True))
    if usable.size < 2 or expected > _CHANCE:
        return
    packed = np.ascontiguousarray(np.packbits(subsets[:, usable], axis=0).T)
    columns = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, member, size = np.unique(columns, return_inverse=True, return_counts=True)
    together = np.flatnonzero(size[member.reshape(-1)] > 1)
    if not together.size:
        return
    first = together[0]
    second = np.flatnonzero(member.reshape(-1) == member.reshape(-1)[first])[1]
    warnings.warn(
        f"{name} has {together.size} of {subsets.shape[1]} training examples that are always in or out together with others (first: "
        f"{usable[first]} and {usable[second]}), and each counts as a test of its own. Pass "
        "pack(masks, score, groups=...), which counts a group once.",
        RuntimeWarning,
        stacklevel=4,
    )


__all__ = ["mean_of_groups", "warn_of_design", "warn_of_groups"]
