"""Six small models on subsets of different sizes, which the tests of whole trainings share."""

import contextlib

import jax
import numpy as np
import pytest
from flax import nnx

from jaxinfl import Recipe, train_ensemble
from jaxinfl.models import SmallCNN, build_model
from jaxinfl.store import RunStore

RECIPE = Recipe(epochs=2, batch_size=8, crop_padding=1, flip=True, label_smoothing=0.1)
ARRAYS = ("train_prediction", "test_prediction", "train_margin", "test_margin")


def tiny_cnn(rngs):
    return SmallCNN((8, 8, 1), 3, widths=(4, 8), strides=(1, 2), rngs=rngs)


# This model is built once: programs are compiled once for each Model object, and again for each callable.
TINY_CNN = build_model(tiny_cnn, inputs=(8, 8, 1), outputs=3)


def linear(rngs):
    return nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 3, rngs=rngs))


# This model serves where the network does not matter: it compiles in less than half the time.
LINEAR = build_model(linear, inputs=(8, 8, 1), outputs=3)


def keys_of(models, seed=0):
    return jax.random.split(jax.random.key(seed), models)


def subsets(models=6, num_train=40, seed=0):
    """Draw subsets of different sizes."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_train) < size for size in np.linspace(5, num_train, models).astype(int)])


def train(masks, keys, data, **options):
    options = {"model": TINY_CNN, "recipe": RECIPE, "progress": False} | options
    return train_ensemble(masks, keys, data=data, **options)


def assert_same(one, other, rows=slice(None), other_rows=slice(None)):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name)[rows], getattr(other, name)[other_rows], err_msg=name)


@contextlib.contextmanager
def stop_after_one_shard():
    """Stop a training of several shards inside this block, when the second shard is about to be written."""
    write, written = RunStore.write, []

    def write_one(store, shard, rows, diverged):
        if written:
            raise KeyboardInterrupt
        written.append(shard)
        write(store, shard, rows, diverged)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunStore, "write", write_one)
        yield
