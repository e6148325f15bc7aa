"""Shapes of the paper's data sets (A.1.1), so that `--cost` needs none of them: they decide the cost, not the pixels."""

from typing import NamedTuple

import numpy as np

from jaxinfl import Dataset

_SIDE_OF_VARYING = 224
"""Pixels a side to which `load_dataset` brings images of varying size, unless told otherwise."""


class Shapes(NamedTuple):
    """How much there is of a data set, in the splits that `load_dataset` takes by default."""

    num_train: int
    num_test: int
    num_classes: int
    side: int | None
    """Pixels a side of every image, in three colours; None where images vary in size."""


_PUBLISHED = {
    "cifar10": Shapes(50_000, 10_000, 10, 32),
    "cifar100": Shapes(50_000, 10_000, 100, 32),
    # Training and validation split together, as the paper's authors and `load_dataset` take them.
    "dtd": Shapes(1880 + 1880, 1880, 47, None),
    "oxford_flowers102": Shapes(1020 + 1020, 6149, 102, None),
}
"""Krizhevsky (2009); Cimpoi et al. (2014), the first of ten divisions; Nilsback and Zisserman (2008)."""


def shapes_of(name: str) -> Shapes | None:
    """The published shapes of a TFDS data set; None where they are not known here."""
    return _PUBLISHED.get(name)


def stand_in(name: str, shapes: Shapes, image_size: int | None = None) -> Dataset:
    """Black images with labels of every class, which cost as much to train on as the data set; they take no memory."""
    side = image_size or shapes.side or _SIDE_OF_VARYING
    black = np.zeros((), np.uint8)
    return Dataset(
        train_inputs=np.broadcast_to(black, (shapes.num_train, side, side, 3)),
        train_targets=np.arange(shapes.num_train) % shapes.num_classes,
        test_inputs=np.broadcast_to(black, (shapes.num_test, side, side, 3)),
        test_targets=np.arange(shapes.num_test) % shapes.num_classes,
        class_names=[str(label) for label in range(shapes.num_classes)],
        name=name,
    )
