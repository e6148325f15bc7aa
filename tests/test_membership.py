"""Membership inference: golden values of a published program, definitions in plain loops, and what is undefined."""

import math

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

import jaxinfl
from jaxinfl import Lira, Rmia, membership, membership_score
from jaxinfl.privacy.curve import Curve
from jaxinfl.privacy.lira import Scores
from jaxinfl.tasks import margin
from tests import reference

VARIANTS = [
    (offline, deviation)
    for offline in (None, "upper_tail", "density")
    for deviation in ("example", "all_scores", "residuals")
]


def simulate(seed, models=9, examples=7, ties=False):
    """Margins of models, higher where they saw the example; the first example is in no subset and the second in all."""
    rng = np.random.default_rng(seed)
    masks = rng.random((models, examples)) < rng.choice([0.3, 0.5, 0.7])
    masks[:, 0], masks[:, 1] = False, True
    score = rng.normal(size=(models, examples)) + masks
    return masks, (np.round(score) if ties else score).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("offline", "deviation"), VARIANTS)
def test_likelihood_ratio_is_its_definition(offline, deviation, ties):
    for seed in range(6):
        masks, score = simulate(seed, models=4 + seed, ties=ties)
        mine = membership(masks, score, method=Lira(offline=offline, deviation=deviation)).score
        theirs = reference.likelihood_ratio(masks, score, offline=offline, deviation=deviation)
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
        np.testing.assert_allclose(mine[finite], theirs[finite], rtol=1e-7, atol=1e-9)
        assert np.isnan(mine[:, 0]).all() or offline


@pytest.mark.parametrize(("offline", "deviation"), VARIANTS)
def test_targets_trained_elsewhere_meet_all_shadows(offline, deviation):
    masks, score = simulate(3)
    targets = np.random.default_rng(1).normal(size=(4, masks.shape[1])).astype(np.float32)
    mine = membership_score(masks, score, targets, method=Lira(offline=offline, deviation=deviation))
    theirs = reference.likelihood_ratio(masks, score, targets, offline=offline, deviation=deviation)
    np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)
    one = membership_score(masks, score, targets[0], method=Lira(offline=offline, deviation=deviation))
    np.testing.assert_array_equal(one, mine[:1])


@pytest.mark.parametrize(
    ("deviation", "golden"),
    [
        ("example", [1.41893853, 1.41893853, 3.72152363, 2.72537178]),
        ("residuals", [2.69682468, 2.69682468, 4.15270703, 2.87983121]),
    ],
)
def test_golden_values_of_tensorflow_privacy(deviation, golden):
    """Its module tells minus the log density of the models that saw the example; the last example has none, and takes the mean ones."""
    masks, score = np.zeros((2, 4), bool), np.array([[-1, 0, 0, 0], [1, 2, 20, 0]], np.float32)
    masks[:, :3] = True
    # The attack without models that saw the example tells minus the density of the others: here those that saw it are the others.
    attack = Lira(offline="density", deviation=deviation, fill_gaps=True)
    told = attack.membership(Scores(~masks, [score], [np.array([[1, 0, 0, 0]], np.float32)]))
    np.testing.assert_allclose(told[0], golden, atol=1e-7)


@pytest.mark.parametrize(("logits", "label", "golden"), [([1, 2, -3], 1, 0.98185009), ([-1, 1, 0], 2, -1.12692802)])
def test_margins_are_the_statistic_of_the_attack(logits, label, golden):
    assert float(margin(np.array([logits], np.float32), np.array([label]))[0]) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("offline", [None, 0.3, 0.0, 1.0])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_population_ratio_is_its_definition(offline, gamma):
    for seed in range(4):
        masks, score = simulate(seed)
        probability = 1 / (1 + np.exp(-score))
        population = np.random.default_rng(seed).uniform(0.01, 1, (len(masks), 11)).astype(np.float32)
        mine = membership(masks, probability, population=population, method=Rmia(offline=offline, gamma=gamma)).score
        theirs = reference.population_ratio(masks, probability, population, offline=offline, gamma=gamma)
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_views_are_averaged():
    masks, score = simulate(0)
    other = score + np.random.default_rng(5).normal(size=score.shape).astype(np.float32)
    for method in ("lira", "lira_offline", "threshold"):
        both = membership(masks, np.stack([score, other]), method=method).score
        each = [membership(masks, view, method=method).score for view in (score, other)]
        np.testing.assert_allclose(both, np.mean(each, axis=0), rtol=1e-6)


