"""What `cifar100_subsets` found, as numbers, figures and words."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from rich.table import Table

from experiments.command_line import console
from jaxinfl import Dataset, plots, provenance
from jaxinfl.influence import IOUCurve, TopPairs
from jaxinfl.report import measured, save_figure, write_results
from jaxinfl.statistics import PairUncertainty

HEADLINE_THRESHOLD = 0.2
"""The influence at which the summary compares; the paper's gallery and Feldman and Zhang's start near 0.15."""
AGREED = 0.7
"""The IOU from which the paper calls two estimates consistent (Section 3)."""
SHARED_POOL = (
    "The repeats over different subsets draw from one pool of models: their spread understates that of fresh ensembles, "
    "the more the nearer 2 t is to the pool."
)


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    curve: IOUCurve
    """Different subsets."""
    same_subsets: Mapping[int, Float[np.ndarray, "repeats thresholds"]]
    """Same subsets, other seeds; by models per estimate, all of them sizes of `curve`."""
    num_pairs: Int[np.ndarray, " thresholds"]
    """Pairs at or above each threshold, by all models."""
    pairs: TopPairs
    uncertainty: PairUncertainty
    """Of `pairs`."""
    test_accuracy: Float[np.ndarray, " models"]
    diverged: int
    min_memorization: float | None

    @property
    def condition(self) -> str:
        """Which training examples take part."""
        if self.min_memorization is None:
            return f"all {self.curve.num_examples} training examples"
        return f"the {self.curve.num_examples} training examples memorized more than {self.min_memorization:g}"


def write(findings: Findings, data: Dataset, out: Path, *, about: str, config: Any, device: str) -> list[Path]:
    """Write results.json and both figures; returns their paths."""
    curve, pairs, names = findings.curve, findings.pairs, data.class_names
    consistency = plots.consistency_figure(
        curve.thresholds,
        curve.num_models,
        curve.values,
        findings.same_subsets,
        findings.num_pairs,
        title=f"{about}: influence of {findings.condition} on {data.num_test} test examples",
    )
    gallery = plots.pairs_gallery(
        data.train_images[pairs.train_index],
        data.test_images[pairs.test_index],
        [f"train {i}: {names[data.train_labels[i]]}" for i in pairs.train_index],
        [f"test {j}: {names[data.test_labels[j]]}" for j in pairs.test_index],
        [
            f"influence {value:.2f} ± {error:.2f}, memorization {memorized:.2f}"
            for value, error, memorized in zip(
                pairs.influence, findings.uncertainty.standard_error, pairs.memorization, strict=True
            )
        ],
        title=f"The most influential pairs of {data.name}, from {len(findings.test_accuracy)} models "
        "(± standard error; the top of many is overestimated)",
    )
    results = {
        "experiment": "cifar100_subsets",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "command": provenance.command(),
        "device": device,
        "results": numbers(findings),
    }
    return [
        write_results(out, results),
        *save_figure(consistency, out, "figure1"),
        *save_figure(gallery, out, "gallery"),
    ]


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figures with its n and spread."""
    curve = findings.curve
    return {
        "test_accuracy": measured(findings.test_accuracy),
        "diverged_models": findings.diverged,
        "compared_examples": curve.num_examples,
        "thresholds": curve.thresholds,
        "pairs_at_threshold": findings.num_pairs,
        "note": SHARED_POOL,
        "iou_different_subsets": {
            size: [measured(column) for column in values.T]
            for size, values in zip(curve.num_models, curve.values, strict=True)
        },
        "iou_same_subsets": {
            size: [measured(column) for column in values.T] for size, values in findings.same_subsets.items()
        },
        "top_pairs": dataclasses.asdict(findings.pairs) | findings.uncertainty._asdict(),
    }


def summarize(findings: Findings, data: Dataset) -> None:
    """Print one table and the finding in words."""
    curve = findings.curve
    at = int(np.abs(curve.thresholds - HEADLINE_THRESHOLD).argmin())
    reached = f"{findings.num_pairs[at]} pairs reach it by all models"
    table = Table(
        title=f"IOU of two estimates at influence {curve.thresholds[at]:.2f} ({reached})", title_justify="left"
    )
    for heading in ("models per estimate", "different subsets", "same subsets, other seeds"):
        table.add_column(heading, justify="right")
    for size, values in zip(curve.num_models, curve.values, strict=True):
        same = findings.same_subsets.get(int(size))
        table.add_row(str(size), _spread(values[:, at]), "" if same is None else _spread(same[:, at]))
    console.print()
    console.print(table)
    console.print(f"mean ± standard deviation (n repeats). {SHARED_POOL}", style="dim")
    console.print(
        f"test accuracy {_spread(100 * findings.test_accuracy)} %; compared are {findings.condition} "
        f"of {data.num_train}."
    )
    console.print(f"[bold]Finding:[/bold] {main_finding(findings, at)}")
    console.print("The paper: 200 to 400 models on CIFAR-100, and hardly more agreement on the same subsets.")


def main_finding(findings: Findings, at: int) -> str:
    """The answer to the question of the paper's title, in words, at threshold number `at`."""
    curve = findings.curve
    means, sizes = curve.mean[:, at], [int(size) for size in curve.num_models]
    threshold, pairs = f"influence {curve.thresholds[at]:.2f}", int(findings.num_pairs[at])
    lasting = [size for k, size in enumerate(sizes) if np.all(means[k:] >= AGREED)]
    if not np.isfinite(means[-1]):
        answer = f"no pair reaches {threshold}, so there is nothing to agree on."
    elif lasting:
        answer = f"estimates from {lasting[0]} models or more agree (IOU {AGREED} or above) at {threshold}."
    else:
        answer = (
            f"even estimates from {sizes[-1]} models do not agree at {threshold} (IOU {means[-1]:.2f}, below {AGREED})."
        )
    if 0 < pairs < 30:
        answer += f" That rests on {pairs} pair{'s' if pairs > 1 else ''} only."
    for size, values in findings.same_subsets.items():
        same, other = measured(values[:, at])["mean"], means[sizes.index(size)]
        if same is not None and np.isfinite(other):
            answer += (
                f" With {size} models on the same subsets, where only the seeds differ, IOU is {same:.2f}; on different "
                f"ones it is {other:.2f}."
            )
    return answer


def _spread(values: Float[np.ndarray, " repeats"]) -> str:
    number = measured(values)
    if number["mean"] is None:
        return "no pairs"
    spread = "" if number["std"] is None else f" ± {number['std']:.2f}"
    return f"{number['mean']:.2f}{spread} (n={number['n']})"
