"""Results of `nondeterminism` as numbers, figures and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.data_kinds import describe_kind
from experiments.outcome import Outcome
from experiments.paper_numbers import BOTH, TABLE_2, TABLE_2B, TABLE_3
from jaxinfl import Dataset, plots
from jaxinfl.report import Illustration, Section, Table, format_mean, summarize
from jaxinfl.training.inputs import Views

PAIRS_SHARE = "Agreement: mean ± standard deviation over pairs of models, which share models; accuracy: over models."


class Stable(NamedTuple):
    """How often models on identical data agree, and how often they are right."""

    agreement: Float[np.ndarray, " pairs"]
    """Share of the test examples on which two of them say the same, for each pair."""
    accuracy: Float[np.ndarray, " models"]
    """Share of the test examples on which each is right."""


@dataclass(frozen=True)
class Network:
    """How often the models of one architecture agree."""

    sources: Mapping[str, Stable]
    """How stable the predictions are, by the source of randomness that differs from model to model."""
    matrix: Float[np.ndarray, "three three"]
    """Agreement of the first three models that differ in everything."""
    right: Float[np.ndarray, " test"]
    """Share p of the models that are right on each test example; these models differ in everything."""
    control: float
    """Share of the test examples on which models with the same keys agree; 1 unless something random is left out."""
    augmented: Stable | None = None
    """How stable the models that differ in everything are with test-time augmentation; None without it."""
    augmented_right: Float[np.ndarray, " test"] | None = None
    """Share p with test-time augmentation."""


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    networks: Mapping[str, Network]
    """Name of each architecture -> how often its models agree."""
    views: Views
    """Number of views that test-time augmentation averages over; "one" is none."""

    @property
    def num_seeds(self) -> int:
        """Number of models that differ in everything, of the network with most of them."""
        return max(len(network.sources[BOTH].accuracy) for network in self.networks.values())


def outcome(findings: Findings, data: Dataset) -> Outcome:
    """The experiment's section of the page, its numbers and its figures."""
    networks = " and ".join(findings.networks)
    augmented = findings.views != "one"
    figures = {
        "figure2a": plots.agreement_figure(
            {name: network.matrix for name, network in findings.networks.items()},
            title=f"{data.name}: agreement of three models that differ in their seeds alone, on {data.num_test} test examples",
        )
    }
    illustrations = [Illustration("figure2a", "Figure 2a: agreement of three models on the same data.")]
    if augmented:
        figures["figure4"] = plots.shares_figure(
            {name: _ways(network) for name, network in findings.networks.items()},
            findings.num_seeds,
            title=f"{data.name}: how many of {findings.num_seeds} models are right on each of {data.num_test} test examples",
        )
        illustrations.append(Illustration("figure4", "Figure 4: p without and with test-time augmentation."))
    section = Section(
        title="Figures 2 and 4, Tables 2, 2b and 3: agreement of models on identical data",
        claim="Models trained on the same data agree on 40 to 96 % of the test examples, the less the harder the task "
        "(Section 4.1), about the same whatever the source of nondeterminism (Appendix C), and hardly more with test-time "
        "augmentation (Appendix B).",
        setting=f"{data.name}, {networks}: up to {findings.num_seeds} models for each source of nondeterminism, all on the same "
        f"{data.num_train} training examples. Models with the same keys agree on "
        f"{', '.join(f'{100 * network.control:g} %' for network in findings.networks.values())} of the test examples.",
        finding=" ".join(
            part
            for name, network in findings.networks.items()
            for part in (agreement_finding(name, network), source_finding(network), augmentation_finding(network))
            if part
        ),
        paper=f"{describe_paper()} {data.name} ({describe_kind(data)}, {data.num_classes} classes, small "
        "networks) is another task, so the numbers compare in kind only.",
        tables=[_sources_table(findings, data), *([_augmentation_table(findings, data)] if augmented else [])],
        illustrations=illustrations,
    )
    return Outcome(section, numbers(findings), figures)


def describe_paper() -> str:
    """Table 2b of the paper in a sentence."""
    tasks: dict[str, list[Any]] = {}
    for (name, _), stable in TABLE_2B.items():
        tasks.setdefault(name, []).append(stable)
    found = [
        f"{min(s.agreement.mean for s in both):.2f} to {max(s.agreement.mean for s in both):.2f} on {name} at accuracies of "
        f"{min(s.accuracy.mean for s in both):.2f} to {max(s.accuracy.mean for s in both):.2f}"
        for name, both in tasks.items()
    ]
    return f"3 seeds of Inceptions and ResNet-18: agreement {'; '.join(found)}."


