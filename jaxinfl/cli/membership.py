"""`jaxinfl membership`: which training examples the models give away as their members."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import jaxinfl
from jaxinfl.arguments import check_whole
from jaxinfl.cli.answer import Answer, format_number
from jaxinfl.cli.files import check_out, save_arrays
from jaxinfl.cli.run_options import RunOptions, open_run
from jaxinfl.privacy import Membership
from jaxinfl.privacy.result import Method
from jaxinfl.report import Table


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Tell which training examples each model gives away as its members, with every other model as a shadow model.

    Runs of `--ratio 0.5 --design balanced` serve best.

    For example:

        jaxinfl membership runs/a --method lira --out membership.npz
    """

    score: str | None = None
    """Score of the training examples that the attack compares; None takes "margin", or "probability" for RMIA."""
    method: Method = "lira"
    """Attack: LiRA or RMIA, with shadow models that saw the example or offline without these, or one threshold for all examples."""
    number: int = 10
    """Number of examples of highest risk that are printed."""
    confidence: float = 0.95
    """Confidence of the intervals, between 0 and 1."""
    out: Path | None = None
    """File for the arrays score and member [models, train], told_apart, low, high and distance [train], ending in .npz; None prints a summary alone."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Attack the models, and keep the attack's scores where `--out` says.

    Raises:
      ValueError: an option does not fit the run.
      RunDirectoryError: there is no run, or it is damaged.
    """
    number, out = check_whole(options.number, "--number"), check_out(options.out, ".npz")
    runs = open_run(options.run)
    score = options.score or ("probability" if options.method.startswith("rmia") else "margin")
    if score not in runs.scores:
        raise ValueError(
            f"the score is {score!r}, which this run does not have; it has {', '.join(runs.scores)}. Pass one of them by --score."
        )
    found = jaxinfl.membership(runs, score, method=options.method, confidence=options.confidence)
    risk = found.risk
    if out is not None:
        arrays = {"told_apart": risk.told_apart, "low": risk.low, "high": risk.high, "distance": risk.distance}
        save_arrays(out, {"score": found.score, "member": found.member, **arrays})
    return _summarize(found, score, number, out)


def _summarize(found: Membership, score: str, number: int, out: Path | None) -> Answer:
    risk = found.risk
    # NaN is sorted behind all numbers.
    highest = np.argsort(-risk.told_apart, kind="stable")[:number]
    riskiest = [
        {
            "train": int(example),
            "told_apart": risk.told_apart[example],
            "low": risk.low[example],
            "high": risk.high[example],
        }
        for example in highest
        if not np.isnan(risk.told_apart[example])
    ]
    rates = found.rates()
    rows = [[name, *map(format_number, rate)] for name, rate in rates.items()]
    lines: list[str | Table] = [
        f"models     {found.score.shape[0]}; training examples: {found.score.shape[1]}; score: {score}; attack: {found.method}",
        Table(
            f"Membership over all models and examples, with {found.confidence:.0%} intervals",
            ["", "value", "low", "high"],
            rows,
        ),
        Table(
            "Training examples of highest risk",
            ["train", "probability of being told apart", "low", "high"],
            [
                [str(one["train"]), *(format_number(one[name]) for name in ("told_apart", "low", "high"))]
                for one in riskiest
            ],
        ),
    ]
    if out is not None:
        lines.append(f"The attack's scores are in {out}")
    values = {
        "models": found.score.shape[0],
        "score": score,
        "method": found.method,
        "rates": {name: rate._asdict() for name, rate in rates.items()},
        "riskiest": riskiest,
        "out": out,
    }
    return Answer(lines, values)
