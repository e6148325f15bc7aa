"""`train_ensemble` trains many models, each on its own subset with its own keys, into one run."""

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from jax.typing import ArrayLike

from jaxinfl.arguments import as_path, check_switch, is_whole, quote
from jaxinfl.datasets import Dataset
from jaxinfl.models import AnyModel, Variables
from jaxinfl.models.layers import Kernels
from jaxinfl.store import ABSENT, Ensemble, check_same_run
from jaxinfl.store.elsewhere import check_trained_here
from jaxinfl.store.kept import Keep, KeptOutputs
from jaxinfl.store.parts import open_rows, parts_in
from jaxinfl.store.run import check_zarr, is_run
from jaxinfl.training.agreement import Agreement
from jaxinfl.training.cost import Cost
from jaxinfl.training.interrupts import StopRequest, standing_of
from jaxinfl.training.job import Job
from jaxinfl.training.per_model import ModelKeys
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.run import MAX_DIVERGED, Run, RunOptions, go_on_keeping
from jaxinfl.training.tuning import MachineChoice
from jaxinfl.training.workforce import ThisProcess
from jaxinfl.undefined import nan_is_an_answer


def train_ensemble(
    masks: ArrayLike,
    keys: ArrayLike | ModelKeys,
    *,
    data: Dataset,
    model: AnyModel = "small_cnn",
    recipe: Recipe | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    shard_size: int | None = None,
    width: int | None = None,
    kernels: Kernels | None = None,
    tune: bool = True,
    overrides: Mapping[str, ArrayLike] | None = None,
    initial: Variables | None = None,
    keep_weights: bool = False,
    keep_outputs: KeptOutputs | None = None,
    keep_epochs: Collection[int] = (),
    part: tuple[int, int] | None = None,
    allow: Collection[str] = (),
    checkpoint_every: float = 300.0,
    max_diverged: float = MAX_DIVERGED,
    mixed_devices: bool = False,
    progress: bool = True,
    on_cost: Callable[[Cost], None] | None = None,
) -> Ensemble:
    """Train one model on each subset and keep what each says about every training and test example.

    A model is a function of its own mask row and keys, the recipe and the data alone. An excluded example is never read,
    and every included one is seen exactly once an epoch. Neighbours, position and shards do not matter, to the bit, on one
    backend and number of devices, at one `width` and `kernels`. The models are spread over all devices of JAX.

    Args:
      masks: bool [models, train]; `masks[t, i]` says whether model t is trained on example i. Subset sizes may differ.
      keys: one key for each model, `jax.random.split(jax.random.key(0), models)`, or `ModelKeys` to hold sources of
        randomness fixed.
      data: the data set.
      model: a registered name ("mlp", "small_cnn", "transformer") or a model of one's own: a callable `rngs -> flax.nnx.Module`, a
        Flax Linen module, a callable `key -> equinox.Module`, or a pair of functions `init(key)` and `apply(variables, inputs, *,
        train, key)`. It maps a batch of inputs, images [batch, h, w, c] for instance, to outputs, logits [batch, classes] for
        classes. Flags for training (`train`, `training`, `is_training`, `deterministic`, `use_running_average`) are set, and the
        model is checked once: see `jaxinfl.models.build_model` and docs/own_models.md.
      recipe: how each model is trained; `Recipe()` by default.
      run_dir: directory in which finished models are kept, a shard at a time; None keeps everything in memory. Called again
        with the same arguments, training goes on where it stopped, even if it was killed, and comes to the same bits. Called
        with more masks and keys than the run has, of which the first are equal, it trains the rest and touches nothing of the
        old models. Ctrl-C and SIGTERM write a checkpoint and leave. One process at a time may write there.
      shard_size: number of models written together; by default as many as take some 10 seconds. An existing run keeps its
        own.
      width: number of models trained at once on a device (vmap); by default 1 on a CPU. Elsewhere the shapes of the
        network's layers and the size of the memory decide: up to 128 of a small network, 1 of a large one with convolutions.
      kernels: what computes convolutions, dense layers, pooling and batch norm. "native": kernels written by hand for CPUs.
        "gemm": XLA's, with convolutions as matrix products. "xla": XLA's own alone. By default the fast ones of the platform.
      tune: in runs of minutes, time other widths, kernels and numbers of devices first and take the fastest, if it
        beats the default by a fifth. This takes at most 20 seconds or 5% of the run. The result is remembered for this
        model, recipe and kind of device. `width` and `kernels` stay where they are given. The run records the choice and why.
      overrides: fields of the recipe that differ from model to model, with one value for each model:
        `{"learning_rate": [0.1, 0.2, ...]}`. The fields can be learning_rate, weight_decay, momentum and label_smoothing. All
        models share one compiled program, which takes these numbers as inputs. So a model's bits do not depend on the other
        models' values, in any ensemble that overrides the same fields. A recipe with the same value may differ in rounding.
      initial: weights and batch-norm statistics to start from, [models, ...], as `Ensemble.weights()` returns them; the
        initialization keys are then without effect. A run with other initial weights is another run.
      keep_weights: keep the final weights too, for `Ensemble.weights()`. They take 4 bytes for each parameter and model, in
        the run directory as one .npz file for each shard. An existing run goes on as it was started.
      keep_outputs: "test" or "both" keeps what the models put out for the test examples, or for those of both sets:
        `Ensemble.test_outputs` and `Ensemble.train_outputs`, float16 [models, examples, ...], logits in classification. They take 2
        bytes for each number. Outputs beyond 65,504 are kept as infinity, with a warning of the logger "jaxinfl".
      keep_epochs: epochs such as (5, 10), counted from 1, after which all scores are kept, too, for
        `Ensemble.test_score("margin", epoch=5)`. The functions that take a score's name take "margin@5". Each costs an evaluation,
        and changes no bit of the models. A model whose outputs are not finite after one of them counts as diverged.
      part: `(1, 4)` trains only the first quarter of the models, into a directory of its own in `run_dir`, so that up to four
        processes share the work. `Ensemble.open(run_dir)` reads the parts as one, and so does a call without `part`, which
        trains what is missing first.
      allow: properties of `model` that are refused unless they are named here. "coupled_examples": its output for an example
        depends on others in the batch. "same_weights": its weights are drawn, but not from the key that it is given, so that
        all models start alike.
      checkpoint_every: seconds of work that may be lost when the process is killed; a shard that takes longer is also saved
        before it is finished.
      max_diverged: the share of models that may diverge (a loss or logit that is not finite); if more diverge, the run
        ends. Diverged models are left out of the ensemble, with a warning.
      mixed_devices: go on with a run on devices of another kind than those that it was started on, which changes the last bits of the
        models. `Ensemble.device_kinds` says which device trained which model. By default such a process is refused, and a part also
        where it has another number of XLA's threads; a whole run goes on then, with a warning of the logger "jaxinfl".
      progress: show a bar, if standard error is a terminal.
      on_cost: function that is called with the run's `Cost` before training starts, unless nothing is left to train.

    Returns:
      The finished ensemble; with `part`, the ensemble of the parts that are there.

    Raises:
      TypeError, ValueError: arguments do not fit; raised before anything is compiled.
      RunDirectoryError: `run_dir` is damaged, is no run, is being written by another process, or was made with other data,
        masks, keys, model, recipe, overrides or initial weights, or on other devices, or with other versions of jaxinfl or JAX. It is also raised where the run does not keep what
        `keep_weights`, `keep_outputs` or `keep_epochs` asks for, and as `WriteFailed` where the disk is full. Finished models stay.
      OutOfMemory: the data set does not fit on a device, or not even one model at a time does.
      TooManyDiverged: more than `max_diverged` of the models.
      KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM stopped the run; finished work is kept.
    """
    with nan_is_an_answer(), StopRequest(kept=run_dir is not None) as stop:
        check_zarr()
        check_switch(tune, "tune")
        check_switch(mixed_devices, "mixed_devices")
        options = RunOptions(shard_size, checkpoint_every, max_diverged, progress, on_cost)
        keep: Keep = {"keep_weights": keep_weights, "keep_outputs": keep_outputs, "keep_epochs": keep_epochs}
        job = Job.make(masks, keys, data, model, recipe, overrides=overrides, allow=allow, **keep)
        if initial is not None:
            job = job.start_from(initial, "initial")
        path = check_place(run_dir, part, len(job))
        if path is not None:
            stop.standing = partial(standing_of, path, part, len(job))
        workforce = ThisProcess(MachineChoice(width, kernels, tune, mixed_devices), stop.leave_if_asked)
        return Run(job, workforce, options, stop).ensemble(path, part)


