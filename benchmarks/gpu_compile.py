"""Compile training and evaluation of a network for a graphics card that is not there, and read what the programs do.

JAX makes a description of devices from a text about the card (`jax.experimental.topologies`), and XLA's compiler needs no
more. It needs the plugin of `jax[cuda12]`, but no driver.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from benchmarks.cards import LAUNCH_SECONDS, Card
from benchmarks.compiled import Kernel, count_collectives, known_loops, parse, step_kernels
from benchmarks.graphs import read_launches
from experiments.presets import BREAST_CANCER, COLOUR
from jaxinfl import Recipe, recipes
from jaxinfl.models import ArraySpec, InputSpec, Model, build_model
from jaxinfl.models.layers import Kernels
from jaxinfl.models.way import Way, choose_way
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.machine import choose_chunk, list_card_ways
from jaxinfl.training.programs import Execution, Programs, build_programs, evaluation_batch
from jaxinfl.training.step import Keys, Segment, Training

# The search for the fastest algorithm needs the card itself.
_COMPILER_OPTIONS: dict[str, Any] = {"xla_gpu_autotune_level": 0}
_WITHOUT_TRITON: dict[str, Any] = _COMPILER_OPTIONS | {"xla_gpu_enable_triton_gemm": False}


@dataclass(frozen=True)
class Case:
    """A network with the data and the recipe that it is meant for."""

    name: str
    """Name of this case, which records and options use."""
    model: str
    """Registered name of the network."""
    recipe: Recipe
    shape: tuple[int, ...]
    """Shape of one stored example."""
    outputs: int
    """Number of classes."""
    num_train: int
    num_test: int
    widths: tuple[int, ...] = (1, 8, 32, 128)
    """Widths that it is compiled for."""
    tokens: int = 0
    """Number of tokens in the vocabulary; 0 where the inputs are numbers."""
    ratio: float = 0.7
    """Share of the training set in each subset."""
    kernels: tuple[Kernels, ...] = ("gemm", "xla")
    """Kernels that it is compiled for; a network without convolutions has one program for all of them."""

    @property
    def are_images(self) -> bool:
        """Whether the inputs are images."""
        return len(self.shape) == 3

    @property
    def spec(self) -> InputSpec:
        """What the network sees of one example."""
        if self.are_images:
            height, width, channels = self.shape
            return InputSpec.of_shape(self.recipe.input_shape((height, width, channels)))
        return InputSpec((ArraySpec("", self.shape, "int32" if self.tokens else "float32", self.tokens),))

    @property
    def steps(self) -> int:
        """Training steps of one model."""
        return self.recipe.epochs * math.ceil(int(self.ratio * self.num_train) / self.recipe.batch_size)

    @property
    def parts(self) -> int:
        """Number of parts in which a batch goes through the network."""
        return self.recipe.batch_size // (self.recipe.microbatch or self.recipe.batch_size)

    def build(self) -> Model:
        """Build the network."""
        return build_model(self.model, inputs=self.spec, outputs=self.outputs)

    def choose(self, card: Card) -> Way:
        """Choose width and kernels for a card as `train_ensemble` does by default."""
        return choose_way(self.ways(card))

    def ways(self, card: Card, width: int | None = None, kernels: Kernels | None = None) -> dict[Way, float]:
        """List the ways of training it on a card, with what a step of one model costs by each."""
        return list_card_ways(
            self.build(), self.recipe, self.spec, self.data(), card.memory, width=width, kernels=kernels
        )

    def data(self) -> DeviceData:
        """Shapes of the data set on a device."""
        total = self.num_train + self.num_test
        kind = jnp.uint8 if self.are_images else jnp.int32 if self.tokens else jnp.float32
        shapes: Any = [jax.ShapeDtypeStruct((total, *self.shape), kind), jax.ShapeDtypeStruct((total,), jnp.int32)]
        if self.are_images:
            shapes += [jax.ShapeDtypeStruct((self.num_train, self.shape[-1]), jnp.float32)] * 2
        return DeviceData(*shapes)

    def training(self) -> Training:
        """What all models have in common."""
        return Training(self.build(), self.recipe, images=self.are_images)


def _narrow(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, compute_dtype="bfloat16")


MOST_STEPS = 64
"""Largest number of steps of a loop whose turns the compiler knows; `choose_execution` takes as many of a network whose steps are short."""
_FEW = (1, 2, 8)
_DIGITS, _MNIST = Recipe(epochs=10), Recipe(epochs=10, batch_size=128)
_TEXT: dict[str, Any] = {"recipe": Recipe(batch_size=64), "shape": (64,), "tokens": 100}
_FLOWERS: dict[str, Any] = {"outputs": 102, "num_train": 2040, "num_test": 6149, "ratio": 1.0}
CASES = {
    case.name: case
    for case in (
        Case("table", "small_mlp", BREAST_CANCER["recipe"], (30,), 2, 456, 113, kernels=("gemm",)),
        Case("small_mlp", "small_mlp", _DIGITS, (8, 8, 1), 10, 1437, 360, kernels=("gemm",)),
        Case("mlp", "mlp", _DIGITS, (8, 8, 1), 10, 1437, 360, kernels=("gemm",)),
        Case("mlp_784", "mlp", _MNIST, (28, 28, 1), 10, 60_000, 10_000, kernels=("gemm",)),
        Case("small_cnn", "small_cnn", _DIGITS, (8, 8, 1), 10, 1437, 360),
        Case(
            "tiny_transformer", "tiny_transformer", outputs=10, num_train=2048, num_test=512, kernels=("gemm",), **_TEXT
        ),
        Case("transformer", "transformer", outputs=10, num_train=2048, num_test=512, kernels=("gemm",), **_TEXT),
        Case("small_inception", "small_inception", _narrow(recipes.CIFAR), (32, 32, 3), 100, 50_000, 10_000, _FEW),
        Case("small_resnet9", "small_resnet9", COLOUR["recipe"], (32, 32, 3), 10, 10_000, 2000, (1, 8, 32)),
        Case("resnet9", "resnet9", _narrow(recipes.CIFAR_FAST), (32, 32, 3), 10, 50_000, 10_000, (1, 8)),
        Case("resnet18_cifar", "resnet18_cifar", _narrow(recipes.CIFAR), (32, 32, 3), 100, 50_000, 10_000, _FEW),
        Case("resnet18", "resnet18", _narrow(recipes.FINE_GRAINED_224), (256, 256, 3), **_FLOWERS, widths=(1, 2)),
        Case("inception_v3", "inception_v3", _narrow(recipes.FINE_GRAINED_299), (342, 342, 3), **_FLOWERS, widths=(1,)),
    )
}
"""Every registered network on inputs of the shape that it is meant for, by name; the paper's with its recipes in bfloat16."""


