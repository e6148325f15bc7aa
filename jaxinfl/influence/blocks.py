"""Exact joint counts as NumPy arrays: of all pairs at once, or of some training examples at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, Bool, Int32

from jaxinfl.arguments import check_correct
from jaxinfl.influence.counts import (
    Chunk,
    Method,
    Packed,
    add_chunk,
    add_last_chunk,
    call_with_64_bits,
    choose_kernel,
    leading_counts,
    pack_models,
)
from jaxinfl.influence.outcomes import Models, Names, Score, take_outcomes
from jaxinfl.influence.tiles import default_rows, tile_starts


def joint_counts(masks: Models, correct: Score = None, *, method: Method = "auto") -> Int32[np.ndarray, "train test"]:
    """Number of models that were trained on example i and are right on example j, exactly.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out; or `Outcomes`.
      correct: bool [models, test], `correct[t, j]` says whether model t is right on test example j; for an `Ensemble` the name
        of a bool score.
      method: "native" (hand-written, for CPUs), "bits" (population counts), "gemm" (int8 matrix product), or "auto":
        native for large products where it can be compiled, else bits, on the host's processor; gemm where JAX has accelerators alone.

    Returns:
      int32 [train, test] counts of models. Memory: the result, and one bit (bits) or byte (others) for every input value.

    Raises:
      TypeError: an input is not bool.
      ValueError: an input is not 2-D, is empty, the numbers of models differ; `method` is unknown, or
        "native" where JAX has no CPU.
      NativeUnavailable: `method` is "native" and there is no C++ compiler.

    Source: step 3 of the algorithm of Feldman and Zhang (2020); Section 2.3 of the paper.
    """
    given = take_outcomes(masks, correct, names=Names(score="correct"))
    seen, right = given.masks, check_correct(given.test_score, len(given))
    kernel = choose_kernel(method, len(seen), seen.shape[1], right.shape[1])
    train, _ = pack_models(seen, kernel)
    test, _ = pack_models(right, kernel)
    return np.asarray(call_with_64_bits(add_last_chunk, leading_counts(train, test), train[-1], test[-1]))


def count_blocks(
    masks: Bool[np.ndarray, "models train"], correct: Bool[np.ndarray, "models test"], rows: int | None = None
) -> Iterator[tuple[int, Int32[np.ndarray, "rows test"]]]:
    """`joint_counts(masks, correct)` in blocks of training examples, each with the index of its first example.

    Args:
      masks: bool [models, train]; checked.
      correct: bool [models, test]; checked.
      rows: training examples in a block; None takes about 4 million pairs at a time.
    """
    num_train, num_test = masks.shape[1], correct.shape[1]
    rows = default_rows(num_train, num_test) if rows is None else min(rows, num_train)
    # Every block has one shape, so that one function is compiled; examples in no subset fill up the last.
    padding = -num_train % rows
    kernel = choose_kernel("auto", len(masks), num_train, num_test)
    train, _ = pack_models(np.pad(masks, ((0, 0), (0, padding))) if padding else masks, kernel)
    test, _ = pack_models(correct, kernel)
    # One block ahead: the device counts the next one while the host works on this one.
    waiting: tuple[int, Array] | None = None
    for start in tile_starts(num_train, rows):
        counts = _count(train, test, start, rows)
        if waiting is not None:
            yield _fetch(waiting, num_train)
        waiting = start, counts
    if waiting is not None:
        yield _fetch(waiting, num_train)


def _count(train: Packed, test: Packed, start: int, rows: int) -> Int32[Array, "rows test"]:
    last: tuple[Chunk, Chunk] = train[-1], test[-1]
    counts: Int32[Array, "rows test"]
    counts = call_with_64_bits(add_chunk, leading_counts(train, test, start, rows), *last, np.int32(start), rows=rows)
    return counts


def _fetch(block: tuple[int, Array], num_train: int) -> tuple[int, Int32[np.ndarray, "rows test"]]:
    """The block on the host, without the examples that fill up the last one."""
    start, counts = block
    return start, np.asarray(counts)[: num_train - start]
