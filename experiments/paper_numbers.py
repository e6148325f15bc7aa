"""The paper's own numbers, each mean and spread by data set and network, to stand beside ours.

Of Table 2b, a picture, the text that this was taken from has no numbers. Its models (three seeds, everything differing)
are those of Table 3's rows "Diff init, Diff data order", which agree with the rows without augmentation of Table 2.
"""

from typing import NamedTuple

INCEPTION, RESNET = "Inception", "ResNet-18"
INIT, ORDER, BOTH = "initialization", "data order", "initialization and data order"


class Number(NamedTuple):
    """Mean and spread of an accuracy or agreement from 0 to 1, over three seeds in the paper."""

    mean: float
    spread: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.spread:.2f}"


class Stability(NamedTuple):
    """Average agreement of two models, and their mean accuracy, on the test set."""

    agreement: Number
    accuracy: Number


class FineTuning(NamedTuple):
    """One line of Table 1."""

    agreement: Number
    """Agreement of fine-tuned models with retrained ones."""
    retrained: Number
    """Test accuracy of the retrained models."""
    fine_tuned: Number
    """Test accuracy of the fine-tuned models."""


def _stability(agreement: float, spread: float, accuracy: float, accuracy_spread: float) -> Stability:
    return Stability(Number(agreement, spread), Number(accuracy, accuracy_spread))


TABLE_1 = {
    ("CIFAR-100", INCEPTION): FineTuning(Number(0.756, 0.01), Number(0.740, 0.01), Number(0.742, 0.00)),
    ("CIFAR-100", RESNET): FineTuning(Number(0.820, 0.00), Number(0.777, 0.00), Number(0.778, 0.00)),
    ("Flowers", INCEPTION): FineTuning(Number(0.544, 0.04), Number(0.538, 0.03), Number(0.542, 0.02)),
    ("Flowers", RESNET): FineTuning(Number(0.671, 0.02), Number(0.511, 0.01), Number(0.512, 0.01)),
}
"""Fine-tuning for 6% of the epochs against retraining, 3 seeds x 10 dropped examples (Section 4.2)."""

TABLE_2 = {
    ("CIFAR-100", INCEPTION): (_stability(0.754, 0.00, 0.742, 0.00), _stability(0.777, 0.00, 0.753, 0.00)),
    ("CIFAR-100", RESNET): (_stability(0.818, 0.00, 0.778, 0.00), _stability(0.837, 0.00, 0.785, 0.00)),
    ("Flowers", INCEPTION): (_stability(0.519, 0.02, 0.542, 0.02), _stability(0.522, 0.02, 0.544, 0.02)),
    ("Flowers", RESNET): (_stability(0.668, 0.01, 0.513, 0.01), _stability(0.669, 0.01, 0.518, 0.01)),
}
"""The paper's numbers without and with test-time augmentation (Appendix B)."""

TABLE_3 = {
    ("CIFAR-10", INCEPTION): {
        INIT: _stability(0.947, 0.00, 0.943, 0.00),
        ORDER: _stability(0.950, 0.00, 0.944, 0.00),
        BOTH: _stability(0.947, 0.00, 0.942, 0.00),
    },
    ("CIFAR-10", RESNET): {
        INIT: _stability(0.959, 0.00, 0.952, 0.00),
        ORDER: _stability(0.958, 0.00, 0.953, 0.00),
        BOTH: _stability(0.959, 0.00, 0.952, 0.00),
    },
    ("CIFAR-100", INCEPTION): {
        INIT: _stability(0.753, 0.00, 0.739, 0.01),
        ORDER: _stability(0.744, 0.01, 0.734, 0.01),
        BOTH: _stability(0.754, 0.00, 0.742, 0.00),
    },
    ("CIFAR-100", RESNET): {
        INIT: _stability(0.818, 0.00, 0.778, 0.00),
        ORDER: _stability(0.820, 0.00, 0.780, 0.00),
        BOTH: _stability(0.818, 0.00, 0.778, 0.00),
    },
    ("DTD", INCEPTION): {
        INIT: _stability(0.413, 0.01, 0.308, 0.00),
        ORDER: _stability(0.412, 0.01, 0.329, 0.02),
        BOTH: _stability(0.405, 0.02, 0.301, 0.01),
    },
    ("DTD", RESNET): {
        INIT: _stability(0.564, 0.00, 0.386, 0.01),
        ORDER: _stability(0.566, 0.01, 0.368, 0.00),
        BOTH: _stability(0.548, 0.01, 0.372, 0.01),
    },
    ("Flowers", INCEPTION): {
        INIT: _stability(0.585, 0.02, 0.547, 0.01),
        ORDER: _stability(0.408, 0.08, 0.462, 0.10),
        BOTH: _stability(0.519, 0.02, 0.542, 0.02),
    },
    ("Flowers", RESNET): {
        INIT: _stability(0.672, 0.02, 0.507, 0.01),
        ORDER: _stability(0.671, 0.01, 0.511, 0.01),
        BOTH: _stability(0.668, 0.01, 0.513, 0.01),
    },
}
"""Different initialization, data order, or both, on identical data (Appendix C)."""

TABLE_2B = {network: sources[BOTH] for network, sources in TABLE_3.items()}
"""Average agreement and mean accuracy (Section 4.1); see the head of this module."""
