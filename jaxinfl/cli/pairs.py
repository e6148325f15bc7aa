"""`jaxinfl pairs`: the most influential pairs of a training and a test example."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import jaxinfl
from jaxinfl.arguments import check_whole
from jaxinfl.cli.answer import Answer, format_number
from jaxinfl.cli.files import check_out, save_csv
from jaxinfl.cli.run_options import RunOptions, choose_score, describe_score, open_run, pack_scores
from jaxinfl.influence import Outcomes
from jaxinfl.notebook import shorten
from jaxinfl.report import Table
from jaxinfl.statistics.clusters import dependent_design
from jaxinfl.store import Ensemble
from jaxinfl.store.scores import has_score, known_targets


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """List the most influential pairs of a training and a test example, with confidence intervals.

    With `--fdr` only pairs are listed whose influence is not 0, and that share of them at most is expected to be false. Their intervals
    are widened for the selection; without `--fdr` the highest estimates are overestimates.

    For example:

        jaxinfl pairs runs/a --number 20 --fdr 0.05 --out pairs.csv
    """

    number: int = 20
    """Number of pairs that are printed; a file of `--out` has as many, and with `--fdr` all that were found."""
    fdr: float | None = None
    """Expected share of false pairs among those that are reported, between 0 and 1; None takes the highest estimates."""
    min_memorization: float | None = None
    """Memorization above which training examples take part, in the unit of the score; None takes 0.25 for scores from 0 to 1, and every example for others; -1 takes every example. With `--fdr` all take part."""
    confidence: float = 0.95
    """Confidence of the intervals without `--fdr`, between 0 and 1."""
    out: Path | None = None
    """File for the pairs, ending in .csv; None prints them alone."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


_LABELS = {
    "train": "train",
    "test": "test",
    "train_target": "target of train",
    "train_class": "train class",
    "test_target": "target of test",
    "test_class": "test class",
    "influence": "influence",
    "low": "low",
    "high": "high",
    "memorization": "memorization",
    "q_value": "q-value",
}
"""The column of the terminal's table for each column of a file."""


def run(options: Options) -> Answer:
    """List pairs, and write them where `--out` says.

    Raises:
      ValueError: an option does not fit the run.
      RunDirectoryError: there is no run, or it is damaged.
    """
    number, out = check_whole(options.number, "--number"), check_out(options.out, ".csv")
    runs = open_run(options.run)
    score = choose_score(runs, options.score)
    given = pack_scores(runs, score)
    if options.fdr is None:
        if not has_score(runs, "train", score):
            raise ValueError(
                f"this run has {score!r} of the test examples only, and memorization takes that of the training examples. Pass "
                "--fdr 0.05, which needs none."
            )
        columns, about = _highest(given, number, options)
    else:
        columns, about = _discovered(given, options.fdr)
    columns = _with_targets(columns, runs)
    found = len(columns["train"])
    rows = list(zip(*(values.tolist() for values in columns.values()), strict=True))
    if out is not None:
        save_csv(out, list(columns), rows)
    pairs = [dict(zip(columns, row, strict=True)) for row in rows]
    lines: list[str | Table] = [f"models     {len(given)}; score: {describe_score(score)}", about]
    if found:
        lines.append(_table(pairs[:number]))
    else:
        lines.append("There is no such pair.")
        if options.fdr is None and (given.masks.all(axis=0) | ~given.masks.any(axis=0)).all():
            lines.append(
                "Every training example is in all subsets or in none, so that no influence is defined. Train with a lower --ratio."
            )
    if found > number:
        lines.append(f"{found - number} more were found; --number {found} prints all.")
    if out is not None:
        lines.append(f"All {found} are in {out}")
    return Answer(lines, {"models": len(given), "score": score, "found": found, "pairs": pairs, "out": out})


def _highest(given: Outcomes, number: int, options: Options) -> tuple[dict[str, np.ndarray], str]:
    """The pairs of highest influence, as columns, and a line about them."""
    bound = options.min_memorization
    if bound is None and given.kind != "real":
        bound = 0.25
    top = jaxinfl.top_pairs(given, k=number, min_memorization=bound)
    spread = jaxinfl.pair_uncertainty(given, None, top.train_index, top.test_index, confidence=options.confidence)
    columns = {
        "train": top.train_index,
        "test": top.test_index,
        "influence": top.influence.astype(np.float64),
        "low": spread.low,
        "high": spread.high,
        "memorization": top.memorization.astype(np.float64),
        "reason": spread.reason,
    }
    above = "" if bound is None else f" of training examples memorized above {bound:g}"
    about = f"Pairs of highest influence{above}, each with its own {options.confidence:.0%} interval. Some are high by chance alone"
    if dependent_design(given.masks) is None:
        return columns, f"{about}; --fdr 0.05 lists only pairs whose influence is not 0."
    return columns, f"{about}; which ones is told of models on independent subsets (--design uniform)."


def _discovered(given: Outcomes, fdr: float) -> tuple[dict[str, np.ndarray], str]:
    """The pairs whose influence is not 0, as columns, and a line about them."""
    found = jaxinfl.discoveries(given, fdr=fdr)
    columns = {
        "train": found.train_index,
        "test": found.test_index,
        "influence": found.influence,
        "low": found.low,
        "high": found.high,
        "q_value": found.q_value,
    }
    return (
        columns,
        f"Pairs whose influence is not 0: {len(found)} of {found.num_tests} tested, of which at most {fdr:.1%} are expected to be false.",
    )


def _with_targets(columns: dict[str, np.ndarray], runs: Ensemble) -> dict[str, np.ndarray]:
    """The columns with the target of each example, where the run knows targets and each is one number, and the name of its class."""
    known = {}
    names = np.array(runs.class_names, object)
    for split in ("train", "test"):
        targets = known_targets(runs, split)
        if targets is not None and targets.ndim == 1:
            known[f"{split}_target"] = own = targets[columns[split]]
            if len(names):
                known[f"{split}_class"] = names[own]
    first = {name: columns[name] for name in ("train", "test")}
    return first | known | columns


def _table(pairs: list[dict[str, Any]]) -> Table:
    """Pairs as the terminal shows them, with the reasons why intervals are undefined below."""
    # The name of a class says more than its number.
    numbers = {f"{split}_target" for split in ("train", "test") if f"{split}_class" in pairs[0]}
    shown = [name for name in _LABELS if name in pairs[0] and name not in numbers]
    reasons = sorted({pair["reason"] for pair in pairs if pair.get("reason")})
    return Table(
        "",
        [_LABELS[name] for name in shown],
        [[_format(pair[name]) for name in shown] for pair in pairs],
        note=f"Why intervals are undefined: {'; '.join(reasons)}." if reasons else "",
    )


def _format(value: float | str) -> str:
    return shorten(str(value), 12) if isinstance(value, (int, str)) else format_number(value)
