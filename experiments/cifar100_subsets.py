"""Figure 1: how many models does a self-consistent influence estimate take?

Claim (Section 3): two influence estimates from t models each, trained on different random subsets, agree (IOU above
0.7 over a wide range of thresholds) only from t = 200 to 400 on CIFAR-100; and two sets of 50 models on the SAME
subsets, with other seeds, agree hardly better, so that training nondeterminism is a large part of the noise.

    python -m experiments.cifar100_subsets --preset digits       8x8 digits, 5,600 small MLPs: about a minute, 2 cores
    python -m experiments.cifar100_subsets --preset cifar10_12k --data cifar10.npz     32x32 colour: hours on 2 cores
    python -m experiments.cifar100_subsets --preset paper        CIFAR-100, 2,000 small Inceptions: a GPU

Figures: figure1 (left: different subsets; right: same subsets, different seeds) and gallery (the most influential
pairs), as PNG and SVG. Expected on digits at influence 0.2: IOU near 0.1 for 50 models, 0.5 for 400, 0.75 for 1600.
"""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int
from rich.table import Table

import jaxinfl
from experiments.command_line import console, parse, run
from jaxinfl import Dataset, Ensemble, Recipe, RunPlan, plots, provenance
from jaxinfl.influence import IOUCurve, TopPairs, count_pairs
from jaxinfl.report import measured, save_figure, write_results
from jaxinfl.statistics import PairUncertainty, pair_uncertainty

HEADLINE_THRESHOLD = 0.2
"""The influence at which the summary compares; the paper's gallery and Feldman and Zhang's start near 0.15."""


@dataclass(frozen=True)
class Config:
    """Options; each preset sets them all."""

    preset: Literal["tiny", "digits", "cifar10_12k", "paper"] = "digits"
    """Where the defaults of the other options come from."""
    data: str = "digits"
    """"digits", a TFDS name such as cifar100, an .npz file, or an image folder."""
    data_dir: str | None = None
    """Where TFDS keeps prepared data sets."""
    model: str = "small_mlp"
    """Registered name of the architecture."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """How each model is trained."""
    num_models: int = 4000
    """Models on subsets of their own; half of them is the largest estimate that can be compared."""
    num_repeated: int = 1600
    """The first so many subsets are trained on once more, with other seeds."""
    ratio: float = 0.7
    """Size of a subset as a share of the training set."""
    sizes: tuple[int, ...] = (25, 50, 100, 200, 400, 800, 1600)
    """Models an estimate (t), one a curve."""
    same_subset_sizes: tuple[int, ...] = (50, 400)
    """Models an estimate for the comparison on the same subsets."""
    repeats: int = 20
    """Random splits of the models into disjoint sets."""
    min_memorization: float = 0.25
    """Only training examples memorized more than this are compared (Appendix E)."""
    seed: int = 0
    """Of subsets, keys and splits."""
    out: Path | None = None
    """Results and finished models; by default results/cifar100_subsets/PRESET-DATA."""


PRESETS = {
    "tiny": Config(
        preset="tiny",
        recipe=Recipe(epochs=2),
        num_models=24,
        num_repeated=12,
        sizes=(6, 12),
        same_subset_sizes=(6,),
        repeats=3,
        min_memorization=0.0,
    ),
    "digits": Config(),
    "cifar10_12k": Config(
        preset="cifar10_12k",
        data="",
        model="small_cnn",
        recipe=Recipe(epochs=12, batch_size=128, crop_padding=4, flip=True),
        num_models=200,
        num_repeated=50,
        sizes=(25, 50, 100),
        same_subset_sizes=(50,),
    ),
    # Appendix A.3; Feldman and Zhang's network.
    "paper": Config(
        preset="paper",
        data="cifar100",
        model="small_inception",
        recipe=Recipe(
            epochs=200,
            batch_size=128,
            learning_rate=0.1,
            schedule="step",
            milestones=(60, 120, 160),
            weight_decay=5e-4,
            crop_padding=4,
            flip=True,
        ),
        num_models=2000,
        num_repeated=50,
        sizes=(25, 50, 100, 200, 400),
        same_subset_sizes=(50,),
    ),
}


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and results.json are made from."""

    curve: IOUCurve
    """Different subsets."""
    same_subsets: dict[int, Float[np.ndarray, "repeats thresholds"]]
    """Same subsets, other seeds."""
    num_pairs: Int[np.ndarray, " thresholds"]
    """Pairs at or above each threshold, by all models."""
    pairs: TopPairs
    uncertainty: PairUncertainty
    test_accuracy: Float[np.ndarray, " models"]
    diverged: int


