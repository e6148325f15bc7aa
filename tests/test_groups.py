"""Groups of training examples: subsets that hold whole groups, and influence, tests and leaving out per group."""

import jax
import jaxtyping
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import jaxinfl
from jaxinfl import check_coverage, discoveries, draw_subsets, group_masks, leave_one_out, pack
from tests.named_scores import NamedScores
from tests.small_run import MODEL, RECIPE

PATIENT = np.array(["eve", "bob", "eve", "ann", "bob", "eve", "zoe", "ann", "eve", "tom"])
"""Groups of 4, 2, 2, 1 and 1 examples."""
NAMES = ["eve", "bob", "ann", "zoe", "tom"]
FIVES = np.repeat(np.arange(30), 5)
DESIGNS = [("uniform", 0.7), ("balanced", 0.7), ("complementary", 0.5)]


def random_groups(rng, num_train):
    """Draw the group of each example, at least two groups in all."""
    groups = rng.integers(0, rng.integers(2, num_train + 1), num_train)
    groups[:2] = 1000, -5
    return groups


@given(
    st.integers(1, 20),
    st.integers(2, 60),
    st.floats(0.05, 1.0),
    st.integers(0, 5),
    st.sampled_from(["uniform", "balanced"]),
)
def test_groups_are_in_or_out_as_a_whole(num_models, num_train, ratio, seed, design):
    groups = random_groups(np.random.default_rng(seed), num_train)
    names = list(dict.fromkeys(groups.tolist()))
    size = int(ratio * len(names))
    if size == 0:
        with pytest.raises(ValueError, match=f"of {len(names)} groups is an empty subset"):
            draw_subsets(num_models, num_train, ratio, seed, design, groups)
        return
    masks = draw_subsets(num_models, num_train, ratio, seed, design, groups)
    assert masks.shape == (num_models, num_train) and masks.dtype == bool
    for row in masks:
        inside, outside = set(groups[row].tolist()), set(groups[~row].tolist())
        assert not inside & outside and len(inside) == size
    grouped = group_masks(masks, groups)
    assert grouped.names.tolist() == names
    if design == "balanced":
        counts = grouped.masks.sum(axis=0)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("design", "ratio"), DESIGNS)
def test_more_models_continue_the_list(design, ratio):
    many, few = (draw_subsets(models, 10, ratio, 3, design, PATIENT) for models in (40, 20))
    np.testing.assert_array_equal(many[:20], few)
    assert (many != draw_subsets(40, 10, ratio, 4, design, PATIENT)).any()


@pytest.mark.parametrize(("design", "ratio"), DESIGNS)
def test_groups_of_one_are_drawn_as_single_examples(design, ratio):
    expected = draw_subsets(8, 30, ratio, 3, design)
    np.testing.assert_array_equal(draw_subsets(8, 30, ratio, 3, design, np.arange(30)[::-1] * 7), expected)
    # Five examples in each group, in any order: the draw of 30 examples, five times.
    np.testing.assert_array_equal(draw_subsets(8, 150, ratio, 3, design, FIVES), np.repeat(expected, 5, axis=1))


def test_what_groups_are_called_does_not_matter():
    expected = draw_subsets(12, 10, 0.7, 0, groups=PATIENT)
    number = np.unique(PATIENT, return_inverse=True)[1]
    for same in (PATIENT.tolist(), PATIENT.astype(object), number, number.astype(np.uint8).tolist(), -number):
        np.testing.assert_array_equal(draw_subsets(12, 10, 0.7, 0, groups=same), expected)


