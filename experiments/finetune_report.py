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
from jaxinfl.report import Illustration, Section, Table, format_mean, summarize


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
        claim="A model fine-tuned without an example for 6 % of the epochs disagrees with one retrained without it on so many test "
        "examples that fine-tuning is no stand-in for retraining (Section 4.2).",
        setting=f"{data.name}, {' and '.join(findings.networks)}: {findings.num_seeds} seeds x {len(findings.dropped)} "
        f"training examples left out one at a time; {findings.epochs} epochs of training, {tuning.epochs} of fine-tuning at the "
        f"constant learning rate {tuning.learning_rate:.3g}.",
        finding=" ".join(finding(name, network) for name, network in findings.networks.items()),
        paper=describe_paper(data),
        tables=[_table(findings, data), _judging_table(findings)],
        illustrations=[
            Illustration("agreement", "Agreement of retrained (R) and fine-tuned (F) models, and what to judge it by.")
        ],
    )
    figure = plots.strips_figure(
        {name: network.groups for name, network in findings.networks.items()},
        ylabel="agreement on the test set",
        title=f"{data.name}: models retrained (R) and fine-tuned (F) without one training example",
    )
    return Outcome(section, numbers(findings), {"agreement": figure})


def describe_paper(data: Dataset) -> str:
    """Describe the paper's result, with what its other table says about it."""
    own = "; ".join(
        f"{line.agreement.mean:.3f} on {name} with {network} (two seeds of Table 2b: {TABLE_2B[name, network].agreement.mean:.3f})"
        for (name, network), line in TABLE_1.items()
    )
    return (
        f"R and F agree on {own}. It concludes that fine-tuning does not stand in for retraining. 32x32 and larger colour images, "
        f"networks of millions of parameters, 3 seeds; here {describe_kind(data)} of "
        f"{data.num_classes} classes and small networks."
    )


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
        ],
        "R and R, F and F: pairs of seeds without the same example. Start: the model on everything.",
    )


def finding(name: str, network: Network) -> str:
    """Whether R and F agree less than two seeds of R do, and what fine-tuning itself changes."""
    own, seeds = network.retrained_with_tuned, network.between_retrained
    gap, widest = float(seeds.mean() - own.mean()), float(max(own.std(ddof=1), seeds.std(ddof=1)))
    if abs(gap) <= widest:
        verdict = "about as often as"
    else:
        verdict = "less often than" if gap > 0 else "more often than"
    start = float(network.tuned_with_start.mean())
    side = "nearer to" if start > own.mean() else "no nearer to"
    return (
        f"With {name} retrained and fine-tuned models agree on {own.mean():.3f} of the test examples, {verdict} two retrained "
        f"models with different seeds do ({seeds.mean():.3f}, spread {widest:.3f}). A fine-tuned model says the same as the "
        f"one that it started from on {start:.3f}: it is {side} its start than to a model without the example."
    )
