"""Groups of training examples that a user gives: patients, sources, near-duplicates."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int, Shaped

from jaxinfl.arguments.arrays import as_array
from jaxinfl.arguments.values import quote

GroupNames = ArrayLike | Sequence[int] | Sequence[str]
"""What an argument `groups` takes: the group of each training example, integers or text [train]."""
_TAKES = "integers or text, the group of each training example"


class Groups(NamedTuple):
    """Which group each training example belongs to. Groups are numbered in the order of their first examples."""

    names: Shaped[np.ndarray, " groups"]
    """What the user calls each group: integers or text."""
    member: Int[np.ndarray, " train"]
    """Number of the group that each training example belongs to."""
    first: Int[np.ndarray, " groups"]
    """The first training example of each group."""

    def quote(self, number: int) -> str:
        """The name of a group as a message shows it."""
        return repr(self.names[number].item())


def check_groups(groups: Any, num_train: int, of: str = "num_train") -> Groups:
    """The groups of `num_train` training examples; `of` says which argument has that number.

    Raises:
      TypeError: neither integers nor text.
      ValueError: another number of examples, missing values, or a single group.
    """
    array = check_group_names(groups, "groups", _TAKES)
    if array.size != num_train:
        raise ValueError(
            f"groups has {array.size} entries, but {of} has {num_train} training examples; it takes {_TAKES}."
        )
    names, first, member = np.unique(array, return_index=True, return_inverse=True)
    if names.size < 2:
        raise ValueError(
            f"groups puts all {num_train} training examples into one group ({names[0].item()!r}); it takes two groups or more. "
            "A group that is as large as the training set is in every subset."
        )
    # In the order of the examples, not of the names: the same groups under other names are drawn alike.
    order = np.argsort(first)
    return Groups(names[order], np.argsort(order)[member.reshape(-1)], first[order])


def check_group_names(value: Any, name: str, takes: str) -> Shaped[np.ndarray, " names"]:
    """`value` as a 1-D array of integers or text, or an error; `takes` says what it is, in words."""
    array = as_array(value, name, takes)
    if array.ndim != 1:
        raise TypeError(f"{name} is {quote(value)}, of {array.ndim} dimensions; it takes {takes}.")
    missing = np.ma.getmaskarray(value) if np.ma.isMaskedArray(value) else np.zeros(array.shape, bool)
    if array.dtype.kind == "f":
        missing = np.isnan(array)
    if array.dtype.kind in "OTU":
        # NumPy makes the text "nan" of a NaN in a list of text.
        items = array.tolist() if hasattr(value, "dtype") else list(value)
        missing = missing | np.array([_is_missing(item) for item in items], bool)
    if missing.any():
        raise ValueError(
            f"{name} holds {np.count_nonzero(missing)} missing of {array.size} values (first: number {missing.argmax()}); "
            f"it takes {takes}. Give an example that belongs to no group a name of its own."
        )
    if array.dtype.kind in "OTU":
        other = next((item for item in items if not isinstance(item, str)), None)
        if other is not None:
            raise TypeError(f"{name} holds {quote(other)}; it takes {takes}, all of one kind.")
        array = np.array(items, str)
    if array.size and array.dtype.kind not in "iuU":
        raise TypeError(f"{name} has dtype {array.dtype}; it takes {takes}.")
    return array


def _is_missing(item: Any) -> bool:
    return item is None or item is np.ma.masked or (isinstance(item, float) and math.isnan(item))


__all__ = ["GroupNames", "Groups", "check_group_names", "check_groups"]
