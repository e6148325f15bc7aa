"""Every network of the paper trained in an ensemble, at its true resolution."""

import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Recipe, train_ensemble
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.programs import evaluation_batch

SIDES = {"small_inception": 32, "resnet18_cifar": 32, "resnet18": 224, "inception_v3": 299}
CLASSES = 3


def make_data(side, num_train=5, num_test=1, seed=0):
    rng = np.random.default_rng(seed)
    return jaxinfl.Dataset(
        train_inputs=rng.integers(0, 256, (num_train, side, side, 3)).astype(np.uint8),
        train_targets=np.arange(num_train) % CLASSES,
        test_inputs=rng.integers(0, 256, (num_test, side, side, 3)).astype(np.uint8),
        test_targets=np.zeros(num_test, int),
        class_names=("a", "b", "c"),
    )


@pytest.mark.parametrize(
    ("examples", "side", "batch"), [(100, 32, 100), (600, 8, 512), (600, 32, 512), (600, 64, 128), (600, 299, 16)]
)
def test_fewer_large_images_are_evaluated_at_once(examples, side, batch):
    data = DeviceData(np.zeros((examples, side, side, 1), np.uint8), *[np.zeros((examples,), np.float32)] * 3)
    assert evaluation_batch(Recipe(), data) == batch


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIDES))
@pytest.mark.usefixtures("compiled_quickly")
def test_two_models_train_for_two_steps(name):
    """Steps of two examples and of one, which is filled up."""
    data = make_data(SIDES[name])
    masks = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]], bool)
    recipe = Recipe(epochs=1, batch_size=2, learning_rate=0.01)
    keys = jax.random.split(jax.random.key(0), 2)
    runs = train_ensemble(masks, keys, data=data, model=name, recipe=recipe, progress=False)
    assert not runs.diverged.any()
    assert np.isfinite(runs.test_margin).all() and (runs.test_margin[0] != runs.test_margin[1]).any()
