"""What a run says of itself: what makes it the same run, how it was made, and how it lies on disk."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxinfl import provenance
from jaxinfl.datasets import Dataset
from jaxinfl.devices import own_devices
from jaxinfl.models import Model
from jaxinfl.store import Layout, RowArray
from jaxinfl.store.ensemble import OVERRIDE
from jaxinfl.store.layout import digest
from jaxinfl.store.weights import CHECKSUM, weights_digest
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.plan import RunPlan
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import Given


def identity_of(
    masks: Bool[np.ndarray, "models train"], keys: ModelKeys, data: Dataset, model: Model, recipe: Recipe, given: Given
) -> dict[str, Any]:
    """What must be the same for a run to go on; the first difference is named in this order."""
    identity: dict[str, Any] = {
        "data": {
            "num_train": data.num_train,
            "num_test": data.num_test,
            "num_classes": data.num_classes,
            "fingerprint": data.fingerprint,
        },
        "masks": digest(masks),
        "keys": digest(keys.data()),
        "model": {"name": model.name, "num_params": model.num_params, "fingerprint": model.fingerprint},
        "recipe": recipe.to_dict(),
    }
    # Only where there are any, so that runs of a time before overrides go on.
    if given.overrides:
        identity["overrides"] = {name: digest(values) for name, values in given.overrides.items()}
    if given.initial is not None:
        identity["initial"] = weights_digest(given.initial)
    return identity


def describe_run(identity: Mapping[str, Any], data: Dataset, plan: RunPlan) -> dict[str, Any]:
    return {
        "data_name": data.name,  # no part of the identity: the same content may be found under another path
        "identity": identity,
        "execution": {
            "device": plan.device,
            "available_devices": len(own_devices()),
            **dataclasses.asdict(plan.execution),
        },
        "versions": provenance.versions(),
        "command": provenance.command(),
        "git_commit": provenance.git_commit(),
    }


def layout_of(
    masks: Bool[np.ndarray, "models train"],
    keys: ModelKeys,
    data: Dataset,
    description: dict[str, Any],
    shard_size: int,
    given: Given,
) -> Layout:
    # Class numbers, and -1 for models that diverged.
    label_type = "int16" if data.num_classes < 2**15 else "int32"
    row_arrays: dict[str, RowArray] = {}
    for split, examples in (("train", data.num_train), ("test", data.num_test)):
        row_arrays[f"{split}_prediction"] = RowArray((examples,), label_type, (split,))
        row_arrays[f"{split}_margin"] = RowArray((examples,), "float32", (split,))
    inputs: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        "masks": (masks, ("model", "train")),
        "key_data": (keys.data(), ("model", "source", "word")),
        "train_labels": (data.train_labels, ("train",)),
        "test_labels": (data.test_labels, ("test",)),
    }
    if "weights" in description:
        row_arrays[CHECKSUM] = RowArray((), "uint32", ())
    for name, values in (given.overrides or {}).items():
        inputs[OVERRIDE + name] = (values, ("model",))
    return Layout(
        attributes=description,
        inputs=inputs,
        row_arrays=row_arrays,
        num_models=len(masks),
        shard_size=shard_size,
    )


__all__ = ["describe_run", "identity_of", "layout_of"]
