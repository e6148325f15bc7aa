"""Pilot, answer, outcome: end to end, and on made-up runs."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

import jaxinfl
from experiments.command_line import Mistake
from experiments.how_many_models import EXPERIMENT, PRESETS, check, choose_number, describe_answer, try_pilots
from experiments.how_many_models_report import Findings, Trial, answer_of_pilot, errors_of, find_answer, outcome
from experiments.planner_simulations import draw_run, make_world
from jaxinfl.influence import IOUCurve
from jaxinfl.statistics.model_plan import Band, ModelPlan, Verdict
from tests.small_experiments import check_end_to_end


@pytest.fixture
def hasty(monkeypatch):
    """A rough distribution is found soon, and is enough to go through everything."""
    monkeypatch.setattr("jaxinfl.statistics.planner._STEPS", 12)
    monkeypatch.setattr("jaxinfl.statistics.planner._STEPS_AGAIN", 6)
    monkeypatch.setattr("jaxinfl.statistics.pilot_counts._STEPS", 12)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_end_to_end(tmp_path, monkeypatch, capsys):
    results = check_end_to_end(
        EXPERIMENT.main, PRESETS["tiny"], tmp_path, monkeypatch, capsys, figures={"plan"}, runs={"pilot", "more"}
    )
    assert results["plan"]["pilot_models"] == 50 and results["plan"]["num_models"] == [100]
    assert results["test_accuracy"]["n"] in range(100, 113) and results["seconds_per_model"] > 0
    assert {"25", "50"} <= set(results["measured"]) and results["pilots"] == {}
    pilot, more = (jaxinfl.Ensemble.open(tmp_path / "results" / name) for name in ("pilot", "more"))
    # The second run goes on with the list of subsets and keys.
    drawn = jaxinfl.draw_subsets(50 + more.num_models, pilot.masks.shape[1], 0.7, 0)
    assert (np.concatenate([pilot.masks, more.masks]) == drawn).all()
    keys = np.concatenate([pilot.key_data, more.key_data])
    assert len(np.unique(keys.reshape(len(keys), -1), axis=0)) == len(keys)


def planned(verdict="answered", needed=640, iou=0.5, width=0.1, num_pairs=9.0):
    """A plan that predicts one IOU everywhere."""
    thresholds, sizes = np.array([0.1, 0.2, 0.3, 0.4]), np.array([400, 800])
    curve = Band(*(np.full((2, 4), value) for value in (iou, iou - width, iou + width)))
    steps = np.array([100.0, 200.0, 400.0, 800.0])
    path = Band(*(np.full(4, value) for value in (iou, iou - width, iou + width)))
    return ModelPlan(
        verdict, "the text.", needed, (510, 830), sizes, thresholds, curve, np.full(4, num_pairs), steps, path, 58.0, 200,
        0.7, 0.2, 0.9,
    )  # fmt: skip


def curve(value, sizes=(400, 640, 800)):
    """A measured IOU that is the same everywhere; the last threshold is the plan's own."""
    values = np.full((len(sizes), 3, 5), value) + np.array([-0.01, 0.0, 0.01])[None, :, None]
    return IOUCurve(np.array([0.1, 0.2, 0.3, 0.4, 0.2]), np.array(sizes), values, 50)


def test_words():
    assert (
        describe_answer(planned(), 0.6)
        == "the text. That is 440 more models than the pilot's, about 4 min 24 s on this machine."
    )
    assert describe_answer(planned(), None) == "the text. That is 440 more models than the pilot's."
    assert describe_answer(planned(needed=150), 1.0) == "the text. The pilot has them."
    assert describe_answer(planned("few pairs", None), 1.0) == "the text."


def test_how_many_are_trained():
    config = PRESETS["digits"]
    assert choose_number(config, planned()) == 1280
    assert choose_number(config, planned(needed=3000)) == 4000
    assert choose_number(config, planned(needed=120)) == 400
    assert choose_number(config, planned("more models", None)) == 4000
    assert choose_number(dataclasses.replace(config, pilots=10), planned()) == 4000


def test_errors_are_those_between_influence_0_1_and_0_3():
    trials = [Trial(planned(iou=0.5), curve(0.45)), Trial(planned(iou=0.3), curve(0.45))]
    found = errors_of(trials, 0)
    np.testing.assert_allclose(found.absolute, [0.05, 0.15])
    np.testing.assert_allclose(found.of_mean, [0.05, -0.15])
    np.testing.assert_allclose(found.inside, [1, 0])
    nothing = errors_of([Trial(planned(iou=np.nan), curve(0.45))], 0)
    assert np.isnan(nothing.absolute).all()


