"""The noise ceiling of a linear datamodeling score, and what is corrected by it, on made-up models whose truth is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import jaxinfl
from jaxinfl.statistics.ceiling import find_ceiling, to_pearson, to_rank
from jaxinfl.statistics.clusters import find_clusters

TRUE = 0.6


def make_up(rng, subsets, seeds, test, true=TRUE, share=(0.05, 0.9), train=100):
    """Models whose expectations an attribution ranks with a Spearman correlation of `true`.

    `share` is the range of the share of the truth in the variance of a single model, over the test examples.
    """
    masks = rng.random((subsets, train)) < 0.5
    weights, others = rng.normal(size=(2, train, test))
    correlation = to_pearson(true)
    truth = (masks - 0.5) @ weights * 2 / np.sqrt(train)
    noise = np.sqrt(1 / rng.uniform(*share, test) - 1)
    common = 0.3 * rng.normal(size=(subsets, seeds, 1))
    scores = truth[:, None] + noise * (np.sqrt(1 - 0.09) * rng.normal(size=(subsets, seeds, test)) + common)
    means = scores.mean(axis=1)
    ceiling = np.mean([spearmanr(truth[:, each], means[:, each]).statistic for each in range(test)])
    attribution = correlation * weights + np.sqrt(1 - correlation**2) * others
    return attribution, np.repeat(masks, seeds, axis=0), scores.reshape(-1, test).astype(np.float32), ceiling


def test_rank_correlations_of_normal_variables():
    value = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(to_rank(to_pearson(value)), value, atol=1e-12)
    assert to_pearson(1.0) == pytest.approx(1) and to_rank(0.5) == pytest.approx(6 / np.pi * np.arcsin(0.25))


@pytest.mark.parametrize(("seeds", "share"), [(2, (0.05, 0.9)), (5, (0.05, 0.9)), (5, (0.1, 0.1)), (3, (0.3, 0.3))])
def test_the_ceiling_is_that_of_the_true_expectations(seeds, share):
    rng = np.random.default_rng(0)
    attribution, masks, scores, ceiling = make_up(rng, 200, seeds, 100, share=share)
    found = jaxinfl.lds(attribution, masks, scores, repeats=200)
    assert found.ceiling == pytest.approx(ceiling, abs=0.03) and not found.ceiling_reason
    assert found.corrected == pytest.approx(TRUE, abs=0.03)
    assert found.mean < found.corrected and found.corrected_low < found.corrected < found.corrected_high


def test_unequal_numbers_of_models():
    rng = np.random.default_rng(1)
    attribution, masks, scores, _ = make_up(rng, 200, 5, 100, share=(0.3, 0.3))
    kept = rng.permutation(1000)[:700]
    found = jaxinfl.lds(attribution, masks[kept], scores[kept], repeats=200)
    assert found.corrected == pytest.approx(TRUE, abs=0.03)


@pytest.mark.parametrize("seeds", [1, 5])
def test_without_repeated_subsets_there_is_no_ceiling(seeds):
    rng = np.random.default_rng(2)
    attribution, masks, scores, _ = make_up(rng, 60, 1, 40)
    masks, scores = (
        np.concatenate([masks, *[masks[:10]] * (seeds - 1)]),
        np.concatenate([scores, *[scores[:10]] * (seeds - 1)]),
    )
    found = jaxinfl.lds(attribution, masks, scores)
    assert np.isnan([found.ceiling, found.corrected, found.corrected_low, found.corrected_high]).all()
    assert (
        "train several models on each subset" in found.ceiling_reason
        and "np.repeat(masks, 5, axis=0)" in found.ceiling_reason
    )
    assert np.isfinite([found.mean, found.low, found.high]).all()


def test_scores_that_are_all_noise_have_no_corrected_value():
    rng = np.random.default_rng(3)
    masks = np.repeat(rng.random((100, 20)) < 0.5, 2, axis=0)
    found = jaxinfl.lds(rng.normal(size=(20, 40)), masks, rng.normal(size=(200, 40)))
    assert (
        np.isnan(found.corrected) and "which may be 0: the measured means are nearly all noise" in found.ceiling_reason
    )
    constant = np.repeat(rng.normal(size=(1, 40)), 200, axis=0)
    assert find_ceiling(find_clusters(masks), constant, 0).reason == "no score varies between the models"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("right or wrong", "the scores are 0 and 1"),
        ("skewed", "far from normal"),
        ("heavy tails", "far from normal"),
        ("two peaks", "far from normal"),
        ("copies", "say the same, as copies do"),
        ("few repeated", "20% of the subsets have several models"),
    ],
)
def test_scores_whose_ceiling_would_be_wrong_are_told(kind, reason):
    rng = np.random.default_rng(9)
    truth = rng.normal(size=(100, 1, 40))
    noise = rng.normal(size=(100, 5, 40))
    scores = truth + noise
    if kind == "right or wrong":
        scores = scores > 0
    if kind == "skewed":
        scores = np.exp(1.2 * truth) + noise
    if kind == "heavy tails":
        scores = truth + rng.standard_t(1.5, size=noise.shape)
    if kind == "two peaks":
        scores = truth + 3 * np.sign(noise)
    if kind == "copies":
        scores = np.repeat(truth, 5, axis=1)
    masks = np.repeat(rng.random((100, 20)) < 0.5, 5, axis=0)
    kept = np.ones(500, bool)
    if kind == "few repeated":
        kept = (np.arange(500) % 5 == 0) | (np.arange(500) < 100)
    found = jaxinfl.lds(rng.normal(size=(20, 40)), masks[kept], scores.reshape(500, 40)[kept])
    assert np.isnan(found.ceiling) and np.isnan(found.corrected) and reason in found.ceiling_reason
    assert np.isfinite(found.mean) and not found.reason


def test_a_ceiling_needs_no_interval():
    rng = np.random.default_rng(10)
    attribution, masks, scores, _ = make_up(rng, 40, 5, 20)
    found = jaxinfl.lds(attribution, masks, scores)
    assert "20 test examples are too few" in found.reason and np.isnan(found.corrected_low)
    assert 0.5 < found.ceiling < 1 and np.isfinite(found.corrected) and not found.ceiling_reason


def test_a_remedy_that_works():
    """The remedy of the message, followed once."""
    masks = jaxinfl.draw_subsets(40, 30, 0.5)
    repeated = np.repeat(masks, 5, axis=0)
    rng = np.random.default_rng(0)
    scores = repeated @ rng.normal(size=(30, 35)) + rng.normal(size=(200, 35))
    assert np.isfinite(jaxinfl.lds(rng.normal(size=(30, 35)), repeated, scores).ceiling)


@pytest.mark.slow
def test_coverage_of_the_corrected_score():
    rng = np.random.default_rng(4)
    found = [jaxinfl.lds(*make_up(rng, 200, 5, 200)[:3], repeats=300) for _ in range(100)]
    covered = np.mean([each.corrected_low <= TRUE <= each.corrected_high for each in found])
    # 95% in 300 runs; of 100 runs fewer than 90 once in 50 times.
    assert covered >= 0.9
    assert np.mean([each.corrected for each in found]) == pytest.approx(TRUE, abs=0.01)


def test_a_plan_by_a_pilot():
    rng = np.random.default_rng(5)
    _, masks, scores, _ = make_up(rng, 60, 2, 60)
    plan = jaxinfl.plan_lds(masks, scores, width=0.1, expected=TRUE, most_seeds=3)
    best = min((each for each in plan.options if each.models), key=lambda each: each.models)
    assert (plan.subsets, plan.seeds, plan.models) == (best.subsets, best.seeds, best.subsets * best.seeds)
    assert {each.seeds for each in plan.options} == {2, 3} and f"{plan.models} models in all" in plan.text
    narrow = jaxinfl.plan_lds(masks, scores, width=0.05, expected=TRUE, most_seeds=3)
    assert narrow.models > 2 * plan.models
    single = jaxinfl.plan_lds(masks, scores, width=0.1, expected=TRUE, of="mean", over="models", most_seeds=1)
    assert single.seeds == 1 and np.isnan(single.options[0].ceiling)


@pytest.mark.slow
def test_planned_numbers_give_the_width():
    rng = np.random.default_rng(6)
    _, masks, scores, _ = make_up(rng, 60, 2, 200)
    plan = jaxinfl.plan_lds(masks, scores, width=0.05, expected=TRUE)
    widths = []
    for _ in range(8):
        found = jaxinfl.lds(*make_up(rng, plan.subsets, plan.seeds, 200)[:3], repeats=300)
        widths.append(found.corrected_high - found.corrected_low)
    assert 0.75 * 0.05 < np.mean(widths) < 1.3 * 0.05


def test_an_interval_that_no_number_of_models_reaches():
    rng = np.random.default_rng(7)
    # Two kinds of test examples, which an attribution predicts differently well.
    _, masks, scores, _ = make_up(rng, 60, 3, 40, share=(0.6, 0.6))
    plan = jaxinfl.plan_lds(masks, scores, width=1e-6, expected=0.3, most_seeds=2)
    assert plan.models == 0 and "no number of models reaches" in plan.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.0}, "width is 0.0; it takes a width above 0"),
        ({"expected": 1.5}, "expected is 1.5"),
        ({"of": "lds"}, "of is 'lds'"),
        ({"most_seeds": 1}, "most_seeds is 1"),
        ({"masks": np.eye(40, dtype=bool)[:, :20]}, "masks holds"),
    ],
)
def test_mistakes_of_a_plan_are_told(changes, message, types_unchecked):
    rng = np.random.default_rng(8)
    _, masks, scores, _ = make_up(rng, 40, 2, 35)
    if "masks" in changes:
        changes = {"masks": rng.random((80, 20)) < 0.5}
    with pytest.raises(ValueError, match=message):
        jaxinfl.plan_lds(**({"masks": masks, "score": scores} | changes))
