"""The planner against exact probabilities, known distributions and simulated runs."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

import jaxinfl
from experiments.planner_simulations import PRESETS, Trials, draw_run, make_world, run, summarize_trials
from jaxinfl.statistics.deconvolution import Counts, likelihood, make_grid, smoothing
from jaxinfl.statistics.expected_iou import chance_to_reach, expected_iou
from jaxinfl.statistics.mixture import fit_mixture
from jaxinfl.statistics.model_plan import Band, judge
from jaxinfl.statistics.pilot_counts import memorization_chance, pilot_pairs
from tests.named_scores import NamedScores
from tests.small_experiments import check_section, check_width


def exact_chance(p, q, num_in, num_out, threshold):
    """Over all outcomes of two binomial variables."""
    right_in, right_out = np.arange(num_in + 1), np.arange(num_out + 1)
    joint = np.outer(stats.binom.pmf(right_in, num_in, p), stats.binom.pmf(right_out, num_out, q))
    return joint[right_in[:, None] / num_in - right_out / num_out >= threshold].sum()


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.7, 0.5), (0.97, 0.8), (0.3, 0.1), (0.9, 0.4), (0.6, 0.7)])
def test_chance_to_reach_is_the_exact_one_over_varying_numbers(p, q):
    numbers = [(num_in, 400 - num_in) for num_in in range(271, 290, 3)]  # as uniform subsets vary: 280 +- 9
    limits = np.array([0.05, 0.12, 0.2, 0.31])
    exact = np.mean([[exact_chance(p, q, *pair, limit) for limit in limits] for pair in numbers], axis=0)
    found = chance_to_reach(np.array([p]), np.array([q]), 400.0, 0.7, limits)[:, 0]
    np.testing.assert_allclose(found, exact, atol=0.015)


def test_expected_iou_by_hand():
    reach = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    found = expected_iou(reach, np.array([0.1, 0.2, 0.7]))
    assert found[0] == pytest.approx((0.1 + 0.2 * 0.25) / (0.1 + 0.2 * 0.75)) and np.isnan(found[1])


def test_grid_has_the_base_rates_and_effects_that_it_says():
    grid = make_grid(100, 0.7, strongest=9.0, start_width=1.0)
    base = 0.7 * grid.with_example + 0.3 * grid.without
    np.testing.assert_allclose(base, np.broadcast_to(base[:, :1], base.shape), atol=1e-12)
    odds = np.log(grid.with_example) + np.log1p(-grid.without) - np.log1p(-grid.with_example) - np.log(grid.without)
    np.testing.assert_allclose(odds, np.broadcast_to(grid.effects, odds.shape), atol=1e-6)
    assert 0.0 in grid.effects and grid.start.sum() == pytest.approx(1) and grid.influence.max() > 0.95


def test_a_known_distribution_is_found_and_is_more_likely_than_the_start():
    """95% of no influence at a rate of 0.6, 5% from 0.5 to 0.9: what naive counting would make of noise is gone."""
    rng = np.random.default_rng(0)
    strong = rng.random(20_000) < 0.05
    num_in = np.full(strong.size, 140)
    outcome = np.stack(
        [
            rng.binomial(140, np.where(strong, 0.9, 0.6)),
            num_in,
            rng.binomial(60, np.where(strong, 0.5, 0.6)),
        ],
        axis=1,
    )
    distinct, number = np.unique(outcome, axis=0, return_counts=True)
    grid = make_grid(200, 0.7, strongest=9.0, start_width=1.0)
    counts = Counts(distinct[:, 0], distinct[:, 1], distinct[:, 2], np.full(len(distinct), 60))
    table = likelihood(grid, counts)
    found = fit_mixture(table, number.astype(float), grid.start, 180, extrapolate=True)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    assert found @ grid.influence == pytest.approx(0.05 * 0.4, abs=0.003)
    between = (grid.influence > 0.3) & (grid.influence < 0.5)
    assert found[between].sum() == pytest.approx(0.05, abs=0.006)
    naive = (outcome[:, 0] / 140 - outcome[:, 2] / 60 >= 0.15).mean()
    assert naive > 0.06 and found[grid.influence >= 0.15].sum() == pytest.approx(0.05, abs=0.006)

    def log_likelihood(distribution):
        return number @ np.log(table @ distribution)

    assert log_likelihood(found) > log_likelihood(
        fit_mixture(table, number.astype(float), grid.start, 15, extrapolate=True)
    )


def test_memorization_is_told_from_luck():
    """Truly 0.45 or 0; an estimate of 100 models is above 0.25 for some of the latter."""
    rng = np.random.default_rng(1)
    masks = rng.random((100, 600)) < 0.7
    memorized = np.arange(600) < 60
    train = rng.random(masks.shape) < np.where(masks, 0.98, np.where(memorized, 0.53, 0.98))
    chance = memorization_chance(masks, train, 0.25)
    assert chance.sum() == pytest.approx(60, abs=6) and chance[~memorized].max() < 0.5
    assert (memorization_chance(masks, train, None) == 1).all()
    masks[:, 0] = True
    assert memorization_chance(masks, train, None)[0] == 0


def test_a_part_of_the_pairs_stands_for_all(monkeypatch):
    masks, _, test = draw_run(make_world("heavy tails", 0, 150, 60), 100, 0)
    chance = np.ones(masks.shape[1])
    whole = pilot_pairs(masks, test, chance)
    monkeypatch.setattr("jaxinfl.statistics.pilot_counts._MOST_PAIRS", 2000)
    part = pilot_pairs(masks, test, chance)
    assert len(part.weight) < 2400 < len(whole.weight)
    assert part.weight.sum() == pytest.approx(whole.weight.sum(), rel=0.05)
    assert whole.cell_weights().sum() == pytest.approx(whole.weight.sum()) and (part.counts.num_in > 0).all()


@pytest.mark.parametrize("kind", ["twins", pytest.param("heavy tails", marks=pytest.mark.slow)])
def test_a_pilot_predicts_what_larger_ensembles_do(kind):
    """Mean over thresholds 0.1 to 0.3 of the IOU at 2 and 4 times the pilot, and intervals that hold most of it."""
    world = make_world(kind, 0, 120, 60)
    limits = np.arange(2, 7) / 20
    truth = jaxinfl.iou_curve(*draw_run(world, 1700, 100), num_models=[400, 800], thresholds=limits, repeats=3).mean
    found = jaxinfl.plan(draw_run(world, 200, 0), 0.7, 0.2, thresholds=limits, doublings=2, repeats=6)
    told = np.isfinite(found.curve.iou)
    assert told.any() and (told == (found.num_pairs >= 5)).all() and found.pilot_models == 200
    assert (found.curve.low[told] <= found.curve.iou[told]).all()
    assert abs((found.curve.iou - truth)[told].mean()) < 0.1
    assert ((found.curve.low <= truth) & (truth <= found.curve.high))[told].mean() >= 0.5


# A smooth world and the one with a gap at one threshold, and more slowly all of them at all.
@pytest.mark.parametrize(
    ("kind", "threshold"),
    [
        pytest.param(kind, threshold, marks=[] if (kind == "gamma" and threshold == 0.15) else pytest.mark.slow)
        for kind in ("gamma", "power law", "heavy tails", "twins")
        for threshold in (0.1, 0.15, 0.2)
    ],
)
def test_predictions_do_not_depend_on_where_a_threshold_falls(kind, threshold):
    """Three smooth worlds and one with a gap: the IOU at 2 and 4 times the pilot, and that of the answer, if there is one."""
    world = make_world(kind, 1, 300, 120)
    sizes = np.array([100, 200, 400, 800])
    truth = jaxinfl.iou_curve(*draw_run(world, 1600, 99), num_models=sizes, thresholds=threshold, repeats=4).mean[:, 0]
    held = []
    for pilot in range(2):
        found = jaxinfl.plan(draw_run(world, 200, pilot), 0.7, threshold, thresholds=threshold, doublings=2, repeats=5)
        if np.isfinite(found.curve.iou).all():
            held += ((found.curve.low[:, 0] <= truth[2:]) & (truth[2:] <= found.curve.high[:, 0])).tolist()
        if found.models_needed is not None:
            assert np.interp(np.log(found.models_needed), np.log(sizes), truth) > 0.55
    assert np.mean(held) >= 0.75 if held else threshold > 0.1


def test_a_smooth_distribution_has_parts_that_sum_to_one():
    grid = make_grid(200, 0.7, strongest=9.0, start_width=1.0)
    parts = smoothing(grid, 2.0, np.ones(len(grid.with_example)))
    np.testing.assert_allclose(parts.sum(axis=0), 1)
    none = grid.effects_of_atoms == 0
    of_none = parts[none].sum(axis=0)
    assert set(np.round(of_none, 9)) == {
        0,
        1,
    }  # pairs without any effect are a part of their own, at neighbouring rates together
    assert 2 <= (of_none > 0.5).sum() <= 10


def test_the_answer_is_where_the_predicted_iou_crosses_the_target():
    run = draw_run(make_world("twins", 0, 120, 60), 100, 0)
    found = jaxinfl.plan(run, 0.7, 0.2, repeats=3)
    assert found.verdict == "answered" and list(found.num_models) == [200, 400, 800]
    cautious = 0.75 * found.at_threshold.iou + 0.25 * found.at_threshold.low
    crossing = np.interp(found.models_needed, found.steps, cautious)
    assert crossing == pytest.approx(0.7, abs=0.03)
    fewest, most = found.interval
    assert fewest <= found.models_needed and (most is None or most >= found.models_needed)
    assert found.text.startswith(f"about {found.models_needed} models, {fewest} to")
    ensemble = NamedScores(run[0], {"correct": run[1]}, {"correct": run[2]})
    same = jaxinfl.plan(ensemble, 0.7, 0.2, repeats=3)
    assert same.text == found.text and (same.at_threshold.high == found.at_threshold.high).all()


def test_what_a_pilot_cannot_tell():
    """No influence at all; nobody memorized; models that always agree; a handful of models."""
    rng = np.random.default_rng(0)
    masks = rng.random((60, 30)) < 0.7
    memorized = masks | (rng.random(masks.shape) < 0.3)
    test = rng.random((60, 15)) < 0.9
    found = jaxinfl.plan((masks, memorized, test), 0.7, 0.5, repeats=2)
    assert found.verdict == "few pairs" and "cannot tell" in found.text and found.models_needed is None
    assert np.isnan(found.at_threshold.iou).all()
    nobody = jaxinfl.plan((masks, np.ones_like(masks), test), repeats=2)
    assert nobody.verdict == "no memorized example" and "Lower min_memorization" in nobody.text
    assert np.isnan(nobody.curve.iou).all() and nobody.interval == (None, None)
    agreed = jaxinfl.plan((masks, memorized, np.ones_like(test)), repeats=2)
    assert agreed.verdict == "few pairs" and (agreed.num_pairs == 0).all()
    small = jaxinfl.plan((masks[:20], memorized[:20], test[:20]), repeats=2)
    assert small.verdict == "small pilot" and small.text == "20 models cannot tell; a pilot takes 50 or more."


@pytest.mark.slow
def test_noise_that_seems_to_reach_a_threshold():
    """Many weak influences are not taken for some of 0.2: the likeliest distribution has two dozen there, and none would do as well."""
    world = make_world("many weak", 0)
    found = jaxinfl.plan(draw_run(world, 200, 101), 0.5, 0.2, thresholds=np.array([0.05, 0.2]), doublings=1, repeats=2)
    assert found.verdict == "no clear pairs" and "may be noise" in found.text and found.models_needed is None
    assert (found.num_pairs > 10).all() and np.isnan(found.at_threshold.iou).all()
    np.testing.assert_array_equal(np.isnan(found.curve.iou), [[False, True]])
    truth = jaxinfl.iou_curve(*draw_run(world, 800, 1), num_models=[400], thresholds=np.array([0.05]), repeats=2).mean
    assert found.curve.iou[0, 0] == pytest.approx(truth[0, 0], abs=0.05)


@pytest.mark.parametrize(
    ("low", "iou", "high", "verdict", "needed", "interval"),
    [
        ([0.1, 0.5, 0.8], [0.2, 0.7, 0.9], [0.5, 0.8, 0.95], "answered", 230, (160, 320)),
        ([0.1, 0.3, 0.6], [0.2, 0.7, 0.9], [0.5, 0.8, 0.95], "answered", 270, (160, None)),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5], "more models", None, (None, None)),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.6], [0.3, 0.4, 0.8], "too uncertain", None, (340, None)),
    ],
)  # fmt: skip
def test_verdicts(low, iou, high, verdict, needed, interval):
    band = Band(*map(np.array, (iou, low, high)))
    steps = np.array([100.0, 200.0, 400.0])
    found = judge(band, steps, num_pairs=9.0, num_examples=5.0, clear=True, target_iou=0.7, threshold=0.2)
    assert (found.verdict, found.models_needed, found.interval) == (verdict, needed, interval)
    assert "IOU 0.7 at influence 0.2" in found.text and "about 9 pairs of 5 training examples" in found.text


def good(num_models=60):
    rng = np.random.default_rng(0)
    masks = rng.random((num_models, 8)) < 0.5
    return masks, masks.copy(), masks[:, :4].copy()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target_iou": 1.0}, ValueError, "target_iou is 1.0; it takes a number between 0 and 1"),
        ({"threshold": 0.0}, ValueError, "threshold is 0"),
        ({"thresholds": np.array([0.1, 1.2])}, ValueError, r"thresholds lie from 0.1 to 1.2"),
        ({"repeats": 1}, ValueError, "repeats is 1; it takes a whole number from 2"),
        ({"doublings": 0}, ValueError, "doublings is 0"),
        ({"confidence": 2.0}, ValueError, "confidence is 2"),
        ({"pilot": 3}, TypeError, "pilot is 3 .*it takes an Ensemble, Outcomes, or"),
        ({"pilot": good()[:2]}, ValueError, "pilot has 2 arrays"),
        ({"pilot": (good()[0], good()[0], good()[2].astype(float))}, TypeError, "test_correct has dtype float64"),
        ({"pilot": (good()[0], good()[2], good()[2])}, ValueError, r"train_correct has shape \(60, 4\)"),
        ({"pilot": (np.ones((60, 8), bool), *good()[1:])}, ValueError, "the same subset more than once"),
    ],
)
def test_refusals(change, error, message):
    rng = np.random.default_rng(0)
    masks = rng.random((60, 30)) < 0.5
    arguments = {"pilot": (masks, masks.copy(), masks.copy())} | change
    with pytest.raises(error, match=message):
        jaxinfl.plan(arguments.pop("pilot"), **arguments)


def test_complementary_and_diverged_pilots():
    masks = jaxinfl.draw_subsets(60, 30, 0.5, design="complementary")
    with pytest.raises(ValueError, match="design 'complementary'"):
        jaxinfl.plan((masks, masks, masks))
    with pytest.raises(ValueError, match="pilot is an Ensemble of which every model diverged"):
        jaxinfl.plan(NamedScores(masks, {"correct": masks}, {"correct": masks}, np.ones(60, bool)))


def test_trials_count_what_intervals_hold_and_answers_that_are_too_small():
    held = np.array([[1, 0, np.nan], [1, 1, np.nan]])
    found = summarize_trials({("twins", 0.2): Trials(held, np.array([0.06, np.nan]))}, PRESETS["tiny"])
    assert found == {
        "twins, influence 0.2": {
            "pilots": 2, "predicted_2": 2, "held_2": 2, "predicted_4": 2, "held_4": 1, "predicted_8": 0, "held_8": 0,
            "answers": 1, "too_small": 1,
        }
    }  # fmt: skip


@pytest.mark.slow
def test_the_command_writes_numbers_and_a_figure(tmp_path, capsys):
    rows = run(dataclasses.replace(PRESETS["tiny"], thresholds=(0.15,), out=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "planner.png", "planner.svg"}
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["results"] == rows and len(rows) == 6
    check_section(written["section"])
    check_width(capsys.readouterr().out)
    assert all(row["pilots"] == 2 and row["held_8"] <= row["predicted_8"] <= 2 for row in rows.values())
    assert rows["twins, influence 0.15"]["predicted_2"] == 2
