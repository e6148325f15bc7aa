"""Options that name a data set, for every command line that takes one, and the data set that they name."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jaxinfl.datasets import Dataset, load_dataset
from jaxinfl.datasets.stratified import take_examples
from jaxinfl.tasks import Regression
from jaxinfl.training import Recipe


@dataclass(frozen=True)
class DataOptions:
    """Options that name a data set and some of its examples."""

    data: str
    """Data set: "digits", "breast_cancer", "python_topics", a TFDS name such as cifar100, an .npz file, a folder of images, Parquet or CSV files, two such files as train.csv,test.csv, or CIFAR's own archive."""
    task: Literal["classification", "regression", "binary", "next_token"] | None = None
    """Meaning of the targets of .npz, Parquet and CSV files; None takes regression where they are floats, also whole ones such as 1.0, else classification."""
    targets: str | None = None
    """Column of Parquet or CSV files that holds the targets; None takes the one called label, target or y."""
    inputs: tuple[str, ...] = ()
    """Columns of Parquet or CSV files that are inputs; none named takes all but the targets."""
    categories: tuple[str, ...] = ()
    """Columns of Parquet or CSV files whose integers or texts are categories."""
    data_dir: str | None = None
    """Folder in which TFDS keeps prepared data sets; None takes the one that TFDS takes."""
    image_size: int | None = None
    """Side in pixels to which images are resized; None leaves them, and brings images of varying size to 224."""
    splits: str | None = None
    """TFDS splits to train and to test on, as in "train+validation:test"; None takes train and test, dtd and oxford_flowers102 with validation."""
    background: Literal["white", "black"] | None = None
    """Colour that transparent images are put onto; None takes white."""
    train_examples: int | None = None
    """Number of training examples to use, of each class its share; None uses all."""
    test_examples: int | None = None
    """Number of test examples to use, of each class its share; None uses all."""


def load_named(options: DataOptions) -> Dataset:
    """The data set that the options name, with all of its examples.

    Raises:
      DatasetUnavailable: it cannot be had.
      TypeError, ValueError: it cannot be used, or an option does not fit it.
    """
    # A pair of files; a name with a comma that is one file stays one.
    files = options.data.split(",")
    pair = len(files) == 2 and all(Path(file).is_file() for file in files) and not Path(options.data).exists()
    return load_dataset(
        (files[0], files[1]) if pair else options.data,
        options.data_dir,
        image_size=options.image_size,
        splits=options.splits,
        background=options.background,
        task=options.task,
        targets=options.targets,
        inputs=options.inputs or None,
        categories=options.categories or None,
    )


def choose_examples(data: Dataset, options: DataOptions) -> Dataset:
    """The data set, or as many examples of it as are asked for; these are always the same ones.

    Raises:
      ValueError: it has fewer.
    """
    for split, number in (("train", options.train_examples), ("test", options.test_examples)):
        there = len(getattr(data, f"{split}_targets"))
        if number is not None and not 1 <= number <= there:
            raise ValueError(f"--{split}-examples is {number}; {data.name} has {there}.")
    return take_examples(data, options.train_examples, options.test_examples)


def standardize_floats(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe that scales floats, inputs and targets of regression, by each model's own subset, where the data have any."""
    return replace(
        recipe,
        standardize=recipe.standardize or data.has_floats,
        standardize_targets=recipe.standardize_targets or isinstance(data.task, Regression),
    )


__all__ = ["DataOptions", "choose_examples", "load_named", "standardize_floats"]
