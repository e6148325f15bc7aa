"""The inputs of the estimators: masks and scores as arrays, an `Ensemble` and the names of its scores, or `Outcomes`.

Every function that takes `masks, score` asks here what it was given. So diverged models are left out in this one place, a
name means the same score everywhere, and what does not fit together is refused in the same words.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float32, Int, Int32, Shaped

from jaxinfl.arguments import GroupNames, ScoreKind, check_examples, check_masks, check_score, quote, score_kind
from jaxinfl.influence.counts import count_flags
from jaxinfl.influence.groups import mean_of_groups
from jaxinfl.influence.self_influence import Memorization, compute_memorization
from jaxinfl.influence.thresholds import simplest_fraction
from jaxinfl.influence.tiles import Tiles, default_rows, make_tiles
from jaxinfl.subsets import group_masks

Scores = Bool[np.ndarray, "models examples"] | Float32[np.ndarray, "models examples"]


@runtime_checkable
class Runs(Protocol):
    """Trained models whose scores have names; an `Ensemble` is one. This package knows nothing of files."""

    @property
    def masks(self) -> Bool[np.ndarray, "models train"]: ...

    def without_diverged(self) -> "Runs": ...

    def score_kind(self, name: str) -> ScoreKind: ...

    def train_score(self, name: str) -> np.ndarray: ...

    def test_score(self, name: str) -> np.ndarray: ...


class Unasked(Enum):
    """Stands for a score that a function does not take at all; None is one that it takes and was not given."""

    UNASKED = 0


UNASKED = Unasked.UNASKED
"""The default of a score that a function does not take."""


class Outcomes:
    """Masks and scores of some models, checked once, and packed for counting once: `pack` makes it.

    Every function that takes `masks, score` takes an `Outcomes` in place of `masks`, without a score. Use it where the same
    models are compared many times: nothing is checked, packed or moved to the device twice, and memorization is computed once.
    It keeps the arrays that it was made from, which must not change afterwards.

    Attributes:
      masks: bool [models, train]; [models, groups] where it was packed with groups.
      names: the name of each group, integers or text [groups]; None where it was packed without groups. Index g of a group, such as
        a `train_index` of `discoveries`, has the name `names[g]`.
    """

    def __init__(
        self,
        masks: Bool[np.ndarray, "models train"],
        test_score: Scores | None,
        read_train_score: Callable[[], Scores] | None,
        memorize: Callable[[], Memorization] | None = None,
        kind: ScoreKind | None = None,
        names: Shaped[np.ndarray, " groups"] | None = None,
    ):
        self.masks, self._kind = masks, kind
        self.names = names
        self._test_score, self._read_train_score, self._memorize = test_score, read_train_score, memorize
        self._tiles: dict[int, Tiles] = {}

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        (models, train), test = self.masks.shape, self._test_score
        about = "no test score" if test is None else f"{test.dtype} score of {test.shape[1]} test examples"
        units = "training examples" if self.names is None else "groups"
        return f"Outcomes of {models} models, {train} {units}, {about}"

    @property
    def test_score(self) -> Scores:
        """Bool or float32 [models, test].

        Raises:
          ValueError: it was packed without one.
        """
        if self._test_score is None:
            raise ValueError("masks is an Outcomes without a test score. Make it with pack(masks, score).")
        return self._test_score

    @property
    def kind(self) -> ScoreKind:
        """The kind of the test score: what an `Ensemble` says of it, or as its values are."""
        return score_kind(self.test_score) if self._kind is None else self._kind

    @cached_property
    def train_score(self) -> Scores:
        """Bool or float32 [models, train]; that of an `Ensemble` is read when it is first asked for. That of a group, [models, groups],
        is the mean score of its members.

        Raises:
          ValueError: it was packed without one.
        """
        if self._read_train_score is None:
            raise ValueError(
                "masks is an Outcomes without a train score, which memorization takes. Make it with "
                "pack(masks, score, train_score)."
            )
        return self._read_train_score()

    @cached_property
    def num_in(self) -> Int32[np.ndarray, " train"]:
        """Number of models that were trained on each training example."""
        return np.asarray(count_flags(self.masks))

    @cached_property
    def num_right(self) -> Int32[np.ndarray, " test"]:
        """Number of models that are right on each test example; for bool test scores."""
        return np.asarray(count_flags(self.test_score))

    @cached_property
    def memorization(self) -> Memorization:
        """Memorization of every training example, by the train score."""
        return compute_memorization(self.masks, self.train_score) if self._memorize is None else self._memorize()

    def examples_above(self, minimum: float | None) -> Int[np.ndarray, " examples"]:
        """Indices of the training examples whose memorization is above `minimum`: the condition of Appendix E.

        NaN is not above anything; a `minimum` of None keeps every example. The fraction that a memorization is gets compared
        with the simplest fraction that `minimum` may stand for: one of exactly 0.2 (4/5 - 3/5) is not above 0.2.
        """
        if minimum is None:
            return np.arange(self.masks.shape[1])
        return np.flatnonzero(self.memorization.exact > float(simplest_fraction(minimum)))

    def select(self, examples: ArrayLike | Sequence[Any] | None) -> "Outcomes":
        """The models with some of the training examples: indices or a bool mask [train]; None keeps all, packed as they are.

        Raises:
          TypeError, ValueError: indices that are no training examples.
        """
        kept = check_examples(examples, self.masks.shape[1])
        if kept is None:
            return self
        masks, names = self.masks[:, kept], None if self.names is None else self.names[kept]
        if self._read_train_score is None:
            return Outcomes(masks, self._test_score, None, kind=self._kind, names=names)

        def memorize() -> Memorization:
            return Memorization(self.memorization.rounded[kept], self.memorization.exact[kept])

        return Outcomes(masks, self._test_score, lambda: self.train_score[:, kept], memorize, self._kind, names=names)

    def with_score(self, score: ArrayLike | Sequence[Any]) -> "Outcomes":
        """The models with another test score, bool or float [models, other test]; memorization is shared.

        Raises:
          TypeError, ValueError: a score that is neither bool nor finite floats, or has another number of models.
        """
        checked = check_score(score, len(self))
        if self._read_train_score is None:
            return Outcomes(self.masks, checked, None, names=self.names)
        return Outcomes(self.masks, checked, lambda: self.train_score, lambda: self.memorization, names=self.names)

    def over_groups(self, groups: GroupNames) -> "Outcomes":
        """The same models with groups of training examples in place of single ones; see `pack`.

        Raises:
          TypeError, ValueError: as `group_masks`; also where these are groups already.
        """
        if self.names is not None:
            raise ValueError(
                "groups is given for an Outcomes of groups; it takes masks of single examples. Pack the models' own masks and "
                "scores again."
            )
        grouped = group_masks(self.masks, groups)
        if self._read_train_score is None:
            return Outcomes(grouped.masks, self._test_score, None, kind=self._kind, names=grouped.names)

        def read() -> Scores:
            return mean_of_groups(self.train_score, groups)

        return Outcomes(grouped.masks, self._test_score, read, kind=self._kind, names=grouped.names)

    def tiles(self, rows: int | None = None) -> Tiles:
        """The packed scores, from which the influence of `rows` training examples at a time is computed.

        `rows` of None takes about 4 million pairs at a time.
        """
        num_train, num_test = self.masks.shape[1], self.test_score.shape[1]
        rows = default_rows(num_train, num_test) if rows is None else min(rows, num_train)
        if rows not in self._tiles:
            # Those of another size are dropped: each holds all masks and scores.
            self._tiles = {rows: make_tiles(self.masks, self.test_score, rows)}
        return self._tiles[rows]


Models = ArrayLike | Sequence[Any] | Runs | Outcomes
"""Type of an argument `masks`: bool [models, train], an `Ensemble`, or `Outcomes`."""
Score = ArrayLike | Sequence[Any] | str | None
"""Type of an argument `score`: an array [models, examples], the name of an `Ensemble`'s score, or None with `Outcomes`."""


