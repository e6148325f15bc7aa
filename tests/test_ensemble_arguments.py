"""What `train_ensemble` refuses, before anything is compiled."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxinfl import ModelKeys, Recipe
from jaxinfl.models import build_model
from tests.small_ensembles import keys_of, subsets, train


def test_a_finished_model_for_other_classes_is_refused(toy):
    other = build_model("small_mlp", inputs=(8, 8, 1), outputs=10)
    with pytest.raises(
        ValueError, match=r"to \(2, 10\) for a batch of 2 in training; the task takes outputs of the shape \(2, 3\)"
    ):
        train(subsets(), keys_of(6), toy, model=other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": subsets().astype(float)}, TypeError, "masks has dtype float64; it takes bool"),
        ({"masks": subsets()[0]}, ValueError, r"masks has shape \(40,\)"),
        ({"masks": np.zeros((0, 40), bool)}, ValueError, r"masks has shape \(0, 40\)"),
        ({"masks": subsets()[:, :30]}, ValueError, "masks has 30 columns, but toy has 40 training examples"),
        (
            {"masks": subsets() & (np.arange(6) != 2)[:, None]},
            ValueError,
            r"masks has 1 empty subsets \(first: \[2\]\)",
        ),
        ({"keys": keys_of(5)}, ValueError, "keys has 5 keys for 6 models"),
        ({"keys": jax.random.key(0)}, ValueError, r"keys has shape \(\)"),
        ({"keys": np.arange(6)}, TypeError, "keys has dtype int64"),
        ({"keys": 3}, TypeError, "keys is int"),
        ({"keys": jax.random.split(jax.random.key(0, impl="rbg"), 6)}, ValueError, "takes threefry2x32"),
        ({"data": "digits"}, TypeError, "data is str; it takes a jaxinfl.Dataset"),
        ({"recipe": {"epochs": 3}}, TypeError, "recipe is dict"),
        (
            {"recipe": Recipe(resized_crop=9)},
            ValueError,
            r"resized_crop is 9, larger than the images \(8x8\).*image_size=10",
        ),
        ({"recipe": Recipe(crop_padding=8)}, ValueError, "crop_padding is 8, as large as the images"),
        ({"recipe": Recipe(normalization=((0.5, 0.2),) * 3)}, ValueError, "names 3 channels; toy has 1"),
        ({"model": lambda rngs: nnx.Linear(1, 2, rngs=rngs)}, ValueError, "the task takes outputs of the shape"),
        ({"width": 0}, ValueError, "width is 0"),
        ({"kernels": "fft"}, ValueError, "kernels is 'fft'"),
        ({"shard_size": 1.5}, TypeError, "shard_size is 1.5"),
        (
            {"part": 2},
            TypeError,
            r"part is 2 \(int\); it takes two whole numbers, such as \(1, 4\) for the first quarter",
        ),
        ({"part": (1, 7), "run_dir": "x"}, ValueError, r"part is \(1, 7\).*number <= parts <= 6, because"),
        ({"part": (1, 2)}, ValueError, "part is given without run_dir"),
        ({"checkpoint_every": 0}, ValueError, r"checkpoint_every is 0; it takes a number of seconds above 0"),
        ({"max_diverged": 5}, ValueError, r"max_diverged is 5; it takes a share from 0 to 1"),
    ],
)
def test_refused_before_anything_is_compiled(toy, monkeypatch, change, error, message):
    monkeypatch.setattr("jaxinfl.training.machine.build_programs", None)
    with pytest.raises(error, match=message):
        train(**{"masks": subsets(), "keys": keys_of(6), "data": toy} | change)


def test_keys_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different numbers of keys"):
        ModelKeys(init=keys_of(2), order=keys_of(3), augment=keys_of(2))
