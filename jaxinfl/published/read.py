"""`read_run` reads the models of another program's files, and guesses whose files they are."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, overload

from jax.typing import ArrayLike

from jaxinfl.arguments import as_path, check_choice, check_number, check_whole, quote
from jaxinfl.datasets import Dataset
from jaxinfl.published import datamodels, dattri, feldman_zhang, lira, subsets
from jaxinfl.published.array_files import archive_names, open_archive
from jaxinfl.published.released import PublishedPairs, PublishedScores, read_cscores, read_released_pairs, recognize
from jaxinfl.store import Ensemble, RunDirectoryError, RunStore
from jaxinfl.store.files_of_others import FilesOfOthers

_log = logging.getLogger("jaxinfl")

Layout = Literal["feldman_zhang", "datamodels", "lira", "dattri", "bergson", "privacy_meter"]
EstimateLayout = Literal["pairs", "class_matrices", "mnist", "cscores"]


class _Reader(NamedTuple):
    recognize: Callable[[Path], str | None]
    read: Callable[[Path, Dataset | None, dict[str, Any]], FilesOfOthers | RunStore]
    options: tuple[str, ...] = ()


READERS: dict[str, _Reader] = {
    "feldman_zhang": _Reader(feldman_zhang.recognize, feldman_zhang.read),
    "datamodels": _Reader(datamodels.recognize, datamodels.read),
    "lira": _Reader(lira.recognize, lira.read, ("epoch",)),
    "dattri": _Reader(dattri.recognize, dattri.read, ("num_train",)),
    "bergson": _Reader(subsets.recognize_bergson, subsets.read_bergson, ("num_train", "train", "test")),
    "privacy_meter": _Reader(subsets.recognize_privacy_meter, subsets.read_privacy_meter, ("train", "test")),
}


@overload
def read_run(
    path: str | os.PathLike[str],
    layout: Layout,
    *,
    data: Dataset | None = None,
    num_train: int | None = None,
    epoch: int | None = None,
    train: Mapping[str, ArrayLike] | None = None,
    test: Mapping[str, ArrayLike] | None = None,
) -> Ensemble: ...


@overload
def read_run(
    path: str | os.PathLike[str],
    layout: Literal["pairs", "class_matrices", "mnist"],
    *,
    data: Dataset | None = None,
) -> PublishedPairs: ...


@overload
def read_run(
    path: str | os.PathLike[str], layout: Literal["cscores"], *, data: Dataset | None = None
) -> PublishedScores: ...


@overload
def read_run(
    path: str | os.PathLike[str],
    layout: str | None = None,
    *,
    data: Dataset | None = None,
    num_train: int | None = None,
    epoch: int | None = None,
    train: Mapping[str, ArrayLike] | None = None,
    test: Mapping[str, ArrayLike] | None = None,
) -> Any: ...


def read_run(
    path: str | os.PathLike[str],
    layout: str | None = None,
    *,
    data: Dataset | None = None,
    num_train: int | None = None,
    epoch: int | None = None,
    train: Mapping[str, ArrayLike] | None = None,
    test: Mapping[str, ArrayLike] | None = None,
) -> Ensemble | PublishedPairs | PublishedScores:
    """Read models that another program trained, or an estimate that was published without models, from the files that hold them.

    Large files stay where they are: masks and margins of datamodels are mapped into memory, `influence` and `memorization` read some models
    at a time, and everything else takes them into memory: give it some models, as `runs[:2000]`. Nothing is ever unpickled.

    Args:
      path: the folder of the runs, the file of an estimate, or for datamodels the file of the masks of one ratio.
        docs/published_runs.md shows each.
      layout: of models "feldman_zhang", "datamodels", "lira" or "dattri"; of subsets without scores "bergson", whose lists of left-out
        examples are inverted, or "privacy_meter"; of estimates "pairs", "class_matrices", "mnist" or "cscores".
        None guesses, and the logger "jaxinfl" says the guess and its reason.
      data: the examples, whose labels and fingerprint belong to the run. Their order is compared by labels where the files have them.
      num_train: number of training examples, which dattri's and bergson's files do not say.
      epoch: number of the epoch whose scores are read of LiRA's folders; None takes the last one.
      train, test: scores by name, as for `Ensemble.from_scores`, of layouts whose files have subsets alone.

    Returns:
      An `Ensemble`. Models that were not completed are absent, and those without a finite score have diverged. Scores have the name of
      their definition: "correct" and "margin" as jaxinfl has them, "top_margin" of datamodels, "lira_score", and "target_value" of
      dattri. `runs.order` says what is known of the order of the examples.
      Of estimates `PublishedPairs`, as `read_pairs` reads them, or `PublishedScores`.

    Raises:
      TypeError, ValueError: an argument does not fit, or is not taken by this layout.
      RunDirectoryError: files are missing, truncated, pickled, of another dtype or shape, or do not fit each other or the data.
    """
    place = _check_place(path, data, "read_run takes the folder of another program's runs, or the file of an estimate")
    chosen = _guess(place) if layout is None else layout
    check_choice(chosen, "layout", (*get_args(Layout), *get_args(EstimateLayout)))
    options = {"num_train": num_train, "epoch": epoch, "train": train, "test": test}
    taken = READERS[chosen].options if chosen in READERS else ()
    for name, value in options.items():
        if value is not None and name not in taken:
            takers = " and ".join(repr(layout) for layout, each in READERS.items() if name in each.options)
            shown = value if isinstance(value, int) else type(value).__name__
            raise ValueError(f"{name} is {shown}, which is taken by {takers} and not by {chosen!r}. Leave it out.")
    if epoch is not None:
        check_whole(epoch, "epoch", 0)
    if chosen == "cscores":
        return read_cscores(place, data)
    if chosen not in READERS:
        return read_released_pairs(place, chosen, data, None, None)
    return Ensemble(READERS[chosen].read(place, data, options))


def read_pairs(
    path: str | os.PathLike[str],
    *,
    data: Dataset | None = None,
    min_influence: float | None = None,
    min_memorization: float | None = None,
) -> PublishedPairs:
    """Read pairs of a training and a test example of high influence that were published without models.

    Args:
      path: Feldman and Zhang's pairs (`cifar100_high_infl_pairs_infl0.15_mem0.25.npz`), their influence within the classes of CIFAR-100, or
        that of their MNIST demo, of which some rows are read at a time.
      data: the examples: their labels tell whether the pairs are in their order.
      min_influence: influence from which on pairs are taken; None takes that of the published pairs, 0.15 of the other two.
      min_memorization: memorization of the training example from which on pairs are taken; None takes that of the published pairs, or 0.25.

    Returns:
      `PublishedPairs`, by falling influence. `jaxinfl.compare_pairs(pairs, runs, "correct")` compares them with models of one's own.

    Raises:
      TypeError, ValueError: an argument does not fit.
      RunDirectoryError: the file is missing, truncated, pickled, holds no such estimate, or is of other data or another order.
    """
    place = _check_place(path, data, "read_pairs takes the file of a published estimate")
    for name, value in (("min_influence", min_influence), ("min_memorization", min_memorization)):
        if value is not None:
            check_number(value, name, "a number from -1 to 1", -1.0, 1.0)
    kind = recognize(place)
    if kind is None or kind == "cscores":
        with open_archive(place, "pairs of high influence"):
            pass  # it says what is wrong with a file that cannot be read
        raise RunDirectoryError(
            f"{place} holds no pairs: it has {', '.join(archive_names(place)[:6]) or 'no arrays'}. It takes tr_idx, tt_idx, infl and mem, or "
            "Feldman and Zhang's matrices."
        )
    return read_released_pairs(place, kind, data, min_influence, min_memorization)


def _check_place(path: Any, data: Any, takes: str) -> Path:
    place = as_path(path, "path", "the files of another program")
    if not place.exists():
        raise RunDirectoryError(f"there is no {place}; {takes}.")
    if data is not None and not isinstance(data, Dataset):
        raise TypeError(f"data is {quote(data)}; it takes a jaxinfl.Dataset, or None.")
    return place


def _guess(path: Path) -> str:
    """Whose files these are.

    Raises:
      RunDirectoryError: they look like no layout, or like several.
    """
    reasons = {layout: reader.recognize(path) for layout, reader in READERS.items()}
    found = {layout: reason for layout, reason in reasons.items() if reason is not None}
    if path.is_file() and (estimate := recognize(path)) is not None:
        found[estimate] = f"it has the arrays {', '.join(archive_names(path)[:4])}"
    if len(found) == 1:
        (layout, reason), *_ = found.items()
        _log.warning("%s is read as the layout %r, because %s. Pass layout=%r to say so.", path, layout, reason, layout)
        return layout
    if len(found) > 1:
        listed = ", and of ".join(f"{layout!r}, because {reason}" for layout, reason in found.items())
        raise RunDirectoryError(f"{path} may be of the layout {listed}. Pass layout to say which.")
    if path.is_file():
        with open_archive(path, "a published estimate"):
            pass  # it says what is wrong with a file that cannot be read
    raise RunDirectoryError(
        f"{path} looks like no layout that jaxinfl reads ({', '.join((*READERS, *get_args(EstimateLayout)))}). docs/published_runs.md says what their files are. Scores in "
        "another form go through Ensemble.from_scores."
    )


__all__ = ["READERS", "EstimateLayout", "Layout", "read_pairs", "read_run"]
