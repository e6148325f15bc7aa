"""The handwritten digits that scikit-learn carries inside its package, which are real images and need no download."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.stratified import stratified_mask

_NUM_TEST = 360


def load_digits() -> Dataset:
    """Load 1437 training and 360 test images of handwritten digits, 8 x 8 x 1, in 10 classes.

    The values 0 to 16 become 0 to 255. Within both parts the examples keep scikit-learn's order.
    """
    table = _read_table()
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int32)
    in_test = stratified_mask(labels, _NUM_TEST)
    return Dataset(
        train_inputs=images[~in_test],
        train_targets=labels[~in_test],
        test_inputs=images[in_test],
        test_targets=labels[in_test],
        class_names=tuple("0123456789"),
        name="digits",
    )


def _read_table() -> Int[np.ndarray, "n 65"]:
    """Read the 64 pixels of 0 to 16 and the class of each image from the file of `sklearn.datasets.load_digits`.

    scikit-learn is not imported, which would take a second. Where it keeps the file elsewhere, its own function reads it.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(gzip.decompress(file.read_bytes()).decode().splitlines(), delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits as load_sklearn_digits

    digits = load_sklearn_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.int64)
