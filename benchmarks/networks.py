"""The networks of `models_per_hour`: sizes, data and FLOPs of a training step, the same for every contender."""

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
from flax import nnx

import jaxinfl
from jaxinfl import Dataset, Recipe
from jaxinfl.models import MLP, REGISTRY, ArraySpec, InputSpec, SmallCNN

RATIO = 0.7
"""Share of the training set in each subset."""
MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """One network with the way in which it is trained: SGD with momentum, no weight decay, no augmentation."""

    name: str
    description: str
    input_shape: tuple[int, ...]
    """Shape of one example: (h, w, c) of an image, (features,) of a table, or (length,) of tokens."""
    widths: tuple[int, ...]
    """Channels of each 3x3 convolution, units of each hidden dense layer, or width of each block of a transformer."""
    batch_size: int
    epochs: int
    vmapped: int
    """Number of models of the contender under `jax.vmap`; few where a step of one takes it seconds."""
    learning_rate: float = 0.1
    classes: int = 10
    strides: tuple[int, ...] = ()
    """Stride of each convolution; empty for a network without any."""
    batch_norm: bool = False
    """Whether batch norm follows each convolution, which has no bias then."""
    heads: int = 0
    """Heads of attention in each block of a transformer; 0 for a network without attention."""
    tokens: int = 0
    """Number of tokens in the vocabulary; 0 where the inputs are numbers."""
    data: str = "digits"
    """Name of the data set for `load_dataset`, where nothing is made up."""
    synthetic: int = 0
    """Number of made-up training examples; 0 takes the data set."""
    stacked: int = 16
    """Number of models of the contender under `torch.func.vmap`; few where a step of one takes it seconds."""

    @property
    def dense(self) -> bool:
        """Whether the network is a perceptron."""
        return not self.strides and not self.heads

    @property
    def spec(self) -> InputSpec:
        """What a model sees of one example."""
        return InputSpec((ArraySpec("", self.input_shape, "int32" if self.tokens else "float32", self.tokens),))

    def module(self, rngs: nnx.Rngs) -> nnx.Module:
        """The network in Flax."""
        if self.heads:
            blocks = {"layers": len(self.widths), "width": self.widths[0], "heads": self.heads}
            return REGISTRY["transformer"](self.spec, (self.classes,), **blocks, rngs=rngs)
        if self.dense:
            return MLP(self.spec, self.classes, widths=self.widths, rngs=rngs)
        height, width, channels = self.input_shape
        sizes = {"widths": self.widths, "strides": self.strides}
        return SmallCNN((height, width, channels), self.classes, **sizes, batch_norm=self.batch_norm, rngs=rngs)

    @property
    def recipe(self) -> Recipe:
        """The training in jaxinfl's words."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=MOMENTUM,
            weight_decay=0.0,
            schedule="constant",
            standardize=len(self.input_shape) == 1 and not self.tokens,
        )

    def steps(self, num_train: int) -> int:
        """Training steps of one model."""
        return self.epochs * math.ceil(int(RATIO * num_train) / self.batch_size)

    @property
    def step_flops(self) -> int:
        """FLOPs of one training step of one model, three times the forward pass.

        Only products are counted, and of a network with convolutions only those of the convolutions. The gradient of
        the inputs, which nobody computes, is counted, so that rates compare with published ones.
        """
        return 3 * 2 * self.batch_size * self._products()

    def _products(self) -> int:
        """Multiplications of the forward pass of one example."""
        if self.dense:
            sizes = (math.prod(self.input_shape), *self.widths, self.classes)
            return sum(a * b for a, b in itertools.pairwise(sizes))
        if self.heads:
            # A place: queries, keys and values (3 w w), their mix (w w), the perceptron (8 w w); attention to all places, twice.
            (length,) = self.input_shape
            blocks = sum(length * (12 * width * width + 2 * length * width) for width in self.widths)
            return blocks + self.widths[-1] * self.classes
        products, side = 0, self.input_shape[0]
        for a, b, stride in zip((self.input_shape[-1], *self.widths[:-1]), self.widths, self.strides, strict=True):
            side = -(-side // stride)
            products += 9 * a * b * side * side
        return products

    def load(self) -> Dataset:
        """The data set; or images of noise around one random image a class, or random tokens with some of their class."""
        if not self.synthetic:
            return jaxinfl.load_dataset(self.data)
        rng = np.random.default_rng(0)
        labels = np.arange(self.synthetic + self.classes) % self.classes
        inputs = self._tokens(rng, labels) if self.tokens else self._images(rng, labels)
        return Dataset(
            train_inputs=inputs[: self.synthetic],
            train_targets=labels[: self.synthetic],
            test_inputs=inputs[self.synthetic :],
            test_targets=labels[self.synthetic :],
            categories=self.tokens or None,
            name=f"synthetic_{self.name}",
        )

    def _images(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        centers = rng.integers(0, 128, (self.classes, *self.input_shape))
        return (centers[labels] + rng.integers(0, 128, (len(labels), *self.input_shape))).astype(np.uint8)

    def _tokens(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Random tokens, of which half are drawn from the share of the vocabulary that belongs to the class."""
        shape = (len(labels), *self.input_shape)
        own = self.tokens // self.classes
        of_class = labels[:, None] * own + rng.integers(0, own, shape)
        return np.where(rng.random(shape) < 0.5, of_class, rng.integers(0, self.tokens, shape)).astype(np.int32)

    def tiny(self) -> "Network":
        """The network with the same architecture, small enough to be tried in a second."""
        shape = {3: (8, 8, self.input_shape[-1]), 1: (16,) if self.tokens else self.input_shape}[len(self.input_shape)]
        return dataclasses.replace(
            self,
            description=f"tiny {self.description}",
            input_shape=shape,
            batch_size=16,
            epochs=1,
            synthetic=128 if self.synthetic or len(shape) == 3 else 0,
            vmapped=2,
            stacked=2,
        )


def prepare_inputs(data: Dataset) -> np.ndarray:
    """The training inputs as those contenders keep them that have them ready in memory.

    Images are floats that are normalized by channel, [train, h, w, c], and rows of a table floats that are standardized by feature.
    Tokens are as they are.
    """
    inputs = np.asarray(data.train_inputs)
    if np.issubdtype(inputs.dtype, np.floating):
        return (inputs - inputs.mean(0)) / inputs.std(0)
    if not data.are_images:
        return inputs
    pixels = inputs.astype(np.float32) / 255
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
        Network(
            "table",
            "MLP 30-64-2 on breast_cancer",
            (30,),
            widths=(64,),
            classes=2,
            batch_size=64,
            epochs=20,
            data="breast_cancer",
            vmapped=128,
            # From 64 to 1024 the rate of torch.func differs by no more than from one process to the next.
            stacked=256,
        ),
        Network(
            "transformer",
            "transformer of 2 layers, width 64, on 64 tokens",
            (64,),
            widths=(64, 64),
            heads=4,
            tokens=100,
            batch_size=64,
            epochs=1,
            learning_rate=0.03,
            synthetic=2048,
            vmapped=2,
            stacked=4,
        ),
    )
}
