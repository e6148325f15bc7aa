"""A data set from the columns of two tables: which are inputs, which are targets, and what they become."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jaxinfl.arguments import quote
from jaxinfl.datasets.arrow_arrays import LISTS, NUMBERS, kind_of, to_array, to_float32, to_text
from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.kinds import Wanted

TARGET_NAMES = ("label", "target", "y")
"""Names of columns that are taken for the targets where nobody says."""
JOINT = "numbers"
"""Name of the array of all columns of numbers, where there are other arrays beside it."""
MOST_COLUMNS = 2**17
_MIXED = " in one file and "
_INDEX = re.compile(r"|__index_level_\d+__")
"""Names that pandas gives to the numbers of rows in CSV and Parquet."""


class Schema(NamedTuple):
    """The columns of a data set."""

    root: str
    """Name of the data set in errors."""
    kinds: dict[str, str]
    """Kind of each column, as `kind_of` names it."""
    class_names: dict[str, tuple[str, ...]]
    """Names of the classes, of each column that declares them."""


class Choice(NamedTuple):
    """The columns that a data set is made of."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def make_schema(root: str, schemas: Sequence[Any], class_names: dict[str, tuple[str, ...]]) -> Schema:
    """The columns that all files have.

    Raises:
      ValueError: files have other columns than the first, two of one name, or too many.
    """
    first, kinds = schemas[0], {}
    if len(first.names) > MOST_COLUMNS:
        raise ValueError(f"{root} has {len(first.names)} columns; at most {MOST_COLUMNS} are taken. Remove some.")
    for schema in schemas:
        if len(set(schema.names)) < len(schema.names):
            repeated = next(name for name in schema.names if schema.names.count(name) > 1)
            raise ValueError(f"{root} has two columns of the name {quote(repeated)}. Rename one of them.")
        if set(schema.names) != set(first.names):
            other = min(set(schema.names) ^ set(first.names))
            raise ValueError(
                f"{root} has the column {quote(other)} in some of its files only; all files take the same columns. Add or remove it."
            )
    for name in first.names:
        kinds[name] = _join_kinds({kind_of(schema.field(name).type) for schema in schemas})
    return Schema(root, kinds, class_names)


def _join_kinds(kinds: set[str]) -> str:
    """One kind for the column of all files; in words, and not taken, where there is none."""
    if len(kinds) == 1:
        return kinds.copy().pop()
    for whole, real in (("integer", "number"), ("list of integers", "list of numbers")):
        if kinds == {whole, real}:  # as where the numbers of a CSV file happen to be whole
            return real
    return _MIXED.join(sorted(kinds)) + " in another"


def join_tables(tables: Sequence[Any], columns: Sequence[str], where: str) -> Any:
    """The tables below each other, with these columns.

    Raises:
      ValueError: a column has types that have nothing in common.
    """
    try:
        return pa.concat_tables([table.select(list(columns)) for table in tables], promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"{where}: its files have columns of different types ({error}). Write them alike.") from error


def choose_columns(schema: Schema, wanted: Wanted) -> Choice:
    """Choose the inputs and the targets: those that the user names, or the one column of targets and all others.

    Raises:
      TypeError, ValueError: a name is unknown, or which columns are meant is not clear; the message lists the columns.
    """
    targets = _as_names(schema, "targets", wanted.targets)
    if targets is None:
        fitting = [name for name in schema.kinds if name in schema.class_names or name in TARGET_NAMES]
        if len(fitting) != 1:
            found = f"{len(fitting)} columns fit" if fitting else "no column fits"
            raise ValueError(
                f"{schema.root}: which column holds the targets is not clear, {found}. Name it: targets='...'. It takes "
                f"the one column of class labels, or called {', '.join(TARGET_NAMES)}, where nobody says. {describe(schema)}"
            )
        targets = tuple(fitting)
    inputs = _as_names(schema, "inputs", wanted.inputs)
    if inputs is None:
        inputs = tuple(name for name in schema.kinds if name not in targets)
        if not inputs:
            raise ValueError(f"{schema.root} has no columns but the targets. {describe(schema)}")
        index = [name for name in inputs if _INDEX.fullmatch(name)]
        if index:
            raise ValueError(
                f"{schema.root} has the column {index[0]!r}, which pandas writes to number the rows. Write the file with "
                f"index=False, or name the columns that are inputs: inputs=[...]. {describe(schema)}"
            )
    both = [name for name in inputs if name in targets]
    if both:
        raise ValueError(
            f"inputs and targets of {schema.root} both have {quote(both[0])}. Leave it out of one of them."
        )
    mixed = [name for name in (*inputs, *targets) if _MIXED in schema.kinds[name]]
    if mixed:
        raise ValueError(
            f"column {quote(mixed[0])} of {schema.root} holds {schema.kinds[mixed[0]]}; it takes one kind of values. A value that "
            "is empty or odd in every row, or in one, makes another kind of a column. Correct it, or name other columns."
        )
    return Choice(inputs, targets)


