"""Data, network and recipe that several experiments share, said once: the first arguments of their presets.

`Options` itself describes the smallest of them: 8x8 digits and small MLPs.
"""

from dataclasses import replace
from typing import Any

from jaxinfl import Recipe, recipes

CIFAR10_12K: dict[str, Any] = {
    "data": "",
    "train_examples": 2000,
    "test_examples": 1000,
    "model": "small_cnn",
    "recipe": Recipe(epochs=8, batch_size=128, crop_padding=4, flip=True),
}
"""A part of 32x32 colour images that `--data` names, small enough for a laptop."""

COLOUR: dict[str, Any] = {
    "data": "",
    "train_examples": 10_000,
    "test_examples": 2000,
    "model": "small_resnet9",
    "recipe": replace(recipes.CIFAR_FAST, crop_padding=0),
}
"""More of these images, and a quarter of the channels of ResNet-9: what two cores train some hundred times an hour.

Crops gain nothing in 10 epochs on a few thousand images, and hide what single images do: with them models of that width are right on 79% of
10,000 images that they were trained on and 72% of others, without them on 87% and 71% (November 2026).
"""

BREAST_CANCER: dict[str, Any] = {"data": "breast_cancer", "recipe": Recipe(epochs=30)}
"""A table of 30 numbers with two classes, which scikit-learn holds."""

TEXT: dict[str, Any] = {
    "data": "python_topics",
    "train_examples": 600,
    "test_examples": 150,
    "model": "tiny_transformer",
    "recipe": Recipe(
        epochs=10, batch_size=32, optimizer="adamw", learning_rate=0.005, weight_decay=0.01, warmup_epochs=1.0
    ),
}
"""Pieces of 32 words from the help texts of Python, whose topics are the classes."""

PAPER_CIFAR100: dict[str, Any] = {"data": "cifar100", "model": "small_inception", "recipe": recipes.CIFAR}
"""CIFAR-100 with Feldman and Zhang's network, as in Appendix A.3."""


def with_networks(setting: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take a preset's data and recipe for an experiment that compares several networks."""
    return {option: value for option, value in setting.items() if option != "model"} | {"models": names}
