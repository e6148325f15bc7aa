"""Answers and evidence of findings where the numbers are extreme: nothing told, nothing reached, NaN, one size alone."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import (
    estimators_report,
    ground_truth_report,
    membership_report,
    planner_simulations,
    published_runs,
    uncertainty_report,
)
from experiments.cifar100_report import THRESHOLDS
from jaxinfl import PairsComparison
from jaxinfl.brittleness import RANDOM
from jaxinfl.influence import IOUCurve
from jaxinfl.privacy import Rate


def attack(auc, tpr=0.1):
    point = SimpleNamespace(tpr=Rate(tpr, np.nan, np.nan))
    return SimpleNamespace(auc=Rate(*auc), tpr=lambda rate: point)


def told(**changes):
    attacks = {"LiRA, one deviation": attack((0.61, 0.6, 0.62)), "one threshold": attack((0.52, 0.51, 0.53), 0.011)}
    auc = {"LiRA": np.array([[np.nan], [0.5], [0.6]]), "RMIA": np.array([[0.595], [0.6], [0.6]])}
    values = {"told": attacks, "auc": auc, "sizes": np.array([4, 16, 64]), "correlation": 0.64}
    return SimpleNamespace(**values | changes)


def test_members_that_can_be_told():
    said = membership_report.find_answer(told())
    assert said.answer == (
        "Members can be told, best by LiRA, one deviation: its area under the curve is 0.610 (0.600 to 0.620), and guessing has 0.5."
    )
    assert said.evidence == [
        "At 1% false alarms LiRA, one deviation tells 10.0% of the members, and one threshold for all examples 1.1%.",
        "Of what 64 models tell beyond chance, RMIA tells nine tenths with 4, and LiRA takes 64.",
        "The rank correlation of an example's risk and its memorization is 0.64, where 1 would be the same order and 0 none.",
    ]


def test_members_that_cannot_be_told():
    nothing = {"LiRA": attack((np.nan,) * 3), "one threshold": attack((0.501, 0.49, 0.51), np.nan)}
    chance = {"LiRA": np.array([[np.nan], [np.nan], [np.nan]]), "RMIA": np.full((3, 1), 0.49)}
    said = membership_report.find_answer(told(told=nothing, auc=chance, correlation=np.nan))
    assert said.answer.startswith(
        "No attack tells members beyond chance: the best is one threshold, its area under the curve is 0.501"
    )
    assert said.evidence == []
    # What is gained by chance is not told of.
    guessed = {"LiRA": attack((0.52, 0.49, 0.55)), "one threshold": attack((0.5, 0.49, 0.51))}
    assert len(membership_report.find_answer(told(told=guessed)).evidence) == 2
    unknown = {name: attack((np.nan,) * 3) for name in nothing}
    assert membership_report.find_answer(told(told=unknown)).answer.startswith(
        "No attack has models to tell members from"
    )


class Compared(SimpleNamespace):
    """Three estimators, of which the published one needs `needed` models and the others `shares` times as many."""

    def interval(self, judgement, measure):
        return np.full(3, self.needed)

    def share(self, judgement, measure):
        return np.full(3, self.shares[judgement.estimator.name])


def compared(needed, first, second):
    names = ("published", "being right, from margins, adjusted and shrunk", "margin difference")
    judged = [SimpleNamespace(estimator=SimpleNamespace(name=name)) for name in names]
    references = SimpleNamespace(num_pairs=57, threshold=0.1, num_models={"reference": 16000})
    shares = dict(zip(names[1:], (first, second), strict=True))
    return Compared(needed=needed, shares=shares, judged=judged, references=references, target=0.7, sizes=(100, 1600))


@pytest.mark.parametrize(
    ("needed", "shares", "words", "halves"),
    [
        (900.0, (0.74, 0.19), "needs 900 models, and 'margin difference' 0.19 times as many.", "enough for 1 of 2"),
        (900.0, (np.inf, np.inf), "needs 900 models, and no other gets there.", "enough for 0 of 2"),
        (np.inf, (np.inf, np.nan), "needs more than 1600 models, and so does every other one.", "enough for 0 of 2"),
        (np.inf, (0.5, 0.6), "adjusted and shrunk' at most 0.50 times as many.", "enough for 1 of 2"),
    ],
)
def test_estimators_that_reach_the_target_or_not(needed, shares, words, halves):
    said = estimators_report.find_answer(compared(needed, *shares))
    assert said.answer.startswith("To agree with its own reference (IOU 0.7), the published estimator needs ")
    assert said.answer.endswith(words) and said.evidence[0].endswith(words) and halves in said.evidence[1]
    assert "from 16000 models" in said.evidence[2] and "(Appendix D)" in said.paper


def attributions(mean, ceiling, flips, random=0.1):
    score = SimpleNamespace(
        mean=mean,
        low=mean - 0.1,
        high=mean + 0.1,
        ceiling=ceiling,
        corrected=mean / ceiling,
        corrected_low=0.4,
        corrected_high=0.6,
    )
    shares = {"margins, 400 models": flips, RANDOM: random}
    flips = SimpleNamespace(
        removals=np.array([5, 40]),
        test_index=np.arange(30),
        names=list(shares),
        share_flipped=lambda name: np.full((2, 3), shares[name]),
    )
    return ground_truth_report.Findings({"margins, 400 models": score}, flips, 100, 5)


def test_attributions_beside_retraining():
    said = ground_truth_report.find_answer(attributions(0.4, 0.8, 0.9))
    assert said.answer == (
        "The attribution that predicts retraining best is 'margins, 400 models', with a linear datamodeling score of 0.40 of at most 0.80."
    )
    assert said.evidence == [
        "Against the true expectations, without the noise of training, that score is 0.50 (0.40 to 0.60), where 1 ranks all subsets right.",
        "Without the 40 examples that 'margins, 400 models' names, 90% of 30 uncertain predictions flip, and 10% without 40 random ones.",
    ]
    assert not said.paper
    said = ground_truth_report.find_answer(attributions(0.4, np.nan, np.nan))
    assert said.answer.endswith("of 0.40 of a ceiling that is not known.") and said.evidence[0].startswith(
        "Its score is 0.40 (0.30 to 0.50)"
    )
    assert said.evidence[1].startswith("None of the 30 least certain predictions counts")
    said = ground_truth_report.find_answer(attributions(np.nan, np.nan, 0.5))
    assert said.answer.startswith("No attribution has a score") and len(said.evidence) == 1


class Found(SimpleNamespace):
    """No discoveries among some tests."""

    def __len__(self):
        return 0


def simulated(coverage, false=0.05):
    return SimpleNamespace(
        coverage={"Newcombe": {"ratio 0.5": np.full((2, 3), coverage)}},
        confidence=0.95,
        rates={"0-1, BH": np.tile([0.05, 9.0], (4, 1)), "floats, BH": np.tile([false, 9.0], (4, 1))},
        fdr=0.1,
        powers={"+0.2": np.array([1.0, 1, 1, 0]), "+0.1": np.array([1.0, 1, 0, 0])},
        power=0.8,
        others={"share": np.full(20, np.nan)},
        real={"bh": Found(num_tests=40)},
        num_models=24,
    )


def test_intervals_and_rates_of_simulations():
    said = uncertainty_report.find_answer(simulated(0.94))
    assert said.answer == (
        "95% intervals cover the true influence in 94.0% of simulated ensembles, and all 2 kinds of tests keep their false discovery "
        "rate of 0.1."
    )
    assert (
        said.evidence[0]
        == "Of ensembles of the planned size 50.0% to 75.0% show the influence, where 80% was asked for."
    )
    assert said.evidence[1].endswith("0 less and 0 more, up to chance; nearly always NaN: 1.") and not said.paper
    assert said.evidence[2].startswith(
        "24 trained models show 0 influences among 40 pairs at a false discovery rate of 0.1"
    )
    said = uncertainty_report.find_answer(simulated(np.nan, 0.3))
    assert said.answer.startswith(
        "No simulated ensemble has enough models for a 95% interval, and 1 of 2 kinds of tests keep"
    )
    assert uncertainty_report.find_exceeded(simulated(0.94, 0.3)) == ["floats, BH"]
    assert (
        uncertainty_report.describe_single_values(simulated(np.nan)) == "No number of models is enough for an interval."
    )
    assert uncertainty_report.describe_single_values(simulated(0.96)).startswith("Of single values of p, 100% have")


def test_pilots_of_simulated_worlds():
    row = {f"{part}_{times}": 2 for part in ("predicted", "held") for times in planner_simulations.TIMES}
    rows = {"twins, influence 0.1": row | {"held_8": 1, "answers": 2, "too_small": 1}}
    shares = {"twins, influence 0.1, 2 times": (1.0, 0.1, 1.0), "twins, influence 0.1, 8 times": (0.5, 0.0, 1.0)}
    said = planner_simulations.find_answer(rows, shares)
    assert "for the IOU, 83.3% hold" in said.answer and said.evidence == [
        "In 1 of 2 cases, a world, an influence and a number of models, at least 90% of the intervals hold it.",
        "The worst case is 'twins, influence 0.1, 8 times', where 50% hold it.",
        "Too small, by more than 0.05 of IOU, is the answer of 1 of 2 pilots that have one.",
    ]
    assert (
        planner_simulations.find_answer(rows, {}).answer == "No pilot predicts an IOU in any of the simulated worlds."
    )


def test_released_pairs_without_a_rank():
    curve = IOUCurve(THRESHOLDS, np.array([20]), np.full((1, 2, THRESHOLDS.size), np.nan), 9)
    fields = dict.fromkeys(PairsComparison._fields, 0) | {"iou": np.nan, "rank_correlation": np.nan, "num_published": 3}
    section = published_runs.describe_section(
        curve, np.zeros(THRESHOLDS.size, int), PairsComparison(**fields), "toy", "in margin"
    )
    assert section.finding.answer.startswith("No pair reaches influence 0.2 in margin in estimates from 20 models")
    assert section.finding.evidence[1] == "Of 3 released pairs 0 are among the 0 of these models."
    assert dataclasses.asdict(section)["finding"]["paper"].endswith("(Section 3, Figure 1).")
