"""The report of a card's rates, on the processor of this machine; and the launches that it cannot see, read from a plan."""

import dataclasses
import json

import pytest

from benchmarks import gpu_report, gpu_rules
from benchmarks.cards import CARDS
from benchmarks.gpu_compile import CASES
from benchmarks.gpu_program import read_records
from benchmarks.gpu_report import Config, estimate_of, made_up_data
from benchmarks.graphs import Launches, count_launches, read_launches
from jaxinfl.training.programs import Execution
from tests.test_benchmarks import check_files


def test_report_of_this_machine(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = Config(minutes=0.01, cases=("table", "small_mlp"), out=tmp_path)
    record = check_files(gpu_report.main(config), "gpu_report")
    printed = capsys.readouterr().out
    assert "JAX finds no graphics card here" in printed and "pip install 'jaxinfl[cuda12]'" in printed
    (table,) = record["networks"]
    assert table["case"] == "table" and table["estimated_seconds"] is None
    steps = CASES["table"].steps
    assert table["models_per_hour_without_evaluation"] == pytest.approx(
        3600 / steps / table["seconds_per_step_and_model"]
    )
    # The minutes were over when the first network was measured.
    assert record["left_out"] == ["small_mlp is not measured: the 0.01 minutes are over. Raise --minutes."]
    assert record["line"] in printed.replace("\n", " ") and "a step of one model: table" in record["line"]


@pytest.mark.parametrize("name", CASES)
def test_made_up_data_have_the_shapes_of_the_case(name):
    case = CASES[name]
    data = made_up_data(case)
    assert data.are_images == case.are_images and data.train_inputs.shape[1:] == case.shape
    assert data.num_classes == case.outputs and case.recipe.batch_size < data.num_train <= case.num_train
    assert data.train_inputs.nbytes < 2**29


def test_estimates_are_those_of_the_same_card_and_way():
    record = next(each for each in read_records() if each["case"] == "small_cnn" and each["card"] == "H100")
    way = Execution("gpu", num_devices=1, lanes=1, width=record["width"], kernels=record["kernels"])

    @dataclasses.dataclass
    class Chosen:
        execution: Execution

    def estimate(case, way, kind):
        return estimate_of(CASES[case], Chosen(way), kind)

    seconds = record["training step"]["estimated_seconds_per_model"]
    assert estimate("small_cnn", way, CARDS["H100"].full_name) == seconds
    assert estimate("small_cnn", way, CARDS["A100"].full_name) not in (None, seconds)
    assert estimate("small_cnn", way, "another card") is None
    assert estimate("small_cnn", way.change(77, "gemm", 1), CARDS["H100"].full_name) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"minutes": -1.0}, "--minutes is -1.0; it takes"), ({"cases": ("resnet",)}, "--cases is 'resnet'; it takes")],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        gpu_report.main(Config(**options))


PLAN = """\
000: kCommandBuffer [source       | next=003 (1)]
    001: kCustomKernel [source       | sink        ] start grid: [8, 1, 1]
002: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    003: kCustomKernel [source | sink] gemm_of_the_condition grid: [1, 1, 1]
  body:
    000: kCommandBuffer [source       | next=015 (1)]
        004: kCustomKernel [source       | next=010 (2)] order grid: [1, 1, 1]
        005: kCustomKernel [source       | next=010 (2)] sort grid: [1, 1, 1]
        006: kCustomKernel [source       | next=010 (2)] gather grid: [1, 1, 1]
    007: kWhile         [prev=000 (1) | next=044 (1)]
condition:
        008: kCustomKernel [source | sink] compare grid: [1, 1, 1]
      body:
        000: kCommandBuffer [source       | next=022 (1)]
            009: kCustomKernel [source | sink] gemm_fusion_dot_1 grid: [1, 1, 1]
            010: kCopy         [source | sink] kCopy
        011: kConvolution   [prev=000 (1) | next=000 (1) ] kConvolution
        000: kCommandBuffer [source       | next=022 (1)]
            012: kCustomKernel [source | sink] update grid: [1, 1, 1]
    013: kCustomKernel  [prev=015 (1) | sink        ] loss grid: [1, 1, 1]
000: kCommandBuffer [prev=006 (1) | sink        ]
    014: kCustomKernel [source | sink] end grid: [1, 1, 1]
"""


def test_launches_of_a_plan_by_hand():
    assert count_launches(PLAN) == Launches(graphs=2, inside=3, outside=1)
    # With two parts a batch, the step is the loop around the one with the products.
    assert count_launches(PLAN, inner_runs=2) == Launches(graphs=1 + 2 * 2, inside=3 + 2 * 3, outside=1 + 2 * 1)


def test_a_plan_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="XLA dumped no plan"):
        read_launches(tmp_path)


def test_recorded_launches_are_the_kernels():
    """What the plan launches are the kernels of the program, but for copies that the plan adds or makes of kernels."""
    for each in read_records():
        step = each["training step"]
        launched = step["kernels_in_graphs"] + step["kernels_outside_graphs"]
        assert abs(launched - step["kernels"]) <= max(10, 0.1 * step["kernels"]), each
        assert step["kernels_outside_graphs"] >= step["library_convolutions"] and json.dumps(step)


def test_rules_of_this_machine(tmp_path, capsys):
    """Every change leaves the bits of a model alone, and one that a model may see does not."""
    path = gpu_rules.main(gpu_rules.Config(cases=("small_mlp",), out=tmp_path))
    (network,) = json.loads(path.read_text())["networks"]
    assert network["changes"] == dict.fromkeys(gpu_rules.CHECKS, "the same bits")
    assert capsys.readouterr().out.count("the same bits") == len(gpu_rules.CHECKS)
    trained = gpu_rules.Trained(CASES["small_mlp"], None)
    trained.masks[:, 0] ^= True
    assert gpu_rules._change(trained.first, trained.margins()) > 0