def training_cost(
    masks: ArrayLike,
    keys: ArrayLike | ModelKeys,
    *,
    data: Dataset,
    model: AnyModel = "small_cnn",
    recipe: Recipe | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    allow: Collection[str] = (),
    **keep: Unpack[Keep],
) -> Cost:
    """Estimate what `train_ensemble` would cost with the same arguments on this machine: time, work, memory and disk.

    Nothing is trained and nothing is written. The programs are compiled and a few steps are timed, at the width and with the
    kernels that are the default here; `train_ensemble` may find faster ones. A later call in this process finds the programs
    compiled. Overrides and initial weights do not change the cost.

    Args:
      run_dir: directory of a run that may have been begun; the cost is then that of going on with it.
      masks, keys, data, model, recipe, allow: as in `train_ensemble`.
      keep: `keep_weights`, `keep_outputs` and `keep_epochs`, as in `train_ensemble`.

    Raises:
      TypeError, ValueError: arguments do not fit; raised before anything is compiled.
      RunDirectoryError: `run_dir` holds another run or a damaged one.
      OutOfMemory: the data set does not fit on a device, or not even one model at a time does.
    """
    if unknown := sorted(set(keep) - set(Keep.__annotations__)):
        raise TypeError(
            f"training_cost got {unknown[0]!r}, which it does not take; it takes {', '.join(Keep.__annotations__)}."
        )
    return cost_of_job(Job.make(masks, keys, data, model, recipe, allow=allow, **keep), run_dir)


