"""The commands that people type, end to end: as processes of their own where that matters, else in this one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxinfl
from jaxinfl import native
from jaxinfl.native import library
from tests.conftest import make_data
from tests.small_experiments import ROOT, check_section, check_width, run_again, run_here

EXPERIMENT = "experiments.cifar100_subsets"
TWO_MODELS = """
import sys, jaxinfl
from experiments.cifar100_subsets import PRESETS
from jaxinfl.compilation_cache import use_compilation_cache
use_compilation_cache()
first, config = jaxinfl.Ensemble.open(sys.argv[1]), PRESETS["tiny"]
keys = jaxinfl.ModelKeys.of_data(first.key_data[:2])
data = jaxinfl.load_dataset("digits")
jaxinfl.train_ensemble(
    first.masks[:2], keys, data=data, model=config.model, recipe=config.recipe, run_dir=sys.argv[2]
)
"""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process with other variables in its environment, empty ones left out; its programs compiled in a hurry."""
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | environment
    variables = {name: value for name, value in (os.environ | environment).items() if value}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for what processes keep; not the cache of this test run."""
    folder = tmp_path_factory.mktemp("cache")
    if native.why_unavailable() is None:  # the hand-written kernels need not be compiled again
        kernels = folder / "jaxinfl" / "native"
        kernels.mkdir(parents=True)
        shutil.copy(library._find_or_compile(), kernels)
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory, cache):
    """The demo's own command on a tiny preset, as a process: what it printed, and its options."""
    options = ("--preset", "tiny", "--out", str(tmp_path_factory.mktemp("demo") / "results"))
    done = run("-m", EXPERIMENT, *options, XDG_CACHE_HOME=str(cache), JAX_COMPILATION_CACHE_DIR="")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, options


def test_compiled_programs_are_kept(demo, cache, tmp_path):
    """A second process of any experiment finds the compiled programs, and its models have the same bits."""

    def kept() -> list[str]:
        return sorted(path.name for path in cache.rglob("jit_advance_group*-cache"))

    by_the_first, models = kept(), Path(demo[1][-1]) / "models"
    assert len(by_the_first) == 1
    program = ("-c", TWO_MODELS, str(models), str(tmp_path / "run"))
    done = run(*program, XDG_CACHE_HOME=str(cache), JAX_COMPILATION_CACHE_DIR="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept() == by_the_first
    one, other = (jaxinfl.Ensemble.open(path) for path in (models, tmp_path / "run"))
    assert (one.test_margin[:2] == other.test_margin).all()


def test_figure_1_end_to_end_and_again(demo, monkeypatch, capsys):
    """The second time it trains nothing and says the same."""
    first, options = demo
    out = Path(options[-1])
    for words in (
        "24 x small_mlp",
        "parameters each",
        "models per hour",
        "disk",
        "IOU of two estimates",
        "Finding",
        str(out),
    ):
        assert words in first, first
    assert {path.name for path in out.iterdir()} == {
        "results.json", "figure1.png", "figure1.svg", "figures5_6.png", "figures5_6.svg", "gallery.png", "gallery.svg", "models", "repeated",
        "explorer.html",
    }  # fmt: skip
    assert (out / "figure1.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((out / "results.json").read_text())
    assert results["config"]["preset"] == "tiny" and results["versions"]["jax"]
    numbers = results["results"]
    assert numbers["test_accuracy"]["n"] == 24 and 0.5 < numbers["test_accuracy"]["mean"] <= 1
    assert set(numbers["iou_different_subsets"]) == {"6", "12"} and set(numbers["iou_same_subsets"]) == {"6"}
    for curve in (*numbers["iou_different_subsets"].values(), *numbers["iou_same_subsets"].values()):
        assert len(curve) == len(numbers["thresholds"])
        assert all(set(value) == {"mean", "std", "n"} for value in curve)

    share = numbers["subset_share_of_variance"]
    assert share["low"] is None and "subsets are too few; an interval takes 20" in share["reason"]
    check_width(first)
    check_section(results["section"])
    assert "the subset decides" in results["section"]["finding"]["evidence"][1]

    status, printed = run_again(monkeypatch, capsys, EXPERIMENT, *options)
    assert status == 0 and "compiled in" not in printed and "finished before" in printed
    assert json.loads((out / "results.json").read_text())["results"] == numbers


@pytest.mark.slow
def test_other_data_by_option(tmp_path, monkeypatch, capsys):
    data = make_data(num_train=60, num_test=20, channels=3)
    np.savez(
        tmp_path / "toy.npz",
        x_train=data.train_inputs,
        y_train=data.train_targets,
        x_test=data.test_inputs,
        y_test=data.test_targets,
    )
    status, printed = run_here(
        monkeypatch, capsys, EXPERIMENT, "--preset", "tiny", "--data", str(tmp_path / "toy.npz"),
        "--recipe.crop-padding", "1", "--recipe.flip", "--recipe.normalization", "none", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert status == 0 and "60 train, 20 test, 3 classes" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "digit"], "digits"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--preset", "colour"], "--data is missing"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--sizes", "12", "6"], "--sizes is 12 6; it takes rising numbers"),
        (["--sizes"], "--sizes is empty"),
        (["--seed", "-1"], "--seed is -1"),
        (["--recipe.learning-rate", "1e6"], "models diverged"),
        (["--sizes", "20"], "two disjoint estimates need --num-models 40"),
        (["--num-repeated", "3"], "--same-subset-sizes names 6 models"),
        (["--model", "vgg"], "'vgg' is not registered"),
        (["--recipe.batch-size", "0"], "batch_size is 0"),
        (["--preset", "huge"], "huge"),
    ],
)
def test_mistakes_get_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, options, message):
    preset = [] if "--preset" in options else ["--preset", "tiny"]
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *preset, *options, "--out", str(tmp_path / "out"))
    assert status == 2 and message in printed, printed


