"""What the experiments' command lines share: options, presets, clear errors, a clean way out of an interrupt."""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import tyro
from rich.console import Console

from experiments.compilation_cache import use_compilation_cache
from jaxinfl import Dataset, DatasetUnavailable, Recipe, RunDirectoryError, load_dataset
from jaxinfl.arguments import as_typed
from jaxinfl.datasets import stratified_mask
from jaxinfl.provenance import command
from jaxinfl.training import OutOfMemory, TooManyDiverged
from jaxinfl.training.interrupts import Interrupted

Config = TypeVar("Config", bound="Options")

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
"""Files and pipes have no width; in the 80 columns that are taken for them, tables would break."""


@dataclass(frozen=True)
class Options:
    """What every experiment takes; each preset sets it all."""

    data: str = "digits"
    """"digits", a TFDS name such as cifar100, an .npz file, or an image folder."""
    data_dir: str | None = None
    """Where TFDS keeps prepared data sets."""
    image_size: int | None = None
    """Resize images to this many pixels a side; needed for nothing but images of varying size (default then: 224)."""
    splits: str | None = None
    """Which splits of a TFDS data set train and test, "train+validation:test" for instance; by default train and test,
    for dtd and oxford_flowers102 train+validation and test."""
    background: Literal["white", "black"] | None = None
    """The colour that transparent images are put onto; white by default."""
    train_examples: int | None = None
    """Take only so many training examples, of each class its share; all by default."""
    test_examples: int | None = None
    """The same for test examples."""
    model: str = "small_cnn"
    """Registered name of the architecture."""
    recipe: Recipe = field(default_factory=Recipe)
    """How each model is trained."""
    seed: int = 0
    """Seed of every random number: subsets, initial weights, data order, augmentation."""
    out: Path | None = None
    """Results and finished models; by default results/EXPERIMENT/PRESET-DATA."""
    cost: bool = False
    """Say what it would cost on this machine, and train nothing."""
    part: str | None = None
    """Train one part of the models only, 1/4 for the first quarter: processes or machines that share a folder share the work.
    When all parts are there, the same command without it shows the results."""


class NothingMore(Exception):
    """Raised when `--cost` has said what there is to say, or a `--part` is trained."""


class Mistake(Exception):
    """Something that the user can mend; shown as one line."""


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Around calls that check what the user gave: what they refuse is a `Mistake`, not a bug with a traceback."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error


def parse(
    presets: Mapping[str, Config], argv: Sequence[str] | None, *, program: str, default: str, description: str
) -> Config:
    """The configuration of the preset named by `--preset`, changed by the other options.

    Exits with status 2 and one line where an option has a value that its dataclass refuses.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default=default)
    preset = peek.parse_known_args(arguments)[0].preset
    # An unknown preset is refused by tyro itself, with the list of those there are.
    base = presets.get(preset, presets[default])
    return tyro.cli(
        type(base),
        prog=f"python -m {program}",
        default=base,
        args=arguments,
        description=description,
        # Without it an option that takes a word or numbers becomes a subcommand.
        config=(tyro.conf.AvoidSubcommands,),
    )


def load(config: Options, experiment: str, preset: str) -> tuple[Dataset, Path]:
    """The data set, and the folder of the results.

    Raises:
      Mistake: no data is named, or it is not there or not usable; the seed is out of range.
    """
    if not config.data:
        raise Mistake("--data is missing: name a data set, an .npz file or an image folder.")
    if not 0 <= config.seed < 2**32:
        raise Mistake(f"--seed is {config.seed}; it takes a whole number from 0 to {2**32 - 1}.")
    with mistakes():
        data = load_dataset(
            config.data,
            config.data_dir,
            image_size=config.image_size,
            splits=config.splits,
            background=config.background,
        )
    data = _part(data, config.train_examples, config.test_examples)
    # "digits" on digits is named once.
    folder = re.sub(r"[^\w.-]", "_", "-".join(dict.fromkeys([preset, data.name])))[:100]
    return data, results_folder(config.out) or Path("results") / experiment / folder


def results_folder(out: Path | None) -> Path | None:
    """The folder of `--out`, if one is named.

    Raises:
      Mistake: it is a URL.
    """
    with mistakes():
        return None if out is None else as_typed(out, "--out")


def _part(data: Dataset, train_examples: int | None, test_examples: int | None) -> Dataset:
    """The data set, or so many examples of it; always the same ones."""
    kept = {}
    for split, number in (("train", train_examples), ("test", test_examples)):
        labels = getattr(data, f"{split}_labels")
        if number is None:
            kept[split] = np.ones(len(labels), bool)
        elif not 1 <= number <= len(labels):
            raise Mistake(f"--{split}-examples is {number}; {data.name} has {len(labels)}.")
        else:
            kept[split] = stratified_mask(labels, number)
    if all(mask.all() for mask in kept.values()):
        return data
    return Dataset(
        train_images=data.train_images[kept["train"]],
        train_labels=data.train_labels[kept["train"]],
        test_images=data.test_images[kept["test"]],
        test_labels=data.test_labels[kept["test"]],
        class_names=data.class_names,
        name=data.name,
    )


def describe_data(data: Dataset) -> str:
    """One line: name, sizes, classes, pixels."""
    height, width, channels = data.image_shape
    return (
        f"data       {data.name}: {data.num_train} train, {data.num_test} test, {data.num_classes} classes, "
        f"{height}x{width}x{channels}"
    )


def launch(main: Callable[[Config], object], presets: Mapping[str, Config], experiment: str, about: str | None) -> int:
    """Run an experiment of which `about` is the documentation, as its command line says; what `run` returns."""
    description = (about or "").split("\n\n")[0]
    return run(
        main, parse(presets, None, program=f"experiments.{experiment}", default="digits", description=description)
    )


def run(main: Callable[[Config], object], config: Config) -> int:
    """Run an experiment: 0 when it is done, 2 for what the user can mend, 130 for an interrupt."""
    use_compilation_cache()
    try:
        main(config)
    except NothingMore:
        pass
    except (Mistake, DatasetUnavailable, RunDirectoryError, OutOfMemory, TooManyDiverged, OSError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 2
    except Interrupted:  # which has said how to go on
        return 130
    except KeyboardInterrupt:
        console.print(f"\nTo go on: {command()}", markup=False)
        return 130
    return 0
