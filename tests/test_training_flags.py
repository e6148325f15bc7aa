"""Flags that tell a module whether it is trained, wherever it has them."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxinfl
from tests.own_models import Plain, build, logits


class WithTrain(Plain):
    def __call__(self, images, train=True):
        return self.forward(images, train)


class WithoutTrain(Plain):
    def __call__(self, images, train=False):
        return self.forward(images, train)


class WithDeterministic(Plain):
    def __call__(self, images, *, deterministic=True):
        return self.forward(images, not deterministic)


class WithRequiredFlag(Plain):
    def __call__(self, images, is_training):
        return self.forward(images, is_training)


class WithAttribute(Plain):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.training = True

    def __call__(self, images):
        return self.forward(images, self.training)


class WithAttributeTrain(Plain):
    """The attribute hides the method of the same name."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.train = False

    def __call__(self, images):
        return self.forward(images, self.train)


class Inside(nnx.Module):
    def __init__(self, rngs):
        self.inner = WithTrain(rngs)

    def __call__(self, images):
        return self.inner(images)


class InsideJit(Inside):
    @nnx.jit
    def __call__(self, images):
        return self.inner(images)


class InsideRemat(Inside):
    def __call__(self, images):
        return nnx.remat(lambda inner, images: inner(images))(self.inner, images)


FLAGGED = [
    WithTrain,
    WithoutTrain,
    WithDeterministic,
    WithRequiredFlag,
    WithAttribute,
    WithAttributeTrain,
    Inside,
    InsideJit,
    InsideRemat,
]


@pytest.mark.parametrize("kind", FLAGGED)
def test_flags_for_training_are_set(kind, caplog):
    reference, flagged = build(Plain), build(kind)
    for train in (True, False):
        np.testing.assert_array_equal(logits(flagged, train=train), logits(reference, train=train))
    assert (logits(flagged, train=True) != logits(flagged, train=True, key=1)).any(), "dropout does not act"
    np.testing.assert_array_equal(logits(flagged, train=False), logits(flagged, train=False, key=1))
    assert not caplog.records


@pytest.mark.parametrize("kind", [WithTrain, pytest.param(Inside, marks=pytest.mark.slow), InsideJit])
def test_flags_reach_the_training(kind, toy):
    """Batches with padding, whole trainings: to the bit as the module that goes by attributes."""
    masks = np.random.default_rng(0).random((3, toy.num_train)) < 0.7
    results = [
        jaxinfl.train_ensemble(
            masks,
            jax.random.split(jax.random.key(0), 3),
            data=toy,
            model=model,
            recipe=jaxinfl.Recipe(epochs=2, batch_size=8),
            tune=False,
            progress=False,
        )
        for model in (Plain, kind)
    ]
    np.testing.assert_array_equal(results[0].test_margin, results[1].test_margin)
