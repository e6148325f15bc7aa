"""The most influential pairs: streamed against the sorted full matrix."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl.influence import influence, memorization, tiles, top_pairs
from tests import reference


def draw(models: int, seed: int = 0, floats: bool = False, ratio: float = 0.7):
    rng = np.random.default_rng(seed)
    masks = rng.random((models, 9)) < ratio
    train_score = rng.random((models, 9)) < 0.4 + 0.5 * masks
    test_score = rng.random((models, 5), dtype=np.float32)
    return masks, train_score, test_score if floats else test_score < 0.5


def from_full_matrix(masks, train_score, test_score, k, min_memorization):
    everything, own = np.asarray(influence(masks, test_score)), memorization(masks, train_score)
    everything = everything.astype(float)
    rows = [
        (-everything[i, j], i, j)
        for i, j in np.ndindex(everything.shape)
        if not np.isnan(everything[i, j]) and (min_memorization is None or own[i] > min_memorization)
    ]
    values, train, test = (np.array(column) for column in zip(*sorted(rows)[:k], strict=True))
    return train, test, -values, own[train]


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("tile", [None, 1, 2, 4, 9, 100])
@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.parametrize("min_memorization", [None, 0.3])
def test_equals_the_sorted_matrix(min_memorization, k, tile, floats):
    arguments = draw(20, floats=floats)  # few models: many equal values
    arguments[0][:, 3] = True
    result = top_pairs(*arguments, k, min_memorization, tile=tile)
    train, test, values, own = from_full_matrix(*arguments, k, min_memorization)
    np.testing.assert_array_equal(result.train_index, train)
    np.testing.assert_array_equal(result.test_index, test)
    np.testing.assert_array_equal(result.influence, values)
    np.testing.assert_array_equal(result.memorization, own)
    assert not np.isin(result.train_index, 3).any()
    assert result.influence.dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(
    models=st.sampled_from([2, 33]),
    ratio=st.sampled_from([0.02, 0.5, 0.98]),
    seed=st.integers(0, 2**32 - 1),
    tile=st.sampled_from([2, 9]),
)
def test_values_equal_definition(models, ratio, seed, tile):
    masks, train_score, test_score = draw(models, seed, ratio=ratio)
    result = top_pairs(masks, train_score, test_score, 6, None, tile=tile)
    expected = reference.top_pairs(masks, train_score, test_score, 6, None)
    # The order of values that are equal in one arithmetic and not in the other does not matter here.
    np.testing.assert_allclose(result.influence, [value for value, _, _ in expected], atol=2**-21)
    own = reference.memorization(masks, train_score)
    np.testing.assert_allclose(result.memorization, own[result.train_index], atol=2**-21)


def test_equal_fractions_are_equal_and_others_are_in_order():
    """4/5 - 3/5 equals 3/5 - 2/5, in whatever order they stand."""
    masks = np.arange(10)[:, None] < 5
    right = [[0, 1, 2, 3, 5, 6, 7], [0, 1, 2, 5, 6], [0, 1, 5], [0, 1, 2, 3, 5, 6]]
    score = np.stack([np.isin(np.arange(10), each) for each in right], axis=1)
    assert top_pairs(masks, masks, score, 4, None).test_index.tolist() == [3, 0, 1, 2]
    rng = np.random.default_rng(0)
    masks, score = rng.random((2000, 12)) < 0.7, rng.random((2000, 40)) < 0.5
    found = top_pairs(masks, masks, score, 480, None)
    exact = []
    for i, j in zip(found.train_index, found.test_index, strict=True):
        inside, outside = (score[side, j] for side in (masks[:, i], ~masks[:, i]))
        value = Fraction(int(inside.sum()), inside.size) - Fraction(int(outside.sum()), outside.size)
        exact.append((-value, i, j))
    assert exact == sorted(exact)


def test_no_example_above_the_condition_gives_no_pairs():
    result = top_pairs(*draw(20), min_memorization=2.0)
    for field in (result.train_index, result.test_index, result.influence, result.memorization):
        assert field.shape == (0,)


def test_no_defined_pair_gives_no_pairs():
    masks, train_score, test_score = draw(1)
    assert top_pairs(masks, train_score, test_score, min_memorization=None).influence.shape == (0,)


def test_a_tile_is_compiled_once():
    arguments = draw(21)
    tiles._influence_of_counts.clear_cache()
    top_pairs(*arguments, 3, None, tile=2)
    assert tiles._influence_of_counts._cache_size() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k is 0; it takes a whole number from 1"),
        ({"tile": 0}, "tile is 0; it takes a whole number from 1"),
        ({"min_memorization": float("nan")}, "min_memorization is NaN"),
        ({"train_score": np.ones((20, 8), bool)}, "train_score has 8 columns, but masks has 9"),
        ({"test_score": np.ones((19, 8), bool)}, "test_score has 19 rows, but masks has 20"),
        ({"test_score": np.full((20, 8), np.nan)}, "test_score holds NaN or inf .* for 20 of 20 models"),
    ],
)
def test_rejects(changes, message):
    masks, train_score, test_score = draw(20)
    arguments = {"train_score": train_score, "test_score": test_score, **changes}
    with pytest.raises(ValueError, match=message):
        top_pairs(masks, **arguments)
