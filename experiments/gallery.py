"""A figure of pairs of examples, such as the most influential ones, for data of every kind."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from experiments.data_kinds import name_example
from jaxinfl import Dataset, plots
from jaxinfl.datasets import by_name


def draw_pairs(
    data: Dataset,
    first_index: Int[np.ndarray, " pairs"],
    second_index: Int[np.ndarray, " pairs"],
    captions: Sequence[str],
    *,
    title: str,
    second: Literal["train", "test"] = "test",
) -> Figure:
    """Draw pairs of examples: images as pictures, numbers as profiles, tokens as text.

    Args:
      data: the examples.
      first_index, second_index: the two examples of each pair.
      captions: what is said of each pair.
      title: title of the figure.
      second: set that the second example of each pair is of; the first is a training example.
    """
    first_names = [name_example(data, "train", each) for each in first_index.tolist()]
    second_names = [name_example(data, second, each) for each in second_index.tolist()]
    if data.are_images:
        images = data.images("train")[first_index], data.images(second)[second_index]
        return plots.pairs_gallery(*images, first_names, second_names, captions, title=title)
    if data.has_floats:
        profiles = dict(zip(("train", "test"), _profiles(data), strict=True))
        rows = profiles["train"][first_index], profiles[second][second_index]
        return plots.pairs_profiles(*rows, first_names, second_names, captions, title=title)
    texts = _texts(data, "train", first_index), _texts(data, second, second_index)
    return plots.pairs_texts(*texts, first_names, second_names, captions, title=title)


def _profiles(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All floats of each example as one row, in deviations from the mean of the training set."""
    rows = []
    for inputs in (data.train_inputs, data.test_inputs):
        floats = [array.reshape(len(array), -1) for array in by_name(inputs).values() if array.dtype.kind == "f"]
        rows.append(np.concatenate(floats, axis=1).astype(np.float64))
    mean, deviation = rows[0].mean(axis=0), rows[0].std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return (rows[0] - mean) / scale, (rows[1] - mean) / scale


def _texts(data: Dataset, split: str, index: Int[np.ndarray, " pairs"]) -> list[str]:
    """Each example as text: its tokens by name where the data set names them, else by number."""
    arrays = by_name(getattr(data, f"{split}_inputs"))
    return [" ".join(data.spell(name, array[each]) for name, array in arrays.items()) for each in index.tolist()]


__all__ = ["draw_pairs"]
