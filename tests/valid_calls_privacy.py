"""A small valid call of every public function of `jaxinfl.privacy`, with the kind of each argument."""

import numpy as np

import jaxinfl
from tests.bad_inputs import (
    ARRAY,
    AS_ARRAY,
    CHOICE,
    MASKS,
    NUMBER,
    NUMBERS,
    SCORE,
    SWITCH,
    Call,
    Kind,
    cast,
    constant,
    share,
    whole,
)
from tests.valid_calls import MODELS, TRAIN, masks, probability

_rng = np.random.default_rng(1)
_margin, _others = _rng.standard_normal((MODELS, TRAIN)).astype(np.float32), _rng.random((3, TRAIN)).astype(np.float32)
_told = {"masks": masks, "score": _margin, "method": "lira"}
_told_kinds = {"masks": MASKS, "score": SCORE.but("stacked"), "method": CHOICE}
MEMBER = Kind(ARRAY | {"floats": cast(float), "integers": cast(int), "number": constant(3)}, AS_ARRAY)
_guessed = {"member": masks[:, 0], "score": _margin[:, 0], "delta": 0.001, "confidence": 0.9}
_guessed_kinds = {"member": MEMBER, "score": NUMBERS, "delta": NUMBER, "confidence": share()}

PRIVACY = [
    Call(jaxinfl.membership, _told | {"confidence": 0.9}, _told_kinds | {"confidence": share()}),
    Call(
        jaxinfl.membership_score,
        {
            "masks": masks,
            "score": probability[:, [0, 1, 2, 3, 4, 0]],
            "target_score": _others,
            "population": probability,
            "target_population": probability[:3],
            "method": "rmia",
        },
        {
            "masks": MASKS,
            "score": SCORE.but("stacked"),
            "target_score": SCORE.but("stacked", "one more row", "one row less"),
            "population": SCORE.but("stacked"),
            "target_population": SCORE.but("stacked"),
            "method": CHOICE,
        },
    ),
    Call(
        jaxinfl.Lira,
        {"offline": "density", "deviation": "example", "center": "mean", "fill_gaps": True},
        {"offline": CHOICE.but("none"), "deviation": CHOICE, "center": CHOICE, "fill_gaps": SWITCH},
        runs=False,
    ),
    Call(jaxinfl.Rmia, {"offline": 0.25, "gamma": 1.5}, {"offline": NUMBER.but("none"), "gamma": NUMBER}, runs=False),
    Call(jaxinfl.epsilon_of_canary, _guessed, _guessed_kinds),
    Call(jaxinfl.epsilon_of_run, _guessed | {"guesses": 4}, _guessed_kinds | {"guesses": whole(1, MODELS).but("none")}),
    Call(
        jaxinfl.models_for_epsilon,
        {"epsilon": 0.5, "delta": 0.001, "confidence": 0.9},
        {"epsilon": NUMBER, "delta": NUMBER, "confidence": share()},
    ),
]
