"""The networks of `models_per_hour`: sizes, data and FLOPs of a training step, the same for every contender."""

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
from flax import nnx

import jaxinfl
from jaxinfl import Dataset, Recipe
from jaxinfl.models import MLP, SmallCNN

CLASSES = 10
RATIO = 0.7
"""Share of the training set in each subset."""
LEARNING_RATE = 0.1
MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """One network with the way in which it is trained: SGD with momentum, no weight decay, no augmentation."""

    name: str
    description: str
    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]
    """Channels of each 3x3 convolution, or units of each hidden dense layer."""
    batch_size: int
    epochs: int
    vmapped: int
    """Number of models of the contender under `jax.vmap`; few where a step of one takes it seconds."""
    strides: tuple[int, ...] = ()
    """Stride of each convolution; empty for a dense network."""
    batch_norm: bool = False
    """Whether batch norm follows each convolution, which has no bias then."""
    synthetic: int = 0
    """Number of made-up training images; 0 takes the digits."""
    stacked: int = 16
    """Number of models of the contender under `torch.func.vmap`; few where a step of one takes it seconds."""

    def module(self, rngs: nnx.Rngs) -> SmallCNN | MLP:
        """The network in Flax."""
        if not self.strides:
            return MLP(self.image_shape, CLASSES, widths=self.widths, rngs=rngs)
        sizes = {"widths": self.widths, "strides": self.strides}
        return SmallCNN(self.image_shape, CLASSES, **sizes, batch_norm=self.batch_norm, rngs=rngs)

    @property
    def recipe(self) -> Recipe:
        """The training in jaxinfl's words."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=LEARNING_RATE,
            momentum=MOMENTUM,
            weight_decay=0.0,
            schedule="constant",
        )

    def steps(self, num_train: int) -> int:
        """Training steps of one model."""
        return self.epochs * math.ceil(int(RATIO * num_train) / self.batch_size)

    @property
    def step_flops(self) -> int:
        """FLOPs of one training step of one model, three times the forward pass.

        Only products are counted, and of a network with convolutions only those of the convolutions. The gradient of
        the images, which nobody computes, is counted, so that rates compare with published ones.
        """
        if not self.strides:
            sizes = (math.prod(self.image_shape), *self.widths, CLASSES)
            return 3 * 2 * self.batch_size * sum(a * b for a, b in itertools.pairwise(sizes))
        products, side = 0, self.image_shape[0]
        inputs = (self.image_shape[-1], *self.widths[:-1])
        for a, b, stride in zip(inputs, self.widths, self.strides, strict=True):
            side = -(-side // stride)
            products += 9 * a * b * side * side
        return 3 * 2 * self.batch_size * products

    def load(self) -> Dataset:
        """The digits, or noise around one random image a class, so that there is something to learn."""
        if not self.synthetic:
            return jaxinfl.load_dataset("digits")
        rng = np.random.default_rng(0)
        classes = rng.integers(0, 128, (CLASSES, *self.image_shape))
        labels = np.arange(self.synthetic + CLASSES) % CLASSES
        images = (classes[labels] + rng.integers(0, 128, (len(labels), *self.image_shape))).astype(np.uint8)
        return Dataset(
            train_inputs=images[: self.synthetic],
            train_targets=labels[: self.synthetic],
            test_inputs=images[self.synthetic :],
            test_targets=labels[self.synthetic :],
            name=f"synthetic_{self.name}",
        )

    def tiny(self) -> "Network":
        """The network with the same architecture, small enough to be tried in a second."""
        return dataclasses.replace(
            self,
            description=f"tiny {self.description}",
            image_shape=(8, 8, self.image_shape[-1]),
            batch_size=16,
            epochs=1,
            synthetic=128,
            vmapped=2,
            stacked=2,
        )


def normalized_images(data: Dataset) -> np.ndarray:
    """The training images for those contenders that keep floats in memory, float32 [train, h, w, c]."""
    pixels = data.train_inputs.astype(np.float32) / 255
    deviation = np.maximum(pixels.std((0, 1, 2)), 1 / 255)
    return (pixels - pixels.mean((0, 1, 2))) / deviation


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "digits",
            "CNN 16-32-64 on digits",
            (8, 8, 1),
            widths=(16, 32, 64),
            strides=(1, 2, 2),
            batch_size=64,
            epochs=10,
            vmapped=8,
        ),
        Network(
            "cifar",
            "CNN 32-64-128 with batch norm on 32x32x3",
            (32, 32, 3),
            widths=(32, 64, 128),
            strides=(1, 2, 2),
            batch_norm=True,
            batch_size=128,
            epochs=1,
            vmapped=2,
            stacked=4,
            synthetic=2048,
        ),
        Network(
            "mnist",
            "MLP 784-512-256-10 (Feldman and Zhang's for MNIST)",
            (28, 28, 1),
            widths=(512, 256),
            batch_size=128,
            epochs=5,
            vmapped=32,
            synthetic=4096,
        ),
        Network("small_mlp", "MLP 64-128-10 on digits", (8, 8, 1), widths=(128,), batch_size=64, epochs=10, vmapped=32),
    )
}
