"""The title question asked of several kinds of data: its pieces against what is known, and the whole on a small scale."""

import dataclasses
import json

import numpy as np
import pytest

import jaxinfl
from experiments import title_question as question
from experiments import title_question_report as report
from experiments.command_line import Mistake
from experiments.estimator_comparison import Scores
from experiments.title_question import KINDS, PRESETS, SETTINGS, check, models_for_one_pair, read_scores, settings
from jaxinfl import Ensemble, plan
from jaxinfl.influence import IOUCurve

TINY = PRESETS["tiny"]


@pytest.mark.slow
def test_end_to_end(tmp_path, capsys):
    """Classes and a regression, from one command; the second time nothing is trained."""
    out = tmp_path / "out"
    config = dataclasses.replace(TINY, out=out)
    found = question.run(config)
    printed = " ".join(capsys.readouterr().out.split())
    written = json.loads((out / "results.json").read_text())
    assert set(found) == {"digits", "diabetes"} == set(written["results"])
    assert {path.name for path in out.glob("curves.*")} == {"curves.png", "curves.svg"}
    assert len(written["section"]["tables"]) == 3 and "no such score" in printed
    tables = (out / "tables.md").read_text()
    assert tables.count("\n| --- |") == 3 and "| diabetes | " in tables
    for row in found.values():
        asked = row["influences"]["0.1"]
        assert set(asked["pilots"]) == {"50"} and asked["pairs"] > 0 and row["num_models"] == 112
        assert list(asked["measured"]) == ["25", "50", "56"] and list(row["margins"]["measured"]) == ["25", "50", "56"]
    assert set(found["digits"]["shares"]) == set(report.ESTIMATORS)
    assert set(found["diabetes"]["shares"]) == set(report.ESTIMATORS) - {"probability difference"}
    assert question.run(dataclasses.replace(config, kinds=("digits",))) == {"digits": found["digits"]}
    assert "read from" in capsys.readouterr().out


def test_a_cost_trains_nothing(tmp_path, capsys):
    assert question.run(dataclasses.replace(TINY, kinds=("digits",), cost=True, out=tmp_path / "out")) == {}
    assert "Nothing was trained" in capsys.readouterr().out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ()}, "--kinds is empty"),
        ({"pilots": ()}, "--pilots is"),
        ({"pilots": (49,)}, "50 or more"),
        ({"pilots": (200, 100)}, "rising"),
        ({"num_models": 99}, "takes twice the largest pilot, 100 or more"),
        ({"num_models": None, "kinds": ("text",), "pilots": (1500,)}, "2400 models are trained"),
        ({"thresholds": ()}, "--thresholds"),
        ({"thresholds": (0.2, 0.1)}, "rising"),
        ({"thresholds": (0.0, 0.1)}, "between 0 and 1"),
        ({"target_iou": 1.0}, "--target-iou"),
        ({"target_iou": float("nan")}, "--target-iou"),
        ({"strongest": 0}, "--strongest"),
        ({"repeats": 1}, "--repeats"),
    ],
)
def test_mistakes_are_found_before_the_training(changes, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(TINY, **changes))


def test_presets_are_accepted():
    for name, config in PRESETS.items():
        assert config.preset == name
        check(config)


def test_colour_images_are_asked_about_where_they_are_named(capsys):
    assert list(settings(PRESETS["digits"])) == [kind for kind in KINDS if kind != "colour"]
    assert "name some by --colour" in " ".join(capsys.readouterr().out.split())
    found = settings(dataclasses.replace(PRESETS["digits"], colour="cifar10.npz", num_models=1600, seed=3))
    assert list(found) == list(KINDS) and found["colour"].data == "cifar10.npz"
    assert {each.num_models for each in found.values()} == {1600} and {each.seed for each in found.values()} == {3}
    assert SETTINGS["colour"].data == ""


def test_right_in_a_regression_is_being_nearer_than_half_a_deviation():
    data = jaxinfl.load_dataset("diabetes")
    rng = np.random.default_rng(0)
    masks = jaxinfl.draw_subsets(6, data.num_train, seed=0)
    residual = {
        split: rng.normal(0, 60, (6, size)).astype(np.float32)
        for split, size in (("train", data.num_train), ("test", data.num_test))
    }
    runs = Ensemble.from_scores(masks, train={"residual": residual["train"]}, test={"residual": residual["test"]})
    scores = read_scores(runs, data)
    near = np.float32(0.5 * data.train_targets.std())
    np.testing.assert_array_equal(scores.correct, np.abs(residual["test"]) < near)
    np.testing.assert_array_equal(scores.train_correct, np.abs(residual["train"]) < near)
    np.testing.assert_array_equal(scores.correct, scores.margin > 0)
    assert np.isnan(scores.probability).all()


def test_models_for_one_pair_follow_from_the_base_rates_of_the_pairs():
    """One test example is always wrong without training example 0, and half of the time right with it."""
    rng = np.random.default_rng(0)
    masks = rng.random((4000, 3)) < 0.7
    correct = np.stack([masks[:, 0] & (rng.random(4000) < 0.5), np.ones(4000, bool)], axis=1)
    scores = Scores(masks, masks, correct, correct.astype(np.float32), correct.astype(np.float32))
    found = models_for_one_pair(scores, np.arange(3), (0.2, 0.9))
    assert found[0] == jaxinfl.models_for_influence(0.2, 0.0, float(masks.mean()))
    assert np.isnan(found[1])  # no pair has that influence


def curve_of(values, sizes=(100, 200, 400)) -> IOUCurve:
    return IOUCurve(np.array([0.1]), np.array(sizes), np.asarray(values, float)[:, :, None], 10)


def test_the_measured_number_is_where_the_curve_stays_at_the_target():
    low, middle, high = report.needed(curve_of([[0.1, 0.7, 0.2], [0.7, 0.8, 0.4], [0.9, 0.9, 0.6]]), 0, 0.7)
    np.testing.assert_allclose((low, middle, high), (100, 200, np.inf))
    assert np.isnan(report.needed(curve_of(np.full((3, 2), np.nan)), 0, 0.7)).all()


@pytest.mark.parametrize(
    ("verdict", "interval", "number", "held"),
    [
        ("answered", (300, 900), 500, True),
        ("answered", (300, 900), 1000, False),
        ("answered", (300, None), np.inf, True),
        ("answered", (300, 900), np.inf, False),
        ("answered", (25, 900), 10, True),  # the first step stands for anything below
        ("too uncertain", (300, None), 200, False),
        ("more models", (None, None), 1500, False),
        ("more models", (None, None), 1700, True),
    ],
)
def test_an_interval_holds_a_number_or_not(verdict, interval, number, held):
    rng = np.random.default_rng(0)
    masks = rng.random((60, 20)) < 0.7
    pilot = plan((masks, masks, rng.random((60, 9)) < 0.5), repeats=2, doublings=1)
    told = dataclasses.replace(pilot, verdict=verdict, interval=interval, steps=np.array([25.0, 400.0, 1600.0]))
    assert report._holds(told, number) is held


def test_numbers_of_models_have_two_digits():
    assert [report._models(number) for number in (1234.0, 56.0, 3.0, np.inf, np.nan)] == [
        "1200",
        "56",
        "3",
        "not reached",
        "none",
    ]
    assert report._share(None) == "no such score" and report._share(np.inf) == "more than 1"
    assert report._share(0.456) == "0.46"
