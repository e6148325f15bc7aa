"""One small run for all tests of run directories, which takes a single compiled program."""

import jax
import numpy as np

from jaxinfl import Recipe, train_ensemble
from jaxinfl.models import build_model

MODELS = 9
MASKS = np.stack([np.random.default_rng(0).permutation(40) < size for size in np.linspace(5, 40, MODELS).astype(int)])
KEYS = jax.random.split(jax.random.key(0), MODELS)
RECIPE = Recipe(epochs=3, batch_size=8, momentum=0.9)
MODEL = build_model("small_mlp", inputs=(8, 8, 1), outputs=3)
ARRAYS = ("masks", "train_prediction", "test_prediction", "train_margin", "test_margin")


def train(data, run_dir=None, **options):
    """Train on two devices with two models each in a call: in groups of four, of which one is not full."""
    options = {"model": MODEL, "recipe": RECIPE, "width": 2, "progress": False, "tune": False} | options
    return train_ensemble(MASKS, KEYS, data=data, run_dir=run_dir, **options)


def assert_same(one, other, rows=slice(None)):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[rows], err_msg=name)
