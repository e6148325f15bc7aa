"""Models as a user writes them, for the tests of models."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxinfl.models import model_from_nnx

SHAPE, CLASSES = (8, 8, 1), 3


def build(factory, **options):
    return model_from_nnx(factory, inputs=SHAPE, outputs=CLASSES, **options)


def logits(model, *, train, key=0, images=None):
    images = np.random.default_rng(0).random((4, *SHAPE), np.float32) if images is None else images
    return np.asarray(model.apply(model.init(jax.random.key(0)), images, train=train, key=jax.random.key(key))[0])


class Plain(nnx.Module):
    """Two dense layers with batch norm and dropout between them, whose attributes tell them their mode."""

    def __init__(self, rngs):
        self.first = nnx.Linear(64, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(8, CLASSES, rngs=rngs)

    def forward(self, images, train=None):
        averages = None if train is None else not train
        x = nnx.relu(self.norm(self.first(images.reshape(len(images), -1)), use_running_average=averages))
        return self.last(self.dropout(x, deterministic=averages))

    def __call__(self, images):
        return self.forward(images)


class Dense(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(64, 8, rngs=rngs)
        self.last = nnx.Linear(8, CLASSES, rngs=rngs)
        self.gate = nnx.Param(jnp.zeros(()))

    def __call__(self, images):
        return self.last(self.between(self.first(images.reshape(len(images), -1))))

    def between(self, x):
        return nnx.relu(x)


def dense(between, **attributes):
    return type("Own", (Dense,), {"between": between} | attributes)
