"""Do the intervals cover, do discoveries keep their false discovery rate, do planned numbers of models suffice?

Claim: nominal 95% intervals of an influence cover it in 93 to 97% of ensembles, over probabilities of being right from 0.02
to 0.98, 25 to 2000 models, ratios 0.5 and 0.7, also when each subset is used twice; so do those of subset shares and of the
linear datamodeling score; of the discoveries at most the nominal share is false, for tests that depend on each other, float
scores with ties and few training examples too; ensembles of the planned size show an influence as often as asked.

    python -m experiments.uncertainty --preset digits       simulations, and 400 small MLPs on 8x8 digits: minutes, 2 cores

Figure: simulations, as PNG and SVG. Expected: coverage near 95% everywhere, on average over p; realized false discovery
rates at or below nominal; discoveries among real digits, and none or few once the masks are dealt to other models.
"""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float
from rich.progress import track

import jaxinfl
from experiments import uncertainty_simulations as simulations
from experiments.command_line import Mistake, Options, console, describe_data, launch, load, mistakes
from experiments.ensembles import Request, carry_out
from experiments.outcome import publish
from experiments.uncertainty_report import Findings, outcome
from jaxinfl import Dataset, Ensemble, Recipe
from jaxinfl.statistics.multiple import FDRMethod

METHODS: tuple[FDRMethod, ...] = ("bh", "by")


@dataclass(frozen=True)
class Config(Options):
    """Options; each preset sets them all."""

    preset: Literal["tiny", "digits"] = "digits"
    """Where the defaults of the other options come from."""
    model: str = "small_mlp"
    """Registered name of the architecture."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """How each model is trained."""
    num_models: int = 400
    """Models trained on subsets of the data, for discoveries among real pairs."""
    ratio: float = 0.7
    """Size of their subsets as a share of the training set."""
    sizes: tuple[int, ...] = (25, 50, 100, 200, 500, 1000, 2000)
    """Numbers of models for which coverage is simulated."""
    confidence: float = 0.95
    """Of the intervals."""
    fdr: float = 0.1
    """False discovery rate."""
    power: float = 0.8
    """Power of the planned numbers of models, at level 0.05."""
    repeats: int = 200
    """Ensembles for each pair of probabilities (coverage), for each kind of tests and for real scores (discoveries)."""
    power_repeats: int = 20_000
    """Ensembles for each planned number."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=2), num_models=24, sizes=(25, 50), repeats=2, power_repeats=500),
    "digits": Config(),
}


def main(config: Config) -> Path:
    """Simulate, train or read the models, write the results; returns their directory."""
    check(config)
    data, out = load(config, "uncertainty", config.preset)
    console.print("[bold]Uncertainty[/bold]: are intervals, discoveries and planned numbers of models what they say?")
    console.print(describe_data(data), markup=False)
    runs = carry_out(requests(config, data), data, config.model, out, cost_only=config.cost, part=config.part)
    findings = _simulate(config, runs["models"])
    publish(outcome(findings, data, config.model), "uncertainty", config, data, out, runs)
    return out


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after the training."""
    if not config.sizes or min(config.sizes) < 8 or list(config.sizes) != sorted(set(config.sizes)):
        raise Mistake(f"--sizes is {' '.join(map(str, config.sizes)) or 'empty'}; it takes rising numbers from 8 up.")
    for option, share in (("--confidence", config.confidence), ("--fdr", config.fdr)):
        if not 0 < share < 1:
            raise Mistake(f"{option} is {share}; it takes a number between 0 and 1.")
    if not 0.05 < config.power < 1:
        raise Mistake(f"--power is {config.power}; it takes a number above the level of 0.05 and below 1.")
    if min(config.repeats, config.power_repeats) < 2:
        raise Mistake("--repeats and --power-repeats take whole numbers from 2 up.")


def requests(config: Config, data: Dataset) -> list[Request]:
    """Models on subsets of their own."""
    with mistakes():
        masks = jaxinfl.draw_subsets(config.num_models, data.num_train, config.ratio, config.seed)
    keys = jax.random.split(jax.random.key(config.seed), config.num_models)
    return [Request("models", f"{config.num_models} models, each on its own subset", masks, keys, config.recipe)]


def _simulate(config: Config, runs: Ensemble) -> Findings:
    cases = [(*pair, *design) for pair in simulations.INTERVALS for design in simulations.DESIGNS]
    covered: dict[str, dict[str, Float[np.ndarray, "sizes shares"]]] = {}
    for name, interval, ratio, uses in track(cases, "coverage", console=console, transient=True):
        rows = [
            simulations.coverage(size, ratio, uses, interval, config.confidence, config.repeats, config.seed)
            for size in config.sizes
        ]
        design = f"ratio {ratio}" + (", twice" if uses > 1 else "")
        covered.setdefault(name, {})[design] = np.stack(rows)
    others = {
        f"subset share {share:g}, {subsets} subsets x {seeds} seeds that make {of_rest:.0%} of the rest": simulations.shares_covered(
            subsets, seeds, share, of_rest, 10 * config.repeats, config.seed
        )
        for subsets, seeds, share, of_rest in simulations.SHARE_DESIGNS
    } | {
        f"LDS, {subsets} subsets, {tests} test examples, common noise {common:g}": simulations.scores_covered(
            subsets, tests, common, config.repeats, config.seed
        )
        for subsets, tests, common in simulations.SCORE_DESIGNS
    }
    usable = runs.without_diverged()
    if len(usable) < 2:
        raise Mistake(
            f"{len(runs) - len(usable)} of {len(runs)} models diverged. Lower --recipe.learning-rate "
            f"(it is {config.recipe.learning_rate:g})."
        )
    masks, correct = usable.masks, usable.test_correct
    draws: dict[str, simulations.Draw] = {kind: partial(simulations.draw_tests, kind) for kind in simulations.KINDS}
    draws["real scores, masks shuffled"] = simulations.shuffled(masks, correct)
    rates = {}
    for kind, draw in track(draws.items(), "false discoveries", console=console, transient=True):
        for method in METHODS:
            shares = simulations.false_discovery_shares(draw, config.repeats, config.fdr, method, config.seed)
            rates[f"{kind}, {method.upper()}"] = np.array(list(shares))
    powers = {}
    for effect, base_rate, ratio in simulations.PLANS:
        number, shown = simulations.achieved_power(
            effect, base_rate, ratio, 0.05, config.power, config.power_repeats, config.seed
        )
        powers[f"{effect:+g} from {base_rate:g}, ratio {ratio:g}: {number} models"] = shown
    with mistakes():
        real = {method: jaxinfl.discoveries(masks, correct, fdr=config.fdr, method=method) for method in METHODS}
    return Findings(
        config.sizes, covered, others, config.confidence, rates, config.fdr, powers, config.power, real, len(masks)
    )


if __name__ == "__main__":
    sys.exit(launch(main, PRESETS, "uncertainty", __doc__))
