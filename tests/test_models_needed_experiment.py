"""Figure 3 end to end, and its numbers against what Section 4.3 says."""

import json

import numpy as np
import pytest

from experiments.models_needed_report import find, find_answer, numbers
from tests.small_experiments import check_section, run_again, run_here

EXPERIMENT = "experiments.models_needed"


def test_end_to_end_and_again(tmp_path, monkeypatch, capsys):
    """A tiny preset; the second time it trains nothing and says the same."""
    out = tmp_path / "results"
    command = ("--preset", "tiny", "--out", str(out))
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *command)
    assert status == 0, printed
    for words in (
        "4 x small_mlp",
        "the same, for good",
        "75",
        "Finding An influence of 0.2 takes",
        "The paper: On CIFAR-100",
    ):
        assert words in printed, printed
    assert {path.name for path in out.iterdir()} == {"results.json", "figure3.png", "figure3.svg", "models"}
    results = json.loads((out / "results.json").read_text())
    check_section(results["section"])
    assert results["config"]["preset"] == "tiny" and results["section"]["tables"][0]["rows"][0][1:] == [
        "67",
        "> 100 models",
    ]
    found = results["results"]
    assert found["num_models"] == 4 and found["test_accuracy"]["n"] == 4 and found["p"]["n"] == 360
    assert found["test_accuracy"]["mean"] == pytest.approx(found["p"]["mean"]) and found["p"]["mean"] > 0.5
    assert {round(4 * share) / 4 for share in found["p_of_test_examples"]} == set(found["p_of_test_examples"])

    status, printed = run_again(monkeypatch, capsys, EXPERIMENT, *command)
    assert status == 0 and "compiled in" not in printed and "finished before" in printed
    assert json.loads((out / "results.json").read_text())["results"] == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--delta", "0.5"], "--delta is 0.5; it takes a number between 0 and 0.5"),
        (["--num-models", "0"], "--num-models is 0"),
        (["--grid", "1"], "--grid is 1"),
        (["--curves", "0.9", "1.2"], "--curves is 0.9 1.2"),
        (["--curves"], "--curves is empty"),
        (["--seed", "-1"], "--seed is -1"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--recipe.learning-rate", "1e6"], "models diverged"),
    ],
)
def test_mistakes_get_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, options, message):
    options = ["--preset", "tiny", *options, "--out", str(tmp_path / "out")]
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *options)
    assert status == 2 and message in printed, printed


def test_numbers_say_what_section_4_3_says():
    right = np.repeat([1.0, 0.9, 0.5, 0.0], [80, 10, 6, 4])
    correct = np.arange(20)[:, None] < np.rint(20 * right)
    findings = find(correct, delta=0.05, grid=21, curves=(1.0, 0.9), diverged=0)
    found = numbers(findings)
    assert (found["example"]["first"], found["example"]["for_good"]) == (67, 75)
    # Fewer than 10 models at p from 0.9 to 1 for a wide range of q: up to 0.4 at least.
    assert all(q >= 0.4 for q in found["largest_q_below_p_with_fewer_than_10_models"].values())
    # The more alike, the more models; symmetric.
    assert np.isinf(np.diag(findings.models)).all() and (findings.models == findings.models.T).all()
    assert (np.diff(findings.models[20, :20]) >= 0).all()
    influence, models = findings.curves[1.0]
    assert (np.diff(models) <= 0).all() and models[influence == 0.1] == 29
    assert found["share_with_p_1"] == {"mean": 0.8, "std": pytest.approx(0.402, abs=0.001), "n": 100}
    assert found["share_with_p_0.1_to_0.9"]["mean"] == pytest.approx(0.06)
    over = found["models_by_influence_on_test_examples"]["0.1"]
    assert over["n"] == 96 and over["median"] == 29 and over["max"] > 250
    said = find_answer(findings)
    assert said.answer == (
        "An influence of 0.2 takes 14 models to detect on the median test example, and 67 on the one that takes the most."
    )
    assert said.evidence == [
        "The majority of the test examples has p close to 1: 90.0% of 100 reach 0.9, and 6.0% lie between 0.1 and 0.9.",
        "To tell p = 0.6 from q = 0.4 takes 67 models, or 75 if no larger number may fail.",
        "Each p is a share of 20 models, off by up to 0.11 (standard error).",
    ]


def test_nothing_is_ever_right():
    findings = find(np.zeros((3, 5), bool), delta=0.05, grid=3, curves=(0.5,), diverged=1)
    assert numbers(findings)["models_by_influence_on_test_examples"]["0.2"]["n"] == 0
    said = find_answer(findings)
    assert said.answer == (
        "No number of models can be named: none of the 5 test examples is right often enough to lose 0.2 of its probability."
    )
    assert said.evidence[0].startswith("Only a minority of the test examples has p close to 1: 0.0% of 5")
