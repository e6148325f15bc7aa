"""The contenders of `benchmarks.models_per_hour`: they run, they learn, and they train the same networks."""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.models_per_hour import OurTraining
from benchmarks.models_per_hour_summary import GEMM, OURS, SKLEARN, TRAINING, VMAP_STEP, VMAP_TRAINING, Result
from benchmarks.networks import NETWORKS, RATIO, prepare_inputs
from benchmarks.peers_jax import Gemm, StockTrainer, steps_per_second
from benchmarks.peers_sklearn import fit_models
from benchmarks.peers_torch import make_module, make_step, retrain_with_dattri
from benchmarks.workers import Workers
from jaxinfl.models import build_model

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_every_contender_runs(tmp_path):
    # One network with convolutions, for which there are whole calls too, and one perceptron: together they meet every contender.
    networks = ("digits", "table")
    command = [
        sys.executable,
        "-m",
        "benchmarks.models_per_hour",
        "--quick",
        "--networks",
        *networks,
        "--out",
        str(tmp_path),
    ]
    # Nothing is measured here, and most of the time would go into making the programs fast.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    peers = [name for name, package in (("PyTorch", "torch"), ("dattri", "dattri")) if _installed(package)]
    for name in networks:
        record = json.loads((tmp_path / f"models_per_hour_{name}.json").read_text())
        assert record["machine"]["cores"]
        rates = record["median"]
        assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
        expected = [
            TRAINING,
            VMAP_TRAINING,
            VMAP_STEP,
            "plain JAX",
            GEMM,
            *peers,
            *([OURS] if name == "digits" else [SKLEARN]),
        ]
        for prefix in expected:
            assert any(row.startswith(prefix) for row in rates), prefix
        pytorch = [row for row in rates if row.startswith("PyTorch")]
        assert not pytorch or len(pytorch) == (6 if NETWORKS[name].strides else 4)
    summary = json.loads((tmp_path / "models_per_hour.json").read_text())
    assert [record["row"] for record in summary["networks"]] == [OURS, TRAINING, TRAINING]
    assert all(("pytorch" in record["ratios"]) == ("PyTorch" in peers) for record in summary["networks"])


def test_flops_of_a_step():
    """Three times the products of the forward pass, two FLOPs each; counted by hand."""
    by_hand = {
        "digits": 3 * 2 * 64 * 9 * (1 * 16 * 8 * 8 + 16 * 32 * 4 * 4 + 32 * 64 * 2 * 2),
        "cifar": 3 * 2 * 128 * 9 * (3 * 32 * 32 * 32 + 32 * 64 * 16 * 16 + 64 * 128 * 8 * 8),
        "mnist": 3 * 2 * 128 * (784 * 512 + 512 * 256 + 256 * 10),
        "small_mlp": 3 * 2 * 64 * (64 * 128 + 128 * 10),
        "table": 3 * 2 * 64 * (30 * 64 + 64 * 2),
        # Each block: packed queries, keys and values, two products of 4 heads of 16, their mix, and a perceptron of 256.
        "transformer": 3 * 2 * 64 * (2 * 64 * (64 * 192 + 2 * 64 * 4 * 16 + 64 * 64 + 2 * 64 * 256) + 64 * 10),
    }
    assert {name: network.step_flops for name, network in NETWORKS.items()} == by_hand
    assert by_hand["digits"] == 60_162_048 and by_hand["small_mlp"] == 3_637_248
    # 70% of 1437 digits are 1005, in batches of 64 for 10 epochs.
    assert NETWORKS["digits"].steps(1437) == 160
    # 70% of the table's 456 rows are 319, in 5 batches for 20 epochs.
    assert NETWORKS["table"].steps(456) == 100


def test_gemm_counts_its_own_flops():
    gemm = Gemm(10**6, size=50)
    assert gemm.steps == jax.device_count() * 8 * 2 * 50**3 / 10**6
    assert gemm.run().shape == (jax.device_count(), 50, 50)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("digits", "table", "transformer")]


@pytest.mark.parametrize("name", [*SLOW, "small_mlp"])
@pytest.mark.parametrize("contender", ["ours", "plain", "vmap of a step", "vmap of training"])
@pytest.mark.usefixtures("compiled_quickly")
def test_contenders_in_jax_learn(name, contender):
    network = NETWORKS[name].tiny()
    data = network.load()
    if contender == "ours":
        model = build_model(network.module, inputs=network.spec, outputs=network.classes)
        trainer = OurTraining(network, data, model)
    elif contender == "plain":
        trainer = StockTrainer(network, data)
    else:
        looped = 2 if contender == "vmap of training" else None
        trainer = StockTrainer(network, data, models=2, looped=looped)
    trainer.restart()
    losses = [np.asarray(trainer.run()) for _ in range(96 if network.heads and contender != "ours" else 32)]
    assert (losses[0] > 0.1).all() and (losses[-1] < 0.5 * losses[0]).all()
    trainer.restart()
    np.testing.assert_array_equal(trainer.run(), losses[0], err_msg="a measurement begins with new models")


