"""Small runs of every task that are kept with the tests, so that every later version opens what this one wrote.

    python -m tests.make_stored_runs FOLDER    trains them, with their data and the numbers that tests compare, into a new folder

`tests/runs/` was made so. It is not renewed when the format changes: older runs must stay readable. A new format adds a folder.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

from jaxinfl import Ensemble
from tests.stored_runs import MODELS, NAMES, TASKS, TEST, TRAIN, describe, draw_masks, make_data, train


def make_of_scores(folder: Path) -> None:
    """Make the runs of models that were trained elsewhere, and the copy of a run's chosen rows."""
    rng = np.random.default_rng(1)
    scores = {
        split: {
            "margin": rng.normal(size=(MODELS, size)).astype(np.float32),
            "right": rng.random((MODELS, size)) < 0.7,
        }
        for split, size in (("train", TRAIN), ("test", TEST))
    }
    Ensemble.from_scores(draw_masks(), **scores).save(folder / "from_scores")
    Ensemble.from_scores(draw_masks(), train=scores["train"]).save(folder / "from_scores_of_train")
    Ensemble.open(folder / "regression")[[4, 1]].save(folder / "saved")


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in TASKS:
        np.savez_compressed(folder / f"{name}.npz", **make_data(name))
        train(folder, name)
    make_of_scores(folder)
    recorded = {name: describe(Ensemble.open(folder / name)) for name in NAMES}
    (folder / "recorded.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".* diverged and are left out")
    main(Path(sys.argv[1]))
