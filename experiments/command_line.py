"""The command line that all experiments share: options, presets, the data set that they name, and clear errors."""

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import tyro

from experiments.published_shapes import shapes_of, stand_in
from jaxinfl import Cluster, Dataset, Recipe
from jaxinfl.arguments import expand_home
from jaxinfl.cli.data_options import DataOptions, choose_examples, load_named
from jaxinfl.cli.terminal import Terminal
from jaxinfl.datasets import is_prepared

Config = TypeVar("Config", bound="Options")
Parsed = TypeVar("Parsed")

console = Terminal()
"""Prints to the terminal, or 80 columns wide to files and pipes."""

PRESET = tyro.conf.arg(
    help="Preset that sets the defaults of all other options: tiny tries whether it runs, digits suits a laptop, breast_cancer is a table, "
    "text are pieces of Python's help, cifar10_12k and colour take "
    "colour images that --data names, paper has the paper's own settings; not every experiment has all of them."
)
"""Describes `--preset`, of which each experiment names its own values."""


@dataclass(frozen=True)
class Options(DataOptions):
    """Options that every experiment takes. By default it trains small networks on 8x8 digits."""

    data: str = "digits"
    model: str = "small_mlp"
    """Registered name of the network, such as small_mlp, small_cnn, transformer, small_inception or resnet18_cifar."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """Recipe by which each model is trained."""
    standardize: bool = True
    """Whether floats, which a table has, are scaled by the mean and deviation of each model's own subset; images are not concerned."""
    seed: int = 0
    """Seed of every random number: subsets, initial weights, data order, augmentation."""
    out: Path | None = None
    """Folder of the results and of the finished models; None takes results/EXPERIMENT/PRESET-DATA."""
    cost: bool = False
    """Print what the training would cost on this machine, and train nothing."""
    part: str | None = None
    """Part of the models to train, 1/4 for the first quarter, so that machines that share a folder share the work."""
    cluster: Cluster = field(default_factory=Cluster)
    """Processes that train the models."""
    jobs: int = 8
    """Number of processes that train at the same time on the cluster; a run that was begun keeps its number of parts."""
    mixed_devices: bool = False
    """Go on with a run on devices of another kind, which changes the last bits of the models; the run records the device of each."""
    preset: str = "digits"
    """Name of the preset that set the defaults of all other options."""


class NothingMore(Exception):
    """Raised when `--cost` has printed the cost, or a `--part` is trained: there is nothing to analyse."""


class Mistake(Exception):
    """A mistake that the user can mend; it is shown as one line."""


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Turn what is refused of the user's options inside the block into a `Mistake`, which ends without a traceback."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Mistake(str(error)) from error


def parse(presets: Mapping[str, Parsed], *, program: str, description: str) -> Parsed:
    """The options of the preset that `--preset` names, changed by the other options of the command line.

    Exits with status 2 and one line where an option has a value that its dataclass refuses.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", default="digits")
    preset = peek.parse_known_args(sys.argv[1:])[0].preset
    # An unknown preset is refused by tyro itself, with the list of those there are.
    base = presets.get(preset, presets["digits"])
    return tyro.cli(
        type(base),
        prog=f"python -m {program}",
        default=base,
        description=description,
        # Without it an option that takes a word or numbers becomes a subcommand.
        config=(tyro.conf.AvoidSubcommands,),
    )


def load(config: Options, experiment: str, preset: str) -> tuple[Dataset, Path]:
    """The data set, and the folder of the results.

    With `--cost` a data set that would have to be downloaded is stood in for by zeros of its published shapes.

    Raises:
      Mistake: no data is named, or it is not there or not usable; the seed is out of range.
    """
    if not config.data:
        raise Mistake("--data is missing: name a data set, a file or a folder.")
    if not 0 <= config.seed < 2**32:
        raise Mistake(f"--seed is {config.seed}; it takes a whole number from 0 to {2**32 - 1}.")
    with mistakes():
        data = choose_examples(_load_or_stand_in(config), config)
    # "digits" on digits is named once.
    folder = re.sub(r"[^\w.-]", "_", "-".join(dict.fromkeys([preset, data.name])))[:100]
    return data, results_folder(config.out) or Path("results") / experiment / folder


def _load_or_stand_in(config: Options) -> Dataset:
    # Which examples other splits hold is not looked up, so they are loaded.
    shapes = shapes_of(config.data) if config.cost and config.splits is None else None
    if shapes is not None and not is_prepared(config.data, config.data_dir):
        console.print("The data set is not here; its shapes are taken from its publication.")
        return stand_in(config.data, shapes, config.image_size)
    return load_named(config)


def results_folder(out: Path | None) -> Path | None:
    """The folder of `--out`, if one is named.

    Raises:
      Mistake: it is a URL.
    """
    with mistakes():
        return None if out is None else expand_home(out, "--out")
