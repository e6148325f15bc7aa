"""The tables that scikit-learn holds, without a download."""

import numpy as np

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.stratified import stratified_mask

TABLES = ("breast_cancer", "diabetes", "iris", "wine")
"""Names of the tables; diabetes has numbers as targets, and the others have classes."""
_TEST_SHARE = 5
"""One of so many examples is a test example."""


def load_table(name: str) -> Dataset:
    """One of `TABLES`: floats [n, features] as scikit-learn has them, not standardized.

    A fifth of the examples is for testing, always the same ones; of classes each gives its share. The examples keep their order.
    """
    from sklearn import datasets  # a second, for which nothing else waits

    loaded = getattr(datasets, f"load_{name}")()
    inputs, classes = loaded.data.astype(np.float32), name != "diabetes"
    targets = loaded.target.astype(np.int32 if classes else np.float32)
    groups = targets if classes else np.zeros(len(targets), np.int32)
    in_test = stratified_mask(groups, len(targets) // _TEST_SHARE)
    return Dataset(
        train_inputs=inputs[~in_test],
        train_targets=targets[~in_test],
        test_inputs=inputs[in_test],
        test_targets=targets[in_test],
        task="classification" if classes else "regression",
        class_names=[str(each) for each in loaded.target_names] if classes else None,
        feature_names=[str(each) for each in loaded.feature_names],
        name=name,
    )


__all__ = ["TABLES", "load_table"]
