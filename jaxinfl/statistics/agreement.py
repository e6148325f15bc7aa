"""How often two models say the same (Section 2.2)."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float


def agreement(predictions: ArrayLike) -> Float[np.ndarray, "models models"]:
    """Share of examples on which two models predict the same class, for every pair of models.

    Args:
      predictions: predicted classes, whole numbers [models, examples].

    Returns:
      float64 [models, models], symmetric, 1 on the diagonal.

    Raises:
      TypeError: predictions that are not whole numbers.
      ValueError: not two-dimensional, empty, or of models that diverged (-1).

    Source: Section 2.2 of the paper, Agreement(h1, h2, s).
    """
    classes = np.asarray(predictions)
    if not np.issubdtype(classes.dtype, np.integer):
        raise TypeError(
            f"predictions has dtype {classes.dtype}; it takes predicted classes as whole numbers, "
            "such as Ensemble.test_prediction."
        )
    if classes.ndim != 2 or 0 in classes.shape:
        raise ValueError(
            f"predictions has shape {classes.shape}; it takes [models, examples], with one of each at least."
        )
    silent = np.flatnonzero((classes < 0).any(axis=1))
    if silent.size:
        raise ValueError(
            f"predictions holds negative classes for {silent.size} models (first: {silent[:5].tolist()}): models that "
            "diverged predict nothing. Leave them out: predictions[~ensemble.diverged]."
        )
    # A model at a time: all pairs at once would need models^2 * examples bytes.
    return np.stack([(classes == one[None]).mean(axis=1) for one in classes])