def test_a_mistake_ends_a_process_with_one_line(tmp_path):
    done = run("-m", EXPERIMENT, "--preset", "tiny", "--repeats", "0", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "--repeats is 0" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_a_file_in_the_way_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").write_text("mine")
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, "--preset", "tiny", "--out", str(tmp_path / "out"))
    assert status == 2 and "models cannot be written: Not a directory" in printed


def test_another_recipe_in_the_same_directory_is_refused(demo, monkeypatch, capsys):
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *demo[1], "--recipe.epochs", "3")
    assert status == 2 and "differs in recipe (epochs): 2 there, 3 now" in printed


SMALL_SHARDS = f"""
import runpy
from unittest import mock
with mock.patch("jaxinfl.training.run._shard_size", lambda cost: cost.execution.group):
    runpy.run_module("{EXPERIMENT}", run_name="__main__")
"""


@pytest.mark.slow
def test_interrupt_keeps_finished_models(tmp_path, monkeypatch, capsys):
    """Ctrl-C in the middle: a message with the command to go on, finished shards kept, and the same command goes on."""
    out = tmp_path / "out"
    options = ["--preset", "tiny", "--num-models", "1000", "--num-repeated", "6", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL_SHARDS, *options],
        cwd=ROOT,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            begun = time.time()
            # The checksums of a shard come last but one; its status is there from the start.
            while not list(out.glob("models/row_checksum/c/*/0")):
                assert process.poll() is None and time.time() - begun < 600, process.poll()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            printed = process.communicate(timeout=120)[0]
        finally:
            process.kill()
    assert process.returncode == 130, printed
    assert (
        "Traceback" not in printed
        and "The same call goes on from there: " in printed
        and "--num-models 1000" in printed
    )

    finished = jaxinfl.Ensemble.open(out / "models").num_models
    assert 0 < finished < 1000
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *options)
    assert status == 0 and f"({finished} are finished, {1000 - finished} to go)" in printed
