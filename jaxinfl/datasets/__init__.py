"""Data of every kind: a `Dataset`, and `load_dataset` to get one."""

from jaxinfl.datasets.dataset import Dataset, describe_data
from jaxinfl.datasets.download import DatasetUnavailable
from jaxinfl.datasets.inputs import by_name
from jaxinfl.datasets.load import is_prepared, load_dataset
from jaxinfl.datasets.statistics import channel_statistics
from jaxinfl.datasets.stratified import stratified_mask

__all__ = [
    "Dataset",
    "DatasetUnavailable",
    "by_name",
    "channel_statistics",
    "describe_data",
    "is_prepared",
    "load_dataset",
    "stratified_mask",
]
