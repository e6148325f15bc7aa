"""The compiled programs and kernels lower for CUDA, on a machine that has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl import Recipe
from jaxinfl.models import REGISTRY, TAKES_SEQUENCES, ArraySpec, InputSpec, build_model
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.programs import Execution, Programs, build_programs
from jaxinfl.training.step import Keys, Segment, Training

LARGE = ("inception_v3", "resnet9", "resnet18", "resnet18_cifar", "small_inception", "small_resnet9")
SHAPES = {
    "small_inception": (32, 32, 3),
    "resnet9": (16, 16, 3),
    "small_resnet9": (24, 24, 3),
    "resnet18": (32, 32, 3),
    "inception_v3": (299, 299, 3),
}
NUM_TRAIN, NUM_TEST, CLASSES = 96, 32, 10


SEQUENCES = InputSpec((ArraySpec("", (16,), "int32", 20),))


def abstract_arguments(programs: Programs, shape: tuple[int, ...]) -> tuple[DeviceData, jax.ShapeDtypeStruct, Keys]:
    """Make the shapes of the arguments of one call."""
    models, examples = programs.execution.group, NUM_TRAIN + NUM_TEST
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), models))
    pixels = (jax.ShapeDtypeStruct((NUM_TRAIN, shape[-1]), jnp.float32),) * 2 if len(shape) == 3 else ()
    data = DeviceData(
        jax.ShapeDtypeStruct((examples, *shape), jnp.uint8 if pixels else jnp.int32),
        jax.ShapeDtypeStruct((examples,), jnp.int32),
        *pixels,
    )
    return data, jax.ShapeDtypeStruct((models, NUM_TRAIN), np.bool_), Keys(key, key, key)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in sorted(REGISTRY)]
)
def test_training_and_evaluation_lower_for_cuda(name, dtype):
    if name in TAKES_SEQUENCES:
        check_that_it_lowers(name, Recipe(compute_dtype=dtype), SEQUENCES)
    else:
        check_that_it_lowers(name, Recipe(compute_dtype=dtype, crop_padding=1, flip=True), SHAPES.get(name, (8, 8, 1)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resized_crops_and_accumulation_lower_for_cuda(dtype):
    recipe = Recipe(compute_dtype=dtype, resized_crop=14, flip=True, batch_size=32, microbatch=8)
    check_that_it_lowers("small_cnn", recipe, (16, 18, 3))


def check_that_it_lowers(name, recipe, shape):
    """Start, training and evaluation of a model on stored images of one shape, or on sequences of tokens."""
    images = not isinstance(shape, InputSpec)
    inputs, shape = (recipe.input_shape(shape), shape) if images else (shape, shape.arrays[0].shape)
    model = build_model(name, inputs=inputs, outputs=CLASSES)
    execution = Execution("gpu", num_devices=1, lanes=1, width=32, kernels="gemm", chunk=4)
    programs = build_programs(Training(model, recipe, images=images), execution, (jax.devices()[0],))
    data, masks, keys = abstract_arguments(programs, shape)
    states = jax.eval_shape(programs.start, data, masks, keys)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = {programs.advance: (data, states, masks, keys, Segment(number, number, number, number))}
    arguments[programs.evaluate] = (data, states, masks, number)
    if recipe.compute_dtype == "float32":  # initial weights are in any case
        arguments[programs.start] = (data, masks, keys)
    for program, given in arguments.items():
        lowered = jax.export.export(program, platforms=["cuda"])(*given).mlir_module()
        # Batched matrix products, not grouped convolutions.
        assert "stablehlo.convolution" not in lowered
        assert program is programs.start or "stablehlo.dot_general" in lowered
