"""Equation 1, end to end and on made-up models."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.command_line import Mistake
from experiments.leave_one_out import (
    EXPERIMENT,
    PRESETS,
    check,
    choose,
    estimate_example,
    requests,
    screen_memorization,
)
from experiments.leave_one_out_report import Findings, find_answer, numbers, outcome
from jaxinfl import Ensemble, Recipe, memorization, models_needed
from jaxinfl.statistics import newcombe_interval, newcombe_paired_interval
from jaxinfl.training.run import TooManyDiverged
from tests.conftest import make_data
from tests.small_experiments import check_end_to_end

TINY = PRESETS["tiny"]


def test_end_to_end(tmp_path, monkeypatch, capsys, digits):
    runs = {"screening", "everything", "without"}
    results = check_end_to_end(EXPERIMENT.main, TINY, tmp_path, monkeypatch, capsys, figures={"influence"}, runs=runs)
    opened = {name: Ensemble.open(tmp_path / "results" / name) for name in runs}
    screening = opened["screening"]
    memorized_most = np.argsort(-np.nan_to_num(memorization(screening.masks, screening.train_correct), nan=-2))[:2]
    values = memorization(screening.masks, screening.train_correct)[memorized_most]
    assert [example["memorization_by_subsets"] for example in results["examples"]] == pytest.approx(values.tolist())

    everything, without = opened["everything"], opened["without"]
    for k, example in enumerate(results["examples"]):
        rows = slice(6 * k, 6 * k + 6)
        index = example["train_index"]
        assert (np.flatnonzero(~without.masks[6 * k]) == index).all() and example["n"] == 6
        p, q = everything.test_correct.mean(axis=0), without.test_correct[rows].mean(axis=0)
        np.testing.assert_allclose(example["test"]["influence"], p - q)
        own = everything.train_correct[:, index].mean() - without.train_correct[rows, index].mean()
        assert example["itself"]["influence"] == pytest.approx(own)
    assert (without.key_data[:6] == everything.key_data).all() and (without.key_data[6:] == everything.key_data).all()

    # Another experiment may be told by this one's models what to leave out.
    config = dataclasses.replace(TINY, screened_by=tmp_path / "results" / "screening", num_examples=1, paired=False)
    asked = requests(config, digits)
    assert [request.name for request in asked] == ["everything", "without"]
    chosen = choose(config, digits, screen_memorization(config, digits, {}))
    assert chosen.tolist() == [results["examples"][0]["train_index"]]
    with pytest.raises(Mistake, match="was trained on other data than toy"):
        screen_memorization(config, make_data(), {})


def test_named_examples(tmp_path):
    config = dataclasses.replace(TINY, examples=(7, 3), num_models=3, paired=False, out=tmp_path / "out")
    EXPERIMENT.main(config)
    assert not (tmp_path / "out" / "screening").exists()
    assert Ensemble.open(tmp_path / "out" / "without").masks.argmin(axis=1).tolist() == [7] * 3 + [3] * 3
    section = json.loads((tmp_path / "out" / "results.json").read_text())["section"]
    left_out = [row[0] for row in section["tables"][0]["rows"] if row[0].endswith(", on itself")]
    assert [name.split(":")[0] for name in left_out] == ["train 7", "train 3"]
    assert len(section["finding"]["evidence"]) == 2  # nothing is known of random subsets


def example(config=TINY, memorized_most=None):
    """100 models; itself: right with it 90, without 20; test examples: no difference, always right, and 60 against 50."""
    rng = np.random.default_rng(0)
    with_it, without_it = np.zeros((100, 4), bool), np.zeros((100, 4), bool)
    for column, (p, q) in enumerate([(90, 20), (70, 70), (100, 100), (60, 50)]):
        with_it[rng.permutation(100)[:p], column] = True
        without_it[rng.permutation(100)[:q], column] = True
    return with_it, without_it, estimate_example(config, 5, with_it, without_it, memorized_most)


@pytest.mark.parametrize("paired", [True, False])
def test_estimates_by_hand(paired):
    config = dataclasses.replace(TINY, paired=paired)
    with_it, without_it, found = example(config)
    np.testing.assert_allclose(found.influence, [0.7, 0, 0, 0.1])
    if paired:
        own, others = (newcombe_paired_interval(with_it, without_it, level) for level in (0.95, 1 - 0.05 / 3))
    else:
        share, other, number = with_it.mean(axis=0), without_it.mean(axis=0), np.full(4, 100.0)
        own, others = (newcombe_interval(share, number, other, number, level) for level in (0.95, 1 - 0.05 / 3))
    np.testing.assert_allclose(found.low, [own.low[0], *others.low[1:]])
    np.testing.assert_allclose(found.high, [own.high[0], *others.high[1:]])
    assert found.certain.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(found.needed, models_needed(found.p, found.q, TINY.delta))
    assert np.isinf(found.needed[1:3]).all() and found.sufficed.tolist() == [True, False, False, False]
    assert found.select_most_affected(2).tolist() == [0, 3] and found.select_most_affected(1).tolist() == [0, 3]


def findings(*examples):
    return Findings(examples, num_models=100, paired=True, shown=2, delta=0.05)


def test_words_follow_from_the_numbers():
    data = make_data(num_test=3)
    said = find_answer(findings(example()[2]), data)
    assert said.answer == (
        "Training on the named example adds +0.70 to the probability of being right on it, beyond doubt for 1 of 1 (95% interval)."
    )
    assert said.evidence == [
        "By Section 4.3, 100 models with and without it are enough for 1 of 1 of these influences.",
        "On test examples, 0 of 3 influences are beyond doubt, 0 of them with enough models by Section 4.3.",
    ]
    said = find_answer(findings(example(memorized_most=np.full(9, 0.9))[2]), data)
    assert said.evidence[2].endswith("(Equation 2) by -0.20, and is the smaller for all of them.")
    said = find_answer(findings(example(memorized_most=np.full(9, 0.5))[2], example()[2]), data)
    assert said.evidence[2].endswith("that by random subsets (Equation 2) by +0.20.") and "2 of 2 (95%" in said.answer
    assert said.answer.startswith("Training on one of the 2 most memorized examples adds +0.70 to")
    harmful = dataclasses.replace(example()[2], p=np.zeros(4), low=np.full(4, -0.3), high=np.full(4, -0.1))
    said = find_answer(findings(example()[2], harmful), data)
    assert "adds -0.20 to +0.70 to" in said.answer and said.evidence[1].endswith("; the smallest is 0.500.")


def test_what_is_written_and_drawn():
    data = make_data(num_test=3)
    made = outcome(findings(example()[2]), data, "toy_net")
    assert [row[0] for row in made.section.tables[0].rows] == ["train 5: 2, on itself", "... on test 2: 2"]
    axes = made.figures["influence"].axes
    assert [each.get_title() for each in axes] == ["train 5: 2"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["itself", "test 2: 2"]
    written = numbers(findings(example()[2]))["examples"][0]
    assert written["n"] == 100 and written["itself"]["certain"] and len(written["test"]["low"]) == 3


def test_keys_of_unpaired_models_are_their_own(digits):
    asked = requests(dataclasses.replace(TINY, examples=(1, 2), paired=False), digits)
    everything, without = (request.keys for request in asked)
    drawn = np.asarray(jax.random.key_data(without))
    assert len({tuple(key) for key in drawn}) == 12 and len(everything) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_models": 1}, "--num-models is 1; it takes a whole number from 2 up"),
        ({"num_examples": 0}, "--num-examples is 0"),
        ({"shown": 0}, "--shown is 0"),
        ({"delta": 0.5}, "--delta is 0.5; it takes a number between 0 and 0.5"),
        ({"examples": (1,), "screened_by": "somewhere"}, "leave out --screened-by"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(TINY, **change))


def test_examples_outside_the_training_set(digits):
    with pytest.raises(Mistake, match="1437"):
        requests(dataclasses.replace(TINY, examples=(1437,)), digits)


def test_diverged_models_are_a_mistake(tmp_path):
    config = dataclasses.replace(TINY, examples=(0,), recipe=Recipe(epochs=1, learning_rate=1e6), out=tmp_path / "out")
    with pytest.raises(TooManyDiverged, match="6 of 6 finished models diverged"):
        EXPERIMENT.main(config)


def test_too_few_defined():
    values = np.array([np.nan, 0.5, np.nan])
    with pytest.raises(Mistake, match="the memorization of 1 of 40 examples is defined, fewer than --num-examples 2"):
        choose(TINY, make_data(), values)
    assert choose(dataclasses.replace(TINY, num_examples=1), make_data(), values).tolist() == [1]
