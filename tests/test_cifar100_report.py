"""Words of Figure 1's report follow from its numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.cifar100_report import explanation
from jaxinfl.statistics import ShareInterval


def explained(share, low=np.nan, high=np.nan):
    return explanation(SimpleNamespace(subset_share=ShareInterval(*map(np.array, (share, low, high)))))


def test_figure_1_right_in_one_sentence():
    assert explained(0.2, 0.15, 0.25) == (
        "Why the same subsets help so little: the subset decides 20% (15% to 25%) of the variance of a model's being right on a "
        "test example and training randomness the other 80%, so that two estimates on the same subsets still differ as much as "
        "estimates from 1.2 times as many models on different ones."
    )
    assert "help this much: the subset decides 75%" in explained(0.75, 0.7, 0.8)
    # An unbiased share may come out below 0.
    assert "decides 0% (0% to 3%)" in explained(-0.02, -0.07, 0.03)
    assert explained(1.0, 1.0, 1.0).endswith("still differ in nothing.")
    assert explained(np.nan) == "" and explanation(SimpleNamespace(subset_share=None)) == ""


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_estimates_on_the_same_subsets_differ_as_the_share_says(share):
    """The variance of their difference is (1 - share) times that of estimates on different subsets."""
    rng = np.random.default_rng(0)
    masks = rng.random((40, 5)) < 0.7

    def estimate(seen, score):
        return np.stack([score[:, row].mean(axis=1) - score[:, ~row].mean(axis=1) for row in seen.T])

    subset = rng.normal(0, share**0.5, (2, 4000, 40))
    noise = rng.normal(0, (1 - share) ** 0.5, (3, 4000, 40))
    one, same, other = (
        estimate(masks, each) for each in (subset[0] + noise[0], subset[0] + noise[1], subset[1] + noise[2])
    )
    assert (one - same).var() / (one - other).var() == pytest.approx(1 - share, abs=0.03)
