"""Kinds of arguments for `tests.valid_calls`: ways to break an argument, and ways to write it that change nothing.

A kind has two tables of functions of a valid value and a random generator. Values from the first table must be refused by an
error that names the argument. Values from the second table must give the valid call's result.
"""

import contextlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple
from unittest import mock

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from flax import linen

Change = Callable[[Any, np.random.Generator], Any]


class Kind(NamedTuple):
    """The values that an argument does not take, and other spellings of a value that it takes."""

    broken: Mapping[str, Change]
    equal: Mapping[str, Change] = {}
    single: bool = False
    """Whether it is a number, a word or a switch, and no array."""

    def but(self, *without: str, **more: Change) -> "Kind":
        """Leave out ways of breaking the argument, because it takes these values, and add others."""
        kept = {name: change for name, change in self.broken.items() if name not in without}
        assert len(kept) == len(self.broken) - len(without)
        equal = {name: change for name, change in self.equal.items() if name not in without}
        return Kind(kept | more, equal, self.single)

    def errors(self, change: str) -> tuple[type[Exception], ...]:
        """Errors that a change may raise. For single values of another kind it is a `TypeError`, whatever the function."""
        if self.single and change in ANOTHER_KIND:
            return (TypeError,)
        return (ValueError,) if self.single and change in OUT_OF_RANGE else (TypeError, ValueError)


