"""Data of every kind as the experiments see them: what is compared, what is required, and the words for data and examples."""

import numpy as np

from experiments.command_line import Mistake, console
from jaxinfl import Dataset, Ensemble, Recipe
from jaxinfl.cli.data_options import standardize_floats
from jaxinfl.datasets import by_name
from jaxinfl.tasks import Regression, is_lower_better

_WORDS = {
    "correct": "0-1 scores",
    "probability": "probabilities",
    "margin": "margins",
    "accuracy": "accuracies",
    "loss": "negative losses",
    "residual_norm": "negative norms of the residuals",
}


def choose_score(asked: str | None, data: Dataset) -> str:
    """The score that is compared: the one that is asked for, or whether a model is right, or the loss where nothing is right.

    Raises:
      Mistake: the data's task has no such score.
    """
    names = sorted(data.task.scores)
    if asked is None:
        return "correct" if "correct" in names else "loss"
    if asked not in names:
        raise Mistake(
            f"--score is {asked!r}; the task of {data.name}, {data.task.name!r}, has the scores {', '.join(names)}."
        )
    return asked


def describe_score(name: str) -> str:
    """What is compared, in words, in the plural."""
    return _WORDS.get(name, f"values of {name!r}")


def read_scores(runs: Ensemble, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A score of the training examples [models, train] and of the test examples [models, test], of which larger is better.

    Of a score that good models make small they are the negatives, so that a positive influence helps.
    """
    train, test = runs.train_score(name), runs.test_score(name)
    return (-train, -test) if is_lower_better(name) else (train, test)


def takes_anything(data: Dataset) -> None:
    """Take data of any kind."""


def takes_right_or_wrong(data: Dataset) -> None:
    """Raise `Mistake` unless a model can be right or wrong on an example."""
    if "correct" not in data.task.scores:
        raise Mistake(
            f"{data.name} has the task {data.task.name!r}, in which no prediction is right or wrong; this experiment takes classes "
            "or binary labels. experiments.cifar100_subsets and experiments.uncertainty take any task."
        )


def takes_images_of_classes(data: Dataset) -> None:
    """Raise `Mistake` unless the inputs are images, which are augmented, and the targets classes."""
    if not data.are_images or not data.num_classes:
        raise Mistake(
            f"{data.name} holds no images with class labels; this experiment takes these, because it augments images. "
            "experiments.cifar100_subsets and experiments.uncertainty take any data."
        )


def standardized(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe that scales floats, inputs and targets, by each model's own subset, where the data have any; says so."""
    inputs, targets = data.has_floats, isinstance(data.task, Regression)
    if inputs or targets:
        what = " and ".join(name for name, there in (("inputs", inputs), ("targets", targets)) if there)
        console.print(f"scaling    {what} by each model's own subset; --no-standardize leaves them as they are")
    return standardize_floats(recipe, data)


def describe_data(data: Dataset) -> str:
    """One line with the name of the data set, its sizes, its task and the shape of an example."""
    task = f"{data.num_classes} classes" if data.num_classes else f"task {data.task.name}"
    return f"data       {data.name}: {data.num_train} train, {data.num_test} test, {task}, {describe_inputs(data)}"


def describe_inputs(data: Dataset) -> str:
    """The inputs of one example in words: "8x8x1", "30 numbers", "64 tokens of 97"."""
    if data.are_images:
        return "x".join(map(str, data.image_shape))
    parts = []
    for name, array in by_name(data.train_inputs).items():
        size = "x".join(map(str, array.shape[1:])) or "1"
        what = "numbers" if array.dtype.kind == "f" else "flags"
        if name in data.categories:
            what = f"tokens of {data.categories[name]}"
        parts.append(f"{name + ': ' if name else ''}{size} {what}")
    return ", ".join(parts)


def describe_kind(data: Dataset) -> str:
    """The examples in the plural: "8x8 images", "examples of 30 numbers"."""
    if data.are_images:
        height, width, _ = data.image_shape
        return f"{height}x{width} images"
    return f"examples of {describe_inputs(data)}"


def name_example(data: Dataset, split: str, index: int) -> str:
    """An example by its number and target: "train 7: frog", "test 3: 152"; without the target where it is long."""
    target = getattr(data, f"{split}_targets")[index]
    if data.num_classes:
        return f"{split} {index}: {data.class_names[target]}"
    if np.size(target) > 3:
        return f"{split} {index}"
    return f"{split} {index}: {', '.join(f'{value:.4g}' for value in np.ravel(target).tolist())}"


__all__ = [
    "choose_score",
    "describe_data",
    "describe_inputs",
    "describe_kind",
    "describe_score",
    "name_example",
    "read_scores",
    "standardized",
    "takes_anything",
    "takes_images_of_classes",
    "takes_right_or_wrong",
]
