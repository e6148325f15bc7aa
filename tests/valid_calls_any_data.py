"""Small valid calls over data, tasks and files of every kind, with the kinds of their arguments; beside `tests.valid_calls`."""

import tempfile
from pathlib import Path

import numpy as np

import jaxinfl
from jaxinfl import tasks
from tests.bad_inputs import (
    ARRAY,
    CHOICE,
    NOT_FINITE,
    NOT_NUMBERS,
    NOTHING_ELSE,
    SWITCH,
    Call,
    Change,
    Kind,
    constant,
    whole,
)
from tests.kinds_of_data import OWN
from tests.valid_calls import EPOCHS, RATE, _run

_rng = np.random.default_rng(1)
ROWS, LENGTH = 6, 4
numbers = _rng.normal(size=(ROWS, 3)).astype(np.float32)
tokens = _rng.integers(0, 5, (ROWS, LENGTH))
flags = _rng.random((ROWS, 2)) < 0.5
mixed = {"numbers": numbers, "tokens": tokens, "flags": flags}


def _somewhere(**changes: Change) -> dict[str, Change]:
    """Break the one array of a dict that has the name, each in its own way."""

    def of(name: str, change: Change) -> Change:
        return lambda value, rng: value | {name: change(value[name], rng)}

    return {
        f"{label.replace('_', ' ')} in {label.split('_')[0]}": of(label.split("_")[0], c)
        for label, c in changes.items()
    }


INPUTS = Kind(
    {name: change for name, change in NOT_NUMBERS.items() if name != "dictionary"}
    | {
        "nothing": constant({}),
        "number": constant(3.5),
        "none": constant(None),
        "another name": lambda value, rng: {f"{name} too": each for name, each in value.items()},
        "one array less": lambda value, rng: dict(list(value.items())[:-1]),
        "no string": lambda value, rng: value | {3: value["numbers"]},
        "array": lambda value, rng: np.array(value["numbers"]),
    }
    | _somewhere(
        numbers_nan=lambda value, rng: NOT_FINITE["nan"](value, rng).astype(np.float32),
        numbers_infinite=lambda value, rng: NOT_FINITE["infinite"](value, rng).astype(np.float32),
        numbers_objects=lambda value, rng: value.astype(object),
        numbers_text=lambda value, rng: value.astype(str),
        numbers_complex=lambda value, rng: value.astype(complex),
        numbers_shorter=lambda value, rng: value[:-1],
        numbers_wider=lambda value, rng: np.concatenate([value, value], axis=1),
        numbers_scalar=lambda value, rng: np.float32(1.0),
        numbers_empty=lambda value, rng: value[:0],
        tokens_negative=lambda value, rng: np.where(
            np.arange(value.size).reshape(value.shape) == rng.integers(value.size), -3, value
        ),
        tokens_unknown=lambda value, rng: np.where(
            np.arange(value.size).reshape(value.shape) == rng.integers(value.size), 99, value
        ),
        flags_floats=lambda value, rng: value.astype(np.float32),
        flags_dates=lambda value, rng: np.full(value.shape, np.datetime64("2026-01-01")),
    )
)
TARGETS = Kind({name: change for name, change in (ARRAY | NOT_FINITE).items() if name != "stacked"})
TOKEN_TARGETS = Kind(
    {name: change for name, change in ARRAY.items() if name not in ("stacked", "strided")}
    | {
        "fractions": lambda value, rng: value + 0.5,
        "one number": lambda value, rng: value[:, 0],
        "longer": lambda value, rng: np.repeat(value, 2, axis=1),
    }
)
BITS = Kind(
    {name: change for name, change in ARRAY.items() if name not in ("stacked",)}
    | {
        "a two": lambda value, rng: value.astype(int) + 1,
        "a half": lambda value, rng: value * 0.5,
        "three axes": lambda value, rng: value[..., None],
    }
)
CATEGORIES = Kind(
    {name: NOT_NUMBERS[name] for name in ("text", "bytes", "set", "function", "type", "objects", "ragged")}
    | {
        "too few": constant({"tokens": 1}),
        "no integers": constant({"numbers": 4}),
        "unknown": constant({"nowhere": 4}),
        "zero": constant({"tokens": 0}),
        "fraction": constant({"tokens": 5.5}),
        "true": constant({"tokens": True}),
        "huge": constant({"tokens": 10**30}),
    }
)
CATEGORY_NAMES = Kind(
    {
        "text": constant("abcde"),
        "number": constant(3),
        "no strings": constant({"tokens": [1, 2, 3, 4, 5]}),
        "too few": constant({"tokens": ["a", "b"]}),
        "unknown": constant({"nowhere": list("abcde")}),
        "of numbers": constant({"numbers": list("abcde")}),
        "control": constant({"tokens": ["a\x1b[2J", "b", "c", "d", "e"]}),
    }
)
FEATURE_NAMES = Kind(
    {
        "text": constant("ab"),
        "number": constant(3),
        "no strings": constant({"numbers": [1] * numbers.shape[1]}),
        "too few": constant({"numbers": ["a"]}),
        "unknown": constant({"nowhere": list("ab")}),
        "of tokens": constant({"tokens": list("abcde")}),
        "control": constant({"numbers": ["a\x1b[2J"] * numbers.shape[1]}),
    }
)
_names = {"tokens": list("abcde")}
_features = {"numbers": [f"number {k}" for k in range(numbers.shape[1])]}
_dataset = {"train_inputs": mixed, "test_inputs": mixed, "train_targets": numbers[:, 0], "test_targets": numbers[:, 1], "task": "regression",
            "categories": {"tokens": 5}, "category_names": _names, "feature_names": _features}  # fmt: skip
