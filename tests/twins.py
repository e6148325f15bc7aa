"""Synthetic twins of the files that other programs publish, and the models that they are made of."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES = 3


class Twin(NamedTuple):
    """Models of a made-up data set, as arrays."""

    masks: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray
    logits: np.ndarray
    """Logits of the training examples, float16 [models, train, classes]."""
    test_logits: np.ndarray

    def top_margin(self, split="train"):
        """Logit of the true class minus the largest other one."""
        logits, labels = (self.logits, self.labels) if split == "train" else (self.test_logits, self.test_labels)
        wide = logits.astype(np.float64)
        own = np.take_along_axis(wide, labels[None, :, None], 2)[..., 0]
        others = np.where(np.arange(CLASSES) == labels[:, None], -np.inf, wide).max(axis=2)
        return own - others

    def correct(self, split="train"):
        return self.top_margin(split) > 0

    def margin(self, split="train"):
        """log(p / (1 - p)) of the true class, by its definition."""
        logits, labels = (self.logits, self.labels) if split == "train" else (self.test_logits, self.test_labels)
        likely = np.exp(logits.astype(np.float64))
        likely /= likely.sum(axis=2, keepdims=True)
        own = np.take_along_axis(likely, labels[None, :, None], 2)[..., 0]
        return np.log(own / (1 - own))

    def data(self, jaxinfl, **options):
        """A data set with these labels."""
        return jaxinfl.Dataset(
            train_inputs=np.zeros((len(self.labels), 2), np.float32),
            train_targets=self.labels,
            test_inputs=np.zeros((len(self.test_labels), 2), np.float32),
            test_targets=self.test_labels,
            **options,
        )


def make_twin(models=12, train=30, test=9, seed=0):
    """Draw models: an example that a model was trained on has a larger logit of its class."""
    rng = np.random.default_rng(seed)
    masks = np.stack([rng.permutation(train) < train * 2 // 3 for _ in range(models)])
    labels = rng.permutation(np.arange(train) % CLASSES)
    # Test example j is of the class of training example j, which helps it, and of the example after it, where that is of the class.
    test_labels = np.concatenate([labels[: test - CLASSES], np.arange(CLASSES)])
    logits, test_logits = rng.normal(size=(models, train, CLASSES)), rng.normal(size=(models, test, CLASSES))
    for column in range(train):
        logits[:, column, labels[column]] += 2 * masks[:, column]
    for column in range(test):
        test_logits[:, column, test_labels[column]] += 2.5 * masks[:, column] + masks[:, column + 1]
    return Twin(masks, labels, test_labels, logits.astype(np.float16), test_logits.astype(np.float16))


def write_feldman_zhang(twin: Twin, folder: Path, absent=()):
    """`RATIO/RUN/aux_arrays.npz`, with indices in an order of their own."""
    rng = np.random.default_rng(1)
    for model, mask in enumerate(twin.masks):
        run = folder / "0.7" / f"{model}"
        run.mkdir(parents=True)
        if model in absent:
            continue
        inside, outside = rng.permutation(np.flatnonzero(mask)), rng.permutation(np.flatnonzero(~mask))
        tests = rng.permutation(len(twin.test_labels))
        np.savez(
            run / "aux_arrays.npz",
            index_train=inside,
            index_removed=outside,
            index_test=tests,
            correctness_train=twin.correct()[model, inside].astype(np.float32),
            correctness_removed=twin.correct()[model, outside].astype(np.float32),
            correctness_test=twin.correct("test")[model, tests].astype(np.float32),
            subsample_idx=np.int64(model),
        )


def write_datamodels_data(twin: Twin, folder: Path, pct="50", *, logits=False):
    """The released files of one ratio."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"train_masks_{pct}pct.npy", twin.masks)
    for split in ("train", "test"):
        np.save(folder / f"{split}_margins_{pct}pct.npy", twin.top_margin(split).astype(np.float16))
    if logits:
        np.save(folder / f"train_logits_{pct}pct.npy", twin.logits)
        np.save(folder / f"test_logits_{pct}pct.npy", twin.test_logits)


def write_datamodels(twin: Twin, folder: Path, absent=()):
    """A user's own runs, of which some are not completed."""
    folder.mkdir(parents=True)
    completed = ~np.isin(np.arange(len(twin.masks)), absent)
    np.save(folder / "masks.npy", twin.masks & completed[:, None])
    np.save(folder / "margins.npy", np.where(completed[:, None], twin.top_margin("test"), 0).astype(np.float32))
    np.save(folder / "_completed.npy", completed)


def lira_score(twin: Twin):
    likely = np.exp(twin.logits.astype(np.float64))
    likely /= likely.sum(axis=2, keepdims=True)
    own = np.take_along_axis(likely, twin.labels[None, :, None], 2)[..., 0]
    others = np.where(np.arange(CLASSES) == twin.labels[:, None], 0, likely).sum(axis=2)
    return np.log(own + 1e-45) - np.log(others + 1e-45)


def write_lira(twin: Twin, folder: Path, *, kind="scores", views=1, labels=True, epochs=(100,)):
    """A folder a model; the scores of an earlier epoch are those of the last one plus the epochs between."""
    for model, mask in enumerate(twin.masks):
        place = folder / f"experiment-{model}_{len(twin.masks)}"
        (place / kind).mkdir(parents=True)
        np.save(place / "keep.npy", mask)
        for epoch in epochs:
            late = epochs[-1] - epoch
            if kind == "scores":
                scores = np.stack([lira_score(twin)[model] + view + late for view in range(views)], axis=1)
                np.save(place / kind / f"{epoch:010d}.npy", scores if views > 1 else scores[:, 0])
            else:
                several = np.repeat(twin.logits[model][:, None, None], views, axis=2)
                np.save(place / kind / f"{epoch:010d}.npy", several)
    if labels:
        np.save(folder / "y_train.npy", twin.labels)


def write_pairs(folder: Path, name="cifar100_high_infl_pairs_infl0.15_mem0.25.npz", **changed):
    """Released pairs: four arrays with a number a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "tr_idx": np.array([4, 2, 9, 2]),
        "tt_idx": np.array([1, 0, 3, 5]),
        "infl": np.array([0.2, 0.5, 0.15, 0.3]),
        "mem": np.array([0.3, 0.9, 0.4, 0.9]),
    }
    np.savez(folder / name, **(arrays | changed))
    return folder / name


def write_class_matrices(twin: Twin, folder: Path, influence: np.ndarray, memorization: np.ndarray):
    """Influence [train, test] within each class."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"tr_mem": memorization, "tr_labels": twin.labels, "tt_labels": twin.test_labels}
    for number in range(CLASSES):
        train, test = np.flatnonzero(twin.labels == number), np.flatnonzero(twin.test_labels == number)
        arrays[f"infl_matrix_class{number}"] = influence[np.ix_(train, test)]
        arrays[f"tr_classidx_{number}"], arrays[f"tt_classidx_{number}"] = train, test
    np.savez(folder / "cifar100_infl_matrix.npz", **arrays)
    return folder / "cifar100_infl_matrix.npz"


def write_mnist(folder: Path, influence: np.ndarray, memorization: np.ndarray):
    """The MNIST demo's file: influence [test, train]."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "infl_mem.npz",
        memorization=memorization.astype(np.float32),
        influence=np.ascontiguousarray(influence.T, np.float32),
    )
    return folder / "infl_mem.npz"
