"""Brittleness: how many of the examples that an attribution names must be left out until a prediction flips?

The counterfactual check of attributions. For some test examples the highest training examples are left out, and models are trained
again, all of them as one ensemble. Random examples are left out beside them: an attribution that names the right ones needs fewer.

Source: Ilyas et al. (2022), "Datamodels", Section 4.1; Park et al. (2023), "TRAK: Attributing model behavior at scale".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from jaxinfl.arguments import check_attribution, check_indices, check_seed, check_share, check_whole, quote
from jaxinfl.datasets import Dataset
from jaxinfl.statistics.proportions import normal_quantile, wilson_interval
from jaxinfl.store import Ensemble
from jaxinfl.training import train_ensemble

_OWN = {"masks", "keys", "part", "initial", "overrides"}
"""Arguments of `train_ensemble` that are not the user's here."""
RANDOM = "random"
"""Name of the removal of random examples."""


@dataclass(frozen=True, eq=False)
class Brittleness:
    """How often predictions are wrong after the removal of the examples that attributions name."""

    names: tuple[str, ...]
    """Names of the attributions; the last is "random"."""
    test_index: Int[np.ndarray, " tests"]
    """The test examples."""
    removals: Int[np.ndarray, " removals"]
    """Numbers of training examples that are left out."""
    wrong: Float[np.ndarray, "names tests removals"]
    """Share of the models that are wrong on the test example, 0 to 1."""
    wrong_before: Float[np.ndarray, " tests"]
    """The same with nothing left out."""
    seeds: int
    """Models of each removal, which differ in their random keys."""
    confidence: float
    """Confidence of the intervals."""

    @property
    def counted(self) -> Bool[np.ndarray, " tests"]:
        """Whether most models are right on each test example with nothing left out: only such predictions can flip."""
        return self.wrong_before < 0.5

    def flipped(self, name: str) -> Bool[np.ndarray, "tests removals"]:
        """Whether the prediction flips: most models are wrong, and most were right with nothing left out.

        Raises:
          ValueError: there is no attribution of this name.
        """
        flips: Bool[np.ndarray, "tests removals"] = (self._of(name) > 0.5) & self.counted[:, None]
        return flips

    def share_flipped(self, name: str) -> Float[np.ndarray, "removals 3"]:
        """Share of the predictions that flip, and its interval over test examples by Wilson's formula: [removals, (share, low, high)].

        Predictions that most models get wrong with nothing left out do not count, nor do those of removals of which every model
        diverged; NaN where there is no other.

        Raises:
          ValueError: there is no attribution of this name.
        """
        known = np.isfinite(self._of(name)) & self.counted[:, None]
        number = known.sum(axis=0).astype(float)
        share = np.divide(self.flipped(name).sum(axis=0), number, out=np.full(number.size, np.nan), where=number > 0)
        low, high = wilson_interval(share, number, normal_quantile(self.confidence))
        return np.stack([share, low, high], axis=1)

    def smallest(self, name: str) -> Float[np.ndarray, " tests"]:
        """Smallest number of removals that flips each prediction; infinity where none does, NaN where it was wrong before.

        Raises:
          ValueError: there is no attribution of this name.
        """
        flips = self.flipped(name)
        first = np.where(flips.any(axis=1), self.removals[flips.argmax(axis=1)], np.inf)
        return np.where(self.counted, first, np.nan)

    @property
    def text(self) -> str:
        """One line for each attribution: the share of the predictions that flip, by the number of removals."""
        right = int(self.counted.sum())
        lines = [f"{right} of {len(self.test_index)} predictions are right with nothing left out; of these flip:"]
        width = max(map(len, self.names))
        for name in self.names:
            shares = self.share_flipped(name)
            parts = [
                f"{number}: {share:.0%} ({low:.0%} to {high:.0%})"
                for number, (share, low, high) in zip(self.removals, shares, strict=True)
            ]
            lines.append(f"  {name:<{width}}  {', '.join(parts)}")
        return "\n".join(lines)

    def _of(self, name: str) -> Float[np.ndarray, "tests removals"]:
        if name not in self.names:
            raise ValueError(f"name is {quote(name)}; it takes one of {', '.join(map(repr, self.names))}.")
        found: Float[np.ndarray, "tests removals"] = self.wrong[self.names.index(name)]
        return found


def brittleness(
    attribution: ArrayLike | Mapping[str, ArrayLike],
    data: Dataset,
    *,
    test_examples: ArrayLike | Sequence[int],
    removals: Sequence[int] = (10, 20, 40, 80),
    seeds: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
    **training: Any,
) -> Brittleness:
    """Leave out the training examples that an attribution names for each test example, train again, and say which predictions flip.

    Args:
      attribution: numbers [train, test]: how much training example i helps the prediction of test example j. The highest are left out.
        Or several of them by name, which are tried on the same test examples beside the same random removals.
      data: the data set, of classes.
      test_examples: indices of the test examples.
      removals: numbers of examples to leave out, rising. Where an attribution has fewer numbers other than 0, random examples fill up.
      seeds: models of each removal, from 1 up.
      seed: seed of the models' random keys and of the random removals.
      confidence: confidence of the intervals, between 0 and 1.
      training: what `train_ensemble` takes besides: model, recipe, run_dir, progress and others, but for masks, keys, part, initial and
        overrides.

    Returns:
      `Brittleness`. In all `seeds * (1 + removals * (attributions * tests + 1))` models are trained as one ensemble: with nothing left
      out, without the top examples of each test example, and without random ones. Those are one draw, the same for all test examples, so that
      the interval of "random" is about other test examples, and not about other draws.

    Raises:
      TypeError, ValueError: arguments that do not fit, before anything is trained; those of `train_ensemble`.
    """
    given = sorted(_OWN & training.keys())
    if given:
        raise ValueError(
            f"{', '.join(given)} is given; brittleness makes the subsets and keys itself and needs all models. Leave it out."
        )
    named = attribution if isinstance(attribution, Mapping) else {"attribution": attribution}
    checked = _check(named, data, seeds, seed, confidence)
    tests = check_indices(test_examples, "test_examples", data.num_test)
    if not tests.size or len(np.unique(tests)) < tests.size:
        what = "has an index twice" if tests.size else "is empty"
        raise ValueError(f"test_examples {what}; it takes indices of different test examples.")
    numbers = _check_removals(removals, data.num_train)
    masks = removal_masks(checked, tests, numbers, data.num_train, seed)
    rows = np.repeat(masks, seeds, axis=0)
    keys = jax.random.split(jax.random.key(seed), len(rows))
    runs = train_ensemble(rows, keys, data=data, **training).with_diverged()
    return read_brittleness(runs, tuple(checked), tests, numbers, confidence)