def cost_of_job(job: Job, run_dir: str | os.PathLike[str] | None = None) -> Cost:
    """Estimate what a job costs on this machine; see `training_cost`."""
    with nan_is_an_answer():
        check_zarr()
        path = check_place(run_dir, None, len(job))
        begun = open_rows(path) if path is not None and (is_run(path) or parts_in(path)) else None
        finished = 0
        if begun is not None:
            check_trained_here(begun.attributes, path, "train_ensemble adds no models to them. Use another run_dir.")
            own = begun.attributes["identity"]
            check_same_run(own, job[: begun.attributes["num_models"]].identity, path)
            finished = int((begun.status() != ABSENT).sum())
            job = go_on_keeping(job, begun)
        agreed = None if begun is None else Agreement.of_run(begun.attributes)
        return MachineChoice(tune=False).machine(job, agreed, len(job), finished, path=path)[1]


def check_place(run_dir: Any, part: tuple[int, int] | None, num_models: int) -> Path | None:
    """Return the run directory, None for a run in memory; raise unless `part` is None or (number, parts) that fit."""
    path = None if run_dir is None else as_path(run_dir, "run_dir", "a directory")
    if part is None:
        return path
    if not isinstance(part, (tuple, list)) or len(part) != 2 or not all(map(is_whole, part)):
        raise TypeError(f"part is {quote(part)}; it takes two whole numbers, such as (1, 4) for the first quarter.")
    if not 1 <= part[0] <= part[1] <= num_models:
        raise ValueError(
            f"part is {tuple(part)!r}; it takes (number, parts) with 1 <= number <= parts <= {num_models}, because each part "
            "takes at least one model."
        )
    if path is None:
        raise ValueError(
            "part is given without run_dir; it takes a directory in which the parts come together. Name one."
        )
    return path


__all__ = ["cost_of_job", "train_ensemble", "training_cost"]