def main(config: Config) -> Path:
    """Train or read the models, compare, write the results; returns their directory."""
    _check(config)
    data = jaxinfl.load_dataset(config.data, config.data_dir)
    names = dict.fromkeys([config.preset, Path(data.name).stem])  # "digits" on digits is named once
    out = config.out or Path("results/cifar100_subsets") / "-".join(names)
    console.print("[bold]Figure 1[/bold]: how many models does a self-consistent influence estimate take?")
    console.print(f"data       {data.name}: {data.num_train} train, {data.num_test} test, {data.num_classes} classes")
    first, again = _train(config, data, out)
    console.print("Comparing estimates ...")
    findings = _analyse(config, first, again)
    files = _write(config, data, out, findings, first)
    _summarize(config, data, findings)
    console.print(f"\nResults in {out}:", *(path.name for path in files), "and the models in models/ and repeated/")
    return out


def _check(config: Config) -> None:
    if not config.data:
        raise ValueError(f"--data is missing: the preset {config.preset} takes an .npz file of colour images.")
    if 2 * max(config.sizes) > config.num_models:
        raise ValueError(
            f"--sizes names {max(config.sizes)} models an estimate; two disjoint estimates need --num-models "
            f"{2 * max(config.sizes)}, not {config.num_models}."
        )
    if max(config.same_subset_sizes) > config.num_repeated:
        raise ValueError(
            f"--same-subset-sizes names {max(config.same_subset_sizes)} models, but only --num-repeated "
            f"{config.num_repeated} are trained a second time."
        )
    if not set(config.same_subset_sizes) <= set(config.sizes):
        raise ValueError("--same-subset-sizes takes sizes that --sizes names too: the figure compares both.")
    if config.num_repeated > config.num_models:
        raise ValueError(f"--num-repeated is {config.num_repeated}, more than --num-models {config.num_models}.")


def _train(config: Config, data: Dataset, out: Path) -> tuple[Ensemble, Ensemble]:
    """Models on subsets of their own, and once more on the first of these subsets."""
    masks = jaxinfl.draw_subsets(config.num_models, data.num_train, config.ratio, config.seed)
    jaxinfl.check_coverage(masks)
    key, again = jax.random.split(jax.random.key(config.seed))

    def train(title: str, models: int, key: jax.Array, directory: str) -> Ensemble:
        def announce(plan: RunPlan) -> None:
            console.print(f"\n[bold]{title}[/bold]\n{plan.describe()}")

        return jaxinfl.train_ensemble(
            masks[:models],
            jax.random.split(key, models),
            data=data,
            model=config.model,
            recipe=config.recipe,
            run_dir=out / directory,
            on_plan=announce,
        )

    first = train(f"{config.num_models} models, each on its own subset", config.num_models, key, "models")
    repeated = f"{config.num_repeated} models on the same subsets as the first, with other seeds"
    return first, train(repeated, config.num_repeated, again, "repeated")


def _analyse(config: Config, first: Ensemble, again: Ensemble) -> Findings:
    usable = ~first.diverged
    if not usable.all():
        console.print(f"[yellow]{(~usable).sum()} diverged models are left out.[/yellow]")
    masks, train, test = first.masks[usable], first.train_correct[usable], first.test_correct[usable]
    curve = jaxinfl.iou_curve(
        masks,
        train,
        test,
        num_models=[size for size in config.sizes if 2 * size <= len(masks)],
        repeats=config.repeats,
        seed=config.seed,
        min_memorization=config.min_memorization,
    )
    examples = np.flatnonzero(jaxinfl.memorization(masks, train) > config.min_memorization)
    healthy = np.flatnonzero(~first.diverged[: config.num_repeated] & ~again.diverged)
    same = {
        size: _same_subsets(first, again, healthy, size, curve.thresholds, examples)
        for size in config.same_subset_sizes
        if size <= len(healthy)
    }
    pairs = jaxinfl.top_pairs(masks, train, test, k=12, min_memorization=config.min_memorization)
    num_pairs = count_pairs(masks, test, curve.thresholds, examples=examples)
    uncertainty = pair_uncertainty(masks, test, pairs.train_index, pairs.test_index)
    return Findings(curve, same, num_pairs, pairs, uncertainty, test.mean(axis=1), int((~usable).sum()))


def _same_subsets(
    first: Ensemble,
    again: Ensemble,
    healthy: Int[np.ndarray, " models"],
    size: int,
    thresholds: Float[np.ndarray, " thresholds"],
    examples: np.ndarray,
) -> Float[np.ndarray, "repeats thresholds"]:
    """IOU between estimates from the same subsets, for disjoint sets of `size` subsets."""
    parts = [healthy[k : k + size] for k in range(0, len(healthy) - size + 1, size)]
    masks, one, other = first.masks, first.test_correct, again.test_correct
    return np.stack(
        [
            jaxinfl.iou_of_models(masks[part], one[part], masks[part], other[part], thresholds, examples=examples)
            for part in parts
        ]
    )


