"""How a run uses the machine, chosen where the user does not say."""

from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxinfl.datasets import Dataset
from jaxinfl.models import Model
from jaxinfl.models.conv import ConvLowering, default_lowering
from jaxinfl.training.recipe import Recipe

GPU_WIDTH = 32
"""Models at once on an accelerator. Narrow models leave it idle one at a time; memory grows with the width."""
CALL_FLOPS = 2.5e10
"""Work of one call on a device from which on the cost of the call itself, about 1 ms, does not show."""


@dataclass(frozen=True)
class Execution:
    """How the models are run. It changes speed and memory, and no bit but through `width`, `conv` and the last bits of
    some sums, in which XLA's CPU code depends on the number of devices."""

    platform: str
    num_devices: int
    lanes: int
    """Models that a device trains one after another in one call."""
    width: int
    """Models that a device trains at once."""
    conv: ConvLowering

    @property
    def group(self) -> int:
        """Models of one call."""
        return self.num_devices * self.lanes * self.width


def choose_execution(
    model: Model, recipe: Recipe, data: Dataset, *, width: int | None = None, conv: ConvLowering | None = None
) -> Execution:
    """The execution for all devices of JAX; it does not depend on the number of models, so neither do their bits.

    Raises:
      ValueError: a width below 1 or an unknown lowering.
    """
    platform = jax.default_backend()
    if conv is not None and conv not in get_args(ConvLowering):
        raise ValueError(f"conv is {conv!r}; it takes one of {', '.join(map(repr, get_args(ConvLowering)))}.")
    if width is None:
        width = 1 if platform == "cpu" else GPU_WIDTH
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
        raise ValueError(f"width is {width!r}; it takes a whole number of models from 1 up.")
    per_model = 3 * forward_flops(model, data) * data.num_train * max(recipe.epochs, 1)
    lanes = int(np.clip(CALL_FLOPS / (per_model * width), 1, 16)) if platform == "cpu" else 1
    return Execution(platform, jax.device_count(), lanes, int(width), conv or default_lowering(platform))


def forward_flops(model: Model, data: Dataset) -> float:
    """FLOPs of the forward pass of one image, counted on the program before any optimization (nothing is compiled)."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
    lowered = jax.jit(lambda v, x: model.apply(v, x, train=False)[0]).lower(variables, images)
    costs: Any = lowered.cost_analysis()
    return float(costs["flops"])
