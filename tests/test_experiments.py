"""The commands that people type, end to end, as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A home of their own for the compiled programs of these tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_compiled_programs_are_kept(tmp_path, cache):
    """A second process finds them, and its models have the same bits."""
    import jaxinfl

    def start(name: str) -> list[str]:
        out = tmp_path / name
        done = run("experiments.cifar100_subsets", "--preset", "tiny", "--model", "small_cnn", "--out", str(out))
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted(path.name for path in cache.rglob("jit_advance_group*-cache"))

    kept = start("first")
    assert len(kept) == 1
    assert start("second") == kept
    one, other = (jaxinfl.Ensemble.open(tmp_path / name / "models") for name in ("first", "second"))
    assert (one.test_margin == other.test_margin).all()


def test_figure_1_end_to_end_and_again(tmp_path):
    """The demo's own command on a tiny preset; the second time it trains nothing and says the same."""
    out = tmp_path / "results"
    command = ("experiments.cifar100_subsets", "--preset", "tiny", "--out", str(out))
    first = run(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    for words in (
        "24 x small_mlp",
        "parameters each",
        "models per hour",
        "disk",
        "IOU of two estimates",
        "Finding:",
        str(out),
    ):
        assert words in first.stdout, first.stdout
    assert {path.name for path in out.iterdir()} == {
        "results.json", "figure1.png", "figure1.svg", "figures5_6.png", "figures5_6.svg", "gallery.png", "gallery.svg", "models", "repeated",
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
    assert share["low"] <= share["share"] <= share["high"] and "the subset decides" in results["section"]["finding"]

    second = run(*command)
    assert second.returncode == 0 and "compiled in" not in second.stdout
    assert json.loads((out / "results.json").read_text())["results"] == numbers


def test_other_data_by_option(tmp_path):
    import numpy as np

    from tests.conftest import make_data

    data = make_data(num_train=60, num_test=20, channels=3)
    np.savez(
        tmp_path / "toy.npz",
        x_train=data.train_images,
        y_train=data.train_labels,
        x_test=data.test_images,
        y_test=data.test_labels,
    )
    done = run(
        "experiments.cifar100_subsets", "--preset", "tiny", "--data", str(tmp_path / "toy.npz"),
        "--recipe.crop-padding", "1", "--recipe.flip", "--recipe.normalization", "none", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 train, 20 test, 3 classes" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "digit"], "digits"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--preset", "cifar10_12k"], "--data is missing"),
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
def test_mistakes_get_one_line_and_no_traceback(tmp_path, options, message):
    preset = [] if "--preset" in options else ["--preset", "tiny"]
    done = run("experiments.cifar100_subsets", *preset, *options, "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and message in done.stdout + done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "out").write_text("mine")
    done = run("experiments.cifar100_subsets", "--preset", "tiny", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "File exists" in done.stdout and "Traceback" not in done.stderr


def test_another_recipe_in_the_same_directory_is_refused(tmp_path):
    command = ("experiments.cifar100_subsets", "--preset", "tiny", "--out", str(tmp_path / "out"))
    assert run(*command).returncode == 0
    done = run(*command, "--recipe.epochs", "3")
    assert done.returncode == 2 and "differs in recipe (epochs): 2 there, 3 now" in done.stdout


def test_interrupt_keeps_finished_models(tmp_path):
    """Ctrl-C in the middle: a message with the command to go on, finished shards kept, and the same command goes on."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "experiments.cifar100_subsets", "--preset", "tiny", "--out", str(out)]
    command += ["--num-models", "3000", "--num-repeated", "6"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begun = time.time()
    while not list(out.glob("models/status/c/*")):
        assert process.poll() is None and time.time() - begun < 120, process.stdout and process.stdout.read()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130, printed
    assert "Traceback" not in printed and "To go on: " in printed and "--num-models 3000" in printed

    import jaxinfl

    finished = jaxinfl.Ensemble.open(out / "models").num_models
    assert 0 < finished < 3000
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and f"({finished} are finished, {3000 - finished} to go)" in done.stdout
