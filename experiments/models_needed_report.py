"""Results of `models_needed` as numbers, a figure and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.outcome import Outcome
from jaxinfl import Dataset, models_needed, models_needed_for_good, models_needed_sequentially, plots
from jaxinfl.report import Finding, Illustration, Section, Table, summarize

FEW_MODELS = 10
"""Number of models below which p from 0.9 to 1 is told from a wide range of q, by Section 4.3."""
EXAMPLE = (0.6, 0.4)
"""The values of p and q that Section 4.3 names."""
PAPER = {
    "p 0.6, q 0.4": "> 100 models",
    "p 0.9 to 1": "< 10 models for a wide range of q",
    "p over the test set of CIFAR-100": "the majority close to 1, with a fairly long tail (small Inception, 20 seeds)",
}
"""What Section 4.3 found, by question."""
TYPICAL_INFLUENCE = 0.2
"""Influence that the answer is given for; that of Figure 1's tables."""
INFLUENCES = (0.5, TYPICAL_INFLUENCE, 0.1)
"""Influences for which the report gives the number of models needed on the test examples at hand."""


@dataclass(frozen=True)
class Findings:
    """Everything that the figure and results.json are made from."""

    delta: float
    """Largest probability of taking p for q, or q for p."""
    shares: Float[np.ndarray, " shares"]
    """Values of p and of q in the heat map."""
    models: Float[np.ndarray, "shares shares"]
    """Number of models that tell p (row) from q (column)."""
    curves: Mapping[float, tuple[Float[np.ndarray, " influences"], Float[np.ndarray, " influences"]]]
    """Values of p -> influences p - q, and the number of models that shows each."""
    correct: Bool[np.ndarray, "models test"]
    """Whether each model is right on each test example."""
    diverged: int
    """Number of models that diverged and were left out."""

    @property
    def right(self) -> Float[np.ndarray, " test"]:
        """Estimate of p of each test example: the share of the models that are right."""
        share: Float[np.ndarray, " test"] = self.correct.mean(axis=0)
        return share


def find(
    correct: Bool[np.ndarray, "models test"], *, delta: float, grid: int, curves: Sequence[float], diverged: int
) -> Findings:
    """Numbers of models for a grid of p and q and for some curves, beside the models at hand."""
    shares = np.linspace(0, 1, grid)
    lines = {}
    for share in curves:
        # Influences of a whole number of percent, down to where q is 0.
        influence = np.arange(1, int(share * 100 + 1e-9) + 1) / 100
        lines[share] = influence, models_needed(share, np.clip(share - influence, 0, 1), delta)
    return Findings(delta, shares, models_needed(shares[:, None], shares[None, :], delta), lines, correct, diverged)


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figure."""
    found = numbers(findings)
    section = Section(
        title="Figure 3: models needed to detect one influence",
        claim="The closer p and q, the more models per pair; small influences take many more than large ones. Most test "
        "examples of CIFAR-100 have p close to 1, where fewer than 10 suffice for a wide range of q; the rest is a long tail "
        "(Section 4.3).",
        setting=f"{data.name}, {model}: {len(findings.correct)} models on identical data; numbers for given p and q are exact. How many "
        f"examples have p close to 1 is a matter of the task: the paper's CIFAR-100 has 100 classes and an accuracy of 74%, {data.name} "
        f"here {data.num_classes} and {found['test_accuracy']['mean']:.0%}.",
        finding=find_answer(findings),
        tables=[_exact_table(found), _examples_table(found, data)],
        illustrations=[
            Illustration(
                "figure3",
                "Figure 3. p and q are the probabilities of being right on a test example with and without a training example. Left: number "
                f"of models that tell p (horizontal) from q (vertical), either error at most {findings.delta:g}. Middle: that number over the "
                f"influence p - q. Right: number of test examples of {data.name} by p, from {len(findings.correct)} models of {model}. "
                "The nearer p and q are, the more models it takes.",
            )
        ],
    )
    figure = plots.models_needed_figure(
        findings.shares,
        findings.models,
        findings.curves,
        findings.right,
        len(findings.correct),
        title=f"Models needed to tell p from q, either error at most {findings.delta:g} (left, middle: exact); "
        f"p on {data.num_test} test examples (right: {data.name}, {model})",
    )
    return Outcome(section, found, {"figure3": figure})


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figure; those of the models with n and spread, the others are exact."""
    right, delta = findings.right, findings.delta
    sequential = models_needed_sequentially(*EXAMPLE, delta)
    return {
        "note": "Numbers of models for given p and q are exact. p is estimated from n models on each test example; mean and "
        "std of it, and of shares of examples, are over the n test examples.",
        "example": {
            "p": EXAMPLE[0],
            "q": EXAMPLE[1],
            "first": float(models_needed(*EXAMPLE, delta)),
            "for_good": float(models_needed_for_good(*EXAMPLE, delta)),
            "sequential_mean": float(sequential.mean_p),
            "sequential_95th_percentile": float(sequential.percentile_p),
        },
        "largest_q_below_p_with_fewer_than_10_models": {f"{p:g}": _largest_q(p, delta) for p in (0.9, 0.95, 0.99, 1.0)},
        "heat_map": {"p_and_q": findings.shares, "models": findings.models},
        "curves": {
            f"{share:g}": {"influence": influence, "models": models}
            for share, (influence, models) in findings.curves.items()
        },
        "test_accuracy": summarize(findings.correct.mean(axis=1)),
        "diverged_models": findings.diverged,
        "num_models": len(findings.correct),
        "p": summarize(right),
        "p_of_test_examples": right,
        "share_with_p_1": summarize(right == 1),
        "share_with_p_from_0.9": summarize(right >= 0.9),
        "share_with_p_0.1_to_0.9": summarize((right > 0.1) & (right < 0.9)),
        "models_by_influence_on_test_examples": {
            f"{influence:g}": _over_examples(right, influence, delta) for influence in INFLUENCES
        },
    }


