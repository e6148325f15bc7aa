"""Run directories: Zarr arrays on disk with one row for each model, which tell what is complete and what is damaged."""

from jaxinfl.store.ensemble import Ensemble
from jaxinfl.store.errors import DamagedRun, RunDirectoryError
from jaxinfl.store.failures import WriteFailed
from jaxinfl.store.identity import check_same_run
from jaxinfl.store.layout import Layout, RowArray
from jaxinfl.store.lock import writing
from jaxinfl.store.run import ABSENT, COMPLETE, DIVERGED, RunStore

__all__ = [
    "ABSENT",
    "COMPLETE",
    "DIVERGED",
    "DamagedRun",
    "Ensemble",
    "Layout",
    "RowArray",
    "RunDirectoryError",
    "RunStore",
    "WriteFailed",
    "check_same_run",
    "writing",
]