def _as_names(schema: Schema, argument: str, given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} is {quote(given)}; it takes the name of a column, or a list of names.")
    unknown = [name for name in names if name not in schema.kinds]
    if unknown or not names or len(set(names)) < len(names):
        wrong = (
            f"has no column {quote(unknown[0])}"
            if unknown
            else f"takes each column of {argument} once, and at least one"
        )
        raise ValueError(f"{argument} is {quote(given)}; {schema.root} {wrong}. {describe(schema)}")
    return tuple(names)


def describe(schema: Schema) -> str:
    """A sentence that lists the columns with their kinds."""
    shown = [
        f"{name if name.isprintable() and name else ascii(name)} ({_describe_kind(schema, name)})"
        for name in list(schema.kinds)[:30]
    ]
    return f"The columns are {', '.join(shown)}{', ...' if len(schema.kinds) > 30 else ''}."


def _describe_kind(schema: Schema, name: str) -> str:
    return f"{len(schema.class_names[name])} classes" if name in schema.class_names else schema.kinds[name][:80]


def find_image(schema: Schema, choice: Choice) -> str | None:
    """The column of images, if it is the only input; None where there are no images.

    Raises:
      ValueError: other inputs stand beside it.
    """
    images = [name for name in choice.inputs if schema.kinds[name] in ("image", "binary")]
    if images and len(choice.inputs) > 1:
        others = [name for name in choice.inputs if name != images[0]]
        raise ValueError(
            f"inputs of {schema.root} are the images {quote(images[0])} and {', '.join(map(quote, others[:10]))}; it takes one "
            f"column of images alone. Give inputs={images[0]!r}, or name the other columns. {describe(schema)}"
        )
    return images[0] if images else None


def make_inputs(schema: Schema, names: Sequence[str], tables: Sequence[Any], categories: Any) -> dict[str, Any]:
    """Inputs of both sets, how many categories they declare, and the names of categories and columns, as arguments of `Dataset`.

    Args:
      schema: the columns of the data set.
      names: the columns that are inputs.
      tables: the training table and the test table.
      categories: as in `load_dataset`.

    Returns:
      Inputs are one float32 array [n, columns] of columns of numbers; one array [n, length] of one column of lists; else a dict, with
      the numbers as "numbers", and the categories and lists under the names of their columns.
    """
    declared = _as_categories(schema, names, categories)
    _check_kinds(schema, names, declared)
    numbers = [name for name in names if schema.kinds[name] in NUMBERS and name not in declared]
    others = [name for name in names if name not in numbers]
    if numbers and JOINT in others:
        raise ValueError(
            f"{schema.root} has a column {JOINT!r}, the name of the array of all numbers. Rename the column."
        )
    made: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
    spelled: dict[str, list[str]] = {}
    for name in others:
        pair, texts = _make_pair(schema, name, [table.column(name) for table in tables])
        for arrays, array in zip(made, pair, strict=True):
            arrays[name] = array
        if texts and declared[name] in (None, len(texts)):
            spelled[name] = _printable(texts)
    if numbers:
        for arrays, table, split in zip(made, tables, ("train", "test"), strict=True):
            joint = arrays[JOINT] = np.empty((len(table), len(numbers)), np.float32)
            for k, name in enumerate(numbers):
                joint[:, k] = to_float32(table.column(name), label_of(schema, name, split))
    counts = {name: number for name, number in declared.items() if number is not None}
    features = {JOINT: _printable(numbers)} if numbers else {}
    single = not others or (len(names) == 1 and schema.kinds[names[0]] in LISTS)
    found: dict[str, dict[str, Any]] = {"train_inputs": made[0], "test_inputs": made[1]}
    found |= {"categories": counts, "category_names": spelled, "feature_names": features}
    if not single:
        return {field: of or None for field, of in found.items()}
    (key,) = made[0]
    return {field: of.get(key) for field, of in found.items()}


