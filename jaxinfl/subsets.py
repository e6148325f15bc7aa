"""Random subsets of the training set: which model is trained on what."""

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int

from jaxinfl.arguments import (
    MOST_BYTES,
    as_array,
    check_choice,
    check_masks,
    check_number,
    check_seed,
    check_whole,
    quote,
)

Design = Literal["uniform", "balanced", "complementary"]


def draw_subsets(
    num_models: int, num_train: int, ratio: float = 0.7, seed: int = 0, design: Design = "uniform"
) -> Bool[np.ndarray, "models train"]:
    """Draw one random subset of `int(ratio * num_train)` examples for each model, without replacement.

    More models with the same seed continue the list: the first rows stay what they were.

    Args:
      num_models: number of subsets; even for "complementary".
      num_train: size of the training set.
      ratio: share of the training set in each subset, above 0 and at most 1. The paper and Feldman and Zhang take 0.7.
      seed: seed of the subsets alone; the models' own randomness comes from their keys.
      design: "uniform": independent subsets (the paper, Section 2.3). "balanced": each subset has the same
        distribution, but after any number of models every example has been in equally many, give or take one.
        "complementary": rows 2k and 2k + 1 split the training set, which takes ratio 0.5; where its size is odd, the
        second half is larger by one.

    Returns:
      Bool [models, train]; `masks[t, i]` says whether model t is trained on example i.

    Raises:
      TypeError: `ratio` is no number.
      ValueError: a number out of its range; a subset that would be empty; masks of more than 64 GiB; an unknown design.
    """
    _check_draw(num_models, num_train, ratio, seed, design)
    size = int(ratio * num_train)
    masks = np.zeros((num_models, num_train), bool)
    if design == "balanced":
        for row, chosen in zip(masks, _deal(num_models, num_train, size, seed), strict=True):
            row[chosen] = True
    elif design == "complementary":
        for pair in range(num_models // 2):
            masks[2 * pair, _generator(seed, pair).permutation(num_train)[:size]] = True
        masks[1::2] = ~masks[::2]
    else:
        for model, row in enumerate(masks):
            row[_generator(seed, model).permutation(num_train)[:size]] = True
    return masks


def leave_one_out(num_train: int, dropped: Iterable[int], repeats: int) -> Bool[np.ndarray, "models train"]:
    """Subsets that leave out one example each, as Equation 1 asks: q comes from these, p from models on everything.

    Args:
      num_train: size of the training set.
      dropped: the examples to leave out, one after another.
      repeats: number of models for each left-out example.

    Returns:
      Bool [len(dropped) * repeats, train]; rows k * repeats to (k + 1) * repeats - 1 leave out `dropped[k]`. For the
      models on everything take `np.ones((models, num_train), bool)`; both sorts may stand in one ensemble.

    Raises:
      TypeError: `dropped` is no list.
      ValueError: an example outside the training set or named twice; repeats below 1; masks of more than 64 GiB.
    """
    check_whole(num_train, "num_train", 2)
    check_whole(repeats, "repeats")
    takes = "the indices of one or more training examples"
    if not isinstance(dropped, Iterable) or isinstance(dropped, (str, bytes)):
        raise TypeError(f"dropped is {quote(dropped)}; it takes {takes}.")
    examples = as_array(list(dropped), "dropped", takes)
    if examples.size == 0 or examples.ndim != 1 or examples.dtype.kind not in "iu":
        raise ValueError(f"dropped is {quote(dropped)}; it takes {takes}.")
    outside = examples[(examples < 0) | (examples >= num_train)]
    if outside.size:
        raise ValueError(f"dropped names example {outside[0]}; the training set has examples 0 to {num_train - 1}.")
    if len(np.unique(examples)) < len(examples):
        raise ValueError(f"dropped names an example twice: {examples.tolist()}. Use repeats for more models each.")
    _check_size("repeats", len(examples) * int(repeats), num_train)
    masks = np.ones((len(examples) * repeats, num_train), bool)
    masks[np.arange(len(masks)), np.repeat(examples, repeats)] = False
    return masks


def check_coverage(masks: ArrayLike) -> None:
    """Raise `ValueError` unless every example is in some subset and out of another.

    Runs on the host: values are unknown while tracing, so a jitted kernel cannot raise on them.

    Args:
      masks: bool [models, train].
    """
    seen = check_masks(masks)
    num_in = seen.sum(axis=0)
    uncovered = np.flatnonzero((num_in == 0) | (num_in == len(seen)))
    if uncovered.size:
        raise ValueError(
            f"{uncovered.size} of {num_in.size} training examples are in none or all of the {len(seen)} "
            f"subsets (first: {uncovered[:5].tolist()}), so their influence is undefined. "
            "Use more models, or a ratio nearer 0.5."
        )


def _generator(seed: int, row: int) -> np.random.Generator:
    """Make the generator of one row, so that a row does not depend on how many come before or after."""
    return np.random.default_rng([seed, row])


def _deal(num_models: int, num_train: int, size: int, seed: int) -> Iterable[Int[np.ndarray, " size"]]:
    """Deal subsets from a shuffled deck of all examples; a new deck is opened when the old one runs out."""
    rng = _generator(seed, 0)
    deck = rng.permutation(num_train)
    for _ in range(num_models):
        if size <= len(deck):
            yield deck[:size]
            deck = deck[size:]
            continue
        # The subset takes the rest of the old deck and completes itself from the new one, with examples it lacks.
        fresh = rng.permutation(num_train)
        lacking = fresh[~np.isin(fresh, deck)][: size - len(deck)]
        yield np.concatenate([deck, lacking])
        deck = rng.permutation(fresh[~np.isin(fresh, lacking)])


def _check_draw(num_models: int, num_train: int, ratio: float, seed: int, design: str) -> None:
    check_whole(num_models, "num_models")
    check_whole(num_train, "num_train")
    check_seed(seed)
    check_number(ratio, "ratio", "a share of the training set above 0 and at most 1", np.nextafter(0, 1), 1.0)
    check_choice(design, "design", get_args(Design))
    _check_size("num_models", num_models, num_train)
    if int(ratio * num_train) < 1:
        raise ValueError(
            f"ratio {ratio} of {num_train} training examples is an empty subset. Use a ratio of at least {1 / num_train:.3g}."
        )
    if design == "complementary" and ratio != 0.5:
        raise ValueError(f"design 'complementary' splits the training set in halves: ratio is {ratio}; set it to 0.5.")
    if design == "complementary" and num_models % 2:
        raise ValueError(f"design 'complementary' draws pairs: num_models is {num_models}; make it even.")


def _check_size(name: str, num_models: int, num_train: int) -> None:
    """Raise `ValueError` for masks that no memory holds, naming the argument that decides their number."""
    if int(num_models) * int(num_train) > MOST_BYTES:
        raise ValueError(
            f"{name} asks for {num_models} masks of {num_train} training examples (num_train), "
            f"{int(num_models) * int(num_train) / 2**30:.3g} GiB; at most {MOST_BYTES / 2**30:.0f} GiB are taken. Ask for fewer."
        )


__all__ = ["Design", "check_coverage", "draw_subsets", "leave_one_out"]