class Call(NamedTuple):
    """A function with valid arguments, by keyword."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    kinds: Mapping[str, Kind]
    runs: bool = True
    """Whether the valid call itself is made. Where it would take long it is not, and nothing may be compiled then."""


def forbid_compilation() -> contextlib.AbstractContextManager[Any]:
    """Fail where anything is compiled inside this block, in which calls must be refused before."""
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch("jaxinfl.training.machine.build_programs", side_effect=AssertionError("compiled")))
    return stack


ANOTHER_KIND = frozenset(
    {"none", "bytes", "dictionary", "set", "function", "type", "objects", "record", "complex", "date", "duration"}
)
OUT_OF_RANGE = frozenset({"below", "above", "low", "high", "minus huge", "huge", "upper case"})


def at_random(value: Any, rng: np.random.Generator, put: Any) -> np.ndarray:
    """Replace one random value of an array."""
    array = np.array(value, np.float64)
    array.flat[rng.integers(array.size)] = put
    return array


def constant(value: Any) -> Change:
    return lambda *_: value


def cast(dtype: Any) -> Change:
    return lambda value, rng: np.asarray(value).astype(dtype)


NOT_NUMBERS: dict[str, Change] = {
    "text": constant("text"),
    "bytes": constant(b"\xff\x00"),
    "dictionary": constant({"a": 1}),
    "set": constant({1, 2}),
    "function": constant(print),
    "type": constant(int),
    "objects": lambda value, rng: np.array([object(), None], object),
    "ragged": constant([[1, 2], [3]]),
    "record": lambda value, rng: np.zeros(3, [("a", int), ("b", float)]),
}
ARRAY: dict[str, Change] = NOT_NUMBERS | {
    "none": constant(None),
    "as objects": cast(object),
    "strings": cast(str),
    "complex": cast(complex),
    "dates": lambda value, rng: np.full(np.shape(value), np.datetime64("2026-01-01")),
    "durations": lambda value, rng: np.full(np.shape(value), np.timedelta64(1, "s")),
    "stacked": lambda value, rng: np.asarray(value)[None],
    "no rows": lambda value, rng: np.asarray(value)[:0],
}
AS_ARRAY: dict[str, Change] = {
    "list": lambda value, rng: np.asarray(value).tolist(),
    "fortran": lambda value, rng: np.asfortranarray(value),
    "strided": lambda value, rng: np.repeat(value, 2, axis=0)[::2],
    "jax": lambda value, rng: jnp.asarray(value),
}
MATRIX = ARRAY | {
    "flat": lambda value, rng: np.asarray(value).reshape(-1),
    "number": constant(3),
    "no columns": lambda value, rng: np.asarray(value)[:, :0],
    "one more row": lambda value, rng: np.concatenate([value, value[:1]]),
    "one row less": lambda value, rng: np.asarray(value)[1:],
}
NOT_FINITE: dict[str, Change] = {
    "nan": lambda value, rng: at_random(value, rng, np.nan),
    "infinite": lambda value, rng: at_random(value, rng, np.inf),
    "minus infinite": lambda value, rng: at_random(value, rng, -np.inf),
    "all nan": lambda value, rng: np.full(np.shape(value), np.nan),
}
MASKS = Kind(MATRIX | {"floats": cast(float), "integers": cast(np.int8), "unsigned": cast(np.uint64)}, AS_ARRAY)
SCORE = Kind(MATRIX | NOT_FINITE | {"integers": cast(np.int64), "unsigned": cast(np.uint8)}, AS_ARRAY)
ESTIMATE = Kind(
    MATRIX | {"list": AS_ARRAY["list"], "booleans": cast(bool), "integers": cast(int)},
    {name: change for name, change in AS_ARRAY.items() if name != "list"},
)
NUMBERS = Kind(
    ARRAY
    | NOT_FINITE
    | {"booleans": lambda value, rng: np.ones(np.shape(value), bool), "number of another kind": constant(1j)},
    AS_ARRAY,
)
PROBABILITIES = Kind(
    {name: change for name, change in (ARRAY | NOT_FINITE).items() if name not in ("stacked", "no rows")}
    | {
        "negative": lambda value, rng: at_random(value, rng, -rng.random() - 1e-9),
        "above one": lambda value, rng: at_random(value, rng, 1 + rng.random() + 1e-9),
        "huge": lambda value, rng: at_random(value, rng, 1e300),
        "other length": lambda value, rng: np.full(7, 0.5),
    },
    {name: change for name, change in AS_ARRAY.items() if name != "jax"},  # float32
)
CLASSES = Kind(
    MATRIX
    | NOT_FINITE
    | {
        "floats": cast(float),
        "booleans": cast(bool),
        "negative": lambda value, rng: at_random(value, rng, -1).astype(int),
    },
    AS_ARRAY,
)
INDICES = Kind(
    ARRAY
    | {
        "floats": lambda value, rng: np.asarray(value) + 0.5,
        "negative": lambda value, rng: at_random(value, rng, -1).astype(int),
        "outside": lambda value, rng: at_random(value, rng, 10**6 + rng.integers(10**6)).astype(int),
        "number": constant(0),
    },
    AS_ARRAY,
)

SCALAR: dict[str, Change] = NOT_NUMBERS | {
    "none": constant(None),
    "true": constant(True),
    "numpy's false": constant(np.False_),
    "digits": constant("3"),
    "complex": constant(1 + 2j),
    "nan": constant(float("nan")),
    "date": constant(np.datetime64("2026-01-01")),
    "duration": constant(np.timedelta64(3, "s")),
    "several": constant([1, 2]),
    "array": lambda value, rng: np.full(int(rng.integers(2, 5)), value),
}


def whole(low: int, high: int | None = None) -> Kind:
    """Make the kind of whole numbers in a range."""
    more: dict[str, Change] = {
        "below": lambda value, rng: low - 1 - int(rng.integers(10**6)),
        "minus huge": constant(-(10**30)),
        "fraction": lambda value, rng: value + 0.5,
        "infinite": constant(float("inf")),
    }
    if high is not None:
        more |= {"above": lambda value, rng: high + 1 + int(rng.integers(10**6)), "huge": constant(10**30)}
    return Kind(SCALAR | more, {"numpy": lambda value, rng: np.int64(value)}, single=True)


def share(low: float = 0.0, high: float = 1.0, *, with_high: bool = False) -> Kind:
    """Make the kind of numbers between two bounds; the lower is excluded, and so is the upper unless `with_high`."""
    more: dict[str, Change] = {
        "low": constant(low),
        "below": lambda value, rng: low - float(rng.random()) - 1e-9,
        "above": lambda value, rng: high + float(rng.random()) + 1e-9,
        "infinite": constant(float("inf")),
        "minus infinite": constant(float("-inf")),
        "huge": constant(10**30),
    }
    if not with_high:
        more["high"] = constant(high)
    equal: dict[str, Change] = {
        "numpy": lambda value, rng: np.float64(value),
        "exact": lambda value, rng: Fraction(value),
    }
    return Kind(SCALAR | more, equal, single=True)


SEED = whole(0)
NUMBER = Kind(SCALAR, {"numpy": lambda value, rng: np.float64(value)}, single=True)
CHOICE = Kind(
    NOT_NUMBERS
    | {
        "number": constant(3),
        "none": constant(None),
        "upper case": lambda value, rng: value.upper() + "!",
        "array": lambda value, rng: np.array([value, value]),
        "list": lambda value, rng: [value],
    },
    single=True,
)
SWITCH = Kind(
    {name: change for name, change in SCALAR.items() if name not in ("true", "numpy's false")} | {"one": constant(1)},
    single=True,
)
PATH = Kind({name: NOT_NUMBERS[name] for name in ("bytes", "dictionary", "set", "objects")} | {"number": constant(3)})
NOTHING_ELSE = Kind(
    NOT_NUMBERS | {"number": constant(3.5), "none": constant(None), "array": lambda value, rng: np.zeros(3)}
)
"""Kind of arguments that take objects of one class."""


def _init(key):
    return {"weights": jnp.zeros((64, 3))}


def _apply(variables, inputs, *, train, key):
    return inputs.reshape(len(inputs), -1) @ variables["weights"]


class _Linen(linen.Module):
    @linen.compact
    def __call__(self, images):
        return linen.Dense(3)(images.reshape(len(images), -1))


WRONG_MODELS: dict[str, Change] = {
    "one function": constant((_init,)),
    "three functions": constant((_init, _apply, _apply)),
    "the wrong order": constant((_apply, _init)),
    "no function in it": lambda value, rng: (_init, value),
    "integers in it": constant((lambda key: {"weights": np.zeros((64, 3), int)}, _apply)),
    "other outputs": constant((_init, lambda variables, inputs, **_: inputs)),
    "a Linen class": constant(_Linen),
    "an Equinox module": lambda value, rng: eqx.nn.Identity(),
    "an Equinox class with more": constant(eqx.nn.MLP),
    "no Equinox module": constant(lambda key: jnp.zeros(3)),
    "a network for sequences": constant("transformer"),
}
"""Ways to break a model in each form that it may have."""