def _printable(names: Sequence[str]) -> list[str]:
    """Names from a file as a terminal and a page can show them."""
    return ["".join(c if c.isprintable() else repr(c)[1:-1] for c in name) for name in names]


def label_of(schema: Schema, name: str, split: str) -> str:
    """Name of a column of a split, in errors."""
    return f"column {name!r} of {schema.root}, {split} set,"


def _as_categories(schema: Schema, names: Sequence[str], given: Any) -> dict[str, int | None]:
    """Number of categories of each column that holds some; None where they are to be counted."""
    found: dict[str, int | None] = {name: len(schema.class_names[name]) for name in names if name in schema.class_names}
    if given is None:
        return found
    if isinstance(given, int):
        integers = [name for name in names if _holds_integers(schema, name)]
        if len(integers) != 1:
            raise ValueError(
                f"categories is {given}; a number is for one column of integers, and {schema.root} has {len(integers)}. Give a "
                f"dict of columns and numbers, or a list of columns. {describe(schema)}"
            )
        return found | {integers[0]: given}
    if isinstance(given, str) or not isinstance(given, (Mapping, list, tuple)):
        raise TypeError(
            f"categories is {quote(given)}; it takes a number, a list of columns, or a dict of columns and numbers."
        )
    for name in given:
        if name not in names:
            raise ValueError(f"categories names {quote(name)}, which is no column of the inputs. {describe(schema)}")
        if not (_holds_integers(schema, name) or schema.kinds[name] in ("text", "bool")):
            raise ValueError(
                f"categories names {quote(name)}, which holds {schema.kinds[name]}; it takes columns of integers or text."
            )
    return found | (dict(given) if isinstance(given, Mapping) else dict.fromkeys(given))


def _holds_integers(schema: Schema, name: str) -> bool:
    return schema.kinds[name] in ("integer", "list of integers")


def _check_kinds(schema: Schema, names: Sequence[str], declared: Mapping[str, int | None]) -> None:
    """Raise `ValueError` where a column is of a kind that is not taken."""
    texts = [name for name in names if schema.kinds[name] == "text" and name not in declared]
    if texts:
        raise ValueError(
            f"inputs of {schema.root} hold text in {', '.join(map(quote, texts[:10]))}. Where each text is one of a few categories, "
            f"say so: categories={texts[:10]!r}. Sentences need tokens: write a column of lists of integers, all of one length. Or "
            f"name the other columns: inputs=[...]. {describe(schema)}"
        )
    for name in names:
        if schema.kinds[name] not in (*NUMBERS, *LISTS, "text"):
            raise ValueError(
                f"column {name!r} of {schema.root} holds {schema.kinds[name][:200]}; it takes numbers, lists of numbers of one "
                f"length, categories, or images. Convert it, or name the other columns: inputs=[...]. {describe(schema)}"
            )


def _make_pair(schema: Schema, name: str, pair: Sequence[Any]) -> tuple[list[np.ndarray], Sequence[str]]:
    """A column of categories or of lists, in both sets, and the names of its categories, if it has any."""
    labels = [label_of(schema, name, split) for split in ("train", "test")]
    if schema.kinds[name] == "text":
        return _code_text([to_text(column, label) for column, label in zip(pair, labels, strict=True)])
    if schema.kinds[name] == "list of numbers":
        return [to_float32(column, label) for column, label in zip(pair, labels, strict=True)], ()
    found = [to_array(column, label) for column, label in zip(pair, labels, strict=True)]
    numbers = [array.astype(np.int32) if array.dtype == np.bool_ and array.ndim == 1 else array for array in found]
    return numbers, schema.class_names.get(name, ())


