"""Results of `uncertainty` as numbers, a figure and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest

from experiments.outcome import Outcome
from experiments.uncertainty_simulations import SHARES
from jaxinfl import Dataset, Discoveries, plots
from jaxinfl.report import Finding, Illustration, Section, Table, format_range, summarize
from jaxinfl.statistics.multiple import FDRMethod


@dataclass(frozen=True)
class Findings:
    """Everything that the figure and results.json are made from."""

    sizes: tuple[int, ...]
    """Numbers of models for which coverage was simulated."""
    coverage: Mapping[str, Mapping[str, Float[np.ndarray, "sizes shares"]]]
    """Interval -> design -> share of intervals that cover, by number of models and probability without the example."""
    others: Mapping[str, Float[np.ndarray, " repeats"]]
    """Other 95% intervals -> whether each covers, 0 or 1; NaN where there is none."""
    confidence: float
    """Nominal coverage of the intervals."""
    rates: Mapping[str, Float[np.ndarray, "repeats 2"]]
    """Kind of tests and method -> share of false discoveries and number of discoveries, for each ensemble."""
    fdr: float
    """Nominal false discovery rate."""
    powers: Mapping[str, Float[np.ndarray, " repeats"]]
    """Influence and planned number -> whether it was shown, for each ensemble."""
    power: float
    """Power that the numbers of models were planned for."""
    real: Mapping[FDRMethod, Discoveries]
    """Method -> discoveries among the pairs of the trained models."""
    num_models: int
    """Number of trained models that did not diverge."""


def outcome(findings: Findings, data: Dataset, model: str) -> Outcome:
    """The experiment's section of the page, its numbers and its figure."""
    about = f"{data.name}, {model}"
    section = Section(
        title="Uncertainty: intervals, discoveries and planned numbers of models",
        claim=f"Nominal {findings.confidence:.0%} intervals cover, at most the nominal share of discoveries is false, and "
        "ensembles of the planned size show an influence as often as asked.",
        setting=f"Simulated ensembles with known influences; real scores: {findings.num_models} models of {about}.",
        finding=find_answer(findings),
        tables=[_coverage_table(findings), _others_table(findings), _rates_table(findings), _power_table(findings)],
        illustrations=[
            Illustration(
                "simulations",
                f"Simulated ensembles whose influences are known. Upper row: share of {findings.confidence:.0%} intervals that cover the true influence "
                "(vertical) over the number of models (horizontal), a panel for each interval and a colour for each design of subsets. Lower row: "
                "share of discoveries that are false by kind of tests, and share of ensembles of the planned size that show an influence "
                "(horizontal). Dashed lines are nominal: what lies at them, or below for false discoveries, is as promised.",
            ),
            Illustration(
                "intervals",
                "Share of other 95% intervals that cover the true value (horizontal), by the quantity that they are for (vertical), in simulated "
                "ensembles; bars are 99% intervals of that share. Intervals are honest whose bar reaches the line at 95%.",
            ),
        ],
    )
    figure = plots.simulations_figure(
        findings.sizes,
        findings.coverage,
        findings.confidence,
        {kind: _mean_and_error(pairs[:, 0]) for kind, pairs in findings.rates.items()},
        findings.fdr,
        {name: _mean_and_error(shown) for name, shown in findings.powers.items()},
        findings.power,
        title=f"Simulated ensembles with known influences; real scores: {findings.num_models} models of {about}",
    )
    covered = {name: _judge(inside) for name, inside in findings.others.items()}
    intervals = plots.coverage_figure(
        {name: (each.share, each.low, each.high) for name, each in covered.items() if each.number},
        0.95,
        title="95% intervals that cover, of those that are not NaN; bars are 99% intervals of the share",
    )
    return Outcome(section, numbers(findings), {"simulations": figure, "intervals": intervals})


def numbers(findings: Findings) -> dict[str, Any]:
    """Every number of the figure with its n and spread, as results.json keeps it."""
    return {
        "note": "coverage: mean and std over the probability without the example, each over all those with it.",
        "probabilities": SHARES,
        "coverage": {
            name: {design: _by_size(findings.sizes, values) for design, values in designs.items()}
            for name, designs in findings.coverage.items()
        },
        "other_coverage": {
            name: summarize(inside) | {"without_interval": int(np.isnan(inside).sum())}
            for name, inside in findings.others.items()
        },
        "false_discoveries": {
            kind: {"share": summarize(pairs[:, 0]), "discoveries": summarize(pairs[:, 1])}
            for kind, pairs in findings.rates.items()
        },
        "power": {name: summarize(shown) for name, shown in findings.powers.items()},
        "real_pairs": {
            method: {"discoveries": len(found), "tests": found.num_tests, "num_models": findings.num_models}
            | {"lowest_absolute_influence": float(np.abs(found.influence).min()) if len(found) else None}
            for method, found in findings.real.items()
        },
    }


def _coverage_table(findings: Findings) -> Table:
    rows = []
    for name, designs in findings.coverage.items():
        for row, size in enumerate(findings.sizes):
            parts = (values[row] for values in designs.values())
            cells = (
                "no interval"
                if np.isnan(part).all()
                else f"{100 * part.mean():.1f} ({100 * part.min():.0f}-{100 * part.max():.0f})"
                for part in parts
            )
            rows.append(["" if row else name, str(size), *cells])
    return Table(
        f"% of {findings.confidence:.0%} intervals that cover (lowest-highest over p)",
        ["interval", "models", *next(iter(findings.coverage.values()))],
        rows,
        describe_single_values(findings),
    )


