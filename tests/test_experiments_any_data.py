"""Experiments on data that are no images: a table with classes, numbers as targets, and tokens."""

import dataclasses
import json

import numpy as np
import pytest

import jaxinfl
from experiments import cifar100_subsets, how_many_models, leave_one_out, uncertainty
from experiments.cifar100_report import THRESHOLDS
from experiments.command_line import Mistake
from experiments.data_kinds import choose_score, describe_data, describe_kind, name_example, read_scores
from jaxinfl.datasets.topics import LENGTH, OTHER, VOCABULARY
from tests.small_experiments import run_again

FIGURE_1 = "experiments.cifar100_subsets"


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        (("--data", "breast_cancer", "--model", "small_mlp"), True),
        pytest.param(("--data", "diabetes", "--min-memorization", "None"), False, marks=pytest.mark.slow),
        pytest.param(("--data", "iris", "--score", "margin"), True, marks=pytest.mark.slow),
        pytest.param(
            (
                "--data",
                "python_topics",
                "--model",
                "tiny_transformer",
                "--train-examples",
                "60",
                "--test-examples",
                "20",
            ),
            True,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_figure_1_of_any_data(options, scores, tmp_path, monkeypatch, capsys):
    """It says what was scaled, and on how many real influences it rests."""
    out = tmp_path / "out"
    status, printed = run_again(monkeypatch, capsys, FIGURE_1, "--preset", "tiny", *options, "--out", str(out))
    assert status == 0, printed
    assert ("scaling inputs" in printed) == ("python_topics" not in options)
    assert "above 0 at a false discovery rate of 5%" in printed
    results = json.loads((out / "results.json").read_text())["results"]
    assert ("test_accuracy" in results) == scores and ("test_loss" in results) != scores
    assert bool(results["appendix_d"]["two_estimates"]) == scores
    assert 0 <= results["discovered_pairs"]


@pytest.mark.slow
def test_tokens_of_a_file(tmp_path, monkeypatch, capsys):
    """The next token, from an .npz file that says so: the loss is compared, with its sign turned."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 7, (70, 9))
    np.savez(
        tmp_path / "t.npz",
        x_train=tokens[:50, :-1],
        y_train=tokens[:50, 1:],
        x_test=tokens[50:, :-1],
        y_test=tokens[50:, 1:],
    )
    options = (
        "--preset",
        "tiny",
        "--data",
        str(tmp_path / "t.npz"),
        "--task",
        "next_token",
        "--model",
        "tiny_transformer",
    )
    status, printed = run_again(monkeypatch, capsys, FIGURE_1, *options, "--out", str(tmp_path / "out"))
    assert status == 0, printed
    assert "by negative losses" in printed and "with a mean loss of" in printed


def test_scores_of_which_larger_is_better():
    data = jaxinfl.load_dataset("diabetes")
    assert choose_score(None, data) == "loss" and choose_score(None, jaxinfl.load_dataset("iris")) == "correct"
    with pytest.raises(Mistake, match="--score is 'correct'; the task of diabetes, 'regression', has the scores loss,"):
        choose_score("correct", data)
    masks = np.random.default_rng(0).random((4, 3)) < 0.5
    loss = np.arange(12, dtype=np.float32).reshape(4, 3)
    runs = jaxinfl.Ensemble.from_scores(masks, {"loss": loss}, {"loss": loss})
    np.testing.assert_array_equal(read_scores(runs, "loss"), [-loss, -loss])


def test_a_score_that_is_not_there_is_refused_before_the_training(tmp_path, monkeypatch, capsys):
    options = ("--preset", "tiny", "--data", "diabetes", "--score", "correct", "--out", str(tmp_path / "out"))
    status, printed = run_again(monkeypatch, capsys, FIGURE_1, *options)
    assert status == 2 and "--score is 'correct'; the task of diabetes" in printed and not (tmp_path / "out").exists()


def test_thresholds_in_the_unit_of_the_score():
    """40 of them, of which the last one is near the largest influence."""
    rng = np.random.default_rng(0)
    masks, score = rng.random((30, 8)) < 0.5, 100 * rng.normal(size=(30, 5)).astype(np.float32)
    limits = cifar100_subsets._thresholds(jaxinfl.pack(masks, score, masks))
    largest = jaxinfl.influence(masks, score).max()
    assert len(limits) == 40 and 0.95 * largest < limits[-1] < 1.05 * largest
    np.testing.assert_array_equal(cifar100_subsets._thresholds(jaxinfl.pack(masks, score > 0, masks)), THRESHOLDS)
    with pytest.raises(ValueError, match="no pair has an influence above 0"):
        cifar100_subsets._thresholds(jaxinfl.pack(masks, np.full_like(score, 7.0), masks))


def test_words_for_data_and_examples():
    table, numbers, text = map(jaxinfl.load_dataset, ("breast_cancer", "diabetes", "python_topics"))
    assert describe_data(table) == "data       breast_cancer: 456 train, 113 test, 2 classes, 30 numbers"
    assert describe_data(numbers).endswith("task regression, 10 numbers")
    assert describe_kind(text) == "examples of 32 tokens of 500"
    assert name_example(table, "train", 0).startswith("train 0: ") and name_example(numbers, "test", 1) == (
        f"test 1: {numbers.test_targets[1]:.4g}"
    )


def test_pieces_of_pythons_help():
    data = jaxinfl.load_dataset("python_topics")
    assert data.num_classes == 12 and data.categories == {"": VOCABULARY} and data.train_inputs.shape[1] == LENGTH
    assert data.category_names[""][0] == OTHER and data.fingerprint == jaxinfl.load_dataset("python_topics").fingerprint
    shares = [np.bincount(targets) / len(targets) for targets in (data.train_targets, data.test_targets)]
    np.testing.assert_allclose(*shares, atol=0.02)
    # Words in their order, as the help has them.
    from pydoc_data.topics import topics

    said = data.spell("", data.train_inputs[0]).split()
    words = set(jaxinfl.datasets.topics._WORD.findall(topics[data.class_names[data.train_targets[0]]].lower()))
    assert set(said) - {OTHER} <= words
    with pytest.raises(ValueError, match=r"image_size is 8 .int., but python_topics holds no images"):
        jaxinfl.load_dataset("python_topics", image_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("module", [how_many_models, leave_one_out, uncertainty])
def test_other_experiments_on_a_table(module, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.outcome.save_figure", lambda figure, folder, name: [folder / name])
    config = dataclasses.replace(module.PRESETS["tiny"], data="breast_cancer", model="mlp", out=tmp_path / "out")
    module.EXPERIMENT.main(config)
    assert (tmp_path / "out" / "results.json").exists()
