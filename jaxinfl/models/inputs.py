"""What a model takes of one example: arrays by name, with shape and type."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class ArraySpec(NamedTuple):
    """One array of an example, as the model sees it."""

    name: str
    """Its name in a dict of arrays; "" for a single array."""
    shape: tuple[int, ...]
    """Shape of one example, without the axis of the batch."""
    dtype: str
    """"float32", "int32" or "bool"."""
    categories: int = 0
    """Number of categories or tokens that integers count; 0 where the values are no integers."""


@dataclass(frozen=True)
class InputSpec:
    """The inputs of one example. It is hashable, so that programs can be kept by it."""

    arrays: tuple[ArraySpec, ...]

    @classmethod
    def of_shape(cls, shape: tuple[int, ...]) -> "InputSpec":
        """A single array of floats: the pixels of an image, or a row of a table."""
        return cls((ArraySpec("", tuple(shape), "float32"),))

    @property
    def single(self) -> ArraySpec | None:
        """The array, where there is one that has no name."""
        return self.arrays[0] if len(self.arrays) == 1 and not self.arrays[0].name else None

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels, where the inputs are one array of floats with three axes; None elsewhere."""
        one = self.single
        if one is None or one.dtype != "float32" or len(one.shape) != 3:
            return None
        height, width, channels = one.shape
        return height, width, channels

    def map(self, function: Callable[[ArraySpec], Any]) -> Any:
        """What a function makes of each array, as the model takes its inputs: one value, or a dict of them."""
        one = self.single
        return function(one) if one is not None else {array.name: function(array) for array in self.arrays}

    def batch(self, size: int, floats: str = "float32") -> Any:
        """Shapes and types of a batch, with `floats` as the type of all floats."""

        def shape_one(array: ArraySpec) -> jax.ShapeDtypeStruct:
            dtype = floats if array.dtype == "float32" else array.dtype
            return jax.ShapeDtypeStruct((size, *array.shape), jnp.dtype(dtype))

        return self.map(shape_one)

    def draw(self, size: int, rng: np.random.Generator) -> Any:
        """Random inputs for a batch: normal numbers, categories and bits."""

        def draw_one(array: ArraySpec) -> np.ndarray:
            shape = (size, *array.shape)
            if array.dtype == "int32":
                return rng.integers(0, max(array.categories, 1), shape).astype(np.int32)
            return rng.random(shape) < 0.5 if array.dtype == "bool" else rng.normal(size=shape).astype(np.float32)

        return self.map(draw_one)

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return sum(math.prod(array.shape) for array in self.arrays)

    def __str__(self) -> str:
        parts = {array.name: f"{array.dtype} [batch{''.join(f', {n}' for n in array.shape)}]" for array in self.arrays}
        return parts[""] if "" in parts else ", ".join(f"{name}: {part}" for name, part in parts.items())


def as_spec(inputs: InputSpec | tuple[int, ...]) -> InputSpec:
    """The specification itself, or that of a single array of floats of a shape."""
    return inputs if isinstance(inputs, InputSpec) else InputSpec.of_shape(tuple(inputs))


__all__ = ["ArraySpec", "InputSpec", "as_spec"]