def test_an_ensemble_and_the_name_of_a_score():
    masks, score = simulate(2)
    data = {"margin": score, "probability": 1 / (1 + np.exp(-score)), "loss": np.log1p(np.exp(-score))}
    test = {name: values[:, :3] for name, values in data.items()}
    runs = jaxinfl.Ensemble.from_scores(masks, train=data, test=test)
    np.testing.assert_array_equal(membership(runs).score, membership(masks, score).score)
    robust = membership(masks, data["probability"], population=test["probability"], method="rmia")
    np.testing.assert_array_equal(membership(runs, method="rmia").score, robust.score)
    # A low loss is that of a member.
    threshold = membership(runs, "loss", method="threshold")
    np.testing.assert_allclose(threshold.score, -data["loss"], rtol=1e-6)
    assert threshold.auc.value > 0.5


def test_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for trial in range(20):
        member = rng.random((8, 30)) < 0.5
        score = rng.normal(size=member.shape) + 0.5 * member
        score = np.round(score, trial % 3)
        score[rng.random(score.shape) < 0.1] = np.nan
        told = ~np.isnan(score)
        curve = Curve(score, member)
        fpr, tpr, _ = roc_curve(member[told], score[told], drop_intermediate=False)
        np.testing.assert_allclose(curve.roc, (fpr, tpr), atol=1e-12)
        assert curve.auc.value == pytest.approx(roc_auc_score(member[told], score[told]))
        assert curve.balanced_accuracy.value == pytest.approx(np.max(1 + tpr - fpr) / 2)
        for most in (0.05, 0.2):
            point = curve.at(most)
            last = np.flatnonzero(fpr < most)[-1]
            if fpr[last] == 0:
                assert math.isnan(point.tpr.value) and "none scores so high" in point.reason
                continue
            assert point.tpr.value == pytest.approx(tpr[last]) and point.reason == ""
            assert point.false_alarms == round(fpr[last] * (told & ~member).sum())
            assert 1 <= point.targets <= 8 and 1 <= point.examples <= 30


def test_what_rests_on_nothing_is_nan():
    masks, score = simulate(0)
    everyone = membership(np.ones_like(masks), score)
    assert np.isnan(everyone.score).all() and math.isnan(everyone.auc.value)
    assert "no members or no non-members" in everyone.tpr(0.1).reason
    assert np.isnan(everyone.risk.told_apart).all()
    nothing = membership(masks, score).tpr(0.001)
    assert math.isnan(nothing.tpr.value) and nothing.false_alarms == 0 and "none scores so high" in nothing.reason


@pytest.mark.parametrize("method", ["lira", "lira_offline", "rmia", "rmia_offline", "threshold"])
def test_without_leaks_the_interval_of_the_auc_covers_chance(method):
    """60 ensembles whose scores know nothing of their members; 95% intervals, judged by their own binomial interval of 99%."""
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        masks = rng.random((24, 40)) < 0.5
        score = rng.uniform(0.05, 0.95, masks.shape).astype(np.float32)
        options = {"population": rng.uniform(0.05, 0.95, (24, 50)).astype(np.float32)} if "rmia" in method else {}
        auc = membership(masks, score, method=method, **options).auc
        covered.append(auc.low <= 0.5 <= auc.high)
    # 52 or more of 60 are expected with 99.5% where 95% are covered.
    assert sum(covered) >= 52


