"""Do the intervals cover, do discoveries keep their false discovery rate, do planned numbers of models suffice?

Claim: nominal 95% intervals of an influence cover it in 93 to 97% of ensembles, over probabilities of being right from 0.02
to 0.98, 25 to 2000 models, ratios 0.5 and 0.7, also when each subset is used twice; so do those of subset shares, of the
linear datamodeling score and of skewed scores, or they are NaN with a reason; of the discoveries at most the nominal share is false, for tests that depend on each other, float
scores with ties and few training examples too; ensembles of the planned size show an influence as often as asked.

    python -m experiments.uncertainty --preset digits       simulations, and 400 small MLPs on 8x8 digits: more than 10 minutes

Figures: simulations and intervals, as PNG and SVG. Expected: coverage near 95% everywhere, on average over p; realized false discovery
rates at or below nominal; discoveries among real digits, and none or few once the masks are dealt to other models.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import jax
import numpy as np
from jaxtyping import Float
from rich.progress import track

import jaxinfl
from experiments import uncertainty_simulations as simulations
from experiments.command_line import PRESET, Mistake, Options, console, mistakes
from experiments.data_kinds import choose_score, read_scores, takes_anything
from experiments.ensembles import Request, Runs
from experiments.experiment import Experiment
from experiments.outcome import Outcome
from experiments.uncertainty_report import Findings, outcome
from jaxinfl import Dataset, Ensemble, Recipe
from jaxinfl.statistics.multiple import FDRMethod

METHODS: tuple[FDRMethod, ...] = ("bh", "by")


@dataclass(frozen=True)
class Config(Options):
    """Options of this experiment, besides those of all."""

    preset: Annotated[Literal["tiny", "digits"], PRESET] = "digits"
    num_models: int = 400
    """Number of models that are trained on subsets of the data, for discoveries among real pairs."""
    ratio: float = 0.7
    """Size of each model's subset, as a share of the training set."""
    sizes: tuple[int, ...] = (25, 50, 100, 200, 500, 1000, 2000)
    """Numbers of models for which coverage is simulated."""
    confidence: float = 0.95
    """Nominal coverage of the intervals."""
    fdr: float = 0.1
    """Nominal false discovery rate of the discoveries."""
    power: float = 0.8
    """Power that numbers of models are planned for, at level 0.05."""
    repeats: int = 200
    """Number of simulated ensembles for each pair of probabilities (coverage) and for each kind of tests (discoveries)."""
    power_repeats: int = 20_000
    """Number of simulated ensembles for each planned number of models."""


PRESETS = {
    "tiny": Config(preset="tiny", recipe=Recipe(epochs=2), num_models=24, sizes=(25, 50), repeats=2, power_repeats=500),
    "digits": Config(),
}


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
    """Models that are each trained on their own subset."""
    with mistakes():
        masks = jaxinfl.draw_subsets(config.num_models, data.num_train, config.ratio, config.seed)
    keys = jax.random.split(jax.random.key(config.seed), config.num_models)
    return [Request("models", f"{config.num_models} models, each on its own subset", masks, keys, config.recipe)]


def analyse(config: Config, runs: Runs, data: Dataset) -> Outcome:
    """Coverage, false discovery rates and power in simulations, and discoveries among the trained models."""
    return outcome(simulate(config, runs["models"], choose_score(None, data)), data, config.model)


def simulate(config: Config, runs: Ensemble, score_name: str) -> Findings:
    """Everything that the figure and results.json are made from; `score_name` is the score whose discoveries are real."""
    cases = [(*pair, *design) for pair in simulations.INTERVALS for design in simulations.DESIGNS]
    covered: dict[str, dict[str, Float[np.ndarray, "sizes shares"]]] = {}
    for name, interval, ratio, uses in track(cases, "coverage", console=console, transient=True):
        rows = [
            simulations.coverage(size, ratio, uses, interval, config.confidence, config.repeats, config.seed)
            for size in config.sizes
        ]
        design = f"ratio {ratio}" + (", twice" if uses > 1 else "")
        covered.setdefault(name, {})[design] = np.stack(rows)
    others = cover_others(config)
    usable = runs.without_diverged()
    if len(usable) < 2:
        raise Mistake(
            f"{len(runs) - len(usable)} of {len(runs)} models diverged. Lower --recipe.learning-rate "
            f"(it is {config.recipe.learning_rate:g})."
        )
    masks, score = usable.masks, read_scores(usable, score_name)[1]
    draws: dict[str, simulations.Draw] = {kind: partial(simulations.draw_tests, kind) for kind in simulations.KINDS}
    draws["real scores, masks shuffled"] = simulations.shuffle_masks(masks, score)
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
        real = {method: jaxinfl.discoveries(masks, score, fdr=config.fdr, method=method) for method in METHODS}
    return Findings(
        config.sizes, covered, others, config.confidence, rates, config.fdr, powers, config.power, real, len(masks)
    )


def cover_others(config: Config) -> dict[str, Float[np.ndarray, " repeats"]]:
    """Whether each simulated interval of the other statistics covers, NaN where there is none."""
    repeats, seed = config.repeats, config.seed
    trials: dict[str, Callable[[], np.ndarray]] = {
        f"subset share {share:g}, {subsets} subsets x {seeds} seeds that make {of_rest:.0%} of the rest": partial(
            simulations.share_coverage, subsets, seeds, share, of_rest, 10 * repeats, seed
        )
        for subsets, seeds, share, of_rest in simulations.SHARE_DESIGNS
    }
    for kind, subsets, seeds, tests, share in simulations.POOLED_DESIGNS:
        name = f"share {share:g} over {tests} test examples, {kind} scores, {subsets} subsets x {seeds}"
        trials[name] = partial(simulations.pooled_share_coverage, kind, subsets, seeds, tests, share, 5 * repeats, seed)
    for subsets, tests, truth, uses, over in simulations.SCORE_DESIGNS:
        name = f"LDS {truth:g} over {over}, {subsets} subsets x {uses}, {tests} test examples"
        trials[name] = partial(simulations.lds_coverage, subsets, tests, truth, uses, over, 3 * repeats, seed)
    for kind, models, ratio in simulations.SKEWED_DESIGNS:
        name = f"Welch, {kind} scores, {models} models, ratio {ratio:g}"
        trials[name] = partial(simulations.skewed_coverage, kind, models, ratio, 10 * repeats, seed)
    return {name: trial() for name, trial in track(trials.items(), "other intervals", console=console, transient=True)}


EXPERIMENT = Experiment(
    name="uncertainty",
    question="[bold]Uncertainty[/bold]: are intervals, discoveries and planned numbers of models what they say?",
    presets=PRESETS,
    check=check,
    requests=requests,
    analyse=analyse,
    takes=takes_anything,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.launch(__doc__))
