"""`jaxinfl read`: models of another program, or a run directory, in words; and a run directory made of them."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

import jaxinfl
from jaxinfl.arguments import expand_home
from jaxinfl.cli.answer import Answer
from jaxinfl.cli.run_options import describe_run
from jaxinfl.published.read import EstimateLayout, Layout
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store.parts import parts_in
from jaxinfl.store.run import is_run


@dataclass(frozen=True, kw_only=True)
class Options:
    """Read models that another program trained, or a run directory, and say what they are.

    With `--out` the models become a run directory, which every other command takes.

    For example:

        jaxinfl read heldout-influence-estimation/cifar100/0.7 --layout feldman_zhang --out runs/published
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Folder of the runs or file of an estimate, as docs/published_runs.md describes, or a run directory."""
    layout: Layout | EstimateLayout | None = None
    """Layout of the files; None guesses, and says the guess and its reason."""
    out: Path | None = None
    """Run directory to write, which does not exist yet; None writes nothing."""
    data: str | None = None
    """Data set of the models, by a name, a file or a folder; its labels and its fingerprint belong to the run."""
    data_dir: str | None = None
    """Folder in which TFDS keeps prepared data sets; None takes the one that TFDS takes."""
    num_train: int | None = None
    """Number of training examples, which the files of dattri and bergson do not say."""
    epoch: int | None = None
    """Number of the epoch whose scores are read of LiRA's folders; None takes the last one."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Read the files, say what they are, and write a run directory where `--out` says.

    Raises:
      ValueError: an option does not fit the files.
      RunDirectoryError: the files are of no layout or damaged; `--out` exists.
    """
    path = expand_home(options.path, "PATH")
    out = None if options.out is None else expand_home(options.out, "--out")
    if out is not None and out.exists():
        raise RunDirectoryError(f"--out is {str(out)!r}, which exists already; it takes a new directory.")
    found = _read(path, options)
    if not isinstance(found, Ensemble):
        if out is not None:
            raise ValueError(
                "--out makes a run directory of models, and these files hold an estimate without models. Leave it out."
            )
        return Answer([_describe_estimate(found)], {"path": path, "estimate": type(found).__name__, **_counts(found)})
    lines = [repr(found)]
    if out is not None:
        found.save(out)
        lines += [f"The models are in {out} now. To go on, try:", f"    jaxinfl pairs {shlex.quote(str(out))}"]
    return Answer(lines, {"path": path, **describe_run(found), "out": out})


def _read(path: Path, options: Options) -> Any:
    if options.layout is None and (is_run(path) or (path.is_dir() and parts_in(path))):
        for name in ("data", "num_train", "epoch"):
            if getattr(options, name) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')} is given, and {path} is a run directory, which knows it. Leave it out."
                )
        return Ensemble.open(path)
    data = None if options.data is None else jaxinfl.load_dataset(options.data, options.data_dir)
    return jaxinfl.read_run(path, options.layout, data=data, num_train=options.num_train, epoch=options.epoch)


def _describe_estimate(found: Any) -> str:
    if isinstance(found, jaxinfl.PublishedPairs):
        return repr(found)
    return f"PublishedScores: {len(found.values)} training examples; order of the examples: {found.order}"


def _counts(found: Any) -> dict[str, Any]:
    """What an estimate without models has, for machines."""
    if isinstance(found, jaxinfl.PublishedPairs):
        least = {"min_influence": found.min_influence, "min_memorization": found.min_memorization}
        return {"pairs": len(found), **least, "order": found.order}
    return {"num_train": len(found.values), "order": found.order}