def _code_text(pair: Sequence[tuple[np.ndarray, list[str]]]) -> tuple[list[np.ndarray], list[str]]:
    """Number the texts of both sets by their place among the sorted texts of both; the numbers, and these texts."""
    used = [{texts[k] for k in np.unique(numbers)} for numbers, texts in pair]
    names = sorted(used[0] | used[1])
    place = {text: k for k, text in enumerate(names)}
    return [np.array([place.get(text, -1) for text in texts], np.int32)[numbers] for numbers, texts in pair], names


def make_targets(
    schema: Schema, names: Sequence[str], tables: Sequence[Any], task: Any
) -> tuple[np.ndarray, np.ndarray, Any, tuple[str, ...] | None]:
    """Targets of both sets, their task, and the names of the classes, if the column declares them."""
    kinds = {name: schema.kinds[name] for name in names}
    for name, kind in kinds.items():
        if kind not in (*NUMBERS, *LISTS) and not (kind == "text" and len(names) == 1):
            raise ValueError(
                f"column {name!r} of {schema.root} holds {kind[:200]} as targets; it takes numbers, lists of numbers of one length, "
                f"or one column of class labels, as integers or text. {describe(schema)}"
            )
    if task is None:
        real = any(kind in ("number", "list of numbers") for kind in kinds.values())
        task = "regression" if real else "classification"
    first, second = (
        _make_split_targets(schema, names, table, split, task)
        for table, split in zip(tables, ("train", "test"), strict=True)
    )
    declared = schema.class_names.get(names[0]) if len(names) == 1 and task == "classification" else None
    return first, second, task, declared


def _make_split_targets(schema: Schema, names: Sequence[str], table: Any, split: str, task: Any) -> np.ndarray:
    columns = [(table.column(name), label_of(schema, name, split)) for name in names]
    if schema.kinds[names[0]] == "text":
        numbers, texts = to_text(*columns[0])
        return np.array(texts, object)[numbers]
    of_task = task if isinstance(task, str) else getattr(task, "name", "")
    if of_task in ("classification", "binary", "next_token"):
        found = [_as_whole(to_array(*column), column[1]) for column in columns]
    elif of_task not in ("regression", "huber") and all(
        _holds_integers(schema, name) for name in names
    ):  # a task of the user's own
        found = [to_array(*column) for column in columns]
    else:
        found = [to_float32(*column) for column in columns]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def _as_whole(array: np.ndarray, label: str) -> np.ndarray:
    """Whole numbers as integers: a table with a gap anywhere keeps labels as floats."""
    if array.dtype.kind != "f":
        return array.astype(np.int64, copy=False)
    if (array != np.rint(array)).any() or np.abs(array).max(initial=0) > 2**53:
        raise ValueError(
            f"{label} holds {array[array != np.rint(array)][:1].tolist() or array.max()}: classes are integers or text, and "
            "numbers are the targets of a regression. Pass task='regression'."
        )
    return array.astype(np.int64)


def make_dataset(
    schema: Schema,
    choice: Choice,
    tables: Sequence[Any],
    wanted: Wanted,
    name: str,
    images: tuple[np.ndarray, np.ndarray] | None = None,
) -> Dataset:
    """The data set of both tables; `images` are its inputs where the column of inputs holds images.

    Raises:
      ValueError: the columns do not make one. It names them.
    """
    train_targets, test_targets, task, class_names = make_targets(schema, choice.targets, tables, wanted.task)
    if images is None:
        inputs = make_inputs(schema, choice.inputs, tables, wanted.categories)
    elif wanted.categories is None:
        inputs = {"train_inputs": images[0], "test_inputs": images[1]}
    else:
        raise ValueError(
            f"categories is {quote(wanted.categories)}, but inputs of {schema.root} are images. Leave it out."
        )
    try:
        return Dataset(
            **inputs,
            train_targets=train_targets,
            test_targets=test_targets,
            task=task,
            class_names=class_names,
            name=name,
        )
    except (TypeError, ValueError) as error:
        columns = f"train_targets and test_targets are {', '.join(map(quote, choice.targets))}."
        chosen = "" if wanted.task is not None else f" The task is {task!r}, as task=... says no other."
        raise ValueError(f"{schema.root}: {error} Here {columns}{chosen}") from None