_next = {
    "train_inputs": tokens,
    "test_inputs": tokens,
    "train_targets": tokens,
    "test_targets": tokens,
    "task": "next_token",
    "categories": 5,
}
_binary = {
    "train_inputs": numbers,
    "test_inputs": numbers,
    "train_targets": flags,
    "test_targets": flags,
    "task": "binary",
}

_folder = Path(tempfile.mkdtemp(prefix="jaxinfl-tests-"))
for _split in ("train", "test"):
    (_folder / f"{_split}.csv").write_text("x,colour,y\n1.5,red,0.5\n2.5,blue,1.5\n-1.0,red,2.5\n")
_pair = (str(_folder / "train.csv"), str(_folder / "test.csv"))
COLUMNS = Kind(
    {
        name: NOT_NUMBERS[name]
        for name in ("bytes", "dictionary", "set", "function", "type", "objects", "ragged", "record")
    }
    | {
        "unknown": constant(["x", "z"]),
        "number": constant(3),
        "twice": constant(["x", "x"]),
        "empty": constant([]),
        "a number in it": constant(["x", 3]),
    }
)
TARGET = Kind(
    {
        name: NOT_NUMBERS[name]
        for name in ("bytes", "dictionary", "set", "function", "type", "objects", "ragged", "record")
    }
    | {"unknown": constant("z"), "number": constant(3), "empty": constant("")}
)
PAIR = Kind(
    {
        "one file": lambda value, rng: value[0],
        "three files": lambda value, rng: (*value, value[0]),
        "two kinds": lambda value, rng: (value[0], "test.parquet"),
        "numbers": constant((1, 2)),
        "nul": constant(("a\0b.csv", "c.csv")),
        "a url": constant(("https://example.org/train.csv", "test.csv")),
    }
)

ANY_DATA = [
    Call(jaxinfl.Dataset, _dataset,
         {"train_inputs": INPUTS, "test_inputs": INPUTS, "train_targets": TARGETS, "test_targets": TARGETS, "task": CHOICE,
          "categories": CATEGORIES, "category_names": CATEGORY_NAMES, "feature_names": FEATURE_NAMES}),
    # Both sets may have longer targets than the inputs, if they agree.
    Call(jaxinfl.Dataset, _next, {"train_targets": TOKEN_TARGETS, "test_targets": TOKEN_TARGETS.but("longer"), "task": CHOICE}),
    Call(jaxinfl.Dataset, _binary, {"train_targets": BITS, "test_targets": BITS, "task": CHOICE}),
    Call(tasks.huber, {"delta": 0.5, "num_targets": 2},
         {"delta": RATE.but("above", zero=constant(0.0)), "num_targets": whole(1, 10**6)}),
    Call(jaxinfl.Task, {"name": "mine", "loss": OWN.loss, "scores": {"same": OWN.loss}},
         {"name": NOTHING_ELSE.but("text"), "loss": NOTHING_ELSE.but("function", "type"),
          "scores": NOTHING_ELSE.but("none", reserved=constant({"outputs": OWN.loss}), case=constant({"a": OWN.loss, "A": OWN.loss}),
                                     at=constant({"margin@5": OWN.loss}), loss=constant({"loss": print}))}),
    Call(jaxinfl.load_dataset, {"name": _pair, "inputs": ["x", "colour"], "targets": "y", "task": "regression", "categories": ["colour"]},
         {"name": PAIR, "inputs": COLUMNS, "targets": TARGET, "task": CHOICE.but("none"), "categories": COLUMNS}),
    Call(jaxinfl.Recipe, {"standardize": True, "standardize_targets": True}, {"standardize": SWITCH, "standardize_targets": SWITCH}),
    Call(jaxinfl.train_ensemble, _run, {"keep_outputs": CHOICE.but("none"), "keep_epochs": EPOCHS.but("falling")}, runs=False),
]  # fmt: skip
"""Calls whose arguments say what data and targets are, and what is kept of them."""
