"""train_ensemble: many models, each on its own subset with its own keys, into one run."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool

from jaxinfl import provenance
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, ModuleFactory, Variables, build_model
from jaxinfl.models.lowering import ConvLowering
from jaxinfl.store import ABSENT, Ensemble, Layout, RowArray, RunStore, check_same_run
from jaxinfl.store.ensemble import OVERRIDE
from jaxinfl.store.layout import digest
from jaxinfl.store.run import check_free
from jaxinfl.store.weights import CHECKSUM, describe, weights_digest
from jaxinfl.training.arguments import (
    check_execution,
    check_keys,
    check_options,
    check_recipe,
    check_shard_size,
    check_subsets,
    check_weights_kept,
)
from jaxinfl.training.execution import Execution, choose_execution, convolves
from jaxinfl.training.initial import check_initial
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.overrides import check_overrides
from jaxinfl.training.plan import RunPlan
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.step import Given
from jaxinfl.training.trainer import Trainer
from jaxinfl.training.tuning import Freedom, Notebook


def train_ensemble(
    masks: ArrayLike,
    keys: ArrayLike | ModelKeys,
    *,
    data: Dataset,
    model: str | ModuleFactory | Model = "small_cnn",
    recipe: Recipe | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    shard_size: int | None = None,
    width: int | None = None,
    conv: ConvLowering | None = None,
    tune: bool = True,
    overrides: Mapping[str, ArrayLike] | None = None,
    initial: Variables | None = None,
    keep_weights: bool = False,
    progress: bool = True,
    on_plan: Callable[[RunPlan], None] | None = None,
) -> Ensemble:
    """Train one model on each subset and keep what each says about every training and test example.

    A model is a function of its own mask row and keys, the recipe and the data alone: an excluded example is never
    read, every included one is seen exactly once an epoch, and neighbours, position and shards do not matter (to the
    bit, on one backend and number of devices, at one `width` and `conv`). The models are spread over all devices of JAX.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t is trained on example i. Subset sizes may differ.
      keys: one key a model, `jax.random.split(jax.random.key(0), models)`, or `ModelKeys` to hold sources of
        randomness fixed.
      data: the data set.
      model: a registered name ("mlp", "small_cnn"), or a callable `rngs -> flax.nnx.Module` whose module maps images
        [batch, h, w, c] to logits [batch, classes].
      recipe: how each model is trained; `Recipe()` by default.
      run_dir: where finished models are kept, a shard at a time. Called again with the same arguments, training goes
        on where it stopped; interrupted at any moment, finished shards stay. None keeps everything in memory.
      shard_size: models written together; by default what takes some 10 seconds. A run that exists keeps its own.
      width: models trained at once on a device (vmap); by default 1 on a CPU and 32 elsewhere.
      conv: lowering of convolutions, "native", "patches" or "stock"; by default the fast one of the platform.
      tune: in runs of minutes, time other widths, lowerings and numbers of devices first and take the fastest, if it
        beats the default by a fifth; at most 20 seconds or 5% of the run. What was found is remembered for this model,
        recipe and kind of device. What `width` and `conv` fix stays. The run records what was taken, and why.
      overrides: fields of the recipe that differ from model to model, with one value a model:
        `{"learning_rate": [0.1, 0.2, ...]}`. Taken: learning_rate, weight_decay, momentum, label_smoothing. All models
        share one compiled program, in which these are numbers like any other: a model's bits are the same whatever the
        other models' values are, in any ensemble that overrides the same fields; those of the same values written in
        the recipe may differ in rounding.
      initial: weights and batch-norm statistics to start from, [models, ...], as `Ensemble.weights()` returns them; the
        initialization keys are then without effect. Part of what makes a run the same: other weights are another run.
      keep_weights: keep the final weights too, for `Ensemble.weights()`: 4 bytes a parameter and model, in the run
        directory as one Orbax checkpoint a shard. A run that exists goes on as it was started.
      progress: show a bar, if standard error is a terminal.
      on_plan: called with the run's size, estimated time and disk before training starts (not when nothing is left).

    Returns:
      The finished ensemble.

    Raises:
      TypeError, ValueError: arguments that do not fit; before anything is compiled.
      RunDirectoryError: `run_dir` is damaged, foreign, or was made with other data, masks, keys, model, recipe, overrides or
        initial weights, or keeps no weights where they are asked for.
      KeyboardInterrupt: passed on; finished shards are kept.
    """
    recipe = Recipe() if recipe is None else recipe
    subsets = check_subsets(masks, data)
    model_keys = check_keys(keys, len(subsets))
    check_recipe(recipe, data)
    check_shard_size(shard_size)
    check_options(run_dir, on_plan, tune=tune, keep_weights=keep_weights, progress=progress)
    built, given = _built(model, data, recipe, overrides, initial, len(subsets))
    kept = {"weights": describe(jax.eval_shape(built.init, jax.random.key(0)))} if keep_weights else {}
    identity = _identity(subsets, model_keys, data, built, recipe, given)
    store = _existing_run(run_dir, identity)
    if store is not None:
        kept = check_weights_kept(store.attributes, store.path, kept)
        if (store.status() != ABSENT).all():
            return Ensemble(store)
    execution, notebook, freedom = _execution(store, built, recipe, data, width, conv, len(subsets))
    trainer = Trainer(
        subsets, model_keys, data=data, model=built, recipe=recipe, execution=execution, given=given, weights=bool(kept)
    )
    finished = 0 if store is None else int((store.status() != ABSENT).sum())
    plan = trainer.plan(finished)
    if tune and store is None:
        plan = trainer.tune(plan, notebook, freedom)
    if on_plan is not None:
        on_plan(plan)
    if store is None:
        description = _description(identity, data, plan) | kept
        shard_size = shard_size or trainer.shard_size(plan)
        store = RunStore.create(run_dir, _layout(subsets, model_keys, data, description, shard_size, given))
    with _saying_what_is_kept(store):
        trainer.train(store, plan, shown=progress)
    return Ensemble(store)


def _built(
    model: str | ModuleFactory | Model,
    data: Dataset,
    recipe: Recipe,
    overrides: Mapping[str, ArrayLike] | None,
    initial: Variables | None,
    num_models: int,
) -> tuple[Model, Given]:
    """The model for these images, and what each of the ensemble is given."""
    numbers = check_overrides(overrides, recipe, num_models)
    built = build_model(model, image_shape=recipe.input_shape(data.image_shape), num_classes=data.num_classes)
    return built, Given(numbers or None, check_initial(initial, built, num_models))


def _execution(
    store: RunStore | None,
    model: Model,
    recipe: Recipe,
    data: Dataset,
    width: int | None,
    conv: ConvLowering | None,
    num_models: int,
) -> tuple[Execution, Notebook, Freedom]:
    """How to run the models, and what may be tuned where that is remembered."""
    num_devices = None
    freedom = Freedom(
        width is None,
        conv is None and convolves(model, recipe.input_shape(data.image_shape)),
        devices=True,
        most=num_models,
    )
    if store is not None:
        # Width and lowering decide the last bits, so a run goes on with those it was started with.
        recorded = store.attributes["execution"]
        width, conv, num_devices = check_execution(recorded, store.path, width=width, conv=conv)
    execution = choose_execution(model, recipe, data, width=width, conv=conv, num_devices=num_devices)
    return execution, Notebook.of(model, recipe, data, freedom, execution), freedom


@contextlib.contextmanager
def _saying_what_is_kept(store: RunStore) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if store.path is None:
            raise
        finished = int((store.status() != ABSENT).sum())
        print(
            f"\nInterrupted: {finished} of {store.num_models} models are finished and kept in {store.path}; "
            "the same call goes on from there.",
            file=sys.stderr,
        )
        raise


def _existing_run(run_dir: str | os.PathLike[str] | None, identity: dict[str, Any]) -> RunStore | None:
    if run_dir is None:
        return None
    if not (Path(run_dir) / "zarr.json").is_file():
        check_free(Path(run_dir))
        return None
    store = RunStore.open(run_dir)
    check_same_run(store.attributes["identity"], identity, store.path)
    return store


def _identity(
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


def _description(identity: dict[str, Any], data: Dataset, plan: RunPlan) -> dict[str, Any]:
    return {
        "data_name": data.name,  # no part of the identity: the same content may be found under another path
        "identity": identity,
        "execution": {
            "device": plan.device,
            "available_devices": jax.device_count(),
            **dataclasses.asdict(plan.execution),
        },
        "versions": provenance.versions(),
        "command": provenance.command(),
        "git_commit": provenance.git_commit(),
    }


def _layout(
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


__all__ = ["train_ensemble"]
