"""Runs and estimates of others: read from the files of the programs that made them, and written for the programs that take them."""

from jaxinfl.published.comparison import PairsComparison, compare_pairs, compare_scores
from jaxinfl.published.read import read_pairs, read_run
from jaxinfl.published.released import PublishedPairs, PublishedScores
from jaxinfl.published.write import write_run

__all__ = [
    "PairsComparison",
    "PublishedPairs",
    "PublishedScores",
    "compare_pairs",
    "compare_scores",
    "read_pairs",
    "read_run",
    "write_run",
]
