import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxinfl import check_coverage, draw_subsets, leave_one_out


@given(
    st.integers(1, 30),
    st.integers(2, 60),
    st.floats(0.05, 1.0),
    st.integers(0, 5),
    st.sampled_from(["uniform", "balanced"]),
)
def test_size_is_the_integer_part_of_the_share(num_models, num_train, ratio, seed, design):
    size = int(ratio * num_train)
    if size == 0:
        with pytest.raises(ValueError, match="empty subset"):
            draw_subsets(num_models, num_train, ratio, seed, design)
        return
    masks = draw_subsets(num_models, num_train, ratio, seed, design)
    assert masks.shape == (num_models, num_train) and masks.dtype == bool
    assert (masks.sum(axis=1) == size).all()


@given(st.integers(1, 40), st.integers(2, 40), st.floats(0.1, 1.0), st.integers(0, 3))
def test_balanced_counts_differ_by_one_at_most(num_models, num_train, ratio, seed):
    if int(ratio * num_train) == 0:
        return
    counts = draw_subsets(num_models, num_train, ratio, seed, "balanced").sum(axis=0)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("num_train", [10, 11])
def test_complementary_pairs_split_the_set(num_train):
    masks = draw_subsets(6, num_train, 0.5, 0, "complementary")
    assert (masks[::2] ^ masks[1::2]).all()
    assert (masks[::2].sum(axis=1) == num_train // 2).all()


@pytest.mark.parametrize(("design", "ratio"), [("uniform", 0.7), ("balanced", 0.7), ("complementary", 0.5)])
def test_more_models_continue_the_list(design, ratio):
    np.testing.assert_array_equal(draw_subsets(40, 30, ratio, 3, design)[:20], draw_subsets(20, 30, ratio, 3, design))
    assert (draw_subsets(40, 30, ratio, 3, design) != draw_subsets(40, 30, ratio, 4, design)).any()


@pytest.mark.parametrize("design", ["uniform", "balanced"])
def test_every_pair_of_examples_meets_as_often_as_chance_says(design):
    """Subsets of m of n examples, drawn without replacement, hold both of a pair with probability m (m - 1) / (n (n - 1))."""
    n, m, models = 12, 6, 6000
    masks = draw_subsets(models, n, m / n, 1, design).astype(float)
    together = (masks.T @ masks)[~np.eye(n, dtype=bool)] / models
    expected = m * (m - 1) / (n * (n - 1))
    # Five standard errors; for 66 pairs the chance of a false alarm is 4e-5.
    assert np.abs(together - expected).max() < 5 * np.sqrt(expected * (1 - expected) / models)


def test_leave_one_out():
    masks = leave_one_out(5, [3, 0], repeats=2)
    np.testing.assert_array_equal(np.argmin(masks, axis=1), [3, 3, 0, 0])
    assert (masks.sum(axis=1) == 4).all()


def test_check_coverage():
    check_coverage(draw_subsets(30, 20))
    with pytest.raises(
        ValueError, match=r"1 of 3 training examples are in none or all of the 2 subsets \(first: \[1\]\)"
    ):
        check_coverage(np.array([[True, True, False], [False, True, True]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "num_models is 0"),
        ((3, 2.5), "num_train is 2.5"),
        ((3, 10, 1.5), "ratio is 1.5"),
        ((3, 10, 0.0), "ratio is 0.0"),
        ((3, 10, float("nan")), "ratio is nan"),
        ((3, 10, 0.05), "empty subset"),
        ((3, 10, 0.7, -1), "seed is -1"),
        ((3, 10, 0.7, 0, "complementary"), "set it to 0.5"),
        ((3, 10, 0.5, 0, "complementary"), "make it even"),
        ((3, 10, 0.7, 0, "striped"), "design is 'striped'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        draw_subsets(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, [5], 1), "example 5"),
        ((5, [-1], 1), "example -1"),
        ((5, [1, 1], 1), "twice"),
        ((5, [], 1), "one or more"),
        ((5, [1], 0), "repeats"),
    ],
)
def test_leave_one_out_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        leave_one_out(*arguments)
