"""Image classification data, whole in memory: a `Dataset`, and `load_dataset` to get one."""

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.download import DatasetUnavailable
from jaxinfl.datasets.load import load_dataset

__all__ = ["Dataset", "DatasetUnavailable", "load_dataset"]
