"""`jaxinfl influence`: the influence of every training example on every test example."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import jaxinfl
from jaxinfl.cli.answer import Answer, format_number
from jaxinfl.cli.files import check_out, save_arrays
from jaxinfl.cli.run_options import RunOptions, choose_score, describe_score, open_run, pack_scores
from jaxinfl.influence import Outcomes
from jaxinfl.report import Table
from jaxinfl.store.scores import has_score

_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Estimate the influence of every training example on every test example, and the memorization of each training example.

    For example:

        jaxinfl influence runs/a --out influence.npz
    """

    out: Path | None = None
    """File for the arrays influence [train, test] and memorization [train], ending in .npz; None prints a summary alone."""
    method: Literal["published", "difference", "adjusted", "ridge", "lasso"] = "published"
    """Estimator: published is the difference of means, difference the same with standard errors, adjusted has less noise, ridge and lasso are datamodel weights."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Estimate influences, and keep them where `--out` says.

    Raises:
      ValueError: an option does not fit the run.
      RunDirectoryError: there is no run, or it is damaged.
    """
    out = check_out(options.out, ".npz")
    runs = open_run(options.run)
    score = choose_score(runs, options.score)
    given = pack_scores(runs, score)
    arrays = _estimate(given, options.method)
    if has_score(runs, "train", score):
        arrays["memorization"] = jaxinfl.memorization(given)
    if out is not None:
        save_arrays(out, arrays)
    return _summarize(arrays, len(given), score, options.method, out)


def _estimate(given: Outcomes, method: str) -> dict[str, np.ndarray]:
    if method == "published":
        return {"influence": jaxinfl.influence(given)}
    found = jaxinfl.estimate(given, method=method)
    return {"influence": found.influence, "standard_error": found.standard_error}


def _summarize(arrays: Mapping[str, np.ndarray], models: int, score: str, method: str, out: Path | None) -> Answer:
    influence = arrays["influence"]
    undefined = int(np.isnan(influence).all(axis=1).sum())
    quantiles = {name: _quantiles(arrays[name]) for name in ("influence", "memorization") if name in arrays}
    columns = ["", *("highest" if share == 1 else f"{share:.0%} are below" for share in _QUANTILES)]
    rows = [[name, *map(format_number, values)] for name, values in quantiles.items()]
    lines: list[str | Table] = [
        f"models     {models}; score: {describe_score(score)}; estimator: {method}",
        Table(
            f"Influence of {influence.shape[0]} training examples on {influence.shape[1]} test examples", columns, rows
        ),
    ]
    if undefined:
        lines.append(
            f"The influence of {undefined} training examples is undefined (NaN): each is in the subsets of all models or of none."
        )
    if out is not None:
        lines.append(f"The arrays {', '.join(arrays)} are in {out}")
    values = {
        "models": models,
        "score": score,
        "method": method,
        "num_train": influence.shape[0],
        "num_test": influence.shape[1],
        "undefined_train_examples": undefined,
        "quantiles": {name: dict(zip(map(str, _QUANTILES), found, strict=True)) for name, found in quantiles.items()},
        "out": out,
    }
    return Answer(lines, values)


def _quantiles(values: np.ndarray) -> list[float]:
    """Quantiles of the defined values; NaN where none is defined."""
    defined = values[~np.isnan(values)]
    return np.quantile(defined, _QUANTILES).tolist() if defined.size else [float("nan")] * len(_QUANTILES)
