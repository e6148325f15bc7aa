"""train_ensemble: many models, each on its own subset with its own keys, into one run."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool

from jaxinfl import native
from jaxinfl.datasets import Dataset
from jaxinfl.models import Model, ModuleFactory, Variables, build_model
from jaxinfl.models.lowering import ConvLowering
from jaxinfl.store import ABSENT, Ensemble, RunDirectoryError, RunStore, check_same_run, writing
from jaxinfl.store.parts import part_models, part_path, parts_in
from jaxinfl.store.run import MANIFEST, UNFINISHED, check_free, is_run
from jaxinfl.store.weights import describe
from jaxinfl.training.arguments import (
    check_disk,
    check_execution,
    check_keys,
    check_limits,
    check_options,
    check_place,
    check_recipe,
    check_subsets,
    check_weights_kept,
)
from jaxinfl.training.divergence import MAX_DIVERGED, check_diverged
from jaxinfl.training.execution import Execution, choose_execution, lowerings_differ
from jaxinfl.training.initial import check_initial
from jaxinfl.training.interrupts import StopRequest, Watch, standing_of
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.overrides import check_overrides
from jaxinfl.training.plan import RunPlan
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.record import describe_run, identity_of, layout_of
from jaxinfl.training.step import Given
from jaxinfl.training.trainer import Trainer
from jaxinfl.training.tuning import Freedom, Notebook
from jaxinfl.undefined import nan_is_an_answer


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
    part: tuple[int, int] | None = None,
    allow: Collection[str] = (),
    checkpoint_every: float = 300.0,
    max_diverged: float = MAX_DIVERGED,
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
        [batch, h, w, c] to logits [batch, classes]. Its flags for training (`train`, `training`, `is_training`,
        `deterministic`, `use_running_average`) are set, and it is checked once: see `jaxinfl.models.model_from_nnx`.
      recipe: how each model is trained; `Recipe()` by default.
      run_dir: where finished models are kept, a shard at a time. Called again with the same arguments, training goes
        on where it stopped, killed at any moment or not, and comes to the same bits. Ctrl-C and SIGTERM save what is on
        the way and leave. One process at a time may write there. None keeps everything in memory.
      shard_size: models written together; by default what takes some 10 seconds. A run that exists keeps its own.
      width: models trained at once on a device (vmap); by default 1 on a CPU and 32 elsewhere.
      conv: lowering of convolutions, "native" (there also gradients of narrow dense layers), "patches" or "stock"; by
        default the fast one of the platform.
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
        directory as one .npz file a shard. A run that exists goes on as it was started.
      part: `(1, 4)` trains the first quarter of the models only, into a directory of its own in `run_dir`: up to four
        processes share the work. `Ensemble.open(run_dir)` reads the parts as one, and so does a call without `part`, which
        trains what is missing first.
      allow: what `model` may do that is refused otherwise. "coupled_examples": what it says of an example depends on others in
        its batch. "same_weights": its weights are drawn, but not from the key that it is given, so that all models start alike.
      checkpoint_every: seconds of work that may be lost when the process is killed: a shard that takes longer is saved on
        the way, too.
      max_diverged: the share of models that may diverge (a loss or logit that is not finite); more end the run. Those
        that do are left out of the ensemble, with a warning.
      progress: show a bar, if standard error is a terminal.
      on_plan: called with the run's size, estimated time and disk before training starts (not when nothing is left).

    Returns:
      The finished ensemble; with `part`, of the parts that are there.

    Raises:
      TypeError, ValueError: arguments that do not fit; before anything is compiled.
      RunDirectoryError: `run_dir` is damaged, foreign, being written by another process, or was made with other data, masks,
        keys, model, recipe, overrides or initial weights, or keeps no weights where they are asked for; the disk is full
        (`WriteFailed`). What was finished stays.
      OutOfMemory: the data set does not fit on a device, or not even one model at a time does.
      TooManyDiverged: more than `max_diverged` of the models.
      KeyboardInterrupt, SystemExit: passed on after Ctrl-C and SIGTERM; what was done is kept.
    """
    with nan_is_an_answer(), StopRequest(kept=run_dir is not None) as stop:
        recipe = Recipe() if recipe is None else recipe
        subsets = check_subsets(masks, data)
        model_keys = check_keys(keys, len(subsets))
        check_recipe(recipe, data)
        path = check_place(run_dir, part, len(subsets))
        if path is not None:
            stop.standing = partial(standing_of, path, part, len(subsets))
        check_limits(shard_size, checkpoint_every, max_diverged)
        check_options(on_plan, tune=tune, keep_weights=keep_weights, progress=progress)
        built, given = _built(model, data, recipe, overrides, initial, len(subsets), allow)
        identity = identity_of(subsets, model_keys, data, built, recipe, given)
        run = _Run(
            *(subsets, model_keys, data, built, recipe, given, identity, stop),
            shard_size=shard_size,
            width=width,
            conv=conv,
            tune=tune,
            keep_weights=keep_weights,
            checkpoint_every=checkpoint_every,
            max_diverged=max_diverged,
            progress=progress,
            on_plan=on_plan,
        )
        return run.ensemble(path, part)


def _parts(path: Path, part: tuple[int, int] | None) -> list[tuple[int, int] | None]:
    """What is to be trained in a directory: the part asked for, every part of a run that is in parts, or the whole."""
    if part is not None:
        if is_run(path):
            raise RunDirectoryError(f"{path} holds a run that is not in parts. Leave out part, or use another run_dir.")
        return [part]
    there = [] if is_run(path) else parts_in(path)
    return [(number, there[0][1]) for number in range(1, there[0][1] + 1)] if there else [None]


