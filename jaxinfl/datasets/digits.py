"""The handwritten digits that scikit-learn carries inside its package: real images, no download."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from jaxinfl.datasets.dataset import Dataset

_NUM_TEST = 360


def load_digits() -> Dataset:
    """1437 training and 360 test images of handwritten digits, 8 x 8 x 1, 10 classes.

    The values 0 to 16 become 0 to 255. Within both parts the examples keep scikit-learn's order.
    """
    table = _table()
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int32)
    in_test = stratified_test_mask(labels, _NUM_TEST)
    return Dataset(
        train_images=images[~in_test],
        train_labels=labels[~in_test],
        test_images=images[in_test],
        test_labels=labels[in_test],
        class_names=tuple("0123456789"),
        name="digits",
    )


def _table() -> Int[np.ndarray, "n 65"]:
    """64 pixels of 0 to 16 and the class of each image: the file that `sklearn.datasets.load_digits` reads.

    Read without importing scikit-learn, which takes a second and is used for nothing else; from a scikit-learn that
    keeps it elsewhere, by its own function.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(gzip.decompress(file.read_bytes()).decode().splitlines(), delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits as load_sklearn_digits

    digits = load_sklearn_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.int64)


def stratified_test_mask(labels: Int[np.ndarray, " n"], num_test: int) -> Bool[np.ndarray, " n"]:
    """Choose `num_test` examples such that every class gives its share of them, to within one example.

    The same choice for ever: NumPy promises the raw output of PCG64 to stay as it is, but not what a `Generator`
    makes of it (NEP 19), and scikit-learn promises nothing about `train_test_split`. So each example draws one
    raw 64-bit word, and each class gives the examples with the smallest words. Seed 0.
    """
    words = np.random.PCG64(0).random_raw(len(labels))
    counts = np.bincount(labels)
    # Largest remainders, in integers: floats could round two equal shares apart on another machine.
    shares, remainders = np.divmod(counts * num_test, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: num_test - shares.sum()]] += 1
    in_test = np.zeros(len(labels), bool)
    for k, share in enumerate(shares):
        members = np.flatnonzero(labels == k)
        in_test[members[np.argsort(words[members], kind="stable")[:share]]] = True
    return in_test