def pack(
    masks: Models,
    score: Score = None,
    train_score: Score = None,
    groups: GroupNames | None = None,
) -> Outcomes:
    """Masks and scores as one object, which is checked and packed once however often it is used; per group, if asked for.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged
        models are left out.
      score: bool or float [models, test]: model t's score on test example j. For an `Ensemble` the name of a score, which is
        taken of the test examples and, unless `train_score` names another one, of the training examples.
      train_score: bool or float [models, train]: model t's score on training example i, which memorization takes. For an
        `Ensemble` the name of a score.
      groups: the group of each training example, integers or text [train], as `draw_subsets` took them. Influence is then that of
        whole groups: index g of every result is about the group `names[g]`, and every test counts a group once. Memorization
        of a group is the influence of the group on its members' mean score, so it takes a mean as the train score.
        None for single examples.

    Returns:
      `Outcomes`. Every function that takes `masks, score` takes it in place of `masks`, without a score.
      Memory: copies of the scores (none of bool and float32 NumPy arrays), and what is packed at the first use.

    Raises:
      TypeError, ValueError: as `influence` and `memorization`; also if there is neither a score nor a train score, or a model
        was trained on a part of a group.
    """
    if isinstance(masks, Outcomes) and score is None and train_score is None:
        packed = masks
    elif score is None and train_score is None:
        raise ValueError("score and train_score are None; pack takes at least one of them.")
    else:
        packed = take_outcomes(masks, score, train_score, optional=True)
    return packed if groups is None else packed.over_groups(groups)


class Names(NamedTuple):
    """Names of these arguments in a function's errors."""

    masks: str = "masks"
    score: str = "score"
    train_score: str = "train_score"


USUAL = Names()
"""The names that most functions have for these arguments."""