def _built(
    model: str | ModuleFactory | Model,
    data: Dataset,
    recipe: Recipe,
    overrides: Mapping[str, ArrayLike] | None,
    initial: Variables | None,
    num_models: int,
    allow: Collection[str],
) -> tuple[Model, Given]:
    """The model for these images, and what each of the ensemble is given."""
    numbers = check_overrides(overrides, recipe, num_models)
    # Compiled, the first time on a machine, while the model is built.
    native.prepare()
    shape = recipe.input_shape(data.image_shape)
    built = build_model(model, image_shape=shape, num_classes=data.num_classes, allow=allow)
    return built, Given(numbers or None, check_initial(initial, built, num_models))


@dataclass(frozen=True)
class _Run:
    """A run that was asked for, wherever it is to lie."""

    masks: Bool[np.ndarray, "models train"]
    keys: ModelKeys
    data: Dataset
    model: Model
    recipe: Recipe
    given: Given
    identity: Mapping[str, Any]
    stop: StopRequest
    shard_size: int | None
    width: int | None
    conv: ConvLowering | None
    tune: bool
    keep_weights: bool
    checkpoint_every: float
    max_diverged: float
    progress: bool
    on_plan: Callable[[RunPlan], None] | None

    def ensemble(self, run_dir: Path | None, part: tuple[int, int] | None) -> Ensemble:
        """The models, those that are missing trained."""
        if run_dir is None:
            return Ensemble(self.train(None, None))
        for each in _parts(run_dir, part):
            self.train_in(run_dir, each)
        return Ensemble.open(run_dir)

    def train_in(self, run_dir: Path, part: tuple[int, int] | None) -> None:
        """Train what is missing in a directory, as its only writer."""
        path = run_dir if part is None else part_path(run_dir, part)
        self.stop.leave_if_asked()
        store = self._existing(path)
        if store is not None and self._finished(store):
            return
        if store is None:
            check_free(path)
        with writing(path):
            # Once more: another process may have written until now.
            store = self._existing(path)
            if store is not None:
                store.tidy()
            self.train(store, path, part)

    def train(self, store: RunStore | None, path: Path | None, part: tuple[int, int] | None = None) -> RunStore:
        """Train what the store lacks, or a new run."""
        kept = {"weights": describe(jax.eval_shape(self.model.init, jax.random.key(0)))} if self.keep_weights else {}
        if store is not None:
            kept = check_weights_kept(store.attributes, store.path, kept)
        execution, notebook, freedom = self._execution(store)
        trainer = Trainer(
            self.masks,
            self.keys,
            data=self.data,
            model=self.model,
            recipe=self.recipe,
            execution=execution,
            given=self.given,
            weights=bool(kept),
        )
        own = range(*part_models(len(self.masks), part or (1, 1)))
        finished = 0 if store is None else int((store.own_status() != ABSENT).sum())
        plan = trainer.plan(finished, len(own))
        self.stop.leave_if_asked()
        if self.tune and store is None:
            plan = trainer.tune(plan, notebook, freedom)
            self.stop.leave_if_asked()
        if self.on_plan is not None:
            self.on_plan(plan)
        if path is not None:
            check_disk(path, plan)
        if store is None:
            description = describe_run(self.identity, self.data, plan) | kept
            if part is not None:
                description |= {"part": part, "own_models": [own.start, own.stop]}
            shard_size = self.shard_size or trainer.shard_size(plan)
            layout = layout_of(self.masks, self.keys, self.data, description, shard_size, self.given)
            store = RunStore.create(path, layout)
        watch = Watch(self.checkpoint_every, self.stop)
        trainer.train(store, plan, watch=watch, max_diverged=self.max_diverged, shown=self.progress)
        return store

    def _existing(self, path: Path) -> RunStore | None:
        """The run that is there, if it is this one; None where there is none."""
        # Opening a damaged one says what is wrong.
        if not is_run(path) and not (path / MANIFEST).exists():
            return None
        if (path / UNFINISHED).exists():
            return None
        store = RunStore.open(path)
        check_same_run(store.attributes["identity"], self.identity, store.path)
        return store

    def _finished(self, store: RunStore) -> bool:
        """Whether nothing is left to train."""
        status = store.own_status()
        if (status == ABSENT).any():
            return False
        if self.keep_weights:
            check_weights_kept(store.attributes, store.path, {"weights": True})
        check_diverged(status, self.max_diverged, self.recipe, store.path)
        return True

    def _execution(self, store: RunStore | None) -> tuple[Execution, Notebook, Freedom]:
        """How to run the models, and what may be tuned where that is remembered."""
        width, conv, num_devices = self.width, self.conv, None
        shape, platform = self.recipe.input_shape(self.data.image_shape), jax.default_backend()
        choice = conv is None and lowerings_differ(self.model, shape, platform)
        freedom = Freedom(width is None, choice, devices=True, most=len(self.masks))
        if store is not None:
            # Width and lowering decide the last bits, so a run goes on with those it was started with.
            recorded = store.attributes["execution"]
            width, conv, num_devices = check_execution(recorded, store.path, width=width, conv=conv)
        execution = choose_execution(
            self.model, self.recipe, self.data, width=width, conv=conv, num_devices=num_devices
        )
        return execution, Notebook.of(self.model, self.recipe, self.data, freedom, execution), freedom


__all__ = ["train_ensemble"]
