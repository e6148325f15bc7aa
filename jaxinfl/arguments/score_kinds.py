"""What kind of numbers a score is, and how it may be called.

The kind decides what is exact (counts of 0-1 scores), which test is used (Fisher's for 0-1 scores), and whether a threshold in
probability makes sense (of 0-1 and bounded scores).
"""

import keyword
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from jaxinfl.arguments.values import quote

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""Names of scores are part of file names."""
_RESERVED = ("targets", "labels", "outputs")
"""`train_targets` and `train_outputs` are arrays of a run, and no scores."""

ScoreKind = Literal["0-1", "bounded", "real"]
""""0-1": bool, right or wrong. "bounded": floats from 0 to 1, as probabilities are. "real": any other floats."""


def score_kind(*arrays: Bool[np.ndarray, "_ _"] | Float[np.ndarray, "_ _"]) -> ScoreKind:
    """The kind of a score whose values lie in these arrays, of one dtype; NaN and infinity take no part."""
    if all(array.dtype == np.bool_ for array in arrays):
        return "0-1"
    low, high = np.inf, -np.inf
    for array in arrays:
        finite = np.isfinite(array)
        low = min(low, float(array.min(initial=np.inf, where=finite)))
        high = max(high, float(array.max(initial=-np.inf, where=finite)))
    return "bounded" if 0 <= low <= high <= 1 else "real"


def check_score_names(names: Iterable[Any], argument: str) -> None:
    """Raise unless all `names` can be names of scores.

    Raises:
      TypeError: a name is no string.
      ValueError: a name is no identifier, or has another meaning.
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{argument} names a score {quote(name)}; it takes strings.")
        if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in _RESERVED:
            reserved = ", ".join(map(repr, _RESERVED))
            raise ValueError(
                f"{argument} names a score {quote(name)}; it takes identifiers of at most 64 ASCII letters, digits and underscores, "
                f"but for {reserved} and Python's keywords."
            )


__all__ = ["ScoreKind", "check_score_names", "score_kind"]
