"""Influence and memorization of models whose masks lie in a mapped file larger than memory, some models at a time.

The sums over models are whole numbers, so they are exact in whatever order they are taken, and the results are those of models that are
held in memory. 100,000 models x 50,000 training examples take 5 GB as a file, and 0.7 GB of memory are used to read them.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from jaxinfl.arguments import STREAMED, Source, check_masks, is_mapped, release
from jaxinfl.influence.fixed_point import Scale, in_units
from jaxinfl.influence.self_influence import difference_of_means

_MODELS, _OWN_MODELS = 512, 64
"""Models in a block, for influence and for memorization."""
_SUMS_BYTES = 2**26
"""Bytes of the sums that are held at once: they decide how many test examples are taken in one pass over the models."""


def find_source(masks: Any, score: Any, split: Literal["train", "test"]) -> Source | None:
    """The models as a source, where they are so large that they are to be streamed; None elsewhere.

    `masks` and `score` are those of `influence` or `memorization`, and `split` says of which examples the score is.
    """
    stream = getattr(masks, "stream", None)
    if stream is not None and isinstance(score, str):
        healthy = masks.without_diverged()
        found: Source | None = healthy.stream(split, score) if len(healthy) else None
        return found
    if not (is_mapped(masks) and masks.nbytes > STREAMED and isinstance(score, np.ndarray)):
        return None
    fits = score.ndim == 2 and len(score) == len(masks) and score.shape[1] and score.dtype.kind in "bf"
    if not fits or (split == "train" and score.shape[1] != masks.shape[1]):
        return None  # which is refused in the usual words

    def blocks(models: int) -> Iterator[tuple[Bool[np.ndarray, "block train"], np.ndarray]]:
        for start in range(0, len(masks), models):
            yield masks[start : start + models], score[start : start + models]
            release(masks)
            release(score)

    return Source(len(masks), check_masks(masks).shape[1], score.shape[1], score.dtype == np.bool_, blocks)


def stream_influence(source: Source) -> Float32[np.ndarray, "train examples"]:
    """Influence as `influence` computes it, from models that are read anew for every few hundred test examples."""
    result = np.empty((source.num_train, source.num_examples), np.float32)
    at_once = max(1, _SUMS_BYTES // (16 * source.num_train))
    for start in range(0, source.num_examples, at_once):
        columns = slice(start, min(start + at_once, source.num_examples))
        result[:, columns] = _influence_on(source, columns)
    return result


def stream_memorization(source: Source) -> Float64[np.ndarray, " train"]:
    """Memorization as `memorization` computes it, before it is rounded."""
    scale = None if source.is_bool else _find_scale(source, slice(None), _OWN_MODELS)
    per_example = 1 if scale is None else 2
    sum_in, totals = np.zeros((2, per_example, source.num_train))
    num_in = np.zeros(source.num_train)
    for masks, score in source.blocks(_OWN_MODELS):
        digits = _digits(score, scale).reshape(len(score), per_example, source.num_train)
        totals += digits.sum(axis=0, dtype=np.float64)
        sum_in += np.einsum("me,mpe->pe", masks, digits, dtype=np.float64)
        num_in += masks.sum(axis=0)
    if scale is None:
        return difference_of_means(sum_in[0], totals[0], num_in, source.num_models)
    return difference_of_means(
        in_units(sum_in.ravel()), in_units(totals.ravel()), num_in, source.num_models
    ) * scale.unit.astype(np.float64)


def _influence_on(source: Source, columns: slice) -> Float32[np.ndarray, "train columns"]:
    """Influence on some test examples, in one pass over the models, or in two of a float score."""
    scale = None if source.is_bool else _find_scale(source, columns, _MODELS)
    width = (1 if scale is None else 2) * (columns.stop - columns.start)
    sums, totals = np.zeros((source.num_train, width)), np.zeros(width)
    num_in = np.zeros(source.num_train)
    for masks, score in source.blocks(_MODELS):
        digits = _digits(score[:, columns], scale)
        # Sums of so few digits are exact in float32.
        sums += masks.astype(np.float32).T @ digits
        totals += digits.sum(axis=0, dtype=np.float64)
        num_in += masks.sum(axis=0)
    if scale is None:
        return difference_of_means(sums, totals, num_in[:, None], source.num_models).astype(np.float32)
    influence = difference_of_means(in_units(sums), in_units(totals), num_in[:, None], source.num_models)
    influence *= scale.unit.astype(np.float64)
    return influence.astype(np.float32)


def _find_scale(source: Source, columns: slice, models: int) -> Scale:
    """The scale of some columns of a float score, from a pass over the models.

    Raises:
      ValueError: a score is NaN or inf.
    """
    bounds: Any = None
    for _, score in source.blocks(models):
        block = score[:, columns].astype(np.float32)
        ends = np.stack([block.min(axis=0), block.max(axis=0)])
        if bounds is not None:
            ends = np.stack([np.minimum(bounds[0], ends[0]), np.maximum(bounds[1], ends[1])])
        bounds = ends
    if not np.isfinite(bounds).all():
        raise ValueError(
            f"score holds NaN or inf (as float32) for {np.count_nonzero(~np.isfinite(bounds).all(axis=0))} of {bounds.shape[1]} "
            "examples. Drop diverged models first, from masks and from score."
        )
    return Scale.of(*bounds)


def _digits(score: np.ndarray, scale: Scale | None) -> Float32[np.ndarray, "block digits"]:
    values = score.astype(np.float32)
    return values if scale is None else scale.digits(values)


__all__ = ["find_source", "stream_influence", "stream_memorization"]
