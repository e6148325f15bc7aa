"""Models that share a subset: they are less than independent, and count as one cluster.

Everything that takes models for independent asks here first: tests, standard errors, correlations, cross-validation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Clusters(NamedTuple):
    """The models, grouped by their subset."""

    member: Int[np.ndarray, " models"]
    """Number of the cluster that each model belongs to."""
    size: Int[np.ndarray, " clusters"]
    """Number of models in each cluster."""
    first: Int[np.ndarray, " clusters"]
    """The first model of each cluster; its mask row is that of all of them."""

    @property
    def alone(self) -> bool:
        """Whether every model has a subset of its own."""
        return self.size.size == self.member.size

    def sums(self, values: Float[np.ndarray, "models columns"]) -> Float[np.ndarray, "clusters columns"]:
        """Sum of the values over the models of each cluster."""
        if self.alone:
            return values
        order = np.argsort(self.member, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.size)[:-1]])
        total: Float[np.ndarray, "clusters columns"] = np.add.reduceat(values[order], starts, axis=0)
        return total

    def means(self, values: Float[np.ndarray, "models columns"]) -> Float[np.ndarray, "clusters columns"]:
        """Mean of the values over the models of each cluster."""
        return values if self.alone else self.sums(values) / self.size[:, None]


def share_of_complements(masks: Bool[np.ndarray, "models train"]) -> float:
    """Share of the models whose subset is all that another model's subset leaves out."""
    return float(np.isin(_rows(~masks), _rows(masks)).mean())


def find_clusters(masks: Bool[np.ndarray, "models train"]) -> Clusters:
    """Clusters of models with identical mask rows, in the order of their first models."""
    rows = _rows(masks)
    _, first, member, size = np.unique(rows, return_index=True, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(first))
    order = np.argsort(first)
    return Clusters(rank[member.ravel()], size[order], first[order])


def make_each_alone(num_models: int) -> Clusters:
    """Clusters in which every model is alone."""
    every = np.arange(num_models)
    return Clusters(every, np.ones(num_models, np.intp), every)


def _rows(masks: Bool[np.ndarray, "models train"]) -> np.ndarray:
    """Each mask row as one value that compares as a whole."""
    packed = np.ascontiguousarray(np.packbits(masks, axis=1))
    return packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
