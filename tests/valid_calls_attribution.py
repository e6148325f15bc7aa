"""A small valid call of the functions that judge attributions by training again, with the kind of each argument."""

import numpy as np

import jaxinfl
from tests.bad_inputs import CHOICE, INDICES, MASKS, NOTHING_ELSE, NUMBER, SCORE, SEED, Call, share, whole
from tests.valid_calls import ATTRIBUTION as ATTRIBUTIONS
from tests.valid_calls import TEST, TRAIN, data, estimates

_rng = np.random.default_rng(2)
_pilot = np.repeat(_rng.random((40, 20)) < 0.5, 2, axis=0)
_scores = _rng.random((80, 35), np.float32)
_attribution = np.asarray(estimates[0][:, : data.num_test], np.float64)

ATTRIBUTION = [
    Call(
        jaxinfl.plan_lds,
        {
            "masks": _pilot,
            "score": _scores,
            "width": 0.1,
            "expected": 0.3,
            "of": "mean",
            "over": "models",
            "most_seeds": 2,
            "confidence": 0.9,
            "seed": 1,
        },
        {
            "masks": MASKS,
            "score": SCORE,
            "width": NUMBER,
            "expected": share(),
            "of": CHOICE,
            "over": CHOICE,
            "most_seeds": whole(1, 50),
            "confidence": share(),
            "seed": SEED,
        },
        runs=False,
    ),
    Call(
        jaxinfl.brittleness,
        {
            "attribution": _attribution,
            "data": data,
            "test_examples": np.array([0, 1]),
            "removals": (1, 2),
            "seeds": 2,
            "seed": 1,
            "confidence": 0.9,
        },
        {
            "attribution": ATTRIBUTIONS,
            "data": NOTHING_ELSE,
            "test_examples": INDICES,
            "seeds": whole(1, 1000),
            "seed": SEED,
            "confidence": share(),
        },
        runs=False,
    ),
]
assert _attribution.shape == (TRAIN, data.num_test) and data.num_test <= TEST
