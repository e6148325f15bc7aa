"""Results of `sweep` as numbers, a figure and words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.data_kinds import describe_kind
from experiments.outcome import Outcome
from jaxinfl import Dataset, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, summarize


@dataclass(frozen=True)
class Findings:
    """Everything that the figure and results.json are made from."""

    learning_rates: tuple[float, ...]
    """Learning rates of the grid, rising."""
    decay_ratios: tuple[float, ...]
    """Ratios of weight decay to learning rate of the grid, rising."""
    accuracy: Float[np.ndarray, "repeats ratios rates"]
    """Accuracy on the validation set; NaN for models that diverged."""
    num_validation: int
    """Number of examples of the validation set."""
    num_trained: int
    """Number of training examples of the grid's models."""
    test_accuracy: Float[np.ndarray, " models"]
    """Test accuracy of the chosen setting, trained on everything, without models that diverged."""

    @property
    def diverged(self) -> Bool[np.ndarray, "ratios rates"]:
        """Cells in which some model diverged; they cannot be chosen."""
        return np.isnan(self.accuracy).any(axis=0)

    @property
    def mean(self) -> Float[np.ndarray, "ratios rates"]:
        """Mean accuracy over the models that did not diverge; NaN where all did."""
        defined = np.isfinite(self.accuracy)
        with np.errstate(invalid="ignore"):
            return np.where(defined, self.accuracy, 0).sum(axis=0) / defined.sum(axis=0)

    @property
    def chosen(self) -> tuple[int, int]:
        """Row and column of the best cell; among equal ones the smallest learning rate, then the smallest weight decay."""
        candidates = np.where(self.diverged, -np.inf, self.mean)
        column, row = np.unravel_index(candidates.T.argmax(), candidates.T.shape)
        return int(row), int(column)

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the chosen cell's accuracy on the validation set."""
        best = float(self.mean[self.chosen])
        return float(np.sqrt(best * (1 - best) / self.num_validation))

    @property
    def as_good(self) -> int:
        """Number of other cells within a standard error of the best one."""
        usable = np.where(self.diverged, -np.inf, self.mean)
        return int((usable >= usable[self.chosen] - self.standard_error).sum()) - 1


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and the heat map."""
    about = f"{data.name}, {model}"
    repeats = len(findings.accuracy)
    section = Section(
        title="Appendix A.3: the sweep of learning rate and weight decay",
        claim="Learning rate and weight decay of the fine-grained data sets were found by a grid of 7 learning rates and 7 "
        "ratios of weight decay to learning rate, and no weight decay (Appendix A.3, after Kornblith et al. 2018).",
        setting=f"{about}: {findings.diverged.size} settings x {repeats} seeds, trained on {findings.num_trained} of "
        f"{data.num_train} training examples as one ensemble and compared on the other {findings.num_validation}. "
        f"The paper sweeps DTD (textures) and Flowers 102 at 224 and 299 pixels with ResNet-18 and Inception v3. Here are {describe_kind(data)}, "
        "so the best setting does not carry over; the procedure does.",
        finding=find_answer(findings),
        tables=[_best_table(findings)],
        illustrations=[
            Illustration(
                "sweep",
                f"Mean share of {findings.num_validation} validation examples of {data.name} on which {model} is right, in percent, by learning "
                f"rate (horizontal) and weight decay as a share of it (vertical); {repeats} models a cell, trained on {findings.num_trained} "
                "examples. The framed cell is chosen; in hatched cells a model diverged. A chosen cell at the edge asks for a wider grid.",
            )
        ],
    )
    figure = plots.sweep_figure(
        findings.mean,
        findings.diverged,
        [f"{rate:.3g}" for rate in findings.learning_rates],
        [f"{ratio:.2g}" if ratio else "none" for ratio in findings.decay_ratios],
        findings.chosen,
        title=f"{about}: mean validation accuracy of {repeats} models a cell",
    )
    return Outcome(section, numbers(findings), {"sweep": figure})


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number with its n and spread, as results.json keeps it; grids are [ratio][rate]."""
    row, column = findings.chosen
    return {
        "learning_rates": findings.learning_rates,
        "decay_ratios": findings.decay_ratios,
        "validation_accuracy": [[summarize(cell) for cell in line.T] for line in findings.accuracy.swapaxes(0, 1)],
        "diverged": findings.diverged,
        "num_validation": findings.num_validation,
        "chosen": {
            "learning_rate": findings.learning_rates[column],
            "decay_ratio": findings.decay_ratios[row],
            "weight_decay": findings.learning_rates[column] * findings.decay_ratios[row],
            "validation_accuracy": summarize(findings.accuracy[:, row, column]),
            "standard_error": findings.standard_error,
        },
        "cells_as_good": findings.as_good,
        "test_accuracy": summarize(findings.test_accuracy),
    }


