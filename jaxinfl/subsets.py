"""Random subsets of the training set: which model is trained on what."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Shaped

from jaxinfl.arguments import (
    MOST_BYTES,
    GroupNames,
    Groups,
    as_array,
    check_choice,
    check_group_names,
    check_groups,
    check_masks,
    check_number,
    check_seed,
    check_whole,
    quote,
)

Design = Literal["uniform", "balanced", "complementary"]


def draw_subsets(
    num_models: int,
    num_train: int,
    ratio: float = 0.7,
    seed: int = 0,
    design: Design = "uniform",
    groups: GroupNames | None = None,
) -> Bool[np.ndarray, "models train"]:
    """Draw one random subset of `int(ratio * num_train)` examples for each model, or of `int(ratio * number of groups)` whole groups.

    They are drawn without replacement. More models with the same seed continue the list: the first rows stay what they were.

    Args:
      num_models: number of subsets; even for "complementary".
      num_train: size of the training set.
      ratio: share of the training set in each subset, above 0 and at most 1. The paper and Feldman and Zhang take 0.7. With
        groups it is the share of the groups, so that a large group is in a subset as often as a small one.
      seed: seed of the subsets alone; the models' own randomness comes from their keys.
      design: "uniform": independent subsets (the paper, Section 2.3). "balanced": each subset has the same
        distribution, but after any number of models every example has been in equally many, give or take one.
        "complementary": rows 2k and 2k + 1 split the training set, which takes ratio 0.5; where its size is odd, the
        second half is larger by one. With groups all of this is said of groups. Subsets of the last two depend on each other:
        they are for estimates and membership, and `discoveries`, which tests pairs, refuses them.
      groups: the group of each training example, integers or text [train]: a patient, a source, a set of near-duplicates. A
        subset holds all examples of a group or none. An example that belongs to no group takes a name of its own. Subsets
        of groups of different sizes have different numbers of examples. What groups are called does not change the draw.
        None draws single examples.

    Returns:
      Bool [models, train]; `masks[t, i]` says whether model t is trained on example i.

    Raises:
      TypeError: `ratio` is no number; `groups` are neither integers nor text.
      ValueError: a number out of its range; a subset that would be empty; masks of more than 64 GiB; an unknown design;
        `groups` of another length, with missing values, or of one group alone.
    """
    _check_draw(num_models, num_train, ratio, seed, design)
    given = None if groups is None else check_groups(groups, num_train)
    num_units = num_train if given is None else len(given.names)
    size = int(ratio * num_units)
    if size < 1:
        units = "training examples" if given is None else "groups"
        raise ValueError(
            f"ratio {ratio} of {num_units} {units} is an empty subset. Use a ratio of at least {1 / num_units:.3g}."
        )
    masks = np.zeros((num_models, num_units), bool)
    if design == "balanced":
        for row, chosen in zip(masks, _deal(num_models, num_units, size, seed), strict=True):
            row[chosen] = True
    elif design == "complementary":
        for pair in range(num_models // 2):
            masks[2 * pair, _generator(seed, pair).permutation(num_units)[:size]] = True
        masks[1::2] = ~masks[::2]
    else:
        for model, row in enumerate(masks):
            row[_generator(seed, model).permutation(num_units)[:size]] = True
    return masks if given is None else masks[:, given.member]


def leave_one_out(
    num_train: int, dropped: Iterable[Any], repeats: int, groups: GroupNames | None = None
) -> Bool[np.ndarray, "models train"]:
    """Subsets that leave out one example or group each, as Equation 1 asks: q comes from these, p from models on everything.

    Args:
      num_train: size of the training set.
      dropped: the examples to leave out, one after another; with groups, the names of the groups to leave out.
      repeats: number of models for each left-out example or group.
      groups: the group of each training example, integers or text [train], as in `draw_subsets`; None leaves out single
        examples.

    Returns:
      Bool [len(dropped) * repeats, train]; rows k * repeats to (k + 1) * repeats - 1 leave out `dropped[k]`. For the
      models on everything take `np.ones((models, num_train), bool)`; both sorts may stand in one ensemble.

    Raises:
      TypeError: `dropped` is no list of anything; `groups` are neither integers nor text.
      ValueError: an example outside the training set, a group that there is not, or one that is named twice; repeats below 1;
        masks of more than 64 GiB; `groups` as in `draw_subsets`.
    """
    check_whole(num_train, "num_train", 2)
    check_whole(repeats, "repeats")
    takes = "the indices of one or more training examples" if groups is None else "the names of one or more groups"
    if not isinstance(dropped, Iterable) or isinstance(dropped, (str, bytes)):
        raise TypeError(f"dropped is {quote(dropped)}; it takes {takes}.")
    asked = list(dropped)
    given = None if groups is None else check_groups(groups, num_train)
    left_out = _check_dropped(asked, num_train, takes) if given is None else _find_groups(asked, given, takes)
    if len(np.unique(left_out)) < len(left_out):
        units, named = "an example", left_out.tolist()
        if given is not None:
            units, named = "a group", given.names[left_out].tolist()
        raise ValueError(f"dropped names {units} twice: {named}. Use repeats for more models each.")
    _check_size("repeats", len(left_out) * int(repeats), num_train)
    masks = np.ones((len(left_out) * repeats, num_train if given is None else len(given.names)), bool)
    masks[np.arange(len(masks)), np.repeat(left_out, repeats)] = False
    return masks if given is None else masks[:, given.member]


class GroupMasks(NamedTuple):
    """Which model was trained on which group. Groups stand in the order of their first examples."""

    masks: Bool[np.ndarray, "models groups"]
    """`masks[t, g]` says whether model t was trained on group g."""
    names: Shaped[np.ndarray, " groups"]
    """The name of each group, integers or text as they were given."""


def group_masks(masks: ArrayLike, groups: GroupNames) -> GroupMasks:
    """Masks with one column a group in place of one column a training example, for influence per group.

    Every function that takes `masks, score` takes the group masks and the same score: row g of its result is about group g.
    `jaxinfl.pack(runs, score, groups=groups)` does the same for an `Ensemble`, memorization included.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i.
      groups: the group of each training example, integers or text [train], as `draw_subsets` took them.

    Returns:
      `GroupMasks`. Memory: a copy of `masks`.

    Raises:
      TypeError: `masks` is not bool, `groups` are neither integers nor text.
      ValueError: a model was trained on some examples of a group without the others, so that no group mask tells its subset;
        `groups` of another length, with missing values, or of one group alone.
    """
    checked = check_masks(masks)
    given = check_groups(groups, checked.shape[1], "masks")
    of_groups = checked[:, given.first]
    split = checked != of_groups[:, given.member]
    if split.any():
        model, example = (int(axis[0]) for axis in np.nonzero(split))
        group = given.member[example]
        members = checked[model, given.member == group]
        raise ValueError(
            f"masks splits groups in {np.count_nonzero(split.any(axis=1))} of {len(checked)} models (first: model {model} was "
            f"trained on {members.sum()} of the {members.size} examples of group {given.quote(group)}); a group is in or out as "
            "a whole. Draw the subsets by draw_subsets(..., groups=groups)."
        )
    return GroupMasks(of_groups, given.names)


def check_coverage(masks: ArrayLike, groups: GroupNames | None = None) -> None:
    """Raise `ValueError` unless every example, or every group, is in some subset and out of another.

    Runs on the host: values are unknown while tracing, so a jitted kernel cannot raise on them.

    Args:
      masks: bool [models, train].
      groups: the group of each training example, as in `group_masks`; None asks for single examples.
    """
    seen = check_masks(masks) if groups is None else group_masks(masks, groups).masks
    num_in = seen.sum(axis=0)
    uncovered = np.flatnonzero((num_in == 0) | (num_in == len(seen)))
    if uncovered.size:
        units, first = "training examples", uncovered[:5].tolist()
        if groups is not None:
            units, first = "groups", group_masks(masks, groups).names[uncovered[:5]].tolist()
        raise ValueError(
            f"{uncovered.size} of {num_in.size} {units} are in none or all of the {len(seen)} "
            f"subsets (first: {first}), so their influence is undefined. "
            "Use more models, or a ratio nearer 0.5."
        )


def _check_dropped(dropped: list[Any], num_train: int, takes: str) -> Int[np.ndarray, " dropped"]:
    examples = as_array(dropped, "dropped", takes)
    if examples.size == 0 or examples.ndim != 1 or examples.dtype.kind not in "iu":
        raise ValueError(f"dropped is {quote(dropped)}; it takes {takes}.")
    outside = examples[(examples < 0) | (examples >= num_train)]
    if outside.size:
        raise ValueError(f"dropped names example {outside[0]}; the training set has examples 0 to {num_train - 1}.")
    return examples


def _find_groups(dropped: list[Any], groups: Groups, takes: str) -> Int[np.ndarray, " dropped"]:
    """The numbers of the groups that have these names."""
    names = check_group_names(dropped, "dropped", takes).tolist()
    if not names:
        raise ValueError(f"dropped is {quote(dropped)}; it takes {takes}.")
    number = {name: group for group, name in enumerate(groups.names.tolist())}
    unknown = [name for name in names if name not in number]
    if unknown:
        raise ValueError(
            f"dropped names group {unknown[0]!r}, which is none of the {len(number)} groups (first: {list(number)[:5]}); it takes "
            f"{takes}, as groups writes them."
        )
    return np.array([number[name] for name in names], np.intp)


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


__all__ = ["Design", "GroupMasks", "check_coverage", "draw_subsets", "group_masks", "leave_one_out"]