def take_outcomes(
    masks: Any,
    score: Any = UNASKED,
    train_score: Any = UNASKED,
    names: Names = USUAL,
    *,
    optional: bool = False,
) -> Outcomes:
    """Turn the arguments of a function into checked `Outcomes`; the arguments here are those of `take_given`.

    Raises:
      TypeError, ValueError: what does not fit, with the name of the argument and what to do.
    """
    if isinstance(masks, Outcomes):
        take_given(masks, score, train_score, names)
        return masks
    given = take_given(masks, score, train_score, names, optional=optional)
    checked = check_masks(given.masks, names.masks)
    number = len(checked)
    test = None
    if given.score is not None:
        test = check_score(given.score, number, names.score, masks_name=names.masks)
    if given.read_train_score is None:
        return Outcomes(checked, test, None, kind=given.kind)

    def read() -> Scores:
        return check_score(given.train_score, number, names.train_score, checked.shape[1], names.masks)

    if given.is_lazy:
        return Outcomes(checked, test, read, kind=given.kind)
    train = read()
    return Outcomes(checked, test, lambda: train, kind=given.kind)


class Given(NamedTuple):
    """Masks and scores as they were given, or as an `Ensemble` or `Outcomes` has them; those of a user are not checked."""

    masks: Any
    score: Any
    read_train_score: Callable[[], Any] | None
    is_lazy: bool = False
    """Whether reading the train score takes time and memory, and is put off until it is asked for."""
    kind: ScoreKind | None = None
    """The kind of the score, where an `Ensemble` says it."""

    @property
    def train_score(self) -> Any:
        """The train score, read now."""
        return None if self.read_train_score is None else self.read_train_score()


def take_given(
    masks: Any, score: Any = UNASKED, train_score: Any = UNASKED, names: Names = USUAL, *, optional: bool = False
) -> Given:
    """Which masks and scores a function was given; as arrays, but unchecked.

    Args:
      masks, score, train_score: what the function was given; a score that it does not take at all is left out.
      names: what the function calls them.
      optional: whether one of the two scores may be missing.

    Raises:
      TypeError, ValueError: a name without an `Ensemble`, an array with one, a score beside `Outcomes`, or no score.
    """
    asked = {names.score: score, names.train_score: train_score}
    asked = {name: value for name, value in asked.items() if value is not UNASKED}
    if isinstance(masks, Outcomes):
        return _take_packed(masks, score, train_score, names, asked)
    if isinstance(masks, Runs):
        return _take_runs(masks, score, train_score, names, asked)
    for name, value in asked.items():
        if isinstance(value, str):
            raise TypeError(
                f"{name} is {quote(value)}, the name of a score, and {names.masks} is no Ensemble; it takes an array with one row "
                f"a model. Pass the Ensemble in place of {names.masks}, or the score as an array."
            )
        if value is None and not optional:
            raise TypeError(
                f"{name} is None; it takes bool or float scores, one row a model, or the name of a score where {names.masks} is an "
                "Ensemble."
            )
    given = None if train_score is UNASKED or train_score is None else lambda: train_score
    return Given(masks, None if score is UNASKED else score, given)


def _take_packed(packed: Outcomes, score: Any, train_score: Any, names: Names, asked: dict[str, Any]) -> Given:
    for name, value in asked.items():
        if value is not None:
            raise TypeError(
                f"{name} is given beside {names.masks}, which is an Outcomes and holds its scores; leave {name} out, or pass "
                f"{names.masks}.masks."
            )
    test = None if score is UNASKED else packed.test_score
    return Given(packed.masks, test, None if train_score is UNASKED else lambda: packed.train_score)


def _take_runs(runs: Runs, score: Any, train_score: Any, names: Names, asked: dict[str, Any]) -> Given:
    for name, value in asked.items():
        if value is not None and not isinstance(value, str):
            raise TypeError(
                f"{name} is an array ({type(value).__name__}) and {names.masks} is an Ensemble, of which diverged models are left out; "
                f"{name} takes the name of a score then. Pass {names.masks}.masks to give an array."
            )
    chosen = [value for value in asked.values() if value is not None]
    if asked and not chosen:
        raise TypeError(
            f"{' and '.join(asked)} is None and {names.masks} is an Ensemble; it takes the name of a score, such as 'correct'."
        )
    healthy = runs.without_diverged()
    if not len(healthy.masks):
        if len(runs.masks) or getattr(runs, "num_diverged", 0):
            what = "of which every model diverged. Train again with a lower learning rate"
        else:
            what = "without any finished model. Train it, or take other rows"
        raise ValueError(f"{names.masks} is an Ensemble {what}.")
    # One name stands for both scores where a function takes two.
    test = score if isinstance(score, str) else train_score
    train = train_score if isinstance(train_score, str) else score
    return Given(
        healthy.masks,
        None if score is UNASKED else healthy.test_score(test),
        None if train_score is UNASKED else lambda: healthy.train_score(train),
        train == test and score is not UNASKED,
        None if test is None or score is UNASKED else healthy.score_kind(test),
    )


__all__ = ["Models", "Outcomes", "Runs", "Score", "Unasked", "UNASKED", "Names", "pack", "take_given", "take_outcomes"]
