"""Floating-point operations and memory traffic of ONE training step and one evaluation batch of one model.

Nothing is trained: the programs are traced, lowered and compiled from shapes alone. One step at a time, because XLA's
cost analysis counts the body of a loop once, whatever the number of its passes.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from jaxinfl import Recipe
from jaxinfl.models import Model
from jaxinfl.models.flops import count_flops, inner_programs
from jaxinfl.models.layers import Kernels, use_kernels
from jaxinfl.models.model import count_bytes
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.programs import EVALUATION_BATCH
from jaxinfl.training.step import Keys, Scores, State, Training, _update, evaluate, start

_PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclass(frozen=True)
class Program:
    """A function and the shapes of its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Cost:
    """Work of one program, or of several in a row."""

    flops: float
    """FLOPs of the float32 program with the kernels "gemm"; a multiplication and an addition are two."""
    least_bytes: float
    """Each convolution and matrix product reads its operands and writes its result once, the optimizer reads and writes
    the state once. All other operations are fused into these, in float32, and no copies of windows are stored."""
    least_bytes_bfloat16: float
    """Memory traffic like `least_bytes`, but with activations in bfloat16 (`Recipe.compute_dtype`)."""
    fused_bytes: float
    """Bytes that the kernels of the float32 program "gemm" read and write, as XLA fuses it for a CPU."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def __mul__(self, times: float) -> "Cost":
        return Cost(*(times * value for value in dataclasses.astuple(self)))


def step_cost(model: Model, recipe: Recipe, image_shape: tuple[int, int, int]) -> Cost:
    """Work of one optimizer step on a whole batch: forward, backward, update."""
    _, state, _ = _shapes(model, recipe, image_shape, recipe.batch_size)
    # Read and written once each; the gradients are read once more than the products, which write them, have counted.
    update = 2 * count_bytes(state) + count_bytes(state.variables.params)
    return _cost(lambda recipe, kernels: _step(model, recipe, image_shape, kernels), recipe, update)


def evaluation_cost(model: Model, recipe: Recipe, image_shape: tuple[int, int, int]) -> Cost:
    """Work of the forward pass, predictions and margins of `EVALUATION_BATCH` examples."""
    return _cost(lambda recipe, kernels: _evaluation(model, recipe, image_shape, kernels), recipe, 0)


def product_bytes(jaxpr: Jaxpr) -> int:
    """Bytes of the operands and results of all convolutions and matrix products of a traced program.

    Raises:
      ValueError: a product inside a loop whose number of passes is not known.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in _PRODUCTS:
            total += sum(count_bytes(variable.aval) for variable in (*equation.invars, *equation.outvars))
        inside = sum(product_bytes(inner) for inner in inner_programs(equation.params))
        if inside and equation.primitive.name == "while":
            raise ValueError(
                "a matrix product lies in a while loop, whose number of passes is not known before it runs."
            )
        total += inside * equation.params.get("length", 1)
    return total


def _cost(program: Callable[[Recipe, Kernels], Program], recipe: Recipe, update: int) -> Cost:
    gemm = program(recipe, "gemm")
    traced = jax.jit(gemm.function).trace(*gemm.arguments)
    compiled: Any = traced.lower().compile().cost_analysis()

    def least(dtype: Literal["float32", "bfloat16"]) -> float:
        xla = program(dataclasses.replace(recipe, compute_dtype=dtype), "xla")
        return update + product_bytes(jax.make_jaxpr(xla.function)(*xla.arguments).jaxpr)

    return Cost(
        float(count_flops(traced.jaxpr.jaxpr)), least("float32"), least("bfloat16"), float(compiled["bytes accessed"])
    )


def _step(model: Model, recipe: Recipe, image_shape: tuple[int, int, int], kernels: Kernels) -> Program:
    data, state, key = _shapes(model, recipe, image_shape, recipe.batch_size)

    # A function of its own for each kind of kernels: JAX keeps traces by function, and the kernels are no argument.
    def step(data: DeviceData, state: State, index: Any, counted: Any, key: Any, rate: Any) -> State:
        with use_kernels(kernels):
            return _update(Training(model, recipe), data, state, index, counted, key, rate)

    index, counted = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((recipe.batch_size,), ()))
    return Program(step, (data, state, index, counted, key, jax.ShapeDtypeStruct((), jnp.float32)))


def _evaluation(model: Model, recipe: Recipe, image_shape: tuple[int, int, int], kernels: Kernels) -> Program:
    data, state, _ = _shapes(model, recipe, image_shape, EVALUATION_BATCH)
    once = jnp.int32(1)  # a value, not traced: the loop over batches then has a known number of passes

    def evaluation(data: DeviceData, state: State) -> Scores:
        with use_kernels(kernels):
            return evaluate(Training(model, recipe), data, state, once, EVALUATION_BATCH)

    return Program(evaluation, (data, state))


def _shapes(
    model: Model, recipe: Recipe, image_shape: tuple[int, int, int], examples: int
) -> tuple[DeviceData, State, Any]:
    """A data set of no more examples than one program reads: a larger one would be counted as read."""
    shape: Any = jax.ShapeDtypeStruct
    pixels = shape((examples, image_shape[-1]), jnp.float32)
    data = DeviceData(shape((examples, *image_shape), jnp.uint8), shape((examples,), jnp.int32), pixels, pixels)
    key = jax.eval_shape(lambda: jax.random.key(0))
    mask = shape((examples,), jnp.bool_)
    state = jax.eval_shape(
        lambda data, mask, key: start(Training(model, recipe), data, mask, Keys(key, key, key)), data, mask, key
    )
    return data, state, key
