"""How a run uses the machine, chosen where the user does not say."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxinfl import native
from jaxinfl.arguments import check_choice, is_whole, shown
from jaxinfl.datasets import Dataset
from jaxinfl.devices import own_devices
from jaxinfl.models import Model, Variables
from jaxinfl.models.layers import Kernels, default_kernels, use_kernels
from jaxinfl.training.recipe import Recipe, Shape

GPU_WIDTH = 32
"""Models at once on an accelerator. Narrow models leave it idle one at a time; memory grows with the width."""
_MOST_WIDTH = 2**16
CALL_FLOPS = 2.5e10
"""Work of one call on a device from which on the cost of the call itself, about 1 ms, does not show."""


@dataclass(frozen=True)
class Execution:
    """How the models are run. It changes speed and memory, and no bit but through `width` and `kernels`."""

    platform: str
    num_devices: int
    lanes: int
    """Models that a device trains one after another in one call."""
    width: int
    """Models that a device trains at once."""
    kernels: Kernels
    """What computes convolutions, dense layers, pooling and batch norm."""
    reason: str = field(default="", compare=False)
    """Why it is done so, in words."""

    @property
    def group(self) -> int:
        """Models of one call."""
        return self.num_devices * self.lanes * self.width

    def changed(self, width: int, kernels: Kernels, num_devices: int) -> "Execution":
        """Another way of running the models; on CPUs with as many of them in a call, as far as that goes."""
        lanes = max(1, self.lanes * self.width // width) if self.platform == "cpu" else self.lanes
        return Execution(self.platform, num_devices, lanes, width, kernels)


def choose_execution(
    model: Model,
    recipe: Recipe,
    data: Dataset,
    *,
    width: int | None = None,
    kernels: Kernels | None = None,
    num_devices: int | None = None,
) -> Execution:
    """The execution for all devices of this process; it does not depend on the number of models, so neither do their bits.

    Raises:
      ValueError: the width is below 1, or there are no such kernels here.
    """
    platform = jax.default_backend()
    if kernels is not None:
        check_choice(kernels, "kernels", get_args(Kernels))
    if kernels == "native" and (platform != "cpu" or native.why_unavailable()):
        reason = native.why_unavailable() if platform == "cpu" else f"JAX runs on {platform}"
        raise ValueError(
            f"kernels is 'native', hand-written kernels for CPUs, which cannot be used here: {reason}. "
            + ("Install a C++ compiler, or take" if platform == "cpu" else "Leave kernels out, or take")
            + " 'gemm' for a new run."
        )
    kernels, reason = (kernels, "as asked for") if kernels is not None else _choose_kernels(platform)
    if width is None:
        width = 1 if platform == "cpu" else GPU_WIDTH
    if not is_whole(width) or not 1 <= width <= _MOST_WIDTH:
        raise ValueError(f"width is {shown(width)}; it takes a whole number of models from 1 to {_MOST_WIDTH}.")
    shape = recipe.input_shape(data.image_shape)
    per_model = 3 * forward_flops(model, shape) * data.num_train * max(recipe.epochs, 1)
    lanes = int(np.clip(CALL_FLOPS / (per_model * width), 1, 16)) if platform == "cpu" else 1
    return Execution(platform, num_devices or len(own_devices()), lanes, int(width), kernels, reason)


def _choose_kernels(platform: str) -> tuple[Kernels, str]:
    """The fast kernels of the platform, and why."""
    missing = native.why_unavailable() if platform == "cpu" else None
    default = default_kernels(platform)
    return default, f"no hand-written kernels: {missing}" if missing else f"the default for {platform}"


# Cached, these two: tracing a network takes a tenth of a second, and a run asks more than once before its first step.
@lru_cache
def kernels_differ(model: Model, shape: Shape, platform: str) -> bool:
    """Whether a model's program depends on the kernels: on CPUs the gradients of dense layers do, too."""
    if platform == "cpu":
        return True
    with use_kernels("xla"):
        traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False)[0])(*_shapes(model, shape))
    return "conv_general_dilated" in str(traced)


def _shapes(model: Model, shape: Shape) -> tuple[Variables, jax.ShapeDtypeStruct]:
    """The model's variables and one image."""
    return jax.eval_shape(model.init, jax.random.key(0)), jax.ShapeDtypeStruct((1, *shape), jnp.float32)


@lru_cache
def forward_flops(model: Model, shape: Shape) -> float:
    """FLOPs of the forward pass of one image (h, w, c), counted on the program before any optimization (nothing is compiled)."""
    lowered = jax.jit(lambda v, x: model.apply(v, x, train=False)[0]).lower(*_shapes(model, shape))
    costs: Any = lowered.cost_analysis()
    return float(costs["flops"])
