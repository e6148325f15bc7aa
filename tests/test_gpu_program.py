"""Programs for cards that are not there: what is read from them, the formula of a card's default, and no word between devices."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import gpu_program
from benchmarks.cards import CARDS
from benchmarks.compiled import count_collectives, known_loops, parse, size_of, step_kernels
from benchmarks.gpu_compile import CASES, can_compile
from benchmarks.gpu_program import RECORDS, read_records
from jaxinfl import Recipe, devices
from jaxinfl.models import build_model
from jaxinfl.models.traffic import measure_traffic
from jaxinfl.models.way import MEMORY_SHARE, Step, choose_way, list_ways
from jaxinfl.training.machine import choose_execution
from tests.test_benchmarks import check_files
from tests.two_layers import BATCH, HIDDEN, INPUTS, OUTPUTS, STEPS, lower_two_layers

ROOT = Path(__file__).parents[1]
CUDA_PYTHON = Path(sys.executable) if can_compile() else ROOT / ".venv-cuda" / "bin" / "python"
FIRST, SECOND = INPUTS * HIDDEN, HIDDEN * OUTPUTS
"""Numbers of the two weight matrices."""
FLOPS = 2 * 2 * BATCH * FIRST + 3 * 2 * BATCH * SECOND
"""Both layers forward and for their weights; the second for its inputs, too."""
CHEAP = [name for name in CASES if name != "inception_v3"]
NAMES = [*CHEAP, pytest.param("inception_v3", marks=pytest.mark.slow)]
MISSED = {("table", "gemm", 1), ("small_mlp", "gemm", 1), ("mlp_784", "gemm", 1), ("small_cnn", "xla", 1)}
"""Programs that move more than the formula says, none of them a default: one small network at a time copies its joined parameters."""


def test_bytes_of_a_two_layer_network_by_hand():
    """The program that XLA compiles for an H100; it takes sums over long axes in 8 and in 4 parts, which it stores."""
    kernels = step_kernels(parse((Path(__file__).parent / "two_layers_h100.txt").read_text()))
    inputs, hidden, outputs = BATCH * INPUTS, BATCH * HIDDEN, BATCH * OUTPUTS
    by_hand = [
        (inputs + FIRST, hidden),  # hidden units before ReLU
        (hidden + SECOND, 8 * outputs),
        (8 * outputs + outputs, outputs),  # the sum of the parts, and the difference to the targets
        (hidden + outputs, 4 * SECOND),  # gradient of the second layer's weights
        (outputs + SECOND, hidden),  # and of its inputs
        (2 * hidden, hidden),  # ReLU backward
        (4 * SECOND + SECOND, SECOND),  # the weights' steps
        (inputs + hidden, 4 * FIRST),
        (4 * FIRST + FIRST, FIRST),
        (1, 1),  # the number of the step
    ]
    assert sorted((each.read, each.written) for each in kernels) == sorted((4 * r, 4 * w) for r, w in by_hand)
    assert sum(each.flops for each in kernels) == FLOPS
    assert all(each.runs == 1 for each in kernels)


def test_operations_of_a_two_layer_network_compiled_here():
    program = parse(lower_two_layers().compile().as_text())
    kernels = step_kernels(program)
    assert sum(each.flops for each in kernels) == FLOPS
    # At least: weights and inputs are read, hidden units are written and read, weights are written.
    assert sum(each.moved for each in kernels) > 4 * (2 * (FIRST + SECOND) + BATCH * INPUTS + 2 * BATCH * HIDDEN)
    assert known_loops(program) == (1, 1)


def test_a_loop_inside_a_step_counts_as_often_as_it_turns():
    def steps(x, weights, passes):
        def part(_, y):
            return jnp.tanh(y @ weights)

        return jax.lax.fori_loop(0, passes, lambda _, y: jnp.cos(jax.lax.fori_loop(0, STEPS, part, jnp.sin(y))), x)

    square = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    text = jax.jit(steps).lower(square, square, jax.ShapeDtypeStruct((), jnp.int32)).compile().as_text()
    # The inner loop is the one over parts, and its turns are known.
    assert sum(each.flops * each.runs for each in step_kernels(parse(text), inner_runs=2)) == STEPS * 2 * 64**3


def test_a_step_is_found_inside_loops_with_more_kernels():
    """The loop over steps holds the products; the one around it draws an order, which takes more kernels."""

    def epochs(x, weights, number):
        def epoch(_, y):
            order = jax.lax.sort(jax.lax.sort(y, dimension=1), dimension=0)
            return jax.lax.fori_loop(0, STEPS, lambda _, z: z @ weights, jnp.cumsum(order, 0))

        return jax.lax.fori_loop(0, number, epoch, x)

    square = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    text = jax.jit(epochs).lower(square, square, jax.ShapeDtypeStruct((), jnp.int32)).compile().as_text()
    kernels = step_kernels(parse(text))
    assert sum(each.flops * each.runs for each in kernels) == 2 * 64**3
    assert not any(each.kind == "sort" for each in kernels)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[8,3]{1,0}", 96),
        ("bf16[]", 2),
        ("(pred[5]{0}, /*index=1*/u8[0]{0}, s32[2,2]{1,0})", 21),
        ("f8e4m3fn[7]", 7),
        ("token[]", 0),
    ],
)
def test_sizes_of_arrays(shape, size):
    assert size_of(shape) == size


def test_traffic_of_a_trace_by_hand():
    """A product that stores bias and ReLU itself, a reduction that squares as it reads, one over rows that is no kernel."""

    def program(x, weights, bias):
        hidden = jnp.maximum(x @ weights + bias[None], 0)
        return hidden, jnp.sum(jnp.square(hidden), 0), hidden - hidden.max(1, keepdims=True)

    x, weights, bias = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((128, 64), (64, 32), (32,)))
    traffic = measure_traffic(jax.make_jaxpr(program)(x, weights, bias))
    hidden = 128 * 32
    product, squares, rows = 128 * 64 + 64 * 32 + hidden, hidden + 32, 2 * hidden
    # The product's kernel computes the ReLU from its own result; the other two read the ReLU, and are one kernel.
    assert traffic.kernels == 2
    assert abs(traffic.moved - 4 * (product + squares + rows - hidden)) < 0.01 * traffic.moved


@pytest.mark.parametrize("name", NAMES)
def test_formula_agrees_with_the_compiled_programs(name):
    case = CASES[name]
    # XLA's convolutions of several models at once are recorded, but are no choice.
    records = [
        each for each in read_records() if each["case"] == name and (each["kernels"] == "gemm" or each["width"] == 1)
    ]
    assert {each["kernels"] for each in records} == set(case.kernels)
    for each in records:
        kernels, width, card = each["kernels"], each["width"], CARDS[each["card"]]
        (way,) = case.ways(card, width, kernels)
        moved = each["training step"]["bytes_moved"] / width
        if (name, kernels, width) not in MISSED:
            assert 0.7 * moved < way.moved < 1.3 * moved, (kernels, width, card.name)
        needed = max(
            part["temporary_bytes"] + part["argument_bytes"]
            for part in (each["training step"], each["evaluation batch"])
        )
        # The rest of the memory is for what the formula does not see; cuDNN's work space is that of one convolution at a time.
        work_space = 2**20 if kernels == "gemm" else 2**25
        assert MEMORY_SHARE * needed < way.memory + work_space, (kernels, width, card.name)


@pytest.mark.parametrize("name", NAMES)
def test_default_of_a_card_fits_and_suits_the_network(name):
    card = CARDS["H100"]
    way = CASES[name].choose(card)
    assert way.fits and way.memory < MEMORY_SHARE * card.memory
    large = name in ("small_inception", "resnet9", "resnet18_cifar", "resnet18", "inception_v3")
    assert (way.kernels == "xla") is large and (way.width == 1) is large
    assert large or way.width >= 32
    # By the records, too, no other way that is a choice takes much less time.
    times = {
        (each["kernels"], each["width"]): each["training step"]["estimated_seconds_per_model"]
        for each in read_records()
        if (each["case"], each["card"]) == (name, card.name) and (each["kernels"] == "gemm" or each["width"] == 1)
    }
    if (way.kernels, way.width) in times:
        assert times[way.kernels, way.width] < 1.2 * min(times.values())


def choose(step_by, **limits):
    return choose_way(list_ways(step_by, **limits))


def test_choice_by_hand():
    small = {"gemm": Step(100, 0, 10, convolves=False), "xla": Step(90, 0, 10, convolves=True)}
    # 90 bytes are fewer than 100, and no width is better than 1.
    assert choose(small, memory=1e9).kernels == "xla"
    # A launch costs 7.5 MB: 8 models share ten of them at 9.4 MB each, beside 100 MB.
    products = {"gemm": Step(100_000_000, 10, 1000, convolves=False)}
    assert choose(products, memory=1e9).width == 8
    # Of 10,000 bytes 8,000 may be used: 4 models of 1,000 and 500 bytes beside 1,000 for all.
    assert choose(products, memory=10_000, fixed=1000, per_model=500).width == 4
    assert choose(products, memory=10_000, width=16).width == 16
    least = choose(products, memory=1000)
    assert (least.width, least.fits) == (1, False)
    several = {"xla": Step(100_000_000, 10, 1000, convolves=True)}
    assert choose(several, memory=1e9).width == 1
    assert choose(several, memory=1e9, width=3).width == 3


@pytest.mark.parametrize(("memory", "width"), [(80 * 10**9, 128), (10**9, 64), (10**6, 1), (None, 128)])
def test_execution_on_a_card(monkeypatch, caplog, digits, memory, width):
    """A card of 80 GB, two small ones, and one that does not tell what it has."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(devices, "total_memory", lambda device: memory)
    model = build_model("small_cnn", inputs=(8, 8, 1), outputs=10)
    execution = choose_execution(model, Recipe(), digits)
    assert (execution.width, execution.platform, execution.lanes) == (width, "gpu", 1)
    assert ("may run out of memory" in caplog.text) is (memory == 10**6)
    assert "a step of a model moves" in execution.reason
    assert execution.kernels == ("gemm" if width > 1 else "xla")
    given = choose_execution(model, Recipe(), digits, width=4, kernels="xla")
    assert (given.width, given.kernels, given.reason) == (4, "xla", "as asked for")
    assert choose_execution(model, Recipe(), digits, kernels="xla").width == 1
    assert choose_execution(model, Recipe(), digits, width=16).width == 16


