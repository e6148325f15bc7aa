"""The first examples of a data set as a notebook shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxinfl.datasets.inputs import by_name
from jaxinfl.notebook import Cell, Thumbnail, html_facts, html_table, shorten

EXAMPLES = 8
"""Number of training examples that are shown."""
_CLASSES = 20
_NUMBERS = 8
"""Number of values of a row that are shown."""


def preview(data: Any) -> str:
    """HTML with the sizes and the task of a `Dataset`, and its first training examples."""
    facts: dict[str, Cell] = {
        "training examples": data.num_train,
        "test examples": data.num_test,
        "task": data.task.name,
        "inputs": _describe_inputs(data),
    }
    if data.class_names:
        more = "" if data.num_classes <= _CLASSES else ", …"
        names = ", ".join(shorten(name, 40) for name in data.class_names[:_CLASSES])
        facts["classes"] = f"{data.num_classes}: {names}{more}"
    return html_facts(f"Dataset {shorten(data.name)}", facts) + _examples(data)


def _describe_inputs(data: Any) -> str:
    """Shape and dtype of the inputs of one example, by name where there are several."""
    parts = by_name(data.train_inputs)
    described = []
    for name, array in parts.items():
        shape = "x".join(map(str, array.shape[1:])) or "1"
        what = f"{data.categories[name]} categories" if name in data.categories else array.dtype.name
        described.append(f"{name + ': ' if name else ''}{shape}, {'images' if data.are_images else what}")
    return shorten("; ".join(described), 400)


def _examples(data: Any) -> str:
    number = min(EXAMPLES, data.num_train)
    if data.are_images:
        images: list[Cell] = [Thumbnail(pixels) for pixels in data.images("train")[:number]]
        targets: list[Cell] = [_spell_target(data, index) for index in range(number)]
        return html_table([f"train {index}" for index in range(number)], [images, targets])
    parts = by_name(data.train_inputs)
    columns = ["train", *(name or "inputs" for name in parts), "target"]
    rows = [[index, *_spell_inputs(data, parts, index), _spell_target(data, index)] for index in range(number)]
    return html_table(columns, rows)


def _spell_inputs(data: Any, parts: Mapping[str, np.ndarray], index: int) -> list[Cell]:
    return [
        shorten(data.spell(name, array[index]))
        if name in data.categories
        else _format_values(array[index], data.feature_names.get(name))
        for name, array in parts.items()
    ]


def _spell_target(data: Any, index: int) -> Cell:
    target = data.train_targets[index]
    return shorten(data.class_names[target], 40) if data.class_names else _format_values(target)


def _format_values(values: Any, names: Sequence[str] | None = None) -> str:
    """A number, or the first of an array of numbers, as text, each behind its name where there are names."""
    flat = np.ravel(values)
    first = flat[:_NUMBERS].tolist()
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in first]
    if names is not None:
        texts = [f"{shorten(name, 40)} {text}" for name, text in zip(names, texts, strict=False)]
    shown = ", ".join(texts)
    return shown + (", …" if flat.size > _NUMBERS else "")


__all__ = ["preview"]
