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

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float, Int

import jaxinfl
from experiments.cifar100_report import Findings, summarize, write
from experiments.command_line import Mistake, console, mistakes, parse, run
from jaxinfl import Dataset, Ensemble, Recipe, RunPlan, recipes
from jaxinfl.influence import count_pairs
from jaxinfl.influence.estimators import memorized
from jaxinfl.statistics import pair_uncertainty


@dataclass(frozen=True)
class Config:
    """Options; each preset sets them all."""

    preset: Literal["tiny", "digits", "cifar10_12k", "paper"] = "digits"
    """Where the defaults of the other options come from."""
    data: str = "digits"
    """"digits", a TFDS name such as cifar100, an .npz file, or an image folder."""
    data_dir: str | None = None
    """Where TFDS keeps prepared data sets."""
    image_size: int | None = None
    """Resize images to this many pixels a side; needed for nothing but images of varying size (default then: 224)."""
    splits: str | None = None
    """Which splits of a TFDS data set train and test, "train+validation:test" for instance; by default train and test,
    for dtd and oxford_flowers102 train+validation and test."""
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
    """Models per estimate (t), one a curve."""
    same_subset_sizes: tuple[int, ...] = (50, 400)
    """Models per estimate for the comparison on the same subsets."""
    repeats: int = 20
    """Random splits of the models into disjoint sets."""
    min_memorization: float | None = 0.25
    """Only training examples memorized more than this are compared (Appendix E); None compares all."""
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
        min_memorization=None,
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
        recipe=recipes.CIFAR,
        num_models=2000,
        num_repeated=50,
        sizes=(25, 50, 100, 200, 400),
        same_subset_sizes=(50,),
    ),
}


def main(config: Config) -> Path:
    """Train or read the models, compare, write the results; returns their directory."""
    check(config)
    with mistakes():
        data = jaxinfl.load_dataset(config.data, config.data_dir, image_size=config.image_size, splits=config.splits)
    out = config.out or Path("results/cifar100_subsets") / _folder(config.preset, data.name)
    out.mkdir(parents=True, exist_ok=True)
    height, width, channels = data.image_shape
    console.print("[bold]Figure 1[/bold]: how many models does a self-consistent influence estimate take?")
    console.print(
        f"data       {data.name}: {data.num_train} train, {data.num_test} test, {data.num_classes} classes, "
        f"{height}x{width}x{channels}\n"
        f"ensembles  {config.num_models} models on subsets of {config.ratio:.0%}, then {config.num_repeated} on the first "
        "of these subsets with other seeds",
        markup=False,
    )
    first, again = _train(config, data, out)
    console.print("Comparing estimates ...")
    findings = _analyse(config, first, again)
    about = f"{data.name}, {config.model}"
    files = write(findings, data, out, about=about, config=config, device=first.attributes["execution"]["device"])
    summarize(findings, data)
    console.print(f"\nResults in {out}:", *(path.name for path in files), "and the models in models/ and repeated/")
    return out


def check(config: Config) -> None:
    """Raise `Mistake` for what would only be found after hours of training."""
    if not config.data:
        raise Mistake("--data is missing: name a data set, an .npz file or an image folder.")
    for option, sizes in (("--sizes", config.sizes), ("--same-subset-sizes", config.same_subset_sizes)):
        if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
            raise Mistake(f"{option} is {' '.join(map(str, sizes)) or 'empty'}; it takes rising numbers of models.")
    if 2 * config.sizes[-1] > config.num_models:
        raise Mistake(
            f"--sizes names {config.sizes[-1]} models per estimate; two disjoint estimates need --num-models "
            f"{2 * config.sizes[-1]}, not {config.num_models}."
        )
    if config.same_subset_sizes[-1] > config.num_repeated:
        raise Mistake(
            f"--same-subset-sizes names {config.same_subset_sizes[-1]} models, but only --num-repeated "
            f"{config.num_repeated} are trained a second time."
        )
    if not set(config.same_subset_sizes) <= set(config.sizes):
        raise Mistake("--same-subset-sizes takes sizes that --sizes names too: the figure compares both.")
    if config.num_repeated > config.num_models:
        raise Mistake(f"--num-repeated is {config.num_repeated}, more than --num-models {config.num_models}.")
    if config.repeats < 1:
        raise Mistake(f"--repeats is {config.repeats}; it takes a whole number from 1 up.")
    if not 0 <= config.seed < 2**32:
        raise Mistake(f"--seed is {config.seed}; it takes a whole number from 0 to {2**32 - 1}.")


