"""The figure of the most influential pairs, for data of every kind."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from experiments.data_kinds import name_example
from jaxinfl import Dataset, plots
from jaxinfl.datasets import by_name


def draw_pairs(
    data: Dataset,
    train_index: Int[np.ndarray, " pairs"],
    test_index: Int[np.ndarray, " pairs"],
    captions: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Draw pairs of a training and a test example: images as pictures, numbers as profiles, tokens as text.

    Args:
      data: the examples.
      train_index, test_index: the two examples of each pair.
      captions: what is said of each pair.
      title: title of the figure.
    """
    train_names = [name_example(data, "train", each) for each in train_index.tolist()]
    test_names = [name_example(data, "test", each) for each in test_index.tolist()]
    if data.are_images:
        images = data.images("train")[train_index], data.images("test")[test_index]
        return plots.pairs_gallery(*images, train_names, test_names, captions, title=title)
    if data.has_floats:
        train, test = _profiles(data)
        return plots.pairs_profiles(
            train[train_index], test[test_index], train_names, test_names, captions, title=title
        )
    texts = _texts(data, "train", train_index), _texts(data, "test", test_index)
    return plots.pairs_texts(*texts, train_names, test_names, captions, title=title)


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