def _ways(network: Network) -> dict[str, Float[np.ndarray, " test"]]:
    ways = {"without TTA": network.right}
    if network.augmented_right is not None:
        ways["with TTA"] = network.augmented_right
    return ways


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number with its n and spread, as results.json keeps it."""
    return {
        name: {
            "figure_2a": network.matrix,
            "sources": {source: _summarize(stable) for source, stable in network.sources.items()},
            "control_agreement": network.control,
            "tta": None if network.augmented is None else {"views": findings.views, **_summarize(network.augmented)},
            "p": network.right,
            "p_with_tta": network.augmented_right,
        }
        for name, network in findings.networks.items()
    }


def _summarize(stable: Stable) -> dict[str, Any]:
    return {"agreement_of_pairs": summarize(stable.agreement), "accuracy": summarize(stable.accuracy)}


def _sources_table(findings: Findings, data: Dataset) -> Table:
    ours = [
        [
            data.name,
            name,
            source,
            format_mean(stable.agreement, 3),
            format_mean(stable.accuracy, 3),
            str(len(stable.accuracy)),
        ]
        for name, network in findings.networks.items()
        for source, stable in network.sources.items()
    ]
    paper = [
        [f"paper: {name}", network, source, str(stable.agreement), str(stable.accuracy), "3"]
        for (name, network), sources in TABLE_3.items()
        for source, stable in sources.items()
    ]
    return Table(
        "Tables 2b and 3: agreement and accuracy on identical data",
        ["data", "network", "what differs", "average agreement", "mean accuracy", "models"],
        ours + paper,
        f"{PAIRS_SHARE} Augmentation follows the data order. Table 2b are the rows in which both differ.",
    )


def _augmentation_table(findings: Findings, data: Dataset) -> Table:
    ours = [
        [data.name, name, way, format_mean(stable.agreement, 3), format_mean(stable.accuracy, 3)]
        for name, network in findings.networks.items()
        for way, stable in (("no", network.sources[BOTH]), (f"{findings.views} views", network.augmented))
        if stable is not None
    ]
    paper = [
        [f"paper: {name}", network, way, str(stable.agreement), str(stable.accuracy)]
        for (name, network), both in TABLE_2.items()
        for way, stable in zip(("no", "ten views"), both, strict=True)
    ]
    return Table(
        "Table 2: test-time augmentation",
        ["data", "network", "augmentation", "average agreement", "mean accuracy"],
        ours + paper,
        f"{PAIRS_SHARE} Initialization and data order both differ.",
    )


def agreement_finding(name: str, network: Network) -> str:
    """How often seeds alone change a prediction, beside how often it is wrong, and where that falls among the paper's tasks."""
    both = network.sources[BOTH]
    agree, accuracy = both.agreement.mean(), both.accuracy.mean()
    paper = [stable.agreement.mean for stable in TABLE_2B.values()]
    place = "above all" if agree > max(paper) else "below all" if agree < min(paper) else "within those"
    return (
        f"Two models of {name} that differ in their seeds alone disagree on {100 * (1 - agree):.1f} % of the test examples, and "
        f"a model is wrong on {100 * (1 - accuracy):.1f} %; the agreement of {agree:.3f} is {place} of the paper's tasks "
        f"({min(paper):.3f} to {max(paper):.3f})."
    )


def source_finding(network: Network) -> str:
    """Whether it matters what differs: the largest difference of two sources beside the spread over pairs."""
    means = {source: float(stable.agreement.mean()) for source, stable in network.sources.items()}
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    difference = means[high] - means[low]
    widest = max(float(stable.agreement.std(ddof=1)) for stable in network.sources.values())
    if difference <= widest:
        return (
            "It is about the same whatever differs: the sources' averages lie within "
            f"{difference:.3f} of each other, pairs of models spread by up to {widest:.3f}."
        )
    return (
        f"It depends on what differs: {means[low]:.3f} with different {low}, {means[high]:.3f} with different {high}, more "
        f"than pairs of models spread ({widest:.3f})."
    )


def augmentation_finding(network: Network) -> str:
    """What test-time augmentation changes; empty without it."""
    if network.augmented is None:
        return ""
    before, after = network.sources[BOTH], network.augmented
    agreement = float(after.agreement.mean() - before.agreement.mean())
    accuracy = float(after.accuracy.mean() - before.accuracy.mean())
    certain = [float(((p == 0) | (p == 1)).mean()) for p in _ways(network).values()]
    return (
        f"Test-time augmentation changes agreement by {agreement:+.3f} and accuracy by {accuracy:+.3f}; the test examples on "
        f"which all models are right or all wrong go from {100 * certain[0]:.1f} to {100 * certain[-1]:.1f} %."
    )