@pytest.mark.parametrize("method", ["lira", Lira(deviation="residuals"), "lira_offline"])
def test_targets_among_the_shadows_are_told_as_fresh_ones_are(method):
    """Each of 16 models as the target of the others, beside 64 other models as the targets of 14."""
    areas = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        hard, effect = rng.normal(size=2500) * 2, rng.exponential(size=2500)

        def scores(masks, rng=rng, hard=hard, effect=effect):
            return (rng.normal(size=masks.shape) + effect * masks + hard).astype(np.float32)

        masks = jaxinfl.draw_subsets(16, 2500, 0.5, seed, design="balanced")
        others = jaxinfl.draw_subsets(14, 2500, 0.5, seed, design="balanced")
        targets = rng.random((64, 2500)) < 0.5
        told = membership_score(others, scores(others), scores(targets), method=method)
        areas.append((membership(masks, scores(masks), method=method).auc.value, Curve(told, targets).auc.value))
    among, fresh = np.mean(areas, axis=0)
    assert 0.65 < fresh < 0.75 and abs(among - fresh) < 0.008


def test_members_are_told_and_risk_grows_with_memorization():
    """Examples whose margins depend on membership by more are told apart more often."""
    rng = np.random.default_rng(0)
    masks = rng.random((64, 40)) < 0.5
    effect = np.linspace(0, 4, 40)
    score = (rng.normal(size=masks.shape) + effect * masks).astype(np.float32)
    result = membership(masks, score)
    assert result.auc.low > 0.7 and result.balanced_accuracy.value > 0.7
    assert result.tpr(0.01).tpr.value > 0.2 and result.tpr(0.01).false_alarms > 0
    risk = result.risk
    assert np.corrcoef(risk.told_apart, effect)[0, 1] > 0.8
    assert (risk.low <= risk.told_apart).all() and (risk.told_apart <= risk.high).all()
    assert ((risk.num_in + risk.num_out) == 64).all() and risk.distance[-1] > risk.distance[5]
    # One threshold for all cannot allow for how hard an example is.
    hard = score + rng.normal(size=40).astype(np.float32) * 4
    assert membership(masks, hard).auc.value > membership(masks, hard, method="threshold").auc.value + 0.1


def test_intervals_of_risk_cover():
    """Normal scores of two sides: the probability that one exceeds the other is known."""
    rng = np.random.default_rng(1)
    member = np.arange(30)[:, None] < 15
    for shift in (0.0, 1.0, 2.0):
        truth = 0.5 * math.erfc(-shift / 2)
        score = rng.normal(size=(30, 2000)) + shift * member
        risk = jaxinfl.Membership(score, np.broadcast_to(member, score.shape), "threshold", score).risk
        covered = np.mean((risk.low <= truth) & (truth <= risk.high))
        assert 0.93 < covered < 0.98


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "mia"}, ValueError, "method is 'mia'; it takes"),
        ({"method": "rmia"}, ValueError, "population is None; RMIA takes probabilities"),
        ({"population": np.ones((9, 3), np.float32)}, ValueError, "population is given; only RMIA takes one"),
        ({"score": None}, TypeError, "score is None; it takes floats"),
        ({"score": np.zeros((9, 6), np.float32)}, ValueError, "score has 6 columns"),
        ({"score": np.zeros((8, 7), np.float32)}, ValueError, "score has 8 rows"),
        ({"score": np.full((9, 7), np.nan, np.float32)}, ValueError, "score holds NaN"),
        ({"score": np.zeros(7, np.float32)}, ValueError, r"score has shape \(7,\)"),
        ({"score": "margin"}, TypeError, "score is 'margin', the name of a score"),
        ({"masks": np.zeros((9, 7))}, TypeError, "masks has dtype float64"),
        ({"masks": np.ones((1, 7), bool), "score": np.zeros((1, 7), np.float32)}, ValueError, "masks has 1 model"),
        ({"confidence": 2.0}, ValueError, "confidence is 2.0"),
        (
            {"method": "rmia", "population": np.full((9, 3), 2.0, np.float32), "score": np.ones((9, 7), np.float32)},
            ValueError,
            "population holds values from 2 to 2; RMIA takes probabilities",
        ),
    ],
)
def test_mistakes_are_told(change, error, message):
    masks, score = simulate(0)
    given = {"masks": masks, "score": score} | change
    with pytest.raises(error, match=message):
        membership(given.pop("masks"), given.pop("score"), **given)