class Judgement(NamedTuple):
    """How often the intervals of one simulation cover."""

    number: int
    """Number of intervals that are not NaN."""
    without: int
    """Number of simulated ensembles that have no interval."""
    share: float
    """Share of the intervals that cover; NaN where there is none."""
    low: float
    """Lower end of the binomial interval of 99% of that share."""
    high: float
    """Upper end of that interval."""

    @property
    def verdict(self) -> str:
        """Whether the coverage may lie between 93% and 97%; few intervals say nothing."""
        if self.without > 0.9 * (self.number + self.without):
            return "no interval"
        return "low" if self.high < 0.93 else "high" if self.low > 0.97 else "covers"


def _judge(inside: Float[np.ndarray, " repeats"]) -> Judgement:
    defined = inside[~np.isnan(inside)]
    if not defined.size:
        return Judgement(0, inside.size, np.nan, np.nan, np.nan)
    low, high = binomtest(int(defined.sum()), defined.size).proportion_ci(0.99)
    return Judgement(defined.size, inside.size - defined.size, float(defined.mean()), low, high)


def _others_table(findings: Findings) -> Table:
    rows = []
    for name, inside in findings.others.items():
        each = _judge(inside)
        shares = (f"{100 * each.share:.1f}", f"{100 * each.low:.1f}-{100 * each.high:.1f}") if each.number else ("", "")
        rows.append([name, *shares, f"{each.without / inside.size:.0%}", each.verdict])
    return Table(
        "% of other 95% intervals that cover",
        ["interval", "%", "99% interval", "NaN", "93% to 97%"],
        rows,
        "Coverage is that of the ensembles that have an interval; 'no interval' where fewer than a tenth have one.",
    )


def _rates_table(findings: Findings) -> Table:
    rows = []
    for kind, pairs in findings.rates.items():
        mean, error = _mean_and_error(pairs[:, 0])
        rows.append([kind, f"{mean:.3f} ± {error:.3f}", f"{pairs[:, 1].mean():.1f}"])
    return Table(
        f"Share of false discoveries, nominal {findings.fdr:g}",
        ["tests", "false", "discoveries"],
        rows,
        f"± standard error; the discoveries are a mean over ensembles. Above nominal by more than three standard errors: "
        f"{', '.join(find_exceeded(findings)) or 'none'}.",
    )


def _power_table(findings: Findings) -> Table:
    rows = [[name, f"{shown.mean():.3f}"] for name, shown in findings.powers.items()]
    return Table(f"Power of planned numbers of models, {findings.power:g} asked for", ["influence", "power"], rows)


def find_answer(findings: Findings) -> Finding:
    """Whether intervals cover, tests keep their rate and planned numbers suffice. The paper gives no uncertainty of a score."""
    return Finding(answer(findings), [power_evidence(findings), others_evidence(findings), real_evidence(findings)])


def answer(findings: Findings) -> str:
    """Whether intervals cover and tests keep their false discovery rate, in a sentence."""
    means = _coverage(findings).mean(axis=-1)
    covered = (
        f"{findings.confidence:.0%} intervals cover the true influence in {format_range(means, '.1%')} of simulated ensembles"
        if np.isfinite(means).any()
        else f"No simulated ensemble has enough models for a {findings.confidence:.0%} interval"
    )
    over = len(find_exceeded(findings))
    kept = "all" if not over else f"{len(findings.rates) - over} of"
    return f"{covered}, and {kept} {len(findings.rates)} kinds of tests keep their false discovery rate of {findings.fdr:g}."


def find_exceeded(findings: Findings) -> list[str]:
    """Kinds of tests whose share of false discoveries is above the nominal one by more than three standard errors."""
    judged = ((kind, _mean_and_error(pairs[:, 0])) for kind, pairs in findings.rates.items())
    return [kind for kind, (mean, error) in judged if mean > findings.fdr + 3 * error]


def power_evidence(findings: Findings) -> str:
    """Whether ensembles of the planned size show an influence as often as asked."""
    shown = [each.mean() for each in findings.powers.values()]
    return f"Of ensembles of the planned size {format_range(shown, '.1%')} show the influence, where {findings.power:.0%} was asked for."


def others_evidence(findings: Findings) -> str:
    """How many kinds of other intervals cover."""
    verdicts = [_judge(each).verdict for each in findings.others.values()]
    low, high, none = (verdicts.count(verdict) for verdict in ("low", "high", "no interval"))
    return (
        f"Of {len(verdicts)} kinds of other 95% intervals {verdicts.count('covers')} cover in 93% to 97%, {low} less and {high} more, up to "
        f"chance; nearly always NaN: {none}."
    )


def real_evidence(findings: Findings) -> str:
    """How many influences the trained models show."""
    found = findings.real["bh"]
    return (
        f"{findings.num_models} trained models show {len(found)} influences among {found.num_tests} pairs at a false discovery rate of "
        f"{findings.fdr:g} (Benjamini-Hochberg)."
    )


def describe_single_values(findings: Findings) -> str:
    """How many single values of p have nominal coverage."""
    by_share = _coverage(findings)
    defined = by_share[np.isfinite(by_share)]
    if not defined.size:
        return "No number of models is enough for an interval."
    inside = (np.abs(defined - findings.confidence) <= 0.02).mean()
    return f"Of single values of p, {inside:.0%} have a coverage within 2 points of nominal."


def _coverage(findings: Findings) -> Float[np.ndarray, "intervals designs sizes shares"]:
    return np.array([list(designs.values()) for designs in findings.coverage.values()])


def _by_size(sizes: tuple[int, ...], values: Float[np.ndarray, "sizes shares"]) -> dict[int, dict[str, Any]]:
    """Mean, spread and range over the probabilities, for each number of models."""
    ranges = ({"min": float(row.min()), "max": float(row.max())} for row in values)
    return {size: summarize(row) | ends for size, row, ends in zip(sizes, values, ranges, strict=True)}


def _mean_and_error(values: Float[np.ndarray, " repeats"]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
