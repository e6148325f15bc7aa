"""The paper's recipes (Appendix A.3), and one that takes minutes, by name.

    train_ensemble(masks, keys, data=jaxinfl.load_dataset("cifar100"), model="small_inception", recipe=recipes.CIFAR)

    data = jaxinfl.load_dataset("dtd", image_size=recipes.stored_side(224))
    recipe = dataclasses.replace(
        recipes.FINE_GRAINED_224, learning_rate=..., weight_decay=..., normalization=channel_statistics(data)
    )

A.3 leaves two values open. Momentum is 0.9 in all recipes, and microbatches are of 64 for the fine-grained data sets.
"""

import numpy as np
from jaxtyping import Float

from jaxinfl.arguments import check_whole
from jaxinfl.training.recipe import Recipe

CIFAR = Recipe(
    epochs=200,
    batch_size=128,
    learning_rate=0.1,
    momentum=0.9,
    schedule="step",
    milestones=(60, 120, 160),
    decay_factor=0.1,
    weight_decay=5e-4,
    crop_padding=4,
    flip=True,
)
"""Recipe for CIFAR-10 and CIFAR-100: SGD with the learning rate divided by 10 at epochs 60, 120 and 160, crops, flips.

It normalizes by each model's own subset, so that an excluded example has no effect; A.3 names no normalization for CIFAR.
"""


CIFAR_FAST = Recipe(
    epochs=10,
    batch_size=128,
    learning_rate=0.2,
    momentum=0.9,
    nesterov=True,
    schedule="linear",
    warmup_epochs=2.0,
    weight_decay=5e-4,
    label_smoothing=0.1,
    crop_padding=2,
    flip=True,
)
"""Recipe for CIFAR-10 with `resnet9` in a twentieth of the epochs of `CIFAR`: a triangle of learning rates, Nesterov's momentum and label
smoothing. It is not the paper's.

With an eighth of the channels, on 10,000 images of CIFAR-10, four models are right on 63.8% of 2,000 others after 3.0e12 FLOPs each, and
with a quarter of them on 71.9% after 1.2e13. `small_cnn` is right on 50% after 5.3e12 by 8 epochs of cosine (November 2026).

Source: the ideas are those of Page (2018), "How to train your ResNet", and of Jordan (2024), "94% on CIFAR-10 in 3.29 seconds on a single
GPU", that look at no excluded example. Alternating flips and averaged weights gained nothing at equal FLOPs, and whitened patches a point.
"""


def fine_grained(side: int, *, learning_rate: float = 0.1, weight_decay: float = 1e-4, microbatch: int = 64) -> Recipe:
    """Make the recipe for DTD and Flowers 102: 400 epochs of SGD, batch 256, cosine, RandomResizedCrop and flip.

    Args:
      side: side in pixels of the model's input: 224 for ResNet-18, 299 for Inception v3.
      learning_rate, weight_decay: values to be chosen by the sweep of A.3 (`experiments.sweep`, `sweep_grid`); the defaults
        are a point in the middle of its grid, and no finding.
      microbatch: number of examples that go through the network at once. Batch norm averages over it.
    """
    return Recipe(
        epochs=400,
        batch_size=256,
        microbatch=microbatch,
        learning_rate=learning_rate,
        momentum=0.9,
        schedule="cosine",
        weight_decay=weight_decay,
        resized_crop=side,
        flip=True,
    )


FINE_GRAINED_224 = fine_grained(224)
"""Recipe for DTD and Flowers 102 with ResNet-18.

Like `FINE_GRAINED_299` it normalizes by each model's own subset. A.3 normalizes by mean and variance of the data set,
which every example enters; `dataclasses.replace(recipe, normalization=channel_statistics(data))` does so. Then the
recipe's numbers, and not the mask, carry a trace of an excluded example's pixels. Models trained by one such recipe are
still the same to the bit whatever the excluded examples are. To leave an example out of the numbers as well, compute them
without it, which makes another recipe.
"""
FINE_GRAINED_299 = fine_grained(299)
"""Recipe for DTD and Flowers 102 with Inception v3; `FINE_GRAINED_224` says how it normalizes."""


def stored_side(crop: int) -> int:
    """Side of the stored squares (`load_dataset(image_size=...)`) that serve crops of `crop` pixels.

    It is 8/7 of the crop, as in torchvision's reference evaluation: the shorter side is resized to 256 pixels, of which 224
    are taken. For Inception v3 these are 342 and 299.
    """
    return round(check_whole(crop, "crop", 1, 4096, "pixels") * 8 / 7)


def sweep_grid() -> dict[str, Float[np.ndarray, " models"]]:
    """Make A.3's grid as `overrides` of one ensemble of 56 models, by rising learning rate.

    There are 7 learning rates from 0.001 to 1, each with 7 ratios of weight decay to learning rate from 1e-5 to 1e-2 and
    with no weight decay. All are spaced evenly in the logarithm (Kornblith et al. 2019).
    """
    rates, ratios = np.logspace(-3, 0, 7), np.append(0.0, np.logspace(-5, -2, 7))
    rate, ratio = (grid.reshape(-1) for grid in np.meshgrid(rates, ratios, indexing="ij"))
    return {"learning_rate": rate, "weight_decay": rate * ratio}


__all__ = ["CIFAR", "CIFAR_FAST", "FINE_GRAINED_224", "FINE_GRAINED_299", "fine_grained", "stored_side", "sweep_grid"]
