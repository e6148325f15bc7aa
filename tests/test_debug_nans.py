"""JAX_DEBUG_NANS looks for mistakes: NaN that is documented is none."""

import jax
import numpy as np
import pytest

import jaxinfl
from tests.small_ensembles import keys_of, subsets, train

RNG = np.random.default_rng(0)
MASKS = RNG.random((20, 6)) < 0.7
MASKS[:, 0], MASKS[:, 1] = True, False
SCORES = {"bool": RNG.random((20, 5)) < 0.5, "float": RNG.normal(size=(20, 5)).astype(np.float32)}


@pytest.mark.parametrize("kind", SCORES)
def test_undefined_influence_is_an_answer(kind):
    score = SCORES[kind]
    expected = jaxinfl.influence(MASKS, score)
    assert np.isnan(expected[:2]).all() and np.isfinite(expected[2:]).all()
    with jax.debug_nans(True):
        np.testing.assert_array_equal(jaxinfl.influence(MASKS, score), expected)
        assert np.isnan(jaxinfl.iou(expected, expected, 5.0))
        jaxinfl.iou_of_models(MASKS, score, MASKS[::-1], score[::-1], thresholds=[0.1])
        found = jaxinfl.top_pairs(MASKS, score[:, [0, 1, 2, 3, 4, 0]], score, k=3, min_memorization=None)
        assert np.isfinite(found.influence).all()
        assert np.isnan(jaxinfl.memorization(MASKS, score[:, [0, 1, 2, 3, 4, 0]])[:2]).all()


@pytest.mark.filterwarnings("ignore:.* models diverged:RuntimeWarning")
def test_a_model_that_diverges_is_left_out(toy):
    with jax.debug_nans(True):
        runs = train(
            subsets(),
            keys_of(6),
            toy,
            overrides={"learning_rate": [1e4] * 6},  # with the program of any learning rate
            max_diverged=1.0,
            tune=False,
        ).with_diverged()
    assert runs.num_diverged > 0
