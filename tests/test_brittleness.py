"""Predictions that flip when the examples are left out that an attribution names: by hand, and on trained models."""

import numpy as np
import pytest

import jaxinfl
from jaxinfl import Brittleness, brittleness
from jaxinfl.brittleness import removal_masks

RECIPE = jaxinfl.Recipe(epochs=40, batch_size=8, learning_rate=0.3, weight_decay=0.0)


@pytest.fixture(scope="module")
def data():
    """Four test examples, each of a class of its own with two training examples, and a class of others."""
    rng = np.random.default_rng(0)
    centres = 4 * np.eye(4, dtype=np.float32)
    inputs = np.concatenate([np.repeat(centres, 2, axis=0), rng.normal(size=(16, 4)).astype(np.float32) * 0.1])
    labels = np.concatenate([np.repeat([1, 2, 3, 4], 2), np.zeros(16, int)])
    return jaxinfl.Dataset(
        train_inputs=inputs,
        train_targets=labels,
        test_inputs=centres,
        test_targets=np.array([1, 2, 3, 4]),
        class_names=["a", "b", "c", "d", "e"],
    )


@pytest.fixture(scope="module")
def attributions():
    """One that names the two examples of each test example, and one that names those of another."""
    right = np.zeros((24, 4))
    for test in range(4):
        right[2 * test : 2 * test + 2, test] = 1
    return {"right": right, "wrong": right[:, [1, 0, 3, 2]]}


def test_what_is_left_out(attributions):
    masks = removal_masks(attributions, np.array([0, 3]), np.array([1, 2]), 24, seed=0)
    assert masks.shape == (1 + 2 * (1 + 2 * 2), 24) and masks[0].all()
    assert (~masks).sum(axis=1).tolist() == [0, *[1, 2] * 5]
    assert np.flatnonzero(~masks[3]).tolist() == [0] and np.flatnonzero(~masks[4]).tolist() == [0, 1]
    assert np.flatnonzero(~masks[6]).tolist() == [6, 7] and np.flatnonzero(~masks[8]).tolist() == [2, 3]
    assert (masks[1] >= masks[2]).all()


def test_the_examples_that_decide_a_prediction_flip_it(data, attributions, tmp_path):
    options = {"model": "small_mlp", "recipe": RECIPE, "progress": False, "run_dir": tmp_path / "runs"}
    found = brittleness(attributions, data, test_examples=[0, 1, 2, 3], removals=(1, 2), seeds=3, **options)
    assert found.names == ("right", "wrong", "random") and found.wrong.shape == (3, 4, 2)
    assert not found.wrong_before.any()
    # Without both of its class nothing tells of the class; without one there is the other.
    np.testing.assert_array_equal(found.flipped("right"), [[False, True]] * 4)
    assert not found.flipped("wrong").any() and not found.flipped("random").any()
    np.testing.assert_array_equal(found.smallest("right"), [2, 2, 2, 2])
    assert np.isinf(found.smallest("wrong")).all()
    share, low, high = found.share_flipped("right")[1]
    assert share == 1 and 0.4 < low < 0.6 and high == 1
    assert "4 of 4 predictions are right with nothing left out" in found.text and "right" in found.text
    # The run directory is read again, and one attribution needs no name.
    again = brittleness(attributions, data, test_examples=[0, 1, 2, 3], removals=(1, 2), seeds=3, **options)
    np.testing.assert_array_equal(again.wrong, found.wrong)


def test_removals_whose_models_all_diverged_do_not_count():
    wrong = np.array([[[0.8], [np.nan], [0.1]]])
    found = Brittleness(("random",), np.arange(3), np.array([5]), wrong, np.zeros(3), 5, 0.95)
    assert found.share_flipped("random")[0, 0] == 0.5


def test_predictions_that_were_wrong_before_do_not_count():
    wrong = np.array([[[0.2, 0.8], [0.9, 0.9], [0.1, 0.4]]] * 2)
    found = Brittleness(
        ("attribution", "random"), np.arange(3), np.array([5, 9]), wrong, np.array([0.0, 0.6, 0.1]), 5, 0.95
    )
    np.testing.assert_array_equal(found.flipped("attribution"), [[False, True], [False, False], [False, False]])
    np.testing.assert_array_equal(found.smallest("attribution"), [9, np.nan, np.inf])
    assert found.share_flipped("attribution")[:, 0].tolist() == [0, 0.5]
    nothing = Brittleness(("random",), np.arange(1), np.array([5]), wrong[:1, 1:2, :1], np.array([1.0]), 5, 0.95)
    assert np.isnan(nothing.share_flipped("random")).all()
    with pytest.raises(ValueError, match="name is 'trak'; it takes one of 'attribution', 'random'"):
        found.flipped("trak")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attribution": np.zeros((3, 4))}, ValueError, r"attribution has shape \(3, 4\); it takes \(24, 4\)"),
        ({"attribution": {"random": np.zeros((24, 4))}}, ValueError, "it takes text other than 'random'"),
        ({"attribution": {}}, ValueError, "empty mapping"),
        ({"attribution": np.full((24, 4), np.nan)}, ValueError, "holds 96 NaN or infinite values"),
        ({"attribution": np.full((24, 4), "a")}, TypeError, "it takes numbers"),
        ({"data": "digits"}, TypeError, "data is 'digits'; it takes a jaxinfl.Dataset"),
        ({"test_examples": [9]}, ValueError, "test_examples holds 1 indices outside 0..3"),
        ({"test_examples": []}, ValueError, "test_examples is empty"),
        ({"test_examples": [1, 1]}, ValueError, "test_examples has an index twice"),
        ({"part": (1, 4)}, ValueError, "part is given; brittleness makes the subsets and keys itself"),
        ({"masks": np.ones((3, 24), bool)}, ValueError, "masks is given"),
        ({"removals": (2, 1)}, ValueError, "it takes rising numbers"),
        ({"removals": (24,)}, ValueError, "removals is 24"),
        ({"removals": "10"}, TypeError, "removals is '10'"),
        ({"seeds": 0}, ValueError, "seeds is 0"),
        ({"confidence": 1.0}, ValueError, "confidence is 1.0"),
    ],
)
def test_mistakes_are_told(data, changes, error, message):
    with pytest.raises(error, match=message):
        brittleness(**({"attribution": np.zeros((24, 4)), "data": data, "test_examples": [0]} | changes))