def read_brittleness(
    runs: Ensemble,
    names: tuple[str, ...],
    test_index: Int[np.ndarray, " tests"],
    removals: Int[np.ndarray, " removals"],
    confidence: float = 0.95,
) -> Brittleness:
    """What models say that were trained on the rows of `removal_masks`, each repeated for the seeds.

    Args:
      runs: the models, with those that diverged, which do not count.
      names: names of the attributions, in the order of the masks.
      test_index: the test examples.
      removals: numbers of examples that are left out.
      confidence: confidence of the intervals.
    """
    subsets = 1 + removals.size * (1 + len(names) * test_index.size)
    seeds = len(runs) // subsets
    if len(runs) != subsets * seeds or not seeds:
        raise ValueError(f"runs has {len(runs)} models; it takes as many on each of the {subsets} subsets.")
    right = np.where(runs.diverged[:, None], np.nan, runs.test_score("correct")[:, test_index])
    right = right.reshape(subsets, seeds, test_index.size)
    finished = np.isfinite(right).sum(axis=1)
    wrong = 1 - np.divide(np.nansum(right, axis=1), finished, out=np.full(finished.shape, np.nan), where=finished > 0)
    of_random = wrong[1 : 1 + removals.size].T
    own = wrong[1 + removals.size :].reshape(len(names), test_index.size, removals.size, test_index.size)
    each = np.arange(test_index.size)
    of_names = [own[number][each, :, each] for number in range(len(names))]
    return Brittleness(
        (*names, RANDOM), test_index, removals, np.stack([*of_names, of_random]), wrong[0], seeds, float(confidence)
    )


def _check(
    named: Mapping[str, ArrayLike], data: Any, seeds: Any, seed: Any, confidence: Any
) -> dict[str, Float[np.ndarray, "train test"]]:
    if not isinstance(data, Dataset):
        raise TypeError(f"data is {quote(data)}; it takes a jaxinfl.Dataset.")
    if not data.num_classes:
        raise ValueError(f"data has the task {data.task.name!r}; predictions flip where they are classes.")
    check_whole(seeds, "seeds", 1, 1000, "models")
    check_seed(seed)
    check_share(confidence, "confidence")
    if not named:
        raise ValueError("attribution is an empty mapping; it takes numbers [train, test], or several of them by name.")
    checked = {}
    for name, values in named.items():
        what = "attribution" if len(named) == 1 else f"attribution[{name!r}]"
        if not isinstance(name, str) or not name.strip() or name == RANDOM:
            raise ValueError(f"attribution has the name {quote(name)}; it takes text other than {RANDOM!r}.")
        checked[name] = check_attribution(values, data.num_train, data.num_test, what)
    return checked


def _check_removals(removals: Any, num_train: int) -> Int[np.ndarray, " removals"]:
    removals = np.asarray(removals).tolist() if hasattr(removals, "__array__") else removals
    if isinstance(removals, str) or not isinstance(removals, Sequence) or not len(removals):
        raise TypeError(
            f"removals is {quote(removals)}; it takes rising numbers of training examples, such as (10, 20, 40)."
        )
    numbers = np.array([check_whole(each, "removals", 1, num_train - 1, "training examples") for each in removals])
    if (np.diff(numbers) <= 0).any():
        raise ValueError(f"removals is {quote(removals)}; it takes rising numbers.")
    return numbers


def removal_masks(
    attributions: Mapping[str, Float[np.ndarray, "train test"]],
    tests: Int[np.ndarray, " tests"],
    removals: Int[np.ndarray, " removals"],
    num_train: int,
    seed: int,
) -> Bool[np.ndarray, "subsets train"]:
    """Subsets of which examples are left out: nothing, then random ones, then those that each attribution names for each test example.

    Each of them has one row for each number of removals, but for the first, which has one.
    """
    masks = [np.ones(num_train, np.bool_)]
    # Examples of the same attribution, such as those of none, come in random order.
    order = np.random.default_rng(seed).permutation(num_train)
    orders = [order] + [
        order[np.argsort(-values[order, test].astype(np.float64), kind="stable")]
        for values in attributions.values()
        for test in tests
    ]
    for highest in orders:
        for number in removals:
            row = np.ones(num_train, np.bool_)
            row[highest[:number]] = False
            masks.append(row)
    return np.stack(masks)


__all__ = ["RANDOM", "Brittleness", "brittleness", "read_brittleness", "removal_masks"]