def test_section_and_figures_of_many_pilots(toy):
    trials = {"trained": [Trial(planned(), curve(0.45))] * 2, "twins": [Trial(planned(iou=np.nan), curve(0.9))] * 2}
    findings = Findings(planned(), curve(0.45), 0.1, trials, np.array([0.8, 0.9]))
    found = outcome(findings, toy, "mlp")
    assert set(found.figures) == {"plan", "pilots"}
    assert found.section.finding.answer == (
        "For two influence estimates to agree (IOU 0.7 at influence 0.2), a pilot of 200 models asks for 640 models each, and so "
        "many measure 0.45 ± 0.01."
    )
    assert found.section.finding.evidence == [
        "The 90% interval of the pilot's number is 510 to 830 models for each of two estimates.",
        "Estimates from 800 models, the most that were compared, measure IOU 0.45 ± 0.01 at influence 0.2.",
        (
            "Over 2 disjoint pilots, predicted IOUs between influence 0.1 and 0.3 are off by 0.050, and 100% of the intervals hold what "
            "is measured."
        ),
    ]
    assert [row[-1] for row in found.section.tables[1].rows] == ["2 of 2", "2 of 2", "0 of 2", "0 of 2"]
    assert found.results["pilots"]["trained"][400]["inside"] == {"mean": 1.0, "std": 0.0, "n": 2}
    left, right = found.figures["plan"].axes
    assert [line.get_text() for line in left.get_legend().get_texts()] == ["400", "800"]
    assert right.get_title() == "At influence 0.2"
    few = dataclasses.replace(findings, measured=curve(0.45, (100, 200)))
    assert answer_of_pilot(few).endswith("asks for 640 models each, more than were trained.")
    largest = dataclasses.replace(findings, measured=curve(0.45, (400, 640)), trials={"twins": trials["twins"]})
    assert find_answer(largest).evidence[1:] == [
        "None of 2 disjoint pilots predicts an IOU between influence 0.1 and 0.3."
    ]


@pytest.mark.parametrize("verdict", [each for each in get_args(Verdict) if each != "answered"])
def test_a_pilot_without_an_answer_says_why(verdict):
    """Every verdict has words, and nothing is said of an IOU that no pair has."""
    told = dataclasses.replace(planned(verdict, None), interval=(None, None))
    said = find_answer(Findings(told, curve(np.nan), 0.1, {}, np.array([0.8, 0.9])))
    assert said.evidence == []
    if verdict == "more models":
        assert said.answer.endswith("a pilot of 200 models asks for more than 800 models each.")
    else:
        assert said.answer.startswith(
            "A pilot of 200 models cannot tell how many models make influence estimates agree: "
        )


@pytest.mark.usefixtures("hasty")
def test_a_pilot_is_tried_on_the_models_outside_of_it(monkeypatch):
    monkeypatch.setattr("experiments.how_many_models.KINDS", ())
    config = dataclasses.replace(PRESETS["tiny"], pilot=50, pilots=2, resamples=2, min_memorization=0.2)
    pool = draw_run(make_world("twins", 0, 60, 30), 250, 0)
    (trials,) = try_pilots(config, pool).values()
    inside = jaxinfl.plan(tuple(array[50:100] for array in pool), doublings=1, repeats=2, min_memorization=0.2)
    assert trials[1].plan.text == inside.text and (trials[1].plan.curve.iou == inside.curve.iou).all()
    assert list(trials[0].measured.num_models) == [25, 50, 100] and trials[0].measured.thresholds[-1] == 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pilot": 20}, "--pilot is 20; it takes 50 models or more"),
        ({"max_models": 90}, "--max-models is 90; to compare two estimates takes twice the pilot, 100"),
        ({"threshold": 1.0}, "--threshold is 1.0"),
        ({"target_iou": 0.0}, "--target-iou is 0.0"),
        ({"doublings": 0}, "--doublings is 0; it takes a whole number from 1 up"),
        ({"resamples": 1}, "--resamples is 1"),
        ({"pilots": 3}, "--max-models is 112; 3 disjoint pilots"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(PRESETS["tiny"], **change))