@pytest.mark.parametrize("name", ["cifar", "small_mlp", "table", "transformer"])
@pytest.mark.parametrize("kind", ["contiguous_format", "channels_last", "torch.func"])
# PyTorch's attention under vmap takes one model after another.
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_contenders_in_pytorch_learn(name, kind):
    pytest.importorskip("torch")
    network = NETWORKS[name].tiny()
    data = network.load()
    step = make_step(network, prepare_inputs(data), data.train_targets, kind)
    losses = [float(step()) for _ in range(96 if network.heads else 48)]
    assert losses[0] > 0.65 * np.log(network.classes) and losses[-1] < 0.5


@pytest.mark.parametrize("name", ["cifar", "small_mlp"])
def test_dattri_learns(name):
    pytest.importorskip("dattri")
    network = dataclasses.replace(NETWORKS[name].tiny(), epochs=8)
    data = network.load()
    rate, losses = retrain_with_dattri(network, prepare_inputs(data), data.train_targets, 0.01)
    assert rate > 0 and len(losses) % network.steps(data.num_train) == 0
    assert losses[0] > 1.5 and losses[-1] < 0.5


@pytest.mark.parametrize("name", list(NETWORKS))
def test_pytorch_has_the_same_network(name):
    torch = pytest.importorskip("torch")
    network = NETWORKS[name]
    module = make_module(network)
    model = build_model(network.module, inputs=network.spec, outputs=network.classes)
    assert sum(param.numel() for param in module.parameters()) == model.num_params
    height, width, channels = network.input_shape if network.strides else (1, 1, math.prod(network.input_shape))
    shape = (2, channels, height, width) if network.strides else (2, channels)
    inputs = torch.zeros(shape, dtype=torch.int64 if network.tokens else torch.float32)
    assert module(inputs).shape == (2, network.classes)


@pytest.mark.parametrize("name", ["mnist", "small_mlp", "table"])
def test_scikit_learn_has_the_same_network_and_learns(name):
    network = dataclasses.replace(NETWORKS[name].tiny(), epochs=8)
    data = network.load()
    rate, fitted = fit_models(network, prepare_inputs(data), data.train_targets, 0.0)
    assert rate > 0 and fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]
    # Of two classes scikit-learn has one output.
    sizes = (math.prod(network.input_shape), *network.widths, 1 if network.classes == 2 else network.classes)
    assert [kernel.shape for kernel in fitted.coefs_] == list(itertools.pairwise(sizes))
    assert fitted.n_iter_ == network.epochs and fitted.t_ == network.epochs * int(RATIO * data.num_train)


def test_a_failing_worker_is_noticed():
    network = NETWORKS["small_mlp"].tiny()
    data = network.load()
    workers = Workers(processes=1, threads=1)
    try:
        workers.load(network, prepare_inputs(data), data.train_targets)
        assert workers.steps_per_second("scikit-learn", 0.01) > 0
        with pytest.raises(RuntimeError, match="worker of the benchmark failed"):
            workers.steps_per_second("no_such_format", 0.01)
    finally:
        workers.close()


def test_a_diverged_contender_is_noticed():
    class Diverged:
        steps = 1.0

        def restart(self):
            pass

        def run(self):
            return jnp.float32(np.nan)

    with pytest.raises(FloatingPointError, match="Diverged has diverged"):
        steps_per_second(Diverged(), 0.01)()


def test_ratios_are_to_the_best_pytorch():
    rates = {TRAINING: 60.0, f"{VMAP_TRAINING}, 8 models": 2.0, f"{VMAP_STEP}, 8 models": 6.0, GEMM: 80.0}
    result = Result(NETWORKS["digits"], 160, rates)
    assert result.best_pytorch is None and not {"pytorch", "torch_func", "sklearn"} & set(result.ratios(TRAINING))
    others = {"PyTorch, a": 20.0, "PyTorch, b": 30.0, "PyTorch, torch.func, a": 25.0, "PyTorch, torch.func, b": 40.0}
    result = Result(NETWORKS["digits"], 160, rates | others | {"scikit-learn, a": 5.0})
    assert result.best_pytorch == "PyTorch, b"
    assert result.ratios(TRAINING) == {
        "pytorch": 2,
        "torch_func": 1.5,
        "sklearn": 12,
        "vmap": 30,
        "vmap_step": 10,
        "gemm": 0.75,
    }
    assert result.models_per_hour(TRAINING) == 3600 * 60 / 160
    assert result.gflops(GEMM) == 80 * 60_162_048 / 1e9


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