def _largest_q(p: float, delta: float) -> float:
    """Largest q below p, in steps of 0.01, up to which fewer than 10 models suffice."""
    q = np.arange(0, round(p * 100)) / 100
    return float(q[models_needed(p, q, delta) < FEW_MODELS].max())


def _over_examples(right: Float[np.ndarray, " test"], influence: float, delta: float) -> dict[str, Any]:
    """Number of models that show an influence of this size, over the test examples whose p leaves room for it."""
    possible = right[right >= influence]
    needed = models_needed(possible, np.clip(possible - influence, 0, 1), delta)
    if not needed.size:
        return {"median": None, "90th_percentile": None, "max": None, "n": 0}
    return {
        "median": float(np.median(needed)),
        "90th_percentile": float(np.quantile(needed, 0.9, method="higher")),
        "max": float(needed.max()),
        "n": int(needed.size),
    }


def _exact_table(found: Mapping[str, Any]) -> Table:
    example, largest = found["example"], found["largest_q_below_p_with_fewer_than_10_models"]
    shares = ", ".join(f"{q:.2f} (p = {p})" for p, q in largest.items())
    return Table(
        "What Section 4.3 says, computed exactly",
        ["", "here", "the paper"],
        [
            [f"p = {example['p']}, q = {example['q']}", f"{example['first']:.0f}", PAPER["p 0.6, q 0.4"]],
            ["the same, for good", f"{example['for_good']:.0f}", "not given"],
            [
                "the same, looking after each model",
                f"{example['sequential_mean']:.0f} on average, {example['sequential_95th_percentile']:.0f} in 95 of 100 cases",
                "not given",
            ],
            [f"largest q below p with fewer than {FEW_MODELS} models", shares, PAPER["p 0.9 to 1"]],
        ],
    )


def _examples_table(found: Mapping[str, Any], data: Dataset) -> Table:
    rows = []
    for influence, row in found["models_by_influence_on_test_examples"].items():
        cells = ["-" if row[name] is None else f"{row[name]:.0f}" for name in ("median", "90th_percentile", "max")]
        rows.append([influence, *cells, str(row["n"])])
    return Table(
        f"Models needed on the {data.num_test} test examples of {data.name}, from their p",
        ["influence", "median", "for 9 of 10", "for all", "test examples"],
        rows,
    )


def find_answer(findings: Findings) -> Finding:
    """How many models show an influence on the test examples at hand, what p looks like on them, and what the paper found."""
    right, models = findings.right, len(findings.correct)
    needed = _over_examples(right, TYPICAL_INFLUENCE, findings.delta)
    if needed["median"] is None:
        answer = (
            f"No number of models can be named: none of the {right.size} test examples is right often enough to lose {TYPICAL_INFLUENCE} of "
            "its probability."
        )
    else:
        answer = (
            f"An influence of {TYPICAL_INFLUENCE} takes {needed['median']:.0f} models to detect on the median test example, and "
            f"{needed['max']:.0f} on the one that takes the most."
        )
    close, between = (right >= 0.9).mean(), ((right > 0.1) & (right < 0.9)).mean()
    majority = "The majority" if close > 0.5 else "Only a minority"
    example = [float(count(*EXAMPLE, findings.delta)) for count in (models_needed, models_needed_for_good)]
    return Finding(
        answer,
        [
            f"{majority} of the test examples has p close to 1: {close:.1%} of {right.size} reach 0.9, and {between:.1%} lie between 0.1 and 0.9.",
            f"To tell p = {EXAMPLE[0]} from q = {EXAMPLE[1]} takes {example[0]:.0f} models, or {example[1]:.0f} if no larger number may fail.",
            f"Each p is a share of {models} models, off by up to {np.sqrt(0.25 / models):.2f} (standard error).",
        ],
        "On CIFAR-100 most test examples have p close to 1, where under 10 models suffice for many q; p = 0.6 and q = 0.4 take over "
        "100 (Section 4.3).",
    )
