"""The GPUs of this machine, divided between jobs that train at the same time."""

import os
from pathlib import Path

from jaxinfl.cluster.errors import ClusterError
from jaxinfl.cluster.options import Cluster

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
"""Folder in which NVIDIA's driver for Linux has a folder for each GPU."""


def cards_of(cluster: Cluster, place: int) -> str | None:
    """The GPUs of the job on a place, as CUDA_VISIBLE_DEVICES names them; None where jobs are given none.

    They are those of the processes that the user started, where that variable is set: a machine may be shared.
    """
    if not cluster.gpus:
        return None
    own = _visible()
    numbers = range(place * cluster.gpus, (place + 1) * cluster.gpus)
    return ",".join(str(number) if own is None else own[number] for number in numbers)


def check_cards(cluster: Cluster, jobs: int) -> None:
    """Raise where this machine has fewer GPUs than jobs at the same time would take.

    Raises:
      ClusterError: it has; the message says how many there are.
    """
    if cluster.kind != "local" or not cluster.gpus:
        return
    own, needed = _visible(), jobs * cluster.gpus
    if own is not None:
        there, whose = len(own), f"{_VISIBLE} names"
    elif _DRIVER.is_dir():
        there, whose = len(list(_DRIVER.iterdir())), "this machine has"
    else:
        return  # a system that does not say; a job that finds no GPU says so
    if there < needed:
        raise ClusterError(
            f"{jobs} jobs of {cluster.gpus} GPUs each take {needed}, and {whose} {there}. Lower jobs, or cluster gpus."
        )


def _visible() -> list[str] | None:
    """The GPUs that the user lets this process see; None for all of the machine."""
    chosen = os.environ.get(_VISIBLE)
    return None if chosen is None else [each.strip() for each in chosen.split(",") if each.strip()]


__all__ = ["cards_of", "check_cards"]
