"""Words of Figure 1's report follow from its numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.cifar100_report import (
    HEADLINE,
    THRESHOLDS,
    answer_for_curve,
    discovery_evidence,
    explanation,
    score_evidence,
    seeds_evidence,
)
from experiments.data_kinds import describe_score
from jaxinfl.influence import IOUCurve
from jaxinfl.report import Finding
from jaxinfl.statistics import ShareInterval

SCORES = {"correct", "probability", "margin", "accuracy", "loss", "residual_norm", "top_margin"}


def explained(share, low=np.nan, high=np.nan):
    return explanation(SimpleNamespace(by_right=True, subset_share=ShareInterval(*map(np.array, (share, low, high)))))


def test_figure_1_right_in_one_sentence():
    assert explained(0.2, 0.15, 0.25) == (
        "Why the same subsets help so little: the subset decides 20% (15% to 25%) of the variance of a model's being right on a "
        "test example, and training randomness the other 80%. So two estimates on the same subsets still differ as much as "
        "estimates from 1.2 times as many models on different ones."
    )
    assert "help this much: the subset decides 75%" in explained(0.75, 0.7, 0.8)
    # An unbiased share may come out below 0.
    assert "decides 0% (0% to 3%)" in explained(-0.02, -0.07, 0.03)
    assert explained(1.0, 1.0, 1.0).endswith("still differ in nothing.")
    losses = SimpleNamespace(by_right=False, subset_share=ShareInterval(*map(np.array, (0.2, np.nan, np.nan))))
    assert "the subset decides 20% of the variance of a model's loss on a test example" in explanation(losses)
    assert explained(np.nan) == "" and explanation(SimpleNamespace(subset_share=None)) == ""


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_estimates_on_the_same_subsets_differ_as_the_share_says(share):
    """The variance of their difference is (1 - share) times that of estimates on different subsets."""
    rng = np.random.default_rng(0)
    masks = rng.random((40, 5)) < 0.7

    def estimate(seen, score):
        return np.stack([score[:, row].mean(axis=1) - score[:, ~row].mean(axis=1) for row in seen.T])

    subset = rng.normal(0, share**0.5, (2, 4000, 40))
    noise = rng.normal(0, (1 - share) ** 0.5, (3, 4000, 40))
    one, same, other = (
        estimate(masks, each) for each in (subset[0] + noise[0], subset[0] + noise[1], subset[1] + noise[2])
    )
    assert (one - same).var() / (one - other).var() == pytest.approx(1 - share, abs=0.03)


def answer(*means, sizes=(25, 50, 100)):
    curve = IOUCurve(THRESHOLDS, np.array(sizes), np.tile(np.array(means)[:, None, None], (1, 2, THRESHOLDS.size)), 9)
    return Finding(answer_for_curve(curve, HEADLINE, "influence 0.20")).answer


def test_the_answer_follows_from_the_curve():
    on = "Two influence estimates agree from 50 models each on: their IOU is 0.71 at influence 0.20, and agreement takes 0.7."
    assert answer(0.2, 0.71, 0.9) == on and answer(np.nan, 0.71, 0.9) == on
    # What is lost again is no agreement.
    assert answer(0.8, 0.5, 0.72).startswith("Two influence estimates agree from 100 models each on: their IOU is 0.72")
    assert "from 25 models each, the fewest that were tried: their IOU is 0.80" in answer(0.8, 0.8, 0.9)
    assert "from 60 models each on: their IOU is 0.80" in answer(0.8, sizes=(60,))
    assert answer(0.8, 0.8, 0.69) == (
        "Even 100 models are too few: two influence estimates from so many agree with IOU 0.69 at influence 0.20, and agreement "
        "takes 0.7."
    )
    assert answer(0.8, 0.8, np.nan) == (
        "No pair reaches influence 0.20 in estimates from 100 models, so there is nothing to agree on."
    )


def findings(**values):
    curve = IOUCurve(THRESHOLDS, np.array([25, 50]), np.full((2, 3, THRESHOLDS.size), 0.4), 9)
    empty = {
        "headline": HEADLINE,
        "curve": curve,
        "same_subsets": {},
        "between_scores": {},
        "against_all": {},
        "test_score": np.ones(4000),
    }
    return SimpleNamespace(**empty | {"subset_share": None} | values)


def test_pairs_and_discoveries_are_counted():
    said = [
        discovery_evidence(findings(discovered=discovered, num_pairs=np.full(THRESHOLDS.size, reached)))
        for discovered, reached in ((0, 0), (1, 1), (100, 8))
    ]
    few = " (fewer than 100 are little for a curve)."
    assert said == [
        f"0 pairs reach that influence by all 4000 models, and 0 are above 0 at a false discovery rate of 5%{few}",
        f"1 pair reaches that influence by all 4000 models, and 1 is above 0 at a false discovery rate of 5%{few}",
        "8 pairs reach that influence by all 4000 models, and 100 are above 0 at a false discovery rate of 5%.",
    ]
    Finding("An answer.", said)


def test_the_same_subsets_by_the_most_models_that_are_defined():
    assert seeds_evidence(findings()) == ""
    same = {25: np.full((2, THRESHOLDS.size), 0.5), 50: np.full((2, THRESHOLDS.size), np.nan)}
    assert seeds_evidence(findings(same_subsets=same)) == (
        "On the same subsets, with other seeds, estimates from 25 models agree with IOU 0.50, on different ones with 0.40."
    )
    share = ShareInterval(*map(np.array, (-0.1, np.nan, np.nan)))
    said = seeds_evidence(findings(same_subsets=same, subset_share=share))
    Finding("An answer.", [said])
    assert said.endswith("with 0.40; the subset decides 0% of a prediction's variance.")


def test_probabilities_are_compared_where_both_are_defined():
    assert score_evidence(findings()) == ""
    panel = {
        "0-1 scores": np.full((2, 3, THRESHOLDS.size), 0.4),
        "probabilities": np.stack([np.full((3, THRESHOLDS.size), value) for value in (0.5, np.nan)]),
    }
    assert score_evidence(findings(between_scores=panel, against_all=panel)) == (
        "Probabilities agree better with each other than 0-1 scores at 1 of 1 numbers of models, and with the 0-1 estimate of all "
        "models at 1 of 1."
    )
    Finding("An answer.", [score_evidence(findings(between_scores=panel, against_all=panel))])
    nothing = {name: np.full((2, 3, THRESHOLDS.size), np.nan) for name in panel}
    assert score_evidence(findings(between_scores=panel, against_all=nothing)) == ""


@pytest.mark.parametrize("means", [(0.2, 0.71), (0.8, 0.9), (0.1, 0.2), (0.1, np.nan)])
@pytest.mark.parametrize("score", sorted(SCORES))
def test_an_answer_in_any_unit_is_short(means, score):
    curve = IOUCurve(
        THRESHOLDS, np.array([25, 50]), np.tile(np.array(means)[:, None, None], (1, 2, THRESHOLDS.size)), 9
    )
    answered = Finding(answer_for_curve(curve, HEADLINE, f"influence 0.20 in {describe_score(score)}")).answer
    assert f"influence 0.20 in {describe_score(score)}" in answered
