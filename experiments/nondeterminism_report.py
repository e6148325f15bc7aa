"""Results of `nondeterminism` as numbers, figures and words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.data_kinds import describe_kind
from experiments.outcome import Outcome
from experiments.paper_numbers import BOTH, TABLE_2, TABLE_2B, TABLE_3
from jaxinfl import Dataset, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, format_range, summarize
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
    illustrations = [
        Illustration(
            "figure2a",
            f"Figure 2a. Share of the {data.num_test} test examples of {data.name} on which two models say the same, for each two of three "
            f"models (rows and columns) of {networks}. All saw the same training examples, and only their seeds differ. Off the "
            "diagonal, 1 less the number is what seeds alone change.",
        )
    ]
    if augmented:
        figures["figure4"] = plots.shares_figure(
            {name: _ways(network) for name, network in findings.networks.items()},
            findings.num_seeds,
            title=f"{data.name}: how many of {findings.num_seeds} models are right on each of {data.num_test} test examples",
        )
        illustrations.append(
            Illustration(
                "figure4",
                f"Figure 4. Number of test examples of {data.name} (vertical) by the share p of {findings.num_seeds} models that are right "
                f"(horizontal), for {networks} without and with test-time augmentation (TTA) by {findings.views} views. All models saw "
                "the same training examples. What lies between p = 0 and p = 1 is decided by the seeds.",
            )
        )
    section = Section(
        title="Figures 2 and 4, Tables 2, 2b and 3: agreement of models on identical data",
        claim="Models trained on the same data agree on 40% to 96% of the test examples, the less the harder the task "
        "(Section 4.1), about the same whatever the source of nondeterminism (Appendix C), and hardly more with test-time "
        "augmentation (Appendix B).",
        setting=f"{data.name}, {networks}: up to {findings.num_seeds} models for each source of nondeterminism, all on the same "
        f"{data.num_train} training examples. Models with the same keys agree on "
        f"{', '.join(f'{100 * network.control:g}%' for network in findings.networks.values())} of the test examples. "
        f"The paper has 3 seeds of Inceptions and ResNet-18 on other tasks than {describe_kind(data)} of {data.num_classes} classes, so "
        "the numbers compare in kind only.",
        finding=find_answer(findings.networks),
        tables=[_sources_table(findings, data), *([_augmentation_table(findings, data)] if augmented else [])],
        illustrations=illustrations,
    )
    return Outcome(section, numbers(findings), figures)


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
        " ".join(
            [f"{PAIRS_SHARE} Initialization and data order both differ."]
            + [words for words in (describe_certain(*each) for each in findings.networks.items()) if words]
        ),
    )


def find_answer(networks: Mapping[str, Network]) -> Finding:
    """How often seeds alone change a prediction, whether it matters which seed, and what the paper found."""
    both = [network.sources[BOTH] for network in networks.values()]
    disagree = format_range([1 - stable.agreement.mean() for stable in both], ".1%")
    wrong = format_range([1 - stable.accuracy.mean() for stable in both], ".1%")
    evidence = [place_evidence(both), source_evidence(networks), augmentation_evidence(networks)]
    paper = [stable.agreement.mean for stable in TABLE_2B.values()]
    return Finding(
        f"Two models that differ in nothing but their seeds disagree on {disagree} of the test examples, and a model is wrong on {wrong}.",
        [each for each in evidence if each],
        f"Models on the same data agree on {format_range(paper, '.1%')} of the test examples, the less the harder the task, and "
        "whatever source differs (Section 4.1, Table 2b; Appendix C).",
    )


def place_evidence(both: Iterable[Stable]) -> str:
    """Where the agreement falls among that of the paper's tasks."""
    agree = [float(stable.agreement.mean()) for stable in both]
    paper = [stable.agreement.mean for stable in TABLE_2B.values()]
    if min(agree) > max(paper):
        place = "above that of all"
    elif max(agree) < min(paper):
        place = "below that of all"
    else:
        place = (
            "within that of the"
            if min(paper) <= min(agree) and max(agree) <= max(paper)
            else "partly beyond that of the"
        )
    return f"Their agreement, {format_range(agree, '.3f')}, is {place} tasks and networks of the paper, {format_range(paper, '.3f')}."


def source_evidence(networks: Mapping[str, Network]) -> str:
    """Whether it matters what differs: the largest difference of two sources beside the spread over pairs of models.

    It is told of the network in which the difference is the largest, measured by that spread.
    """
    compared = {}
    for name, network in networks.items():
        means = {source: float(stable.agreement.mean()) for source, stable in network.sources.items()}
        widest = max(float(stable.agreement.std(ddof=1)) for stable in network.sources.values())
        difference = max(means.values()) - min(means.values())
        compared[name] = (difference / widest if widest else np.inf * difference if difference else 0.0, means, widest)
    name = max(compared, key=lambda each: compared[each][0])
    ratio, means, widest = compared[name]
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if ratio <= 1:
        return (
            f"It hardly matters what differs, initialization or data order: mean agreements lie within {means[high] - means[low]:.3f} of each "
            f"other, and pairs of models spread by up to {widest:.3f}."
        )
    return (
        f"It matters what differs ({name}): agreement is {means[low]:.3f} with different {low} and {means[high]:.3f} with different "
        f"{high}, while pairs of models spread by {widest:.3f}."
    )


def augmentation_evidence(networks: Mapping[str, Network]) -> str:
    """What test-time augmentation changes; empty without it."""
    changes = [
        (
            float(after.agreement.mean() - before.agreement.mean()),
            float(after.accuracy.mean() - before.accuracy.mean()),
        )
        for before, after in ((network.sources[BOTH], network.augmented) for network in networks.values())
        if after is not None
    ]
    if not changes:
        return ""
    agreement, accuracy = zip(*changes, strict=True)
    return (
        f"Test-time augmentation changes agreement by {format_range(agreement, '+.3f')} and accuracy by {format_range(accuracy, '+.3f')}, as "
        "shares of the test examples."
    )


def describe_certain(name: str, network: Network) -> str:
    """Share of the test examples that seeds do not decide, without test-time augmentation and with it; empty without it."""
    if network.augmented is None:
        return ""
    before, after = (float(((p == 0) | (p == 1)).mean()) for p in _ways(network).values())
    return (
        f"With {name} the test examples on which all models are right or all wrong go from {before:.1%} to {after:.1%}."
    )