def can_compile() -> bool:
    """Whether the plugin is here that holds XLA's compiler for NVIDIA's cards."""
    return find_spec("jax_cuda12_plugin") is not None


def devices_of(card: Card, number: int = 1) -> tuple[jax.Device, ...]:
    """Devices of a machine with so many cards, which exist for the compiler alone."""
    described = topologies.get_topology_desc(
        "topology", "cuda", target_config=card.describe(), topology=f"1x1x{number}"
    )
    return tuple(described.devices)


def lower(case: Case, kernels: Kernels, width: int, devices: Sequence[jax.Device]) -> tuple[Any, Any]:
    """Lower training and evaluation of `width` models at once on each device; nothing is compiled yet."""
    chunk = choose_chunk(np.array([case.steps // case.recipe.epochs]), MOST_STEPS)
    execution = Execution(devices[0].platform, len(devices), 1, width, kernels, chunk)
    programs = build_programs(case.training(), execution, tuple(devices))
    data, states, masks, keys = _shapes(case, programs)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=programs.replicated)
    return (
        _lower_training(programs, data, states, masks, keys, number),
        programs.evaluate.lower(data, states, masks, number),  # type: ignore[attr-defined]
    )


def _lower_training(
    programs: Programs, data: DeviceData, states: Any, masks: Any, keys: Keys, number: jax.ShapeDtypeStruct
) -> Any:
    """The one place that knows what `Programs.advance` takes."""
    return programs.advance.lower(data, states, masks, keys, Segment(*[number] * 4))  # type: ignore[attr-defined]


def _shapes(case: Case, programs: Programs) -> tuple[DeviceData, Any, Any, Keys]:
    """Shapes of all that the programs take: data, states, masks and keys, on the devices that they belong on."""
    group = programs.execution.group

    def place(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    data = place(case.data(), programs.replicated)
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), group))
    keys, masks = place(
        (Keys(key, key, key), jax.ShapeDtypeStruct((group, case.num_train), np.bool_)), programs.models_axis
    )
    states = place(jax.eval_shape(programs.start, data, masks, keys), programs.models_axis)
    return data, states, masks, keys


