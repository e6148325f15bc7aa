"""Choice of some examples such that every class gives its share."""

import numpy as np
from jaxtyping import Bool, Int

from jaxinfl.datasets.dataset import Dataset


def stratified_mask(labels: Int[np.ndarray, " n"], number: int) -> Bool[np.ndarray, " n"]:
    """Choose `number` examples such that every class gives its share of them, to within one example.

    The choice never changes. NumPy promises that the raw output of PCG64 stays as it is, but not what a `Generator` makes
    of it (NEP 19), and scikit-learn promises nothing about `train_test_split`. So each example draws one raw 64-bit word
    with seed 0, and each class gives the examples with the smallest words.
    """
    words = np.random.PCG64(0).random_raw(len(labels))
    counts = np.bincount(labels)
    # Shares are rounded by largest remainders in integers: floats could round two equal shares apart on another machine.
    shares, remainders = np.divmod(counts * number, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: number - shares.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for k, share in enumerate(shares):
        members = np.flatnonzero(labels == k)
        chosen[members[np.argsort(words[members], kind="stable")[:share]]] = True
    return chosen


def take_examples(data: Dataset, train: int | None, test: int | None) -> Dataset:
    """Take some examples of a data set, of each class its share, and always the same ones; None takes all.

    Where the data set was loaded by its name, the result knows that and how many examples were taken.
    """
    kept = {}
    for split, number in (("train", train), ("test", test)):
        labels = getattr(data, f"{split}_targets")
        classes = labels if data.num_classes else np.zeros(len(labels), np.int32)
        kept[split] = np.ones(len(labels), bool) if number is None else stratified_mask(classes, number)
    if all(mask.all() for mask in kept.values()):
        return data
    chosen = data.select(kept["train"], kept["test"])
    if data.source is None:
        return chosen
    return chosen.with_source(**{**data.source, "train_examples": train, "test_examples": test})