def test_a_run_in_parts_and_another_optimizer_move_more():
    case = CASES["small_cnn"]

    def way(**changes):
        changed = dataclasses.replace(case, recipe=dataclasses.replace(case.recipe, **changes))
        return next(iter(changed.ways(CARDS["H100"], 8, "gemm")))

    weights = 4 * case.build().num_params
    assert way(optimizer="adamw").moved - way().moved == 2 * weights
    assert way(momentum=0.0).moved - way().moved == -2 * weights
    assert way(microbatch=16).moved > way().moved and way(microbatch=16).memory < way().memory


EIGHT = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from benchmarks.cards import CARDS
from benchmarks.compiled import count_collectives, parse
from benchmarks.gpu_compile import CASES, compile_lowered, devices_of, lower

on_cards = sys.argv[1] != "cpu"
if on_cards:
    jax.config.update("jax_platforms", "cpu")
devices = devices_of(CARDS[sys.argv[1]], 8) if on_cards else tuple(jax.devices())
assert len(devices) == 8

def collectives(lowered):
    compiled = compile_lowered(lowered)[0] if on_cards else lowered.compile()
    return count_collectives(parse(compiled.as_text()))

for name in ("table", "small_cnn") if on_cards else ("table",):
    for program in lower(CASES[name], "gemm", 2, devices):
        assert collectives(program) == 0, name
