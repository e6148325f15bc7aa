"""`write_explorer`: from an ensemble and its data to the page."""

import os
import warnings
from pathlib import Path

import numpy as np

from jaxinfl.arguments import as_path, check_whole, quote
from jaxinfl.datasets import Dataset
from jaxinfl.explore.content import Explored, Side, pack_content
from jaxinfl.explore.examples import Score, check_membership, count_votes, measure_train, read_score
from jaxinfl.explore.inputs import Shown, show_inputs
from jaxinfl.explore.page import write_page
from jaxinfl.explore.partners import find_partners
from jaxinfl.influence import pack
from jaxinfl.privacy import Membership
from jaxinfl.statistics.clusters import dependent_design
from jaxinfl.statistics.memorization_tests import memorization_q_values
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store.scores import known_targets
from jaxinfl.training import recall_data

_MOST_PARTNERS = 50
_PAIRS = 250_000
"""Pairs that a page holds, 16 bytes each."""


def write_explorer(
    runs: Ensemble,
    data: Dataset | None = None,
    out: str | os.PathLike[str] = "explorer.html",
    *,
    score: str | None = None,
    membership: Membership | None = None,
    partners: int = 8,
) -> Path:
    """Write one HTML file, which needs no server and no network, to explore the examples of a run in a browser.

    It shows the memorization of each training example over how often it is right without it, and for each example its most influential
    partners with intervals and q-values. It finds examples by number, label and text, and labels that may be wrong.

    Args:
      runs: the ensemble; its diverged models are left out.
      data: the run's data set, whose images, texts or rows are shown. None loads it as it was loaded for the training, with a warning
        where that fails; examples of data that were made from arrays are then shown by their numbers.
      out: the HTML file, which is replaced as a whole.
      score: the name of a score, from which influence and memorization are computed. None takes "correct" where predictions are right or
        wrong, else "accuracy", "probability", "margin" or "loss", else the first. Of a score that good models make small, such as
        "loss", the negative is taken; of a score of the user's own, larger is taken for better.
      membership: what `jaxinfl.membership` returned for this run, whose risk of each example is then shown, too.
      partners: number of partners of each sign of each example, from 1 to 50. Of large data fewer are shown, about 250,000 pairs in all.

    Returns:
      The path. The file of 1,797 digits has 1.7 MB and that of 12,000 colour images of 32 x 32 about 13 MB.

    Raises:
      TypeError, ValueError: arguments that do not fit the run, an ensemble without models, data that are not the run's.
      RunDirectoryError: what is read of the run is damaged.
      OSError: the file cannot be written.

    Source: Feldman and Zhang (2020) for influence and memorization; Benjamini and Yekutieli (2005) for the intervals.
    """
    if not isinstance(runs, Ensemble):
        raise TypeError(f"runs is {quote(runs)}; it takes an Ensemble, such as jaxinfl.Ensemble.open(run_dir).")
    target = as_path(out, "out", "the HTML file to write")
    most = check_whole(partners, "partners", 1, _MOST_PARTNERS, "partners of each sign")
    if target.is_dir():
        raise ValueError(
            f"out is {quote(str(target))}, a folder; it takes the HTML file to write, such as explorer.html."
        )
    healthy = runs.without_diverged()
    if not len(healthy):
        raise ValueError("runs has no finished model that did not diverge; it takes an ensemble of one model at least.")
    chosen = read_score(healthy, score)
    check_membership(membership, healthy.masks.shape[1])
    found, notes = _find_data(healthy, data)
    explored = _explore(healthy, chosen, found, membership, most)
    shown = Shown() if found is None else show_inputs(found)
    design = dependent_design(healthy.masks)
    if design is not None:
        notes.append(
            f"Subsets of these models depend on each other (design {design}): intervals are too short where single examples matter much, "
            "and pairs are not tested. Models on independent subsets have both."
        )
    packed = pack_content(explored, shown, [*notes, *shown.notes])
    write_page(target, packed, explored, shown)
    return target


def _find_data(runs: Ensemble, data: Dataset | None) -> tuple[Dataset | None, list[str]]:
    """The run's data set, or None with the reason in words."""
    if data is None:
        if runs.attributes.get("data_source") is None:
            return None, ["The data of this run are not known here, so examples are shown by their numbers."]
        try:
            return recall_data(runs.attributes), []
        except RunDirectoryError as error:
            warnings.warn(f"The page shows examples by their numbers: {error}", UserWarning, stacklevel=3)
            return None, ["The data of this run could not be loaded again, so examples are shown by their numbers."]
    if not isinstance(data, Dataset):
        raise TypeError(f"data is {quote(data)}; it takes a jaxinfl.Dataset, or None.")
    num_train, recorded = runs.masks.shape[1], runs.attributes["identity"]["data"]
    if data.num_train != num_train:
        raise ValueError(f"data has {data.num_train} training examples and the run {num_train}. Give the run's data.")
    if recorded.get("num_test", 0) not in (0, data.num_test):
        raise ValueError(
            f"data has {data.num_test} test examples and the run {recorded['num_test']}. Give the run's data."
        )
    if recorded.get("fingerprint", data.fingerprint) != data.fingerprint:
        raise ValueError(
            f"data is {data.name!r}, whose content differs from that of the run's data. Give the run's data."
        )
    return data, []


def _explore(runs: Ensemble, score: Score, data: Dataset | None, membership: Membership | None, most: int) -> Explored:
    """Compute everything that the page says."""
    masks = runs.masks
    num_test = int(runs.attributes["identity"]["data"].get("num_test", 0))
    if score.test is not None:
        num_test = score.test.shape[1]
    elif data is not None:
        num_test = data.num_test
    targets = {split: _targets(runs, data, split) for split in ("train", "test")}
    classes = runs.class_names if data is None else data.class_names
    number = len(classes)
    every = np.broadcast_to(np.True_, (len(masks), num_test))
    kept = min(most, max(2, _PAIRS // (2 * (masks.shape[1] + num_test))))
    found = None if score.test is None else find_partners(pack(masks, score.test), kept)
    return Explored(
        name=data.name if data is not None else runs.attributes.get("data_name") or "a run without data",
        score=score,
        num_models=len(masks),
        num_diverged=runs.num_diverged,
        classes=classes,
        train=Side(masks.shape[1], targets["train"], count_votes(runs, "train", ~masks, number, score)),
        test=Side(num_test, targets["test"], count_votes(runs, "test", every, number, score) if num_test else None),
        num_in=masks.sum(axis=0),
        memorized=None if score.train is None else measure_train(masks, score.train),
        test_mean=None if score.test is None else score.test.mean(axis=0, dtype=np.float64),
        risk=None if membership is None else membership.risk,
        # The risk is the rank-sum statistic of the models' own scores, as a share.
        risk_q=None if membership is None else memorization_q_values(membership.member, membership.own_score),
        partners=found,
        asked_partners=most,
        kept_partners=kept,
    )


def _targets(runs: Ensemble, data: Dataset | None, split: str) -> np.ndarray | None:
    if data is not None:
        targets: np.ndarray = getattr(data, f"{split}_targets")
        return targets
    return known_targets(runs, split)


__all__ = ["write_explorer"]
