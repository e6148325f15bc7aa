"""Results of `finetune_vs_retrain` as numbers, a figure and words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.data_kinds import describe_kind
from experiments.outcome import Outcome
from experiments.paper_numbers import TABLE_1, TABLE_2B
from jaxinfl import Dataset, Recipe, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, format_range, summarize


@dataclass(frozen=True)
class Network:
    """Agreement of the models of one architecture, as shares of the test set. R is retrained and F fine-tuned without an example."""

    retrained_with_tuned: Float[np.ndarray, " models"]
    """Agreement of R with F, one value for each seed and example that is left out."""
    between_retrained: Float[np.ndarray, " pairs"]
    """Agreement of R with R of another seed without the same example."""
    between_tuned: Float[np.ndarray, " pairs"]
    """Agreement of F with F of another seed without the same example."""
    tuned_with_start: Float[np.ndarray, " models"]
    """Agreement of F with the model that it started from."""
    retrained_accuracy: Float[np.ndarray, " models"]
    """Test accuracy of each R."""
    tuned_accuracy: Float[np.ndarray, " models"]
    """Test accuracy of each F."""
    trained_accuracy: Float[np.ndarray, " seeds"]
    """Test accuracy of the models that are trained on every example, one value a seed."""

    @property
    def groups(self) -> dict[str, Float[np.ndarray, " values"]]:
        """The agreements by the name that they have in the figure."""
        return {
            "R and F": self.retrained_with_tuned,
            "R and R,\nother seed": self.between_retrained,
            "F and F,\nother seed": self.between_tuned,
            "F and its\nstart": self.tuned_with_start,
        }


@dataclass(frozen=True)
class Findings:
    """Everything that the figure and results.json are made from."""

    networks: Mapping[str, Network]
    """Name of each architecture -> what its models agree on."""
    dropped: Int[np.ndarray, " dropped"]
    """Indices of the training examples that were left out."""
    epochs: int
    """Number of epochs that a model is trained for."""
    fine_tuning: Recipe
    """Recipe of the fine-tuning."""

    @property
    def num_seeds(self) -> int:
        """Number of models that are trained on every example, of the network with most of them."""
        return max(len(network.trained_accuracy) for network in self.networks.values())


def outcome(findings: Findings, data: Dataset) -> Outcome:
    """The experiment's section of the page, its numbers and its figure."""
    tuning = findings.fine_tuning
    section = Section(
        title="Table 1: fine-tuning against retraining",
        claim="A model fine-tuned without an example for 6% of the epochs disagrees with one retrained without it on so many test "
        "examples that fine-tuning is no stand-in for retraining (Section 4.2).",
        setting=f"{data.name}, {' and '.join(findings.networks)}: {findings.num_seeds} seeds x {len(findings.dropped)} "
        f"training examples left out one at a time; {findings.epochs} epochs of training, {tuning.epochs} of fine-tuning at the "
        f"constant learning rate {tuning.learning_rate:.3g}. The paper has networks of millions of parameters and 3 seeds, here "
        f"{describe_kind(data)} of {data.num_classes} classes.",
        finding=find_answer(findings.networks),
        tables=[_table(findings, data), _judging_table(findings)],
        illustrations=[
            Illustration(
                "agreement",
                f"Share of the {data.num_test} test examples of {data.name} on which two models say the same (vertical), for four kinds of two "
                f"models (horizontal) of {' and '.join(findings.networks)}. R is retrained and F fine-tuned without one training example; a "
                "coloured dot is one pair, black the mean ± standard deviation. Fine-tuning stands in for retraining if R and F agree as R and R do, and more than F and "
                "its start.",
            )
        ],
    )
    figure = plots.strips_figure(
        {name: network.groups for name, network in findings.networks.items()},
        ylabel="agreement on the test set",
        title=f"{data.name}: models retrained (R) and fine-tuned (F) without one training example",
    )
    return Outcome(section, numbers(findings), {"agreement": figure})


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number with its n and spread, as results.json keeps it."""
    return {
        "dropped": findings.dropped,
        "fine_tuning": findings.fine_tuning,
        "networks": {
            name: {kind: summarize(values) for kind, values in asdict(network).items()}
            for name, network in findings.networks.items()
        },
    }


def _table(findings: Findings, data: Dataset) -> Table:
    ours = [
        [data.name, name, *(format_mean(values, 3) for values in parts)]
        for name, network in findings.networks.items()
        for parts in [(network.retrained_with_tuned, network.retrained_accuracy, network.tuned_accuracy)]
    ]
    paper = [[f"paper: {name}", network, *map(str, line)] for (name, network), line in TABLE_1.items()]
    return Table(
        "Table 1: fine-tuned and retrained without one example",
        ["data", "network", "R vs F agreement", "retrain (R) accuracy", "fine-tune (F) accuracy"],
        ours + paper,
        f"Mean ± standard deviation over {findings.num_seeds} seeds x {len(findings.dropped)} examples (the paper: 3 x 10). The "
        "models of a seed share its keys, so these are no independent repeats.",
    )


def _judging_table(findings: Findings) -> Table:
    columns = list(next(iter(findings.networks.values())).groups)
    return Table(
        "What to judge it by: agreement",
        ["network", *(" ".join(column.split()) for column in columns)],
        [
            [name, *(format_mean(values, 3) for values in network.groups.values())]
            for name, network in findings.networks.items()
        ]
        + [
            [f"paper: {name}, {network}", str(line.agreement), str(TABLE_2B[name, network].agreement), "", ""]
            for (name, network), line in TABLE_1.items()
        ],
        "R and R, F and F: pairs of seeds without the same example; the paper's two seeds are those of its Table 2b, with every "
        "example. Start: the model on everything.",
    )


def find_answer(networks: Mapping[str, Network]) -> Finding:
    """Whether fine-tuning stands in for retraining, beside what two seeds of retraining do, and what the paper found."""
    starts = {name: float(network.tuned_with_start.mean()) for name, network in networks.items()}
    own = {name: float(network.retrained_with_tuned.mean()) for name, network in networks.items()}
    nearer = [name for name in networks if starts[name] > own[name]]
    if len(nearer) == len(networks):
        verdict = "Fine-tuning does not replace retraining"
    elif nearer:
        verdict = f"Fine-tuning does not replace retraining with {len(nearer)} of {len(networks)} networks"
    else:
        verdict = "Fine-tuning may replace retraining"
    lines = list(TABLE_1.values())
    return Finding(
        f"{verdict}: fine-tuned models agree with their start on {format_range(list(starts.values()), '.1%')} of test examples, with "
        f"retrained models on {format_range(list(own.values()), '.1%')}.",
        [seeds_evidence(networks), accuracy_evidence(networks)],
        f"Retrained and fine-tuned models agree on {format_range([line.agreement.mean for line in lines], '.1%')} of the test examples, "
        "so that fine-tuning is no stand-in for retraining (Section 4.2, Table 1).",
    )


def seeds_evidence(networks: Mapping[str, Network]) -> str:
    """Whether R and F agree less than two seeds of R do, for the network in which they differ most beside the spread."""
    judged = {}
    for name, network in networks.items():
        groups = (network.retrained_with_tuned, network.between_retrained)
        own, seeds = (float(values.mean()) for values in groups)
        spread = max((float(values.std(ddof=1)) for values in groups if values.size > 1), default=0.0)
        judged[name] = (abs(own - seeds) - spread, own, seeds, spread)
    name = max(judged, key=lambda each: judged[each][0])
    beyond, own, seeds, spread = judged[name]
    verdict = "about as often as" if beyond <= 0 else "less often than" if own < seeds else "more often than"
    return (
        f"Retrained and fine-tuned models ({name}) agree {verdict} two retrained models with different seeds, on {own:.1%} against {seeds:.1%}; "
        f"spread {100 * spread:.1f} points."
    )


def accuracy_evidence(networks: Mapping[str, Network]) -> str:
    """How often retrained and fine-tuned models are right."""
    retrained, tuned = (
        format_range([float(getattr(network, part).mean()) for network in networks.values()], ".1%")
        for part in ("retrained_accuracy", "tuned_accuracy")
    )
    return f"Retrained models are right on {retrained} of the test examples, fine-tuned ones on {tuned}."
