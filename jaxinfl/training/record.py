"""What a run says of itself: how it was made, and how it lies on disk."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxinfl import provenance
from jaxinfl.devices import own_devices
from jaxinfl.store import Layout, RowArray
from jaxinfl.store.ensemble import OVERRIDE
from jaxinfl.store.weights import CHECKSUM
from jaxinfl.training.cost import Cost
from jaxinfl.training.job import Job


def describe_run(job: Job, cost: Cost) -> dict[str, Any]:
    """What a run says of itself, as JSON values."""
    return {
        # No part of the identity: the same content may be found under another path.
        "data_name": job.data.name,
        "data_source": None if job.data.source is None else dict(job.data.source),
        "allow": sorted(job.allow),
        "identity": job.identity,
        "execution": {
            "device": cost.device,
            "available_devices": len(own_devices()),
            **dataclasses.asdict(cost.execution),
        },
        "versions": provenance.versions(),
        "command": provenance.command(),
        "git_commit": provenance.git_commit(),
    }


def layout_of(job: Job, description: Mapping[str, Any], shard_size: int) -> Layout:
    """How the run lies on disk."""
    data = job.data
    # Class numbers, and -1 for models that diverged.
    label_type = "int16" if data.num_classes < 2**15 else "int32"
    row_arrays: dict[str, RowArray] = {}
    for split, examples in (("train", data.num_train), ("test", data.num_test)):
        row_arrays[f"{split}_prediction"] = RowArray((examples,), label_type, (split,))
        row_arrays[f"{split}_margin"] = RowArray((examples,), "float32", (split,))
    inputs: dict[str, tuple[Any, tuple[str, ...]]] = {
        "masks": (job.masks, ("model", "train")),
        "key_data": (job.keys.data(), ("model", "source", "word")),
        "train_labels": (data.train_labels, ("train",)),
        "test_labels": (data.test_labels, ("test",)),
    }
    if "weights" in description:
        row_arrays[CHECKSUM] = RowArray((), "uint32", ())
    for name, values in (job.given.overrides or {}).items():
        inputs[OVERRIDE + name] = (values, ("model",))
    return Layout(
        attributes=description,
        inputs=inputs,
        row_arrays=row_arrays,
        num_models=len(job),
        shard_size=shard_size,
    )


__all__ = ["describe_run", "layout_of"]
