"""Exact joint counts of some training examples at a time, as NumPy arrays, for statistics on the host."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Array, Bool, Int32

from jaxinfl.influence.counts import Chunk, Packed, add_chunk, choose_kernel, leading_counts, pack_models, with_words
from jaxinfl.influence.tiles import default_rows, starts


def count_blocks(
    masks: Bool[np.ndarray, "models train"], correct: Bool[np.ndarray, "models test"], rows: int | None = None
) -> Iterator[tuple[int, Int32[np.ndarray, "rows test"]]]:
    """`joint_counts(masks, correct)` in blocks of training examples, each with the index of its first.

    Args:
      masks: bool [models, train]; checked.
      correct: bool [models, test]; checked.
      rows: training examples a block; None takes about 4 million pairs at a time.
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
    for start in starts(num_train, rows):
        counts = _counts(train, test, start, rows)
        if waiting is not None:
            yield _on_host(waiting, num_train)
        waiting = start, counts
    if waiting is not None:
        yield _on_host(waiting, num_train)


def _counts(train: Packed, test: Packed, start: int, rows: int) -> Int32[Array, "rows test"]:
    last: tuple[Chunk, Chunk] = train[-1], test[-1]
    counts: Int32[Array, "rows test"]
    counts = with_words(add_chunk, leading_counts(train, test, start, rows), *last, np.int32(start), rows=rows)
    return counts


def _on_host(block: tuple[int, Array], num_train: int) -> tuple[int, Int32[np.ndarray, "rows test"]]:
    start, counts = block
    return start, np.asarray(counts)[: num_train - start]