def compile_case(case: Case, card: Card, kernels: Kernels, width: int) -> dict[str, Any]:
    """Compile one case for a card and record what a training step and an evaluation batch do; times are estimates."""
    training, evaluation = lower(case, kernels, width, devices_of(card))
    batch = evaluation_batch(case.recipe, case.data())
    described = {
        "training step": _describe(training, case, card, width, case.parts),
        "evaluation batch": _describe(evaluation, case, card, width, 1),
    }
    batches = -(-(case.num_train + case.num_test) // batch)
    seconds = (
        case.steps * described["training step"]["estimated_seconds_per_model"]
        + batches * described["evaluation batch"]["estimated_seconds_per_model"]
    )
    return {
        "case": case.name,
        "card": card.name,
        "kernels": kernels,
        "width": width,
        **described,
        "steps": case.steps,
        "evaluation_batches": batches,
        "estimated_models_per_gpu_hour": 3600 / seconds,
    }


def compile_lowered(lowered: Any, **options: Any) -> tuple[Any, bool]:
    """Compile a lowered program, and say whether matrix products may be kernels that XLA makes with Triton.

    Without trying them out, XLA finds no tiles for the products of some shapes and gives up; cuBLAS has them all.
    """
    try:
        return lowered.compile(compiler_options=_COMPILER_OPTIONS | options), True
    except jax.errors.JaxRuntimeError as error:
        if "tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options=_WITHOUT_TRITON | options), False


def _describe(lowered: Any, case: Case, card: Card, width: int, parts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        compiled, triton = compile_lowered(lowered, xla_dump_to=folder)
        seconds = time.perf_counter() - begun
        launches = read_launches(Path(folder), parts)
    program, memory = parse(compiled.as_text()), compiled.memory_analysis()
    kernels = step_kernels(program, parts)
    flops = card.flops if case.recipe.compute_dtype == "bfloat16" else card.flops / 2
    return {
        "kernels": sum(each.runs for each in kernels),
        "graphs": launches.graphs,
        "kernels_in_graphs": launches.inside,
        "kernels_outside_graphs": launches.outside,
        "library_convolutions": sum(each.runs for each in kernels if "cudnn$conv" in each.kind),
        "bytes_moved": sum(each.runs * each.moved for each in kernels),
        "flops": sum(each.runs * each.flops for each in kernels),
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "loops_with_known_turns": known_loops(program),
        "collectives": count_collectives(program),
        "triton": triton,
        "estimated_seconds_per_model": sum(_seconds(each, card, flops) for each in kernels) / width,
        "compile_seconds": round(seconds, 1),
    }


def _seconds(kernel: Kernel, card: Card, flops: float) -> float:
    """Estimated seconds of a kernel in one step: its roofline and its launch."""
    return kernel.runs * (max(kernel.moved / card.bandwidth, kernel.flops / flops) + LAUNCH_SECONDS)


__all__ = ["CASES", "Case", "can_compile", "compile_case", "devices_of", "lower"]