def _write(config: Config, data: Dataset, out: Path, findings: Findings, first: Ensemble) -> list[Path]:
    curve, pairs = findings.curve, findings.pairs
    title = (
        f"{data.name}, {config.model}: influence on {data.num_test} test examples of the {curve.num_examples} "
        f"training examples memorized more than {config.min_memorization:g}"
    )
    consistency = plots.consistency_figure(
        curve.thresholds, curve.num_models, curve.values, findings.same_subsets, findings.num_pairs, title=title
    )
    names = data.class_names
    gallery = plots.pairs_gallery(
        data.train_images[pairs.train_index],
        data.test_images[pairs.test_index],
        [names[label] for label in data.train_labels[pairs.train_index]],
        [names[label] for label in data.test_labels[pairs.test_index]],
        pairs.influence,
        pairs.memorization,
        pairs.train_index,
        pairs.test_index,
        title=f"The most influential training examples of {data.name}, from {first.num_models - findings.diverged} models",
    )
    results = {
        "experiment": "cifar100_subsets",
        "config": config,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "command": provenance.command(),
        "device": first.attributes["execution"]["device"],
        "results": _numbers(findings),
    }
    return [
        write_results(out, results),
        *save_figure(consistency, out, "figure1"),
        *save_figure(gallery, out, "gallery"),
    ]


def _numbers(findings: Findings) -> dict[str, Any]:
    curve = findings.curve
    return {
        "test_accuracy": measured(findings.test_accuracy),
        "diverged_models": findings.diverged,
        "memorized_examples": curve.num_examples,
        "thresholds": curve.thresholds,
        "pairs_at_threshold": findings.num_pairs,
        "iou_different_subsets": {
            size: [measured(column) for column in values.T]
            for size, values in zip(curve.num_models, curve.values, strict=True)
        },
        "iou_same_subsets": {
            size: [measured(column) for column in values.T] for size, values in findings.same_subsets.items()
        },
        "top_pairs": dataclasses.asdict(findings.pairs) | findings.uncertainty._asdict(),
    }


def _summarize(config: Config, data: Dataset, findings: Findings) -> None:
    curve = findings.curve
    at = int(np.abs(curve.thresholds - HEADLINE_THRESHOLD).argmin())
    pairs = int(findings.num_pairs[at])
    title = f"IOU of two estimates at influence {curve.thresholds[at]:.2f} ({pairs} pairs reach it by all models)"
    table = Table(title=title, title_justify="left")
    for heading in ("models", "different subsets", "same subsets, other seeds"):
        table.add_column(heading, justify="right")
    for size, values in zip(curve.num_models, curve.values, strict=True):
        same = findings.same_subsets.get(size)
        table.add_row(str(size), _spread(values[:, at]), "" if same is None else _spread(same[:, at]))
    console.print()
    console.print(table)
    console.print(
        f"test accuracy {_spread(findings.test_accuracy, percent=True)}; {curve.num_examples} of {data.num_train} training "
        f"examples are memorized more than {config.min_memorization:g}."
    )
    console.print(_main_finding(curve, findings.same_subsets, at))


def _main_finding(curve: IOUCurve, same: dict[int, np.ndarray], at: int) -> str:
    """The answer to the question of the paper's title, in words."""
    means = curve.mean[:, at]
    enough = [size for size, mean in zip(curve.num_models, means, strict=True) if mean >= 0.7]
    threshold = f"{curve.thresholds[at]:.2f}"
    if enough:
        answer = f"about {enough[0]} models give estimates that agree (IOU 0.7 or more) at influence {threshold}"
    else:
        answer = (
            f"even {curve.num_models[-1]} models do not give estimates that agree (IOU {means[-1]:.2f}, below 0.7) "
            f"at influence {threshold}"
        )
    text = f"[bold]Finding:[/bold] {answer}."
    for size, values in same.items():
        other = means[list(curve.num_models).index(size)]
        mine = measured(values[:, at])["mean"]
        if mine is not None and np.isfinite(other):
            text += (
                f" With {size} models on the same subsets, where only the seeds differ, IOU is {mine:.2f} "
                f"against {other:.2f} on different ones."
            )
    return text + " The paper: 200-400 models on CIFAR-100, and hardly more agreement on the same subsets."


def _spread(values: np.ndarray, *, percent: bool = False) -> str:
    number = measured(values)
    if number["mean"] is None:
        return "no pairs"
    scale, unit = (100, "%") if percent else (1, "")
    spread = "" if number["std"] is None else f" ± {number['std'] * scale:.2f}"
    return f"{number['mean'] * scale:.2f}{spread}{unit} (n={number['n']})"


if __name__ == "__main__":
    chosen = parse(PRESETS, None, default="digits", description=(__doc__ or "").split("\n\n")[0])
    sys.exit(run(main, chosen))
