"""What kind of numbers a score is.

The kind decides what is exact (counts of 0-1 scores), which test is used (Fisher's for 0-1 scores), and whether a threshold in
probability makes sense (of 0-1 and bounded scores).
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

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


__all__ = ["ScoreKind", "score_kind"]