def _folder(preset: str, data: str) -> str:
    """Name of the results' folder: "digits" on digits is named once."""
    return re.sub(r"[^\w.-]", "_", "-".join(dict.fromkeys([preset, data])))


def _train(config: Config, data: Dataset, out: Path) -> tuple[Ensemble, Ensemble]:
    """Models on subsets of their own, and once more on the first of these subsets."""
    with mistakes():
        masks = jaxinfl.draw_subsets(config.num_models, data.num_train, config.ratio, config.seed)
    num_in = masks.sum(axis=0)
    undefined = int(((num_in == 0) | (num_in == len(masks))).sum())
    if undefined:
        console.print(
            f"[yellow]{undefined} of {data.num_train} training examples are in none or all of the subsets; their "
            "influence is undefined, and they take no part. More models would leave none.[/yellow]"
        )
    key, again = jax.random.split(jax.random.key(config.seed))

    def train(title: str, models: int, key: jax.Array, directory: str) -> Ensemble:
        plans: list[RunPlan] = []

        def announce(plan: RunPlan) -> None:
            plans.append(plan)
            console.print(plan.describe(), markup=False)

        console.print(f"\n[bold]{title}[/bold]")
        with mistakes():
            runs = jaxinfl.train_ensemble(
                masks[:models],
                jax.random.split(key, models),
                data=data,
                model=config.model,
                recipe=config.recipe,
                run_dir=out / directory,
                on_plan=announce,
            )
        if not plans:
            console.print(f"read from {out / directory}, where they were finished before", markup=False)
        return runs

    first = train(f"{config.num_models} models, each on its own subset", config.num_models, key, "models")
    repeated = f"{config.num_repeated} models on the same subsets as the first, with other seeds"
    return first, train(repeated, config.num_repeated, again, "repeated")


def _analyse(config: Config, first: Ensemble, again: Ensemble) -> Findings:
    usable = ~first.diverged
    if not usable.all():
        console.print(f"[yellow]{(~usable).sum()} of {len(usable)} models diverged and are left out.[/yellow]")
    sizes = [size for size in config.sizes if 2 * size <= usable.sum()]
    if not sizes:
        raise Mistake(
            f"{(~usable).sum()} of {len(usable)} models diverged: too few are left for two estimates of "
            f"{config.sizes[0]} models. Lower --recipe.learning-rate (it is {config.recipe.learning_rate:g})."
        )
    masks, train, test = first.masks[usable], first.train_correct[usable], first.test_correct[usable]
    with mistakes():
        curve = jaxinfl.iou_curve(
            masks,
            train,
            test,
            num_models=sizes,
            repeats=config.repeats,
            seed=config.seed,
            min_memorization=config.min_memorization,
        )
    examples = memorized(jaxinfl.memorization(masks, train), config.min_memorization)
    healthy = np.flatnonzero(~first.diverged[: config.num_repeated] & ~again.diverged)
    same = {
        size: _same_subsets(first, again, healthy, size, curve.thresholds, examples)
        for size in config.same_subset_sizes
        if size <= len(healthy) and size in sizes
    }
    pairs = jaxinfl.top_pairs(masks, train, test, k=12, min_memorization=config.min_memorization)
    return Findings(
        curve=curve,
        same_subsets=same,
        num_pairs=count_pairs(masks, test, curve.thresholds, examples=examples),
        pairs=pairs,
        uncertainty=pair_uncertainty(masks, test, pairs.train_index, pairs.test_index),
        test_accuracy=test.mean(axis=1),
        diverged=int((~usable).sum()),
        min_memorization=config.min_memorization,
    )


def _same_subsets(
    first: Ensemble,
    again: Ensemble,
    healthy: Int[np.ndarray, " models"],
    size: int,
    thresholds: Float[np.ndarray, " thresholds"],
    examples: Int[np.ndarray, " examples"],
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


if __name__ == "__main__":
    chosen = parse(
        PRESETS,
        None,
        program="experiments.cifar100_subsets",
        default="digits",
        description=(__doc__ or "").split("\n\n")[0],
    )
    sys.exit(run(main, chosen))