@pytest.mark.parametrize("num_groups", [6, 7])
def test_complementary_pairs_split_the_groups(num_groups):
    groups = np.random.default_rng(0).permutation(np.arange(40) % num_groups)
    masks = draw_subsets(6, 40, 0.5, 0, "complementary", groups)
    assert (masks[::2] ^ masks[1::2]).all()
    assert (group_masks(masks, groups).masks[::2].sum(axis=1) == num_groups // 2).all()


def test_leave_one_out():
    masks = leave_one_out(10, ["zoe", "eve"], repeats=2, groups=PATIENT)
    np.testing.assert_array_equal(masks, np.stack([PATIENT != name for name in ("zoe", "zoe", "eve", "eve")]))
    numbers = np.array([7, 7, 3])
    np.testing.assert_array_equal(leave_one_out(3, (name for name in [7]), 1, numbers), [[False, False, True]])
    with pytest.raises(ValueError, match=r"names group 'max', which is none of the 5 groups \(first: \['eve', 'bob'"):
        leave_one_out(10, ["eve", "max"], 1, PATIENT)
    with pytest.raises(ValueError, match="dropped names group 0"):
        leave_one_out(10, [0], 1, PATIENT)
    with pytest.raises(ValueError, match=r"dropped names a group twice: \['eve', 'eve'\]. Use repeats"):
        leave_one_out(10, ["eve", "eve"], 1, PATIENT)
    with pytest.raises(ValueError, match="takes the names of one or more groups"):
        leave_one_out(10, [], 1, PATIENT)


def test_group_masks_and_coverage():
    masks = draw_subsets(30, 10, 0.6, 0, groups=PATIENT)
    grouped = group_masks(masks, PATIENT)
    assert grouped.names.tolist() == NAMES
    for column, name in zip(grouped.masks.T, NAMES, strict=True):
        assert (masks[:, name == PATIENT] == column[:, None]).all()
    check_coverage(masks, PATIENT)
    masks[:, PATIENT == "ann"] = True
    with pytest.raises(ValueError, match=r"1 of 5 groups are in none or all of the 30 subsets \(first: \['ann'\]\)"):
        check_coverage(masks, PATIENT)
    masks[7, 3] = False
    message = r"splits groups in 1 of 30 models \(first: model 7 was trained on 1 of the 2 examples of group 'ann'\).*groups=groups"
    for function in (group_masks, check_coverage, lambda *given: pack(given[0], given[0], groups=given[1])):
        with pytest.raises(ValueError, match=message):
            function(masks, PATIENT)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (PATIENT[:9], ValueError, "groups has 9 entries, but num_train has 10 training examples"),
        (np.where(np.arange(10) == 3, np.nan, 1.0), ValueError, r"holds 1 missing of 10 values \(first: number 3\)"),
        ([*PATIENT[:9], None], ValueError, r"holds 1 missing of 10 values \(first: number 9\)"),
        ([*PATIENT[:9].tolist(), float("nan")], ValueError, r"holds 1 missing of 10 values \(first: number 9\)"),
        (np.ma.masked_equal(np.arange(10), 4), ValueError, r"holds 1 missing of 10 values \(first: number 4\)"),
        (np.ones(10), TypeError, "groups has dtype float64; it takes integers or text"),
        (np.arange(10) > 3, TypeError, "groups has dtype bool"),
        ([*PATIENT[:9].tolist(), 7], TypeError, r"groups holds 7 \(int\); .* all of one kind"),
        (["eve"] * 10, ValueError, r"all 10 training examples into one group \('eve'\); it takes two groups or more"),
        (PATIENT[:, None], TypeError, "of 2 dimensions"),
        ("eve", TypeError, "of 0 dimensions"),
    ],
)
def test_groups_that_are_refused(groups, error, message):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        for call in (
            lambda: draw_subsets(4, 10, 0.5, groups=groups),
            lambda: leave_one_out(10, ["eve"], 1, groups),
            lambda: group_masks(np.ones((3, 10), bool), groups),
            lambda: pack(np.ones((3, 10), bool), np.ones((3, 2)), groups=groups),
        ):
            with pytest.raises(error, match=message.replace("num_train", "(num_train|masks)")):
                call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def simulated(kind="bool", models=120, seed=0):
    """Masks over ten examples of five patients, scores of the training and of six test examples."""
    rng = np.random.default_rng(seed)
    masks = draw_subsets(models, 10, 0.6, seed, groups=PATIENT)
    effect = np.where(PATIENT == "bob", 0.25, 0.0)[:, None] * (np.arange(6) < 3)
    right = rng.random((models, 6)) < 0.3 + masks @ effect
    train = rng.random((models, 10)) < np.where(masks, 0.9, 0.4)
    if kind == "bool":
        return masks, train, right
    return masks, *(score + rng.normal(0, 0.1, score.shape).astype(np.float32) for score in (train, right))


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_influence_per_group_equals_definition(kind):
    masks, train, test = simulated(kind)
    packed = pack(masks, test, train, PATIENT)
    columns = {name: masks[:, PATIENT == name].all(axis=1) for name in NAMES}
    expected = np.stack([test[seen].mean(axis=0) - test[~seen].mean(axis=0) for seen in columns.values()])
    found = jaxinfl.influence(packed)
    assert packed.names.tolist() == NAMES and found.shape == (5, 6) and "5 groups" in repr(packed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Members are in or out together, so that each of them has the influence of the whole group.
    single = jaxinfl.influence(masks, test)
    np.testing.assert_array_equal(single, found[[NAMES.index(name) for name in PATIENT]])
    np.testing.assert_array_equal(jaxinfl.influence(group_masks(masks, PATIENT).masks, test), found)
    np.testing.assert_array_equal(jaxinfl.estimate(packed).influence.shape, (5, 6))
    np.testing.assert_allclose(jaxinfl.estimate(packed).influence, expected, atol=1e-5)
    # Memorization: the influence on the members' mean score.
    own = np.stack([train[:, name == PATIENT].mean(axis=1, dtype=float) for name in NAMES], axis=1)
    np.testing.assert_allclose(packed.train_score, own, rtol=1e-6)
    expected = [own[seen, group].mean() - own[~seen, group].mean() for group, seen in enumerate(columns.values())]
    np.testing.assert_allclose(jaxinfl.memorization(packed), expected, atol=1e-5)
    best = jaxinfl.top_pairs(packed, k=3, min_memorization=0.1)
    assert set(packed.names[best.train_index]) == {"bob"} and set(best.test_index) == {0, 1, 2}
    assert packed.select([1, 3]).names.tolist() == ["bob", "zoe"]
    assert packed.select([1, 3]).with_score(test).names.tolist() == ["bob", "zoe"]
    with pytest.raises(ValueError, match="groups is given for an Outcomes of groups"):
        pack(packed, groups=PATIENT)


def test_an_ensemble_per_group():
    masks, train, test = simulated()
    diverged = np.arange(120) % 11 == 3
    broken = np.where(diverged[:, None], False, test)
    packed = pack(NamedScores(masks, {"correct": train}, {"correct": broken}, diverged), "correct", groups=PATIENT)
    expected = pack(masks[~diverged], test[~diverged], train[~diverged], PATIENT)
    np.testing.assert_array_equal(jaxinfl.influence(packed), jaxinfl.influence(expected))
    np.testing.assert_array_equal(jaxinfl.memorization(packed), jaxinfl.memorization(expected))
    # Groups of one example each are the examples, to the bit.
    alone = pack(masks, test, train, np.arange(10))
    assert alone.train_score.dtype == bool
    np.testing.assert_array_equal(jaxinfl.memorization(alone), jaxinfl.memorization(masks, train))


def test_attributions_per_group():
    """The sum over the members is what a linear model says of a group."""
    masks, _, test = simulated("float")
    attribution = np.random.default_rng(1).normal(size=(10, 6))
    of_groups = np.stack([attribution[name == PATIENT].sum(axis=0) for name in NAMES])
    one = jaxinfl.lds(of_groups, pack(masks, test, groups=PATIENT), repeats=20)
    other = jaxinfl.lds(attribution, masks, test, repeats=20)
    np.testing.assert_allclose(one.correlation, other.correlation)
    assert jaxinfl.datamodel_weights(pack(masks, test, groups=PATIENT)).shape == (5, 6)
    left_out = np.concatenate([np.ones((4, 10), bool), leave_one_out(10, NAMES, 2, PATIENT)])
    score = np.random.default_rng(2).normal(size=(14, 6))
    effect = np.stack([score[:4].mean(axis=0) - score[4 + 2 * k : 6 + 2 * k].mean(axis=0) for k in range(5)])
    found = jaxinfl.leave_one_out_correlation(of_groups, pack(left_out, score, groups=PATIENT), repeats=20)
    expected = [scipy.stats.spearmanr(*columns).statistic for columns in zip(of_groups.T, effect.T, strict=True)]
    np.testing.assert_allclose(found.correlation, expected, atol=1e-6)


def test_plan_per_group():
    rng = np.random.default_rng(0)
    masks = draw_subsets(100, 150, 0.7, 0, groups=FIVES)
    train, test = rng.random((100, 150)) < 0.5, rng.random((100, 40)) < 0.5
    packed = pack(masks, test, train, FIVES)
    told = jaxinfl.plan(packed, min_memorization=None, repeats=2)
    expected = jaxinfl.plan((packed.masks, packed.masks, test), min_memorization=None, repeats=2)
    assert told.num_examples == 30 and told.text == expected.text
    with pytest.raises(
        ValueError, match=r"min_memorization is 0.25 .*; it takes None where pilot is an Outcomes of groups"
    ):
        jaxinfl.plan(packed)
    with pytest.warns(
        RuntimeWarning, match="pilot has 150 of 150 training examples that are always in or out together"
    ):
        jaxinfl.plan((masks, train, test), min_memorization=None, repeats=2)


def share_with_a_discovery(repeats, analyse):
    """Number of simulated ensembles without any influence in which something is found; a discovery is false there."""
    found = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        masks = draw_subsets(80, 150, 0.7, seed, groups=FIVES)
        found += analyse(masks, rng.random((80, 20)) < rng.uniform(0.2, 0.8, 20)) > 0
    return found


def test_false_discovery_rate_without_any_influence():
    """Every discovery is false then, so that one may occur in a share `fdr` of the ensembles (99% interval)."""
    repeats, fdr = 200, 0.2
    number = share_with_a_discovery(
        repeats, lambda masks, score: len(discoveries(pack(masks, score, groups=FIVES), fdr=fdr))
    )
    assert number <= scipy.stats.binom.ppf(0.995, repeats, fdr)


def test_single_examples_of_groups_do_not_inflate_silently():
    """They bring a warning, and still keep the rate: equal tests go together."""
    repeats, fdr = 60, 0.2

    def analyse(masks, score):
        with pytest.warns(
            RuntimeWarning, match=r"masks has 150 of 150 .*\(first: 0 and 1\).*pack\(masks, score, groups"
        ):
            found = discoveries(masks, score, fdr=fdr)
        assert len(found) % 5 == 0  # five members, five times the same
        return len(found)

    assert share_with_a_discovery(repeats, analyse) <= scipy.stats.binom.ppf(0.995, repeats, fdr)


def test_a_group_is_one_discovery():
    """One group that matters is one pair for each test example that it matters to, not one for each of its members."""
    rng = np.random.default_rng(0)
    masks = draw_subsets(200, 150, 0.7, 0, groups=FIVES)
    right = rng.random((200, 6)) < 0.3 + 0.5 * masks[:, FIVES == 12][:, :1] * (np.arange(6) < 3)
    packed = pack(masks, right, groups=FIVES)
    found = discoveries(packed)
    assert packed.names[found.train_index].tolist() == [12] * 3 and sorted(found.test_index) == [0, 1, 2]
    assert found.num_tests == 30 * 6
    with pytest.warns(RuntimeWarning, match="always in or out together"):
        single = discoveries(masks, right)
    assert len(single) == 15 and single.num_tests == 150 * 6


def test_equal_columns_by_chance_bring_no_warning():
    masks = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)
    discoveries(masks, np.eye(4, dtype=bool))
    discoveries(leave_one_out(300, [0, 4, 7], 20), np.zeros((60, 2), bool))  # 297 examples that are in every subset