sharding = NamedSharding(jax.sharding.Mesh(np.array(devices), ("models",)), PartitionSpec("models"))
total = jax.jit(lambda x: x.sum(0)).lower(jax.ShapeDtypeStruct((16, 4), np.float32, sharding=sharding))
assert collectives(total) == 1
"""


@pytest.mark.parametrize("platform", ["cpu", "H100"])
def test_eight_devices_say_nothing_to_each_other(platform):
    """Models are independent: training and evaluation have no collective, and a sum over the devices has one."""
    if platform != "cpu" and not CUDA_PYTHON.exists():
        pytest.skip("`make gpu-program` makes the environment that compiles for NVIDIA's cards")
    python = sys.executable if platform == "cpu" else str(CUDA_PYTHON)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [python, "-c", EIGHT, platform], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_collectives_are_found():
    line = "  %all-reduce-start.1 = f32[4]{0} all-reduce-start(%x), replica_groups={{0,1}}, to_apply=%add"
    text = "ENTRY %main () -> f32[4] {\n  %x = f32[4]{0} parameter(0)\n" + line + "\n}"
    assert count_collectives(parse(text)) == 1


def test_recorded_programs_have_no_collective_and_say_where_they_come_from():
    content = json.loads(RECORDS.read_text())
    assert content["origin"]["versions"]["jax"] and content["origin"]["date"]
    assert {each["case"] for each in content["programs"]} == set(CASES)
    for each in content["programs"]:
        assert each["training step"]["collectives"] == each["evaluation batch"]["collectives"] == 0
        assert each["training step"]["flops"] > 0 and each["estimated_models_per_gpu_hour"] > 0


@pytest.mark.skipif(can_compile(), reason="here it would compile")
def test_without_the_plugin_the_records_are_shown(tmp_path, capsys):
    path = gpu_program.main(gpu_program.Config(cases=("table", "small_cnn"), out=tmp_path))
    record = check_files(path, "gpu_program")
    assert {each["case"] for each in record["programs"]} == {"table", "small_cnn"}
    printed = capsys.readouterr().out
    assert (
        "Nothing is compiled" in printed
        and "no number below is a measurement" in printed
        and "make gpu-program" in printed
    )
