"""The comparison of estimators: its pieces against what is known, and the whole on a small scale."""

import dataclasses
import json

import numpy as np
import pytest

import jaxinfl
from experiments import estimator_comparison as comparison
from experiments.command_line import Mistake
from experiments.estimator_comparison import (
    COLUMNS,
    ESTIMATORS,
    PUBLISHED,
    draw_models,
    models_to_reach,
    select_highest,
)
from experiments.estimators import EXPERIMENT, PRESETS, check
from tests.small_experiments import check_end_to_end

TINY = PRESETS["tiny"]


@pytest.mark.slow
def test_end_to_end(tmp_path, monkeypatch, capsys):
    # One estimator of a kind: each shape is compiled for.
    names = {PUBLISHED, "0-1 ridge datamodel", "margin difference"}
    monkeypatch.setattr(comparison, "ESTIMATORS", [each for each in ESTIMATORS if each.name in names])
    config = dataclasses.replace(TINY, designs=(), sizes=(8, 24))
    runs = {"reference", "models"}
    found = check_end_to_end(
        EXPERIMENT.main, config, tmp_path, monkeypatch, capsys, figures={"curves", "needed"}, runs=runs
    )
    assert len(found["estimators"]) == 3
    (written,) = tmp_path.rglob("results.json")
    # Models for the target, as shares of the published estimator's, as shares for the same IOU, and the IOU with two references.
    assert len({table["title"] for table in json.loads(written.read_text())["section"]["tables"]}) == 5
    published = found["estimators"][PUBLISHED]
    assert published["own_reference"]["own"] == published["own_reference"]["published"] == 1
    for name, each in found["estimators"].items():
        repeats = 1 if "ridge" in name else 2
        assert set(each["agreement"]) == set(COLUMNS) and len(each["needed"]["own"]) == 2
        assert all(0 <= row["mean"] <= 1 and row["n"] == repeats for row in each["agreement"]["own"].values())
    assert found["estimators"]["margin difference"]["agreement"]["threshold"]["8"]["n"] == 0


def test_halves_have_their_own_reference_and_cost_less():
    rng = np.random.default_rng(0)
    scores = {}
    for name, ratio in (("reference", 0.7), ("complementary", 0.5), ("reference_half", 0.5)):
        masks = jaxinfl.draw_subsets(24, 20, ratio)
        margin = rng.normal(size=(24, 9)).astype(np.float32)
        scores[name] = comparison.Scores(masks, masks, margin > 0, 1 / (1 + np.exp(-margin)), margin)
    estimator, examples = comparison.estimator_of_design("complementary"), np.arange(20)
    own = {name: estimator(scores[name], examples) for name in ("reference", "reference_half")}
    references = comparison.References(
        own["reference"], {estimator.name: own["reference_half"]}, 0.1, examples, {"reference": 24}
    )
    (judged,) = comparison.judge([estimator], scores, references, [24], 2, 1, 0)
    assert judged.cost == pytest.approx(10 / 14) and estimator.estimand == "being right, subsets of half"
    assert judged.ceiling[0] == 1 and judged.ceiling[1] < 1 and np.isfinite(judged.values).all()


def test_models_to_reach():
    costs = np.array([50.0, 100, 200, 400])
    curves = np.array(
        [
            [0.5, 0.6, 0.8, 0.9],  # between 100 and 200, half way
            [0.8, 0.6, 0.8, 0.9],  # the first 0.8 does not last
            [0.7, 0.8, 0.8, 0.9],
            [0.1, 0.9, 0.8, 0.6],
            [np.nan, 0.6, np.nan, 0.8],
            [np.nan] * 4,
        ]
    ).T
    expected = [100 * 2**0.5, 100 * 2**0.5, 50, np.inf, 200, np.nan]
    np.testing.assert_allclose(models_to_reach(costs, curves, 0.7), expected)


def test_draws_keep_what_makes_a_design():
    for design in ("models", "balanced", "complementary"):
        small, large = (draw_models(design, 40, size, (0, 1)) for size in (6, 12))
        assert len(set(large)) == 12 and (large[:6] == small).all()
    pairs = draw_models("complementary", 40, 12, (0, 1)).reshape(-1, 2)
    assert (pairs[:, 0] % 2 == 0).all() and (pairs[:, 1] == pairs[:, 0] + 1).all()
    masks = jaxinfl.draw_subsets(40, 20, 0.5, design="balanced")
    number = masks[draw_models("balanced", 40, 12, (0, 1))].sum(axis=0)
    assert number.max() - number.min() <= 2


def test_highest_takes_so_many_and_no_nan():
    values = np.array([[0.5, np.nan, 0.5], [0.9, 0.5, -1]], np.float32)
    np.testing.assert_array_equal(select_highest(values, 3), [[True, False, True], [True, False, False]])
    assert select_highest(values, 6).sum() == 5
    assert np.isnan(comparison.overlap(np.zeros((2, 2), bool), np.zeros((2, 2), bool)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (16, 8)}, "--sizes is 16 8; it takes rising numbers from 4 up"),
        ({"sizes": (8, 99)}, "--sizes names 99 models, but --num-models is 24"),
        ({"num_reference": 20}, "--num-reference is 20; a reference takes at least the 24 models"),
        ({"target": 1.0}, "--target is 1.0"),
        ({"slow_repeats": 3}, "--repeats is 2 and --slow-repeats 3"),
        ({"num_models": 25}, "--num-models is 25; complementary subsets come in pairs"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(TINY, **options))
