"""What the public functions take and give back: arrays, an ensemble and a score's name, or packed outcomes; NumPy comes back."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinfl
from jaxinfl import statistics
from jaxinfl.influence import count_pairs, joint_counts, outcomes
from jaxinfl.store import ABSENT, DIVERGED
from tests.named_scores import NamedScores
from tests.test_bad_inputs import arrays_of
from tests.valid_calls import CALLS
from tests.valid_calls_privacy import PRIVACY

rng = np.random.default_rng(0)
MODELS, TRAIN, TEST = 60, 12, 30
masks = rng.random((MODELS, TRAIN)) < 0.5
train = {"correct": rng.random((MODELS, TRAIN)) < 0.6, "margin": rng.normal(size=(MODELS, TRAIN)).astype(np.float32)}
test = {"correct": rng.random((MODELS, TEST)) < 0.6, "margin": rng.normal(size=(MODELS, TEST)).astype(np.float32)}
healthy = np.arange(MODELS) % 11 != 3
attribution = rng.normal(size=(TRAIN, TEST))
pairs = np.array([0, 3, 5]), np.array([1, 1, 4])
everything = np.concatenate([np.ones((5, TRAIN), bool), jaxinfl.leave_one_out(TRAIN, range(5), 11)])
repeated = np.repeat(masks[:12], 5, axis=0)


def with_nan(scores):
    """The scores with what a diverged model leaves in its row."""
    return {
        name: np.where(healthy[:, None], score, np.nan if score.dtype == np.float32 else False).astype(score.dtype)
        for name, score in scores.items()
    }


def ensemble(own_masks=masks):
    return NamedScores(own_masks, with_nan(train), with_nan(test), ~healthy)


# Each function with what it takes of (masks, test score, train score).
ONE_SCORE = {
    "influence": lambda m, s: jaxinfl.influence(m, s),
    "count_pairs": lambda m, s: count_pairs(m, s, [0.1, 0.2]),
    "iou_of_models": lambda m, s: jaxinfl.iou_of_models(m, s, m, s, [0.1, 0.2], examples=[0, 3]),
    "estimate": lambda m, s: jaxinfl.estimate(m, s, "adjusted", shrink=True),
    "datamodel_weights": lambda m, s: jaxinfl.datamodel_weights(m, s),
    "discoveries": lambda m, s: jaxinfl.discoveries(m, s, fdr=0.9),
    "lds": lambda m, s: jaxinfl.lds(attribution, m, s, repeats=3),
    "data_banzhaf": lambda m, s: jaxinfl.data_banzhaf(m, s),
    "pair_uncertainty": lambda m, s: jaxinfl.pair_uncertainty(m, s, *pairs),
}
TRAIN_SCORE = {"memorization": jaxinfl.memorization, "memorization_uncertainty": jaxinfl.memorization_uncertainty}
BOTH_SCORES = {
    "top_pairs": lambda m, *s: jaxinfl.top_pairs(m, *s, k=5, min_memorization=None),
    "iou_curve": lambda m, *s: jaxinfl.iou_curve(
        m, *s, num_models=[7], thresholds=[0.05, 0.1, 0.3], repeats=2, min_memorization=None
    ),
}


def assert_same(one, other):
    for first, second in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["correct", "margin"])
@pytest.mark.parametrize("function", ONE_SCORE)
def test_one_score(function, name):
    call = ONE_SCORE[function]
    expected = call(masks[healthy], test[name][healthy])
    assert_same(call(ensemble(), name), expected)
    assert_same(call(jaxinfl.pack(masks[healthy], test[name][healthy]), None), expected)
    assert_same(call(jaxinfl.pack(ensemble(), name), None), expected)


@pytest.mark.parametrize("name", ["correct", "margin"])
def test_train_scores_and_both(name):
    one, other = train[name][healthy], test[name][healthy]
    packed = jaxinfl.pack(ensemble(), name)
    for call in TRAIN_SCORE.values():
        expected = call(masks[healthy], one)
        assert_same(call(ensemble(), name), expected)
        assert_same(call(packed), expected)
    for call in BOTH_SCORES.values():
        expected = call(masks[healthy], one, other)
        for given in ((ensemble(), name), (ensemble(), None, name), (ensemble(), name, name), (packed,)):
            assert_same(call(*given), expected)
    mixed = jaxinfl.top_pairs(masks[healthy], train["correct"][healthy], other, min_memorization=0.1)
    assert_same(jaxinfl.top_pairs(ensemble(), "correct", name, min_memorization=0.1), mixed)
    assert_same(jaxinfl.top_pairs(jaxinfl.pack(ensemble(), name, "correct"), min_memorization=0.1), mixed)


def test_the_others():
    right, margin = test["correct"][healthy], test["margin"][healthy]
    np.testing.assert_array_equal(joint_counts(ensemble(), "correct"), joint_counts(masks[healthy], right))
    by_margin = jaxinfl.estimate(masks[healthy], margin, correct=right)
    assert_same(jaxinfl.estimate(ensemble(), "margin", correct="correct"), by_margin)
    lo = statistics.leave_one_out_correlation
    expected = lo(attribution, everything[healthy], margin, repeats=3)
    assert_same(lo(attribution, ensemble(everything), "margin", repeats=3), expected)
    assert_same(
        jaxinfl.plan(ensemble(), repeats=2), jaxinfl.plan((masks[healthy], train["correct"][healthy], right), repeats=2)
    )
    assert_same(jaxinfl.plan(jaxinfl.pack(ensemble(), "correct"), repeats=2), jaxinfl.plan(ensemble(), repeats=2))


@pytest.mark.parametrize(
    "function", [jaxinfl.variance_components, statistics.subset_share_intervals, statistics.subset_share_of_all]
)
def test_models_that_share_subsets_are_seeds(function):
    order = np.random.default_rng(1).permutation(MODELS)
    runs = NamedScores(repeated[order], train, {"margin": test["margin"][order]})
    by_subset = runs.test_score("margin")[
        np.argsort([np.flatnonzero((repeated[::5] == row).all(1))[0] for row in runs.masks], kind="stable")
    ]
    by_subset = by_subset.reshape(12, 5, TEST)
    for one, other in zip(function(runs, "margin"), function(by_subset), strict=True):
        if not isinstance(one, str):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
    with pytest.raises(ValueError, match=r"12 different subsets, each of 4 to 5 models; it takes .* Choose such rows"):
        function(NamedScores(repeated, train, test, np.arange(MODELS) == 7), "margin")
    with pytest.raises(TypeError, match=r"name is 'margin', and score is no Ensemble .*leave name out"):
        function(by_subset, "margin")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((masks, "margin"), "score is 'margin', the name of a score, and masks is no Ensemble; .*Pass the Ensemble"),
        ((masks,), "score is None; it takes bool or float scores, .*or the name of a score where masks is an Ensemble"),
        ((ensemble(), test["margin"]), "score is an array .*masks is an Ensemble.*name of a score.*Pass masks.masks"),
        ((ensemble(),), "score is None and masks is an Ensemble; it takes the name of a score"),
        ((jaxinfl.pack(masks, test["margin"]), test["margin"]), "score is given beside masks, .*leave score out"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    for call in (jaxinfl.influence, jaxinfl.estimate, jaxinfl.discoveries, jaxinfl.data_banzhaf):
        with pytest.raises(TypeError, match=message):
            call(*arguments)


def test_outcomes_say_what_they_lack():
    with pytest.raises(ValueError, match=r"without a train score, .*pack\(masks, score, train_score\)"):
        jaxinfl.memorization(jaxinfl.pack(masks, test["margin"]))
    with pytest.raises(ValueError, match=r"without a test score.*pack\(masks, score\)"):
        jaxinfl.influence(jaxinfl.pack(masks, train_score=train["margin"]))
    with pytest.raises(ValueError, match="pack takes at least one"):
        jaxinfl.pack(masks)
    with pytest.raises(ValueError, match="score_b has 3 rows, but masks_b has 60"):
        jaxinfl.iou_of_models(masks, test["margin"], masks, test["margin"][:3], [0.1])
    with pytest.raises(ValueError, match=r"masks is an Ensemble of which every model diverged. Train again"):
        jaxinfl.influence(NamedScores(masks, train, test, np.ones(MODELS, bool)), "margin")
    assert repr(jaxinfl.pack(masks, test["margin"])) == (
        "Outcomes of 60 models, 12 training examples, float32 score of 30 test examples"
    )


def test_outcomes_are_packed_once():
    packed = jaxinfl.pack(masks, test["correct"], train["correct"])
    with (
        mock.patch.object(outcomes, "make_tiles", wraps=outcomes.make_tiles) as tiles,
        mock.patch.object(outcomes, "compute_memorization", wraps=outcomes.compute_memorization) as memorize,
        mock.patch.object(outcomes, "check_score", wraps=outcomes.check_score) as check,
    ):
        for _ in range(3):
            jaxinfl.influence(packed)
            jaxinfl.memorization(packed)
            jaxinfl.iou_of_models(packed, None, packed, None, [0.1])
            jaxinfl.top_pairs(packed, min_memorization=None)
        other = packed.with_score(test["margin"])
        assert_same(jaxinfl.memorization(other), jaxinfl.memorization(packed))
        assert other.select([1, 2]).examples_above(-2.0).tolist() == [0, 1]
    # top_pairs selects its examples anew each time; the score of `with_score` is checked.
    assert tiles.call_count == 1 + 3 and memorize.call_count == 1 and check.call_count == 1


def test_a_memorization_that_is_given_back_is_the_users_own():
    packed = jaxinfl.pack(masks, train_score=train["correct"])
    jaxinfl.memorization(packed)[:] = 7
    assert (jaxinfl.memorization(packed) < 7).all()


@pytest.mark.parametrize(
    "call", [call for call in CALLS + PRIVACY if call.runs], ids=lambda call: call.function.__qualname__
)
def test_numpy_comes_back(call):
    """Whatever went in: NumPy arrays, lists or JAX arrays."""
    for change in ("as it is", "jax"):
        new = {
            name: kind.equal[change](call.arguments[name], rng)
            for name, kind in call.kinds.items()
            if change in kind.equal
        }
        result = call.function(**{**call.arguments, **new})
        if isinstance(result, (jaxinfl.ModelKeys, jaxinfl.Dataset, jaxinfl.Recipe)):
            continue  # keys are JAX's own
        parts = vars(result).values() if dataclasses.is_dataclass(result) else jax.tree.leaves(result)
        for part in jax.tree.leaves(list(parts)):
            assert not isinstance(part, jnp.ndarray), call.function


def test_the_public_names():
    assert len(set(jaxinfl.__all__)) == len(jaxinfl.__all__)
    for name in jaxinfl.__all__:
        assert f"`{name}`" in jaxinfl.__doc__, name
        assert getattr(jaxinfl, name) is not None and name in dir(jaxinfl)
    assert issubclass(jaxinfl.WriteFailed, jaxinfl.RunDirectoryError)
    assert issubclass(jaxinfl.OutOfMemory, RuntimeError) and issubclass(jaxinfl.TooManyDiverged, RuntimeError)
    with pytest.raises(AttributeError, match="'jaxinfl' has no attribute 'lsd'"):
        _ = jaxinfl.lsd


class TestEnsemble:
    """`Ensemble` is what these functions take: `base` are six trained models."""

    def diverged(self, base, *models):
        """An ensemble of which some models look as if they had diverged."""
        status = base._store.status()
        status[list(models)] = DIVERGED
        with mock.patch.object(type(base._store), "status", lambda _: status):
            return jaxinfl.Ensemble(base._store, keep_diverged=True)

    def test_scores_by_name(self, base):
        assert_same(base.test_score("margin"), base.test_margin)
        assert_same(base.train_score("correct"), base.train_correct)
        assert_same(base.test_score("probability"), base.test_probability)
        with pytest.raises(
            ValueError, match="score is 'margins'; this ensemble has 'correct', 'margin', 'probability'"
        ):
            jaxinfl.influence(base, "margins")
        assert_same(jaxinfl.influence(base, "margin"), jaxinfl.influence(base.masks, base.test_margin))

    def test_diverged_models_are_left_out(self, base):
        runs = self.diverged(base, 1, 4)
        kept = [0, 2, 3, 5]
        assert len(runs) == 6 and len(runs.without_diverged()) == 4 and base.without_diverged() is base
        expected = jaxinfl.influence(base.masks[kept], base.test_correct[kept])
        assert_same(jaxinfl.influence(runs, "correct"), expected)
        assert_same(runs.without_diverged().train_margin, base.train_margin[kept])
        assert runs.without_diverged().model_index.tolist() == kept

    def test_rows(self, base):
        part = base[[5, 0, 0]]
        assert len(part) == 3 and part.model_index.tolist() == [5, 0, 0] and "3 of them are rows here" in repr(part)
        assert_same(part.masks, base.masks[[5, 0, 0]])
        assert_same(part.test_margin, base.test_margin[[5, 0, 0]])
        fresh = jaxinfl.Ensemble(base._store)  # nothing is read yet
        assert_same(fresh[::-1].test_margin, base.test_margin[::-1])
        assert_same(fresh[np.arange(6) > 2].train_correct, base.train_correct[3:])
        assert part.with_diverged() is part

    def test_pairs(self, base):
        one, other = self.diverged(base, 1), self.diverged(base, 4)
        for left, right in ((one, other), (one.without_diverged(), other), (one, other.without_diverged())):
            first, second = left.paired(right)
            assert first.model_index.tolist() == second.model_index.tolist() == [0, 2, 3, 5]
        # Of chosen rows the first belongs to the first.
        first, second = one[3:].paired(other[:3], same_subsets=False)
        assert first.model_index.tolist() == [3, 4, 5] and second.model_index.tolist() == [0, 1, 2]
        first, second = one.paired(other[3:], same_subsets=False)
        assert first.model_index.tolist() == [0, 2] and second.model_index.tolist() == [3, 5]
        with pytest.raises(
            ValueError, match=r"other was trained on other subsets in 3 of 3 pairs \(first: model 3 here and 0"
        ):
            one[3:].paired(other[:3])

    def test_mistakes(self, base, types_unchecked):
        with pytest.raises(TypeError, match=r"An Ensemble is no array\. .*such as \.masks"):
            jaxinfl.check_coverage(base)
        with pytest.raises(TypeError, match="models has dtype float64"):
            base[[0.5]]
        with pytest.raises(TypeError, match=r"other is 3 .*it takes an Ensemble"):
            base.paired(3)
        with pytest.raises(TypeError, match="same_subsets is 'no'"):
            base.paired(base, same_subsets="no")

    def test_absent_models_have_no_pair(self, base):
        status = base._store.status()
        status[2] = ABSENT
        with mock.patch.object(type(base._store), "status", lambda _: status):
            short = jaxinfl.Ensemble(base._store)
        assert [side.model_index.tolist() for side in base.paired(short)] == [[0, 1, 3, 4, 5]] * 2