def test_excluded_groups_have_no_effect(toy):
    """Rule 1, to the bit: whatever the examples of a group hold, models that were drawn without the group do not know."""
    groups = np.random.default_rng(0).permutation(np.arange(40) % 9)
    masks = draw_subsets(6, 40, 0.6, 1, groups=groups)
    grouped = group_masks(masks, groups)
    assert len(set(masks.sum(axis=1).tolist())) > 1  # subsets of several sizes
    keys = jax.random.split(jax.random.key(0), 6)

    def train(excluded):
        images, labels = toy.train_inputs.copy(), toy.train_targets.copy()
        images[excluded], labels[excluded] = 255 - images[excluded] // 2, (labels[excluded] + 1) % 3
        data = jaxinfl.Dataset(
            train_inputs=images, train_targets=labels, test_inputs=toy.test_inputs, test_targets=toy.test_targets
        )
        options = {"model": MODEL, "recipe": RECIPE, "width": 2, "progress": False, "tune": False}
        return jaxinfl.train_ensemble(masks, keys, data=data, **options).test_margin

    plain = train(np.zeros(40, bool))
    for group in (0, 4):
        changed = train(groups == grouped.names[group])
        inside = grouped.masks[:, group]
        np.testing.assert_array_equal(changed[~inside], plain[~inside])
        assert inside.any() and (changed[inside] != plain[inside]).any(axis=1).all()
