"""One coding for the labels of both sets: numbers from 0 on stay as they are, text becomes the number of its class."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Integer
from numpy.typing import ArrayLike

from jaxinfl.arguments import is_whole, quote
from jaxinfl.datasets.arrays import as_array

EXPECTED_LABELS = "labels [n] or [n, 1] as integers or as text"

# Numbering each set on its own would give one class two numbers.
_ONE_CODING = (
    "number both sets by one coding: names, both = np.unique(np.concatenate([train_targets, test_targets]), "
    "return_inverse=True); train_targets, test_targets = np.split(both, [len(train_targets)]); and keep the old labels as "
    "names: class_names=[str(name) for name in names]"
)

Labels = dict[str, np.ndarray]
"""Labels by set: "train_targets" and "test_targets"."""


def label_rows(train: ArrayLike, test: ArrayLike) -> Labels:
    """Return both sets as arrays [n] of any dtype.

    Raises:
      ValueError: the shape is wrong, there are no examples, or values are NaN or masked.
    """
    return {"train_targets": _as_rows("train_targets", train), "test_targets": _as_rows("test_targets", test)}


def code_labels(
    given: Labels, class_names: Sequence[str] | None
) -> tuple[Integer[np.ndarray, " train"], Integer[np.ndarray, " test"], tuple[str, ...]]:
    """Return both sets as integers from 0 to K-1, integers still in their own dtype, and the K class names.

    Text (`str`, or `bytes` as UTF-8) becomes the position of its name among `class_names`, or among the sorted names of
    both sets together where none are given. Names that differ only in their Unicode form (NFC, NFD) are one name.

    Raises:
      TypeError: labels are neither integers nor text, or text in one set and numbers in the other.
      ValueError: an example has no label, a label lies outside the classes, a class has no training example, there are
        fewer than 2 classes, or class names are unsuitable.
    """
    names = _as_class_names(class_names)
    texts = {field: _as_text(field, labels) for field, labels in given.items()}
    if all(text is not None for text in texts.values()):
        coded, names = _code_text({field: text for field, text in texts.items() if text is not None}, names)
        _check_classes_have_examples(coded["train_targets"], names, _UNTRAINED_TEXT)
        return coded["train_targets"], coded["test_targets"], names
    _check_one_kind(given, texts)
    _check_integers(given)
    _check_not_negative(given)
    if names:
        _check_within(given, names)
        _check_classes_have_examples(given["train_targets"], names, _UNTRAINED_NAME)
    else:
        names = _number_classes(given["train_targets"], given["test_targets"])
        _check_classes_have_examples(given["train_targets"], names, _UNTRAINED_NUMBER)
    return given["train_targets"], given["test_targets"], names


def check_text(field: str, text: str) -> None:
    """Raise `ValueError` for control characters and invalid text: names from data sets are shown on terminals and pages."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError(
            f"{field} holds {text!r}, which has control characters or is no valid text. Rename it; a folder of images gives its "
            "name to the class."
        )


def normal_form(text: str) -> str:
    """Return one form of text that Unicode writes in several: "é" is one character, or two as macOS stores names."""
    return unicodedata.normalize("NFC", text)


# --- any kind --------------------------------------------------------------------------------------------------------


def _as_rows(field: str, value: ArrayLike) -> np.ndarray:
    """Return `value` as an array [n]."""
    labels = as_array(field, _keep_text_apart(value), EXPECTED_LABELS, _remove_unlabelled(field, "a label"))
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[1] == 1):
        raise ValueError(
            f"{field} has shape {labels.shape}; it takes {EXPECTED_LABELS}. {_one_label_each(field, labels)}"
        )
    if labels.size == 0:
        raise ValueError(f"{field} is empty, with shape {labels.shape}. Give at least one example.")
    return labels.reshape(-1)


def _keep_text_apart(value: ArrayLike) -> ArrayLike:
    """Turn lists with text into arrays of objects: NumPy would turn numbers and missing values beside text into text."""
    if not isinstance(value, (list, tuple)):
        return value
    try:
        objects = np.array(value, dtype=object)
    except ValueError:  # a ragged list gets the same error as other ragged values
        return value
    return objects if any(isinstance(item, (str, bytes)) for item in objects.reshape(-1)) else value


def _remove_unlabelled(field: str, what: str) -> str:
    return f"Remove the examples without {what} from {field} and from {field.removesuffix('targets')}inputs"