def _best_table(findings: Findings) -> Table:
    rows = []
    order = np.argsort(np.where(findings.diverged, np.inf, -findings.mean), axis=None, kind="stable")[:5]
    for row, column in zip(*np.unravel_index(order, findings.mean.shape), strict=True):
        if findings.diverged[row, column]:
            continue
        rate, ratio = findings.learning_rates[column], findings.decay_ratios[row]
        values = 100 * findings.accuracy[:, row, column]
        rows.append([f"{rate:.3g}", f"{ratio:.2g}" if ratio else "none", f"{rate * ratio:.2g}", format_mean(values, 2)])
    return Table(
        "The best settings",
        ["learning rate", "decay / rate", "weight decay", "validation accuracy (%)"],
        rows,
        f"Mean ± standard deviation over {len(findings.accuracy)} seeds. The best of many is overestimated on the examples "
        "that it was chosen by.",
    )


def find_answer(findings: Findings) -> Finding:
    """What was chosen, how sure that is, and what it is worth on the test set. The paper does not print what it found."""
    row, column = findings.chosen
    rate, ratio = findings.learning_rates[column], findings.decay_ratios[row]
    decay = f"weight decay {rate * ratio:.2g}" if ratio else "no weight decay"
    others, error = findings.mean.size - 1, 100 * findings.standard_error
    near = f"Of the {others} other settings {findings.as_good} {'lies' if findings.as_good == 1 else 'lie'} within a standard error of the best, {error:.1f} points."
    evidence = [near, edges_evidence(findings), test_evidence(findings)]
    return Finding(
        f"Learning rate {rate:.3g} with {decay} is the best setting, right on {findings.mean[row, column]:.1%} of the validation examples.",
        [each for each in evidence if each],
    )


def edges_evidence(findings: Findings) -> str:
    """Whether the choice lies at an edge of the grid, and where models diverged; empty for neither."""
    row, column = findings.chosen
    edges = [
        name
        for name, place, values in (
            ("learning rate", column, findings.learning_rates),
            ("weight decay", row, findings.decay_ratios),
        )
        # No weight decay is the end of what there is, not of the grid.
        if len(values) > 1 and (place == len(values) - 1 or (place == 0 and values[0] > 0))
    ]
    diverged, size = int(findings.diverged.sum()), findings.diverged.size
    lost = f"a model diverged in {diverged} of {size} settings"
    if edges:
        named, after = ("", f"; {lost}") if diverged else (f" of {size} settings", "")
        return (
            f"It lies at an edge of the grid{named}, in {' and '.join(edges)}, so a wider one might do better{after}."
        )
    return f"{lost[0].upper()}{lost[1:]}, which cannot be chosen." if diverged else ""


def test_evidence(findings: Findings) -> str:
    """What the chosen setting is worth on the test set."""
    if not findings.test_accuracy.size:
        return "Trained with it on everything, all models diverged, so 0 are left to be tested."
    models = findings.test_accuracy.size
    return (
        f"Trained with it on everything, {models} model{' is' if models == 1 else 's are'} right on "
        f"{format_mean(100 * findings.test_accuracy, 1)}% of the test examples."
    )
