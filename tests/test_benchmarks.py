"""The benchmarks that need no opponent: they run, they write what they say, and what they count is right."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import cluster, influence_kernel, membership, roofline, scaling, startup
from benchmarks.cluster_simulation import Costs, Study, simulate
from benchmarks.compare import report, run_in_turns
from benchmarks.costs import Cost, evaluation_cost, product_bytes, step_cost
from benchmarks.roofline import GPU, SHARES, limit
from jaxinfl import Recipe
from jaxinfl.models import build_model
from jaxinfl.training.programs import EVALUATION_BATCH


def check_files(json_file: Path, name: str) -> dict:
    """Check the files of a benchmark: numbers that say where they come from, and a figure beside them."""
    record = json.loads(json_file.read_text())
    assert json_file.name == f"{name}.json" and record["benchmark"] == name
    assert record["machine"]["cores"] and record["versions"]["jax"] and record["command"] and record["date"]
    assert "git_commit" in record
    assert json_file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    return record


def small_cnn_multiplications(side: int, widths: tuple[int, ...]) -> list[int]:
    """Multiplications of each convolution of small_cnn (strides 1, 2, 2) for one image, and of the head for 10 classes."""
    sides, inputs = (side, side // 2, side // 4), (1, *widths[:-1])
    convolutions = [s * s * 9 * i * o for s, i, o in zip(sides, inputs, widths, strict=True)]
    return [*convolutions, 10 * widths[-1]]


@pytest.fixture(scope="module")
def small_cnn():
    return build_model("small_cnn", inputs=(8, 8, 1), outputs=10)


def test_operations_of_a_step_by_hand(small_cnn):
    """Forward, and twice that backward but for the first layer, whose input needs no gradient."""
    products = small_cnn_multiplications(8, (16, 32, 64))
    by_hand = 2 * 64 * (3 * sum(products) - products[0])
    counted = step_cost(small_cnn, Recipe(batch_size=64), (8, 8, 1))
    # The rest is batch norm, ReLU, the sums over overlapping windows, and the optimizer.
    assert by_hand < counted.flops < 1.06 * by_hand


def test_operations_and_traffic_of_an_evaluation_by_hand(small_cnn):
    counted = evaluation_cost(small_cnn, Recipe(), (8, 8, 1))
    by_hand = 2 * EVALUATION_BATCH * sum(small_cnn_multiplications(8, (16, 32, 64)))
    assert by_hand < counted.flops < 1.06 * by_hand
    # Each layer reads and writes these once; the head reads the channels' means.
    activations = [(64 * 1, 64 * 16), (64 * 16, 16 * 32), (16 * 32, 4 * 64), (64, 10)]
    numbers = EVALUATION_BATCH * sum(map(sum, activations)) + 9 * (16 + 16 * 32 + 32 * 64) + 640
    assert counted.least_bytes == 4 * numbers
    assert counted.least_bytes_bfloat16 == 2 * numbers
    assert counted.fused_bytes > counted.least_bytes


def test_products_in_loops():
    square = jnp.zeros((8, 8), jnp.float32)

    def scanned(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: y @ y, x)

    def unknown(x, passes):
        return jax.lax.fori_loop(0, passes, lambda _, y: y @ y, x)

    assert product_bytes(jax.make_jaxpr(scanned)(square).jaxpr) == 5 * 3 * 256
    with pytest.raises(ValueError, match="while loop"):
        product_bytes(jax.make_jaxpr(unknown)(square, 5).jaxpr)


def test_limit_is_what_takes_longer():
    gpu = GPU("toy", bandwidth=10.0, float32=1.0, tf32=100.0, bfloat16=1000.0)
    cost = Cost(flops=100.0, least_bytes=50.0, least_bytes_bfloat16=25.0, fused_bytes=500.0)
    compute, memory, narrow = (limit(cost, gpu, arithmetic) for arithmetic in ("float32", "tf32", "bfloat16"))
    assert (compute.binds, compute.seconds_per_model) == ("compute", 100.0)
    assert (memory.binds, memory.seconds_per_model) == ("memory", 5.0)
    assert narrow.seconds_per_model == 2.5
    assert memory.gpu_hours["0.3"] == pytest.approx(2000 / 3600 * 5 / 0.3)
    assert memory.gpu_hours_fused_traffic == pytest.approx(2000 / 3600 * 50)


def test_membership_runs_and_agrees_with_the_published_loop(tmp_path):
    record = check_files(membership.main(membership.Config(quick=True, out=tmp_path)), "membership")
    assert record["largest_difference"] < 1e-6 and record["median"]["published loop"] > 0
    assert set(record["measured"]) == {membership.OURS, "LiRA", "LiRA, offline", "RMIA", "published loop"}


def test_roofline_runs(tmp_path):
    record = check_files(roofline.main(roofline.Config(quick=True, out=tmp_path)), "roofline")
    assert [entry["model"] for entry in record["models"]] == ["small_cnn", "small_mlp"]
    for entry in record["models"]:
        assert entry["steps"] == 160
        assert entry["cost_per_model"]["flops"] > 0
        assert len(entry["limits"]) == 3 * len(record["gpus"])
        for part in entry["limits"]:
            hours = list(part["gpu_hours"].values())
            assert len(hours) == len(SHARES) and 0 < hours[0] < hours[1] < hours[2]
    assert record["assumptions"]


@pytest.mark.slow
def test_startup_runs(tmp_path):
    record = check_files(startup.main(startup.Config(quick=True, out=tmp_path)), "startup")
    assert record["targets"] == {"empty caches": 15.0, "filled caches": 4.0}
    for situation in record["targets"]:
        parts = record["median_parts"][situation]
        assert {"import", "data", "hand-written kernels", "XLA compile", "first steps"} < set(parts)
        assert all(seconds >= 0 for seconds in parts.values())
        assert record["median"][situation] == pytest.approx(sum(parts.values()))
    kernels = [record["median_parts"][situation]["hand-written kernels"] for situation in record["targets"]]
    # Where there is no compiler, there is nothing to keep.
    assert kernels[0] < 1 or kernels[1] < kernels[0] / 2


@pytest.mark.slow
def test_scaling_runs(tmp_path):
    record = check_files(scaling.main(scaling.Config(quick=True, out=tmp_path)), "scaling")
    assert set(record["training_seconds_per_model"]) == {"models", "training examples", "devices"}
    assert set(record["kernel_seconds"]) == {"joint_counts", "influence", "iou_curve", "top_pairs"}
    for axes in (record["training_seconds_per_model"], *record["kernel_seconds"].values()):
        for axis, series in axes.items():
            assert len(series) == (1 if axis == "devices" else 2)
            assert all(len(values) == 1 and values[0] > 0 for values in series.values())
    assert set(record["exponents"]["kernels"]["influence"]) == set(scaling.AXES)


def test_the_simulated_pool_accounts_for_all_time():
    """A pool without pre-emption, spread or cost loses what its last round leaves idle, and each cost shows where it belongs."""
    free = Costs(ready=0.0, hand_over=0.0, write_model=0.0, checkpoint_bytes=0.0, bandwidth=1.0)
    calm = Study(models=100, model_seconds=10.0, preempted_every=1e12, spread=0.0)
    spent = simulate(calm, free, 8, 1, 0)
    assert spent.wall == pytest.approx(130) and spent.trained == pytest.approx(1000) and spent.lost == 0
    assert spent.idle == pytest.approx(8 * 130 - 1000) and spent.share_lost == pytest.approx(40 / 1040)
    assert simulate(calm, replace(free, ready=5.0), 8, 1, 0).ready == pytest.approx(40)
    # The writer takes 3 s for each model, and 100 of them are more than what is trained meanwhile.
    assert simulate(calm, replace(free, write_model=3.0), 8, 1, 0).wall == pytest.approx(10 + 300, rel=0.05)
    # A worker that is pre-empted loses half of a shard without checkpoints, and half of an interval with them.
    often = replace(calm, models=4000, preempted_every=500.0, checkpoint_every=1e9)
    lost = [simulate(each, free, 4, 1, 0).lost for each in (often, replace(often, checkpoint_every=2.0))]
    assert lost[0] / 40_000 == pytest.approx(5 / 500, rel=0.25) and lost[1] / lost[0] == pytest.approx(0.2, rel=0.25)


def test_the_study_of_the_issue_stays_below_its_target(tmp_path):
    record = check_files(cluster.main(cluster.Config(simulate=True, quick=True, out=tmp_path)), "cluster")
    spent = record["workers"][str(cluster.AT)]
    lost = 1 - spent["trained"] / sum(value for name, value in spent.items() if name != "wall")
    assert lost <= cluster.TARGET and record["recommended_shard"] == 1


@pytest.mark.slow
def test_the_costs_of_a_pool_are_measured(tmp_path):
    pytest.importorskip("ray")
    measured = check_files(cluster.main(cluster.Config(quick=True, out=tmp_path)), "cluster")["measured"]
    assert all(value >= 0 for value in measured.values()) and measured["ready"] < 120


def test_exponent_of_a_power():
    assert scaling.exponent({size: [2.0 * size**0.75] for size in (8, 16, 32)}) == pytest.approx(0.75)


def test_contenders_take_turns(capsys):
    calls: list[str] = []

    def contender(name: str):
        return lambda: float(calls.append(name) or len(calls))

    contenders = {name: contender(name) for name in ("a", "b")}
    assert run_in_turns(contenders, 2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert calls == ["a", "b"] * 3
    assert run_in_turns(contenders, 1, warm_up=False, brief=True) == {"a": [7.0], "b": [8.0]}


def test_report_writes_numbers_and_bars(tmp_path):
    measured = {"ours": [3.0, 2.0, 4.0], "theirs": [1.0, 1.5, 0.5]}
    path = report("toy", "Toy", "things/s", measured, ours="ours", higher_is_better=True, out=tmp_path)
    record = check_files(path, "toy")
    assert record["measured"] == measured and record["median"] == {"ours": 3.0, "theirs": 1.0}


@pytest.mark.slow
def test_influence_kernel_runs(tmp_path):
    record = check_files(influence_kernel.main(influence_kernel.Config(quick=True, out=tmp_path)), "influence_kernel")
    assert all(value > 0 for value in record["median"].values())
    for task in record["at_scale"].values():
        assert task["seconds"] > 0 and 5e7 < task["peak_bytes"] < 2e9