def _one_label_each(field: str, labels: np.ndarray) -> str:
    """Say what to do with labels that are neither [n] nor [n, 1]."""
    if labels.size == max(labels.shape, default=0):
        return f"Use np.reshape({field}, -1)."
    if labels.ndim == 2 and labels.dtype.kind in "buif":
        zero_or_one = np.isin(labels, (0, 1)).all()
        if zero_or_one and (labels.sum(axis=1) == 1).all():
            return f"Turn one-hot rows into labels with np.argmax({field}, axis=1)."
        if zero_or_one:
            return (
                "Its rows are multi-label: some do not mark exactly one class, and these are not taken. Choose one column "
                f"as a problem of two classes in both sets, for instance np.asarray({field})[:, 0]."
            )
        if labels.dtype.kind == "f" and (labels >= 0).all() and np.allclose(labels.sum(axis=1), 1, atol=1e-3):
            return (
                f"Its rows are probabilities of the classes, which are not taken. np.argmax({field}, axis=1) keeps only "
                "the most probable class."
            )
    return f"Give one label for each example: choose one column in both sets, for instance np.asarray({field})[:, 0]."


# --- text ------------------------------------------------------------------------------------------------------------


def _as_text(field: str, labels: np.ndarray) -> list[str] | None:
    """Return the labels as text in Unicode's form NFC; None where they are no text."""
    if labels.dtype.kind not in "USTO":
        return None
    items = labels.tolist()
    other = [i for i, item in enumerate(items) if not isinstance(item, (str, bytes))]
    if len(other) == len(items):
        return None
    if other:
        raise TypeError(
            f"{field} holds {quote(items[other[0]])} at example {other[0]} beside text ({len(other)} labels are no text); "
            f"it takes {EXPECTED_LABELS}. Give every label as text, or, where these mark examples without a label, remove "
            f"them from {field} and from {field.removesuffix('targets')}inputs."
        )
    try:
        texts = [normal_form(item.decode() if isinstance(item, bytes) else str(item)) for item in items]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{field} holds bytes that are no UTF-8 ({error}). Decode them by their own encoding, for instance "
            f"np.char.decode({field}, 'latin-1')."
        ) from None
    if "" in texts:
        raise ValueError(
            f"{field} holds an empty text at example {texts.index('')}. Name the class, or, where it marks an example "
            f"without a label, remove the example from {field} and from {field.removesuffix('targets')}inputs."
        )
    return texts


def _code_text(texts: dict[str, list[str]], names: tuple[str, ...]) -> tuple[Labels, tuple[str, ...]]:
    """Turn each text into its position among the class names."""
    if not names:
        names = tuple(sorted({text for labels in texts.values() for text in labels}))
        for name in names:
            check_text("train_targets or test_targets", name)
        if len(names) < 2:
            raise ValueError(
                f"train_targets and test_targets hold 1 class, {names[0]!r}; they take at least 2. Add examples of another."
            )
    position = {normal_form(name): k for k, name in enumerate(names)}
    coded = {}
    for field, labels in texts.items():
        unknown = next((i for i, text in enumerate(labels) if text not in position), None)
        if unknown is not None:
            listed = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise ValueError(
                f"{field} contains {quote(labels[unknown])} at example {unknown}, which is not among the {len(names)} "
                f"class_names: {listed}. Add it there, or correct the label."
            )
        coded[field] = np.array([position[text] for text in labels], np.int32)
    return coded, names


def _check_one_kind(given: Labels, texts: dict[str, list[str] | None]) -> None:
    """Raise `TypeError` where one set is text and the other is not."""
    if all(text is None for text in texts.values()):
        return
    text_field, other_field = sorted(texts, key=lambda field: texts[field] is None)
    text = texts[text_field] or []
    if all(item.isdecimal() for item in text):
        remedy = f"The text holds numbers: convert it with np.asarray({text_field}).astype(np.int64)"
    else:
        remedy = (
            f"Give both as text. Where {other_field} holds positions in a list of class names, it is "
            f"np.array(class_names)[{other_field}]"
        )
    raise TypeError(
        f"{text_field} holds text ({quote(text[0])} first) and {other_field} holds {given[other_field].dtype} "
        f"({given[other_field][0]!s} first), so which of them are one class is unknown. {remedy}."
    )


# --- numbers ---------------------------------------------------------------------------------------------------------


def _check_integers(given: Labels) -> None:
    """Raise `TypeError` unless labels are integers; the remedy depends on the values of both sets."""
    for field, labels in given.items():
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"{field} has dtype {labels.dtype}; it takes {EXPECTED_LABELS}. {_as_integers(field, given)}"
            )


def _as_integers(field: str, given: Labels) -> str:
    labels = given[field]
    if labels.dtype.kind == "b" or (labels.dtype == object and all(map(is_whole, labels))):
        return f"Convert with np.asarray({field}).astype(np.int64)."
    if labels.dtype.kind == "f":
        for name, values in given.items():
            if values.dtype.kind == "f" and (fractions := np.flatnonzero(values != np.rint(values))).size:
                return (
                    f"{name} holds {values[fractions[0]]!s} at example {fractions[0]}: fractions are the targets of a "
                    "regression: pass task='regression'. Rounding them would make up classes. Where every value is a class "
                    f"of its own, {_ONE_CODING}."
                )
        if not np.isfinite(labels).all():
            return f"It contains infinite values. {_remove_unlabelled(field, 'a label')}."
        if float(np.abs(labels).max()) < 2.0**53:  # all are whole and exact
            return f"Its values are whole: convert with np.asarray({field}).astype(np.int64)."
    return "Give the class of every example as an integer or as text."


