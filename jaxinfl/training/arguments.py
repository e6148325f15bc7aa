"""What `train_ensemble` refuses, before anything is compiled."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinfl.arguments import as_path, check_switch, is_whole, shown
from jaxinfl.devices import own_devices
from jaxinfl.models.layers import Kernels
from jaxinfl.store import RunDirectoryError, WriteFailed
from jaxinfl.store.failures import free_bytes
from jaxinfl.store.run import check_zarr
from jaxinfl.training.cost import Cost
from jaxinfl.training.sizes import format_bytes

_log = logging.getLogger("jaxinfl")


def check_options(on_cost: Any, **switches: Any) -> None:
    """Raise unless these are something to call, and True or False, and runs can be kept at all.

    Found out late, it would cost a compilation.
    """
    check_zarr()
    if on_cost is not None and not callable(on_cost):
        raise TypeError(f"on_cost is {shown(on_cost)}; it takes a function of the run's cost.")
    for name, value in switches.items():
        check_switch(value, name)


def check_place(run_dir: Any, part: tuple[int, int] | None, num_models: int) -> Path | None:
    """The run directory, None for one in memory; raise unless `part` is None or a part of it, with a model for each part."""
    path = None if run_dir is None else as_path(run_dir, "run_dir", "a directory")
    if part is None:
        return path
    if not isinstance(part, (tuple, list)) or len(part) != 2 or not all(map(is_whole, part)):
        raise TypeError(f"part is {shown(part)}; it takes two whole numbers, (1, 4) for the first quarter.")
    if not 1 <= part[0] <= part[1] <= num_models:
        raise ValueError(
            f"part is {tuple(part)!r}; it takes (number, parts), numbers from 1 up, with at most one part for each of the "
            f"{num_models} models."
        )
    if path is None:
        raise ValueError("part is given without run_dir, in which the parts come together. Name a directory.")
    return path


def check_limits(shard_size: int | None, checkpoint_every: float, max_diverged: float) -> None:
    """Raise unless they are a number of models or None, a number of seconds, and a share."""
    if shard_size is not None and (not is_whole(shard_size) or shard_size < 1):
        raise ValueError(f"shard_size is {shown(shard_size)}; it takes a whole number of models from 1 up.")
    for name, value, most, what in (
        ("checkpoint_every", checkpoint_every, np.inf, "a number of seconds above 0"),
        ("max_diverged", max_diverged, 1.0, "a share from 0 to 1"),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} is {shown(value)}; it takes {what}.")
        if not 0 <= value <= most or (name == "checkpoint_every" and value == 0):
            raise ValueError(f"{name} is {shown(value)}; it takes {what}.")


def check_disk(path: Path, cost: Cost) -> None:
    """Raise unless the disk has room for what is still to be written."""
    needed = cost.disk_bytes_left
    free = free_bytes(path)
    if needed > free:
        raise WriteFailed(
            f"{path} may need {format_bytes(needed)} more, but {format_bytes(free)} are free on its disk. Free some space, "
            "use a run_dir on another disk, or train fewer models."
        )


def check_weights_kept(recorded: Mapping[str, Any], path: Path | None, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that goes on says of the weights that it keeps: what it was started with."""
    if kept and "weights" not in recorded:
        raise RunDirectoryError(
            f"{path} keeps no weights: it was started without keep_weights=True. Use another run_dir, or leave keep_weights out."
        )
    return {"weights": recorded["weights"]} if "weights" in recorded else {}


def check_execution(
    recorded: Mapping[str, Any], path: Path | None, *, width: int | None, kernels: str | None
) -> tuple[int, Kernels, int]:
    """The width, kernels and devices of a run that goes on: those it was started with, as far as they are there."""
    for name, given in (("width", width), ("kernels", kernels)):
        if given is not None and given != recorded[name]:
            raise RunDirectoryError(
                f"{path} belongs to another run: it differs in {name}: {recorded[name]!r} there, {given!r} now, and the "
                f"models would differ in their last bits. Leave {name} out, or use another run_dir."
            )
    here = len(own_devices())
    available = recorded.get("available_devices", recorded["num_devices"])
    if (jax.default_backend(), here) != (recorded["platform"], available):
        _log.warning(
            "%s was started on %s device(s) of %s and goes on with %s of %s: its models differ in the last bits from those "
            "of a run that was not moved.",
            path,
            available,
            recorded["platform"],
            here,
            jax.default_backend(),
        )
        return recorded["width"], recorded["kernels"], here
    return recorded["width"], recorded["kernels"], recorded["num_devices"]
