"""A small valid call of every public function of `jaxinfl.published` and `jaxinfl.explore`, with the kind of each argument."""

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np

import jaxinfl
from jaxinfl import PublishedScores
from tests import twins
from tests.bad_inputs import CHOICE, MASKS, NOTHING_ELSE, NUMBER, PATH, SCORE, Call, constant, whole
from tests.valid_calls import TEST, TRAIN, correct, labels, masks, train_correct

_FOLDER = Path(tempfile.mkdtemp(prefix="jaxinfl-published-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_twin = twins.make_twin(6, 9, 6)
twins.write_lira(_twin, _FOLDER / "lira")
_file = twins.write_pairs(
    _FOLDER, tr_idx=np.array([0, 1, 2, 3]) % TRAIN, tt_idx=np.array([0, 1, 2, 3]) % TEST, mem=np.full(4, 0.25)
)
_pairs = jaxinfl.read_pairs(_file)
_scores = PublishedScores(np.linspace(0, 1, TRAIN), labels[:TRAIN], "as in the files")
_runs = jaxinfl.Ensemble.from_scores(masks, {"right": train_correct}, {"right": correct})

PUBLISHED = [
    Call(
        jaxinfl.read_run,
        {"path": str(_FOLDER / "lira"), "layout": "lira", "data": None, "epoch": 100},
        {
            "path": PATH.but(none=constant(None)),
            "layout": CHOICE.but("none"),
            "data": NOTHING_ELSE.but("none"),
            "epoch": whole(0).but("none"),
        },
        runs=False,
    ),
    Call(
        jaxinfl.read_pairs,
        {"path": str(_file), "data": None, "min_influence": 0.2, "min_memorization": 0.2},
        {
            "path": PATH.but(none=constant(None)),
            "data": NOTHING_ELSE.but("none"),
            "min_influence": NUMBER.but("none"),
            "min_memorization": NUMBER.but("none"),
        },
    ),
    Call(
        jaxinfl.compare_pairs,
        {"published": _pairs, "masks": masks, "score": correct, "train_score": train_correct, "threshold": 0.25},
        {
            "published": NOTHING_ELSE,
            "masks": MASKS,
            "score": SCORE,
            "train_score": SCORE,
            "threshold": NUMBER.but("none"),
        },
    ),
    Call(
        jaxinfl.compare_scores,
        {"published": _scores, "masks": masks, "train_score": train_correct},
        {"published": NOTHING_ELSE, "masks": MASKS, "train_score": SCORE},
    ),
    Call(
        jaxinfl.write_run,
        {"runs": _runs, "path": str(_FOLDER / "written"), "layout": "datamodels", "score": "right"},
        {
            "runs": NOTHING_ELSE,
            "path": PATH.but(none=constant(None)),
            "layout": CHOICE,
            "score": CHOICE.but("none"),
        },
        runs=False,
    ),
    Call(
        jaxinfl.write_explorer,
        {
            "runs": _runs,
            "data": None,
            "out": str(_FOLDER / "explorer.html"),
            "score": "right",
            "membership": None,
            "partners": 3,
        },
        {
            "runs": NOTHING_ELSE,
            "data": NOTHING_ELSE.but("none"),
            "out": PATH.but(none=constant(None)),
            "score": CHOICE.but("none"),
            "membership": NOTHING_ELSE.but("none"),
            "partners": whole(1),
        },
        runs=False,
    ),
]