def _check_not_negative(given: Labels) -> None:
    for field, labels in given.items():
        if labels.min() < 0:
            raise ValueError(
                f"{field} contains the negative label {labels.min()} at example {int(labels.argmin())}; it takes labels "
                f"from 0 on. {_without_negatives(field, given)}."
            )


def _without_negatives(field: str, given: Labels) -> str:
    labels, images = given[field], f"{field.removesuffix('targets')}inputs"
    present = set(np.unique(given["train_targets"]).tolist()) | set(np.unique(given["test_targets"]).tolist())
    if present == {-1, 1}:
        return f"Where -1 and 1 are two classes, {_ONE_CODING}"
    if labels.max() < 0:
        unlabelled = "where they mark examples without a label, this set has none, and another one is needed"
    else:
        unlabelled = (
            f"where they mark examples without a label, remove these: keep = np.reshape({field}, -1) >= 0; "
            f"{images}, {field} = {images}[keep], {field}[keep]"
        )
    return f"Where negative labels are classes, {_ONE_CODING}; {unlabelled}"


def _check_within(given: Labels, names: tuple[str, ...]) -> None:
    from_one = all(labels.min() >= 1 and labels.max() <= len(names) for labels in given.values())
    remedy = (
        "The labels of both sets begin at 1: subtract 1 from both."
        if from_one
        else "Give a name for every class, or correct the labels."
    )
    for field, labels in given.items():
        outside = labels[labels >= len(names)]
        if outside.size:
            raise ValueError(
                f"{field} contains {outside[0]}, but there are {len(names)} class_names, for labels "
                f"0..{len(names) - 1} ({outside.size} labels are too large). {remedy}"
            )


def _number_classes(train_targets: np.ndarray, test_targets: np.ndarray) -> tuple[str, ...]:
    """Name the classes "0" to "K-1"; raise unless the labels are exactly 0..K-1."""
    present = set(np.unique(train_targets).tolist()) | set(np.unique(test_targets).tolist())
    num_classes = max(present) + 1
    if len(present) < num_classes:
        # The search is lazy: a label may be as large as 2**63, and few are looked at before 10 missing ones are found.
        missing = list(itertools.islice((k for k in range(num_classes) if k not in present), 10))
        raise ValueError(
            f"train_targets and test_targets are not contiguous: the largest is {max(present)}, but "
            f"{num_classes - len(present)} smaller ones are missing, {missing} first. To renumber them to 0..K-1, "
            f"{_ONE_CODING}."
        )
    if num_classes < 2:
        raise ValueError(
            "train_targets and test_targets hold 1 class, 0; they take at least 2. Add examples of another."
        )
    return tuple(str(k) for k in range(num_classes))


# --- class names -----------------------------------------------------------------------------------------------------

_REMOVE_FROM_TEST = (
    "remove their test examples, if there are any: keep = np.isin(np.reshape(test_targets, -1), train_targets); "
    "test_inputs, test_targets = test_inputs[keep], test_targets[keep]"
)
_UNTRAINED_NUMBER = _REMOVE_FROM_TEST
_UNTRAINED_NAME = (
    f"{_REMOVE_FROM_TEST}; then give the names as labels in place of class_names: "
    "train_targets=np.array(class_names)[train_targets], test_targets=np.array(class_names)[test_targets]"
)
_UNTRAINED_TEXT = f"{_REMOVE_FROM_TEST}; and take their names out of class_names, if they are there"


def _as_class_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return `names` as a tuple, which is empty where none are given."""
    if names is None:
        return ()
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"class_names is {quote(names)}; it takes a sequence of strings, one a class.")
    given = list(names)
    if not all(isinstance(name, str) for name in given):
        raise TypeError(f"class_names is {quote(names)}; it takes a sequence of strings, one a class.")
    taken = tuple(str(name) for name in given)
    for name in taken:
        check_text("class_names", name)
    repeated = sorted(name for name, number in Counter(map(normal_form, taken)).items() if number > 1)
    if repeated:
        raise ValueError(f"class_names repeats {repeated[:5]}, so a name does not identify a class. Rename them.")
    if len(taken) == 1:
        raise ValueError(f"class_names holds 1 class, {taken[0]!r}; it takes at least 2. Add the other names.")
    return taken


def _check_classes_have_examples(train_targets: np.ndarray, names: tuple[str, ...], remedy: str) -> None:
    untrained = np.flatnonzero(np.bincount(train_targets.astype(np.int64), minlength=len(names)) == 0)
    if untrained.size:
        listed = ", ".join(f"{k} ({names[k]!r})" for k in untrained[:10])
        raise ValueError(
            f"train_targets lacks {untrained.size} of the {len(names)} classes, so they have no training example: "
            f"{listed}. Add examples, or {remedy}."
        )
