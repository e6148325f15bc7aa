"""Mean and standard deviation of a data set's pixels."""

import numpy as np

from jaxinfl.arguments import quote
from jaxinfl.datasets.arrays import pieces
from jaxinfl.datasets.dataset import Dataset

_AT_ONCE = 64 * 2**20  # bytes


def channel_statistics(data: Dataset) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of the training pixels / 255 of each channel, for `Recipe.normalization`.

    Each is exact up to one rounding, because the 256 values of pixels are counted. The deviation is that of the population
    (divided by n). Every training example enters these numbers, even those that a subset leaves out later; see
    `jaxinfl.training.recipes`.

    Raises:
      TypeError: `data` is no `Dataset`.
      ValueError: a channel is constant, so that its deviation is 0.
    """
    if not isinstance(data, Dataset):
        raise TypeError(f"data is {quote(data)}; it takes a jaxinfl.Dataset.")
    images = data.images("train")
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for _, rows in pieces(images, _AT_ONCE):
        for channel in range(channels):
            counts[channel] += np.bincount(rows[..., channel].reshape(-1), minlength=256)
    values = np.arange(256) / 255
    means = counts @ values / counts.sum(axis=1)
    deviations = np.sqrt(
        [number @ (values - mean) ** 2 / number.sum() for number, mean in zip(counts, means, strict=True)]
    )
    constant = np.flatnonzero((counts > 0).sum(axis=1) == 1)
    if constant.size:
        raise ValueError(
            f'channel {constant[0]} of {data.name} is constant, so its deviation is 0. Normalize by "none" or by numbers of '
            "your own."
        )
    return tuple((float(mean), float(deviation)) for mean, deviation in zip(means, deviations, strict=True))