@pytest.mark.parametrize(
    ("variant", "options", "error"),
    [
        (Lira, {"offline": "tail"}, ValueError),
        (Lira, {"deviation": "fixed"}, ValueError),
        (Lira, {"center": 0}, (TypeError, ValueError)),
        (Lira, {"fill_gaps": "yes"}, TypeError),
        (Rmia, {"offline": 1.5}, ValueError),
        (Rmia, {"gamma": 0.0}, ValueError),
        (Rmia, {"gamma": "1"}, TypeError),
    ],
)
def test_variants_are_checked_when_they_are_made(variant, options, error):
    with pytest.raises(error, match=f"{variant.__name__}: {next(iter(options))} is"):
        variant(**options)


def test_a_rate_of_false_alarms_is_a_number():
    result = membership(*simulate(0))
    for fpr, error in ((0.0, ValueError), (1.5, ValueError), ("0.1", TypeError)):
        with pytest.raises(error, match="fpr is"):
            result.tpr(fpr)


def test_targets_that_do_not_fit_are_refused():
    masks, score = simulate(0)
    with pytest.raises(ValueError, match="target_score has 3 columns"):
        membership_score(masks, score, np.zeros((2, 3), np.float32))
    probability = np.full(masks.shape, 0.5, np.float32)
    with pytest.raises(ValueError, match="target_population is None"):
        membership_score(masks, probability, probability[:1], population=probability, method="rmia")
    with pytest.raises(ValueError, match="target_population is given; only RMIA takes one"):
        membership_score(masks, score, score[:1], target_population=probability)


def test_the_population_of_targets_trained_elsewhere():
    """RMIA of a target that says what a shadow says is what it is against all shadows."""
    rng = np.random.default_rng(0)
    masks = rng.random((10, 6)) < 0.5
    masks[0], masks[1] = True, False
    score, population = (rng.uniform(0.05, 0.95, (10, n)).astype(np.float32) for n in (6, 9))
    told = membership_score(
        masks, score, score[:2], population=population, target_population=population[:2], method="rmia"
    )
    inside = np.array([score[masks[:, i], i].mean() for i in range(6)])
    outside = np.array([score[~masks[:, i], i].mean() for i in range(6)])
    ratio = score[:2] / ((inside + outside) / 2)
    compared = population[:2] / population.mean(axis=0)
    expected = (ratio[:, :, None] / compared[:, None, :] > 1).mean(axis=2)
    np.testing.assert_allclose(told, expected, atol=1e-12)


def test_the_loss_after_an_epoch_has_the_sign_of_the_loss():
    """Members have a lower loss, at the end and after any epoch: the last one is the end."""
    data = jaxinfl.load_dataset("digits")
    masks, keys = jaxinfl.draw_subsets(6, data.num_train, 0.5), jax.random.split(jax.random.key(0), 6)
    recipe = jaxinfl.Recipe(epochs=2)
    runs = jaxinfl.train_ensemble(
        masks, keys, data=data, model="small_mlp", recipe=recipe, keep_epochs=(2,), tune=False, progress=False
    )
    told, again = (jaxinfl.membership(runs, name, method="threshold") for name in ("loss", "loss@2"))
    np.testing.assert_array_equal(told.score, again.score)
    assert told.auc.value == again.auc.value > 0.5
