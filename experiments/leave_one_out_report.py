"""Results of `leave_one_out` as numbers, a figure and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.data_kinds import describe_kind, name_example
from experiments.outcome import Outcome
from jaxinfl import Dataset, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_range


@dataclass(frozen=True)
class Example:
    """One training example that was left out. In arrays [predictions], entry 0 is itself and 1 + j is test example j."""

    index: int
    memorization: float | None
    """Memorization of the example by the models on random subsets that chose it (Equation 2); None where it was named."""
    num_models: int
    """Number of models on each side, without pairs of which one diverged."""
    p: Float[np.ndarray, " predictions"]
    """Share of the models on everything that are right on each example."""
    q: Float[np.ndarray, " predictions"]
    """Share of the models without the left-out example that are right on each example."""
    low: Float[np.ndarray, " predictions"]
    """Lower end of the interval of p - q: 95% for the example itself, 95% for all test examples together."""
    high: Float[np.ndarray, " predictions"]
    """Upper end of that interval."""
    needed: Float[np.ndarray, " predictions"]
    """Number of models that tell p from q by Section 4.3; infinite where they are equal."""

    @property
    def influence(self) -> Float[np.ndarray, " predictions"]:
        """Influence of the example on each prediction, p - q (Equation 1)."""
        return self.p - self.q

    @property
    def certain(self) -> Bool[np.ndarray, " predictions"]:
        """Whether the interval of each influence excludes 0."""
        return (self.low > 0) | (self.high < 0)

    @property
    def sufficed(self) -> Bool[np.ndarray, " predictions"]:
        """Whether each side has as many models as Section 4.3 asks for."""
        return self.needed <= self.num_models

    def select_most_affected(self, shown: int) -> Int[np.ndarray, " shown"]:
        """Entries of itself and the test examples with the largest estimates, positive or negative; none of 0."""
        order = 1 + np.argsort(-np.abs(self.influence[1:]), kind="stable")[:shown]
        return np.concatenate([[0], order[self.influence[order] != 0]])


@dataclass(frozen=True)
class Findings:
    """Everything that the figure and results.json are made from."""

    examples: Sequence[Example]
    """The training examples that were left out."""
    num_models: int
    """Number of models on each side, with an example and without it."""
    paired: bool
    """Whether the models of the two sides share their keys in pairs."""
    shown: int
    """Number of test examples that are shown for each training example."""
    delta: float
    """Largest probability of an error for which Section 4.3's number of models is computed."""


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figure."""
    pairs = "pairs of models that share their keys" if findings.paired else "models of their own keys on each side"
    section = Section(
        title="Equation 1: the influence of single examples by leaving them out",
        claim="The influence of example i on a prediction is the probability of being right for models trained on everything less "
        "that for models trained without i (Equation 1); how many models tell the two apart depends on both (Section 4.3).",
        setting=f"{data.name}, {model}: {len(findings.examples)} training examples, {findings.num_models} {pairs}; "
        f"{data.num_test} test examples. The paper estimates no such influence: its networks take too long; here are {describe_kind(data)}.",
        finding=find_answer(findings, data),
        tables=[_table(findings, data)],
        illustrations=[
            Illustration(
                "influence",
                f"Influence p - q (horizontal) of single training examples of {data.name}, a panel each, on the example itself (red row) and on "
                f"the test examples that it affects most (blue rows); {findings.num_models} models of {model} with it and as many without it. p and q are "
                "the shares that are right. Bars are 95% intervals, for test examples of all of them together. A bar beside 0 is "
                "an influence beyond doubt.",
            )
        ],
    )
    figure = plots.intervals_figure(
        {_name(example, data): _estimates(example, findings.shown, data) for example in findings.examples},
        xlabel="influence, p - q",
        note=f"{findings.num_models} models a side; red: the example itself, 95% interval; blue: most affected test examples, "
        "intervals that hold for all test examples together with 95%",
        title=f"{data.name}, {model}: influence of leaving out one training example (Equation 1)",
    )
    return Outcome(section, numbers(findings), {"influence": figure})


def _name(example: Example, data: Dataset) -> str:
    return name_example(data, "train", example.index)


def _label(entry: int, data: Dataset) -> str:
    return "itself" if entry == 0 else name_example(data, "test", entry - 1)


def _estimates(example: Example, shown: int, data: Dataset) -> plots.Estimates:
    rows = example.select_most_affected(shown)
    labels = [_label(entry, data) for entry in rows]
    return plots.Estimates(labels, example.influence[rows], example.low[rows], example.high[rows], rows == 0)


def numbers(findings: Findings) -> dict[str, Any]:
    """Every estimate of Equation 1 for each example, with its interval; `models_needed` is null where p equals q."""
    return {
        "models_a_side": findings.num_models,
        "paired": findings.paired,
        "delta": findings.delta,
        "examples": [
            {
                "train_index": example.index,
                "memorization_by_subsets": example.memorization,
                "n": example.num_models,
                "itself": _numbers(example, 0),
                "test": _numbers(example, slice(1, None)),
            }
            for example in findings.examples
        ],
    }


def _numbers(example: Example, entries: Any) -> dict[str, Any]:
    names = ("p", "q", "influence", "low", "high", "certain")
    return {name: getattr(example, name)[entries] for name in names} | {"models_needed": example.needed[entries]}


def _table(findings: Findings, data: Dataset) -> Table:
    rows = []
    for example in findings.examples:
        for entry in example.select_most_affected(findings.shown):
            memorized = "" if entry or example.memorization is None else f"{example.memorization:.2f}"
            needed = example.needed[entry]
            rows.append(
                [
                    f"... on {_label(entry, data)}" if entry else f"{_name(example, data)}, on itself",
                    f"{example.p[entry]:.3f}",
                    f"{example.q[entry]:.3f}",
                    f"{example.influence[entry]:+.3f}",
                    f"{example.low[entry]:+.3f} to {example.high[entry]:+.3f}",
                    memorized,
                    f"{needed:,.0f}" if np.isfinite(needed) else "none",
                ]
            )
    return Table(
        f"Influence by Equation 1, {findings.num_models} models with and without each example",
        ["influence of", "p", "q", "p - q", "interval", "by subsets", "models needed"],
        rows,
        "Interval: 95% for the example itself; for test examples 95% for all of them together, since those with the largest "
        "estimates are shown. By subsets: memorization by Feldman and Zhang's estimate (Equation 2), which differs because its models "
        f"see only a part of the data. Needed: Section 4.3 with delta {findings.delta:g}, taking the estimates for p and q; none suffice "
        f"where these are equal, and {findings.num_models} are there.",
    )


def find_answer(findings: Findings, data: Dataset) -> Finding:
    """How large the influences are, how sure, whether the models sufficed, and what the paper says of that."""
    count = len(findings.examples)
    own = [float(example.influence[0]) for example in findings.examples]
    sure = sum(bool(example.certain[0]) for example in findings.examples)
    enough = sum(bool(example.sufficed[0]) for example in findings.examples)
    evidence = [
        f"By Section 4.3, {findings.num_models} models with and without it are enough for {enough} of {count} of these influences.",
        pairs_evidence(findings, data),
        subsets_evidence(findings),
    ]
    return Finding(
        f"Training on {_describe_examples(findings)} adds {format_range(own, '+.2f')} to the probability of being right on it, beyond doubt "
        f"for {sure} of {count} (95% interval).",
        [each for each in evidence if each],
        "It estimates no such influence; over 100 models tell p = 0.6 from q = 0.4, and fewer than 10 p above 0.9 from most "
        "q (Section 4.3).",
    )


def _describe_examples(findings: Findings) -> str:
    count, named = len(findings.examples), all(example.memorization is None for example in findings.examples)
    kind = "named" if named else "most memorized"
    return f"the {kind} example" if count == 1 else f"one of the {count} {kind} examples"


def pairs_evidence(findings: Findings, data: Dataset) -> str:
    """How many influences on test examples are beyond doubt."""
    examples = findings.examples
    affected = sum(int(example.certain[1:].sum()) for example in examples)
    both = sum(int((example.certain & example.sufficed)[1:].sum()) for example in examples)
    sizes = [abs(value) for example in examples for value in example.influence[1:][example.certain[1:]].tolist()]
    smallest = f"; the smallest is {min(sizes):.3f}" if sizes else ""
    return (
        f"On test examples, {affected} of {len(examples) * data.num_test} influences are beyond doubt, {both} of them with enough models by "
        f"Section 4.3{smallest}."
    )


def subsets_evidence(findings: Findings) -> str:
    """How the influence on itself differs from the estimate by random subsets; empty where there is none."""
    gaps = [
        float(example.influence[0]) - example.memorization
        for example in findings.examples
        if example.memorization is not None and np.isfinite(example.memorization)
    ]
    if not gaps:
        return ""
    smaller = ", and is the smaller for all of them" if max(gaps) < 0 else ""
    return f"Influence by leaving out (Equation 1) differs from that by random subsets (Equation 2) by {format_range(gaps, '+.2f')}{smaller}."
